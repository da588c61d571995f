"""The class `Sandbox`: start and stop, TLS, certificates, and acting as a signer."""

import asyncio
import errno
import gc
import socket
import ssl
import threading
import traceback
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.lowlevel
import bundles
import pytest
from bundles import NOW, SENDER
from callers import Clock, caller_of, client_context, holder_in, redirect_urls
from cryptography.hazmat.primitives.serialization import Encoding
from doubles import job

from posten_signering import DirectClient, Sender
from posten_signering.errors import TlsError, TransportError
from posten_signering.sandbox import Sandbox, SandboxError
from posten_signering.sandbox._documents.processes import DocumentProcesses

pytestmark = pytest.mark.anyio

OTHER = "111222333"
POLLED = "<status-retrieval-method>POLLING</status-retrieval-method>"


# --- Acting as a signer


@pytest.mark.parametrize(
    ("act", "address", "statuses"),
    [
        ("sign", "https://example.com/done", ["SIGNED", "WAITING"]),
        ("reject", "https://example.com/rejected", ["REJECTED", "NOT_APPLICABLE"]),
        ("fail", "https://example.com/error", ["FAILED", "NOT_APPLICABLE"]),
    ],
)
async def test_an_act_returns_its_exit_url_with_a_token(sandbox, sender, act, address, statuses):
    created = await sender.create()
    exit_url = await getattr(sandbox, act)(redirect_urls(created)[0])
    assert exit_url.startswith(address)
    [token] = parse_qs(urlsplit(exit_url).query)["status_query_token"]
    url = f"{created.text('//s:status-url/text()')}?status_query_token={token}"
    assert (await sender.get(url)).texts("//s:status/text()") == statuses


async def test_a_used_redirect_url_is_refused_with_the_reason(sandbox, sender):
    created = await sender.create()
    first, second = redirect_urls(created)
    await sandbox.sign(first)
    for act in (sandbox.sign, sandbox.reject, sandbox.fail):
        with pytest.raises(SandboxError, match="this signer has finished, with the status SIGNED"):
            await act(first)
    await sandbox.reject(second)
    with pytest.raises(SandboxError, match="no longer works"):
        sandbox.status_query_token(second)


async def test_a_url_that_is_no_redirect_url_is_refused(sandbox, sender):
    created = await sender.create()
    signer_url = created.texts("//s:signer/@href")[0]
    for url in (
        "https://example.com/",
        signer_url,
        "",
        redirect_urls(created)[0].rstrip("/")[:-60],
    ):
        with pytest.raises(SandboxError, match="not a redirect URL of this sandbox"):
            await sandbox.sign(url)
    with pytest.raises(SandboxError, match="No signer of this sandbox"):
        await sandbox.sign(f"{sandbox.signing_pages_url}#/redirect/guess")


async def test_a_traceback_with_locals_shows_no_token_or_identity_number(sandbox, sender):
    created = await sender.create()
    url = redirect_urls(created)[0]
    await sandbox.sign(url)
    token = url.rpartition("/")[2]
    with pytest.raises(SandboxError) as caught:
        await sandbox.sign(url)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    # The first frame belongs to this test.
    ours = "".join(traceback.StackSummary.from_list(shown.stack[1:]).format())
    assert "signer = SignerOf(" in ours
    for secret in (token, bundles.PERSON):
        assert secret not in ours


async def test_an_expired_job_is_failed_and_the_change_is_in_the_queue(sandbox, sender):
    created = await sender.create(extra=POLLED)
    await sandbox.sign(redirect_urls(created)[0])
    job_id = int(created.text("//s:signature-job-id/text()"))
    await sandbox.expire(job_id)
    await sender.get(sender.jobs)
    change = await sender.get(sender.jobs)
    assert change.text("//s:signature-job-status/text()") == "FAILED"
    assert change.texts("//s:status/text()") == ["SIGNED", "EXPIRED"]
    with pytest.raises(SandboxError, match="ended already"):
        await sandbox.expire(job_id)
    with pytest.raises(SandboxError, match="no job 99"):
        await sandbox.expire(99)


async def test_received_holds_the_exact_bytes_and_its_repr_hides_them(sandbox, sender):
    await sender.create()
    [received] = sandbox.received
    files = bundles.two_files()
    assert received.request == bundles.request_xml()
    assert received.manifest == bundles.manifest_xml(files)
    assert dict(received.documents) == {file.entry: file.content for file in files}
    assert received.container.startswith(b"PK")
    assert repr(received) == "Received(job_id=1)"


# --- TLS


