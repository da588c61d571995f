"""A refused client certificate: the client gets the TLS alert that says why."""

import asyncio
import asyncio.constants
import logging
import os
import socket
import ssl
import subprocess
from contextlib import closing
from datetime import timedelta
from functools import partial
from urllib.parse import urlsplit

import pki
import pytest
import uvloop
from doubles import job

from posten_signering import DirectClient, Document, DocumentType
from posten_signering._client import lifecycle
from posten_signering.errors import TlsError
from posten_signering.sandbox import Sandbox, ThreadedSandbox

MEGABYTE = b"a" * 1024 * 1024
NAME = pki.subject("Client", organization_identifier=f"NTRNO-{pki.SENDER}")
YESTERDAY, TOMORROW = pki.NOW - timedelta(days=1), pki.NOW + timedelta(days=1)
# What the client sends -> the alert in TLS 1.2 and in TLS 1.3.
REFUSED = {
    "none": ("HANDSHAKE_FAILURE", "CERTIFICATE_REQUIRED"),
    "of an unknown issuer": ("UNKNOWN_CA", "UNKNOWN_CA"),
    "expired": ("CERTIFICATE_EXPIRED", "CERTIFICATE_EXPIRED"),
    "not valid yet": ("BAD_CERTIFICATE", "BAD_CERTIFICATE"),
    "for encryption only": ("UNSUPPORTED_CERTIFICATE", "UNSUPPORTED_CERTIFICATE"),
}
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def version(request):
    return request.param


@pytest.fixture(scope="module")
def sandbox():
    with ThreadedSandbox(rate_limit=None) as running:
        yield running


@pytest.fixture(scope="module")
def certificates(sandbox):
    """The certificates, each with its private key, in PEM."""
    authority = sandbox._sandbox._now_running.control.authority._issuing
    issuer = pki.Issued(authority.certificate, authority.key)
    issue = partial(pki.issue, NAME, issuer)
    issued = {
        "valid": issue(),
        "of an unknown issuer": pki.issue(NAME, pki.root("Other")),
        "expired": issue(not_before=YESTERDAY - timedelta(days=1), not_after=YESTERDAY),
        "not valid yet": issue(not_before=TOMORROW),
        "for encryption only": issue(usage="key_encipherment"),
    }
    return {kind: (certificate.pem, certificate.key_pem) for kind, certificate in issued.items()}


def address(sandbox):
    url = urlsplit(sandbox.service_root)
    return url.hostname, url.port


def client(sandbox, version, folder, pem=None):
    """A blocking TLS connection. In TLS 1.3, its handshake ends before the server has refused anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=sandbox.ca_pem.decode())
    context.minimum_version = context.maximum_version = version
    if pem is not None:
        path = folder / "client.pem"
        path.write_bytes(b"".join(pem))
        context.load_cert_chain(path)
    connection = socket.create_connection(address(sandbox), timeout=30)
    return closing(context.wrap_socket(connection, do_handshake_on_connect=False))


def answer_to(connection, sent=b""):
    connection.do_handshake()
    connection.sendall(sent)
    return connection.recv(12)


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("size", [0, 10], ids="{} MiB sent first".format)
def test_a_refused_client_gets_an_alert(sandbox, certificates, tmp_path, version, kind, size):
    with (
        client(sandbox, version, tmp_path, certificates.get(kind)) as connection,
        pytest.raises(ssl.SSLError) as raised,
    ):
        answer_to(connection, MEGABYTE * size)
    expected = REFUSED[kind][VERSIONS.index(version)]
    assert raised.value.reason.endswith(f"_ALERT_{expected}")


def test_an_accepted_client_gets_no_alert(sandbox, certificates, tmp_path, version):
    with client(sandbox, version, tmp_path, certificates["valid"]) as connection:
        sent = b"GET / HTTP/1.1\r\nHost: sandbox\r\n\r\n"
        assert answer_to(connection, sent) == b"HTTP/1.1 404"


@pytest.mark.parametrize(
    ("program", "alert"),
    [
        (["openssl", "s_client", "-tls1_2", "-connect"], "SSL alert number 40"),
        (["openssl", "s_client", "-tls1_3", "-ign_eof", "-connect"], "SSL alert number 116"),
        (["curl", "-sS", "--insecure", "--tls-max", "1.2"], "alert handshake failure"),
        (["curl", "-sS", "--insecure", "--tlsv1.3"], "alert certificate required"),
        (["curl", "-sS", "--insecure", "--data-binary", "@-"], "alert certificate required"),
    ],
)
def test_openssl_and_curl_report_the_alert(sandbox, request, program, alert):
    host, port = address(sandbox)
    target = f"{host}:{port}" if program[0] == "openssl" else sandbox.service_root
    found = request.getfixturevalue(program[0])
    command = [found, *program[1:], target]
    run = subprocess.run(command, check=False, input=MEGABYTE, capture_output=True)
    assert run.returncode != 0
    assert alert in run.stderr.decode()


def large_job():
    content = os.urandom(5 * 1024 * 1023).hex()  # almost the limit of 10 MiB, and not compressible
    document = Document(title="Lease", content=content.encode(), type=DocumentType.TEXT)
    return job(documents=[document])


@pytest.mark.anyio
async def test_every_call_of_a_refused_sdk_client_raises_a_tls_error(
    sandbox, monkeypatch, version, caplog
):
    def limited(*args, **kwargs):
        context = make(*args, **kwargs)
        context.maximum_version = version
        return context

    make = lifecycle.client_context
    monkeypatch.setattr(lifecycle, "client_context", limited)
    stranger = pki.issue(NAME, pki.root("Other")).enterprise()
    configuration = sandbox.client_configuration(certificate=stranger)
    async with DirectClient(configuration) as opened:
        for call in (
            opened.check_access,
            opened.get_status_change,
            partial(opened.create, large_job()),
        ):
            with pytest.raises(TlsError, match="does not know the issuer") as raised:
                await call()
            assert raised.value.request_may_have_left is False
    assert sandbox.received == ()
    # The client logs its failed poll. The sandbox and asyncio log nothing.
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in warnings] == ["posten_signering.polling"]


@pytest.mark.anyio
async def test_a_client_that_stays_connected_after_the_alert_is_disconnected(
    monkeypatch, tmp_path, version
):
    monkeypatch.setattr(asyncio.constants, "SSL_HANDSHAKE_TIMEOUT", 0.5)

    def refused():
        with client(running, version, tmp_path) as connection:
            with pytest.raises(ssl.SSLError, match="alert"):
                answer_to(connection)
            while socket.socket.recv(connection, 65536):
                pass

    async with Sandbox() as running:
        await asyncio.to_thread(refused)


def test_uvloop_sends_the_alert_too(tmp_path, version):
    def refused(sandbox):
        with (
            client(sandbox, version, tmp_path) as connection,
            pytest.raises(ssl.SSLError, match="alert"),
        ):
            answer_to(connection)

    async def main():
        async with Sandbox() as sandbox:
            await asyncio.to_thread(refused, sandbox)

    uvloop.run(main())