async def handshake(sandbox, context):
    """The TLS version and the server's certificate.

    It includes a whole request, since a TLS 1.3 server refuses a certificate only after the handshake.
    """
    address = urlsplit(sandbox.service_root)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, ssl=context)
    try:
        writer.write(f"GET /api/{SENDER} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        if not (answer := await reader.read()):
            raise ConnectionResetError
        tls = writer.get_extra_info("ssl_object")
        assert answer.startswith(b"HTTP/1.1 200")
        return tls.version(), tls.getpeercert(binary_form=True)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("chain", [True, False])
async def test_tls_works_in_both_versions_with_and_without_the_issuing_ca(
    sandbox, tmp_path, version, chain
):
    holder = holder_in(*sandbox.enterprise_pkcs12(SENDER))
    context = client_context(sandbox.ca_pem, tmp_path, holder, chain=chain)
    context.minimum_version = context.maximum_version = version
    spoken, _ = await handshake(sandbox, context)
    assert spoken == version.name.replace("_", ".")


async def test_the_server_certificate_names_the_organisation_and_no_host(
    sandbox, tmp_path, openssl
):
    holder = holder_in(*sandbox.enterprise_pkcs12(SENDER))
    _, der = await handshake(sandbox, client_context(sandbox.ca_pem, tmp_path, holder))
    path = tmp_path / "server.der"
    path.write_bytes(der)
    process = await asyncio.create_subprocess_exec(
        *(openssl, "x509", "-inform", "der", "-in", path, "-noout", "-text"),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert b"NTRNO-984661185" in output
    assert b"Subject Alternative Name" not in output
    context = client_context(sandbox.ca_pem, tmp_path, holder)
    context.check_hostname = True
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(sandbox, context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("issuer", ["none", "foreign CA", "different sandbox"])
async def test_a_client_without_a_certificate_of_this_sandbox_can_not_connect(
    sandbox, tmp_path, version, issuer
):
    async with Sandbox() as different:
        holder = {
            "none": None,
            "foreign CA": bundles.enterprise(),
            "different sandbox": holder_in(*different.enterprise_pkcs12(SENDER)),
        }[issuer]
        context = client_context(sandbox.ca_pem, tmp_path, holder)
        context.minimum_version = context.maximum_version = version
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await handshake(sandbox, context)


async def test_openssl_verifies_an_enterprise_certificate_up_to_the_root(
    sandbox, tmp_path, openssl
):
    holder = holder_in(*sandbox.enterprise_pkcs12(OTHER))
    paths = {name: tmp_path / f"{name}.pem" for name in ("root", "issuing", "leaf")}
    paths["root"].write_bytes(sandbox.ca_pem)
    paths["issuing"].write_bytes(holder.chain[0].public_bytes(Encoding.PEM))
    paths["leaf"].write_bytes(holder.certificate.public_bytes(Encoding.PEM))
    verify = [openssl, "verify", "-x509_strict", "-CAfile", paths["root"]]
    for arguments, succeeds in (
        (["-untrusted", paths["issuing"], paths["leaf"]], True),
        ([paths["leaf"]], False),
    ):
        process = await asyncio.create_subprocess_exec(
            *verify,
            *arguments,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert (await process.wait() == 0) is succeeds
    assert f"NTRNO-{OTHER}" in holder.certificate.subject.rfc4514_string()


@pytest.mark.parametrize("number", ["12", "", "1234567890", "12345678x", "12345678\n"])
async def test_no_certificate_is_issued_for_an_invalid_organisation_number(sandbox, number):
    for issue in (sandbox.enterprise_pkcs12, sandbox.client_configuration):
        with pytest.raises(SandboxError, match="nine digits"):
            issue(number)


@pytest.mark.parametrize("port", [-1, 65536, 99999])
async def test_a_port_out_of_range_is_reported(port):
    for ports in ({"port": port}, {"pages_port": port}):
        with pytest.raises(SandboxError, match=f"port {port} .* is out of range"):
            async with Sandbox(**ports):
                pass


async def test_each_organisation_has_one_certificate_and_its_own_key(sandbox):
    first, again = (holder_in(*sandbox.enterprise_pkcs12(SENDER)) for _ in range(2))
    other = holder_in(*sandbox.enterprise_pkcs12(OTHER))
    assert first.certificate == again.certificate
    assert first.certificate.public_key() != other.certificate.public_key()


# --- Starting and stopping


async def test_ports_can_be_chosen_and_are_free_after_the_stop(clock):
    async with Sandbox(clock=clock) as sandbox:
        ports = [urlsplit(url).port for url in (sandbox.service_root, sandbox.signing_pages_url)]
    for _ in range(2):
        async with Sandbox(port=ports[0], pages_port=ports[1]) as again:
            assert again.service_root == f"https://127.0.0.1:{ports[0]}/api"
            assert again.signing_pages_url == f"http://127.0.0.1:{ports[1]}/"


async def test_a_port_in_use_fails_the_start_and_leaves_no_open_file(sandbox):
    before = open_files()
    with pytest.raises(OSError, match="in use"):
        await Sandbox(pages_port=urlsplit(sandbox.signing_pages_url).port).__aenter__()
    assert open_files() == before


@pytest.mark.parametrize("steps", [1, 3, 10, None])
async def test_a_directory_is_free_after_a_cancelled_start_or_run(tmp_path, steps):
    """In a cancelled scope, anyio cancels every await, including those of the clean-up."""
    before, running = open_files(), anyio.Event()

    async def run() -> None:
        async with Sandbox(directory=tmp_path):
            running.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        if steps is None:
            await running.wait()
        for _ in range(steps or 0):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert open_files() == before
    async with Sandbox(directory=tmp_path) as sandbox:
        assert sandbox.received == ()


async def test_stopping_leaves_no_socket_thread_task_or_process(clock, tmp_path, monkeypatch):
    # Not the processes that tests share.
    start = "posten_signering.sandbox._sandbox.running"
    monkeypatch.setattr(f"{start}.DocumentProcesses", DocumentProcesses)
    threads, files = threading.active_count(), open_files()
    tasks = asyncio.all_tasks()
    async with Sandbox(clock=clock) as sandbox:
        async with caller_of(sandbox, clock, tmp_path) as sender:
            created = await sender.create()
            await sandbox.sign(redirect_urls(created)[0])
        # An open idle connection must not delay the stop.
        idle = await asyncio.open_connection("127.0.0.1", urlsplit(sandbox.signing_pages_url).port)
    assert await idle[0].read() == b""
    idle[1].close()
    await idle[1].wait_closed()
    await asyncio.sleep(0)
    gc.collect()
    assert threading.active_count() == threads
    assert open_files() == files
    assert asyncio.all_tasks() == tasks


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_stopped_sandbox_raises_when_it_is_used(clock):
    sandbox = Sandbox(clock=clock)
    for use in (
        lambda: sandbox.service_root,
        lambda: sandbox.ca_pem,
        lambda: sandbox.enterprise_pkcs12(SENDER),
        sandbox.client_configuration,
    ):
        with pytest.raises(SandboxError, match="is not running"):
            use()
    async with sandbox:
        with pytest.raises(SandboxError, match="is already running"):
            await sandbox.__aenter__()
    with pytest.raises(SandboxError, match="is not running"):
        await sandbox.sign("http://127.0.0.1/")


async def test_an_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="leese"):
        Sandbox(leese=timedelta(minutes=1))


async def test_certificates_are_valid_by_the_set_clock_and_by_the_machines_clock(tmp_path):
    clock = Clock()
    clock.wait(days=-3650)
    async with (
        Sandbox(clock=clock) as sandbox,
        caller_of(sandbox, clock, tmp_path) as sender,
    ):
        assert (await sender.get(sender.root)).status == 200
        await sender.create()
        assert sender.holder.certificate.not_valid_before_utc < clock.now < NOW


# --- The SDK's client


async def test_the_client_configuration_is_ready_for_use(sandbox, clock):
    configuration = sandbox.client_configuration(polling_queue="shop", max_connections=3)
    assert configuration.environment.service_root == sandbox.service_root
    assert configuration.environment.server_organization_number == "984661185"
    assert configuration.sender.organization_number == "123456789"
    assert configuration.sender.polling_queue == "shop"
    assert configuration.max_connections == 3
    assert configuration.clock() == clock()
    assert configuration.environment.default_poll_wait == timedelta(seconds=30)


async def test_the_client_of_a_broker_has_the_brokers_certificate(sandbox):
    sender = Sender(organization_number=SENDER)
    configuration = sandbox.client_configuration(OTHER, sender=sender)
    assert configuration.sender == sender
    assert configuration.certificate.organization_number == OTHER


async def test_a_client_of_an_earlier_start_gets_errors_that_say_so():
    async with AsyncExitStack() as stack:
        async with Sandbox(rate_limit=None) as first:
            port = urlsplit(first.service_root).port
            old = first.client_configuration()
            client = await stack.enter_async_context(DirectClient(old))
            await client.check_access()  # opens a connection, which the restart closes
        second = await stack.enter_async_context(Sandbox(port=port, rate_limit=None))
        for call in (client.check_access, lambda: client.create(job()), client.get_status_change):
            with pytest.raises(TlsError, match="is the CA of a sandbox, and not one of") as error:
                await call()
            assert not error.value.request_may_have_left
            assert "--directory" in str(error.value)
        new = second.client_configuration(certificate=old.certificate)
        async with DirectClient(new) as client:
            with pytest.raises(TransportError, match="A sandbox issued this certificate") as error:
                await client.check_access()
            assert "--directory" in str(error.value)


@pytest.mark.parametrize("setting", ["port", "pages_port"])
async def test_the_error_for_a_port_in_use_names_the_port_and_the_setting(setting):
    with socket.create_server(("127.0.0.1", 0)) as other_server:
        port = other_server.getsockname()[1]
        with pytest.raises(OSError, match=f"Port {port} .`{setting}`, ") as error:
            await Sandbox(**{setting: port}).__aenter__()
    assert error.value.errno == errno.EADDRINUSE


async def test_a_sandbox_without_a_wait_has_clients():
    async with (
        Sandbox(empty_queue_wait=timedelta(0)) as sandbox,
        DirectClient(sandbox.client_configuration()) as client,
    ):
        assert (await client.get_status_change()).change is None
