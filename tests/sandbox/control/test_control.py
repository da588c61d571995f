"""The control API over HTTP: it shows the state of the sandbox and acts on it."""

import asyncio
import base64
import gzip
import json
import logging
from datetime import datetime, timedelta

import aiohttp
import pytest
from bundles import NOW, PERSON, SENDER
from callers import Clock, caller_of, redirect_urls
from control_caller import ControlCaller
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from posten_signering.sandbox import Fault, FaultKind, Sandbox, SandboxError
from posten_signering.sandbox._control.endpoints import ControlApi

pytestmark = pytest.mark.anyio

POLLED = "<status-retrieval-method>POLLING</status-retrieval-method>"
ONE_SIGNER = "<signer><signer-identifier>kunde-42</signer-identifier></signer>"
BROKER = "111222333"


# --- The state


async def test_the_overview_shows_jobs_signers_and_queues_with_leases(
    sandbox, sender, control_api, clock
):
    by_token = await sender.create()
    await sender.create(extra=POLLED, signers=ONE_SIGNER)
    await sandbox.sign(redirect_urls(by_token)[1])
    assert (await control_api("POST", "/jobs/2/signers/1/sign"))[0] == 200
    await sender.get(sender.jobs)
    status, overview = await control_api("GET", "/overview")
    assert status == 200
    polled, first = overview["jobs"]
    assert (first["id"], first["status"], first["polled"]) == (1, "IN_PROGRESS", False)
    assert first["reference"] == "ordre-77"
    assert first["title"] == "Leie av bolig"
    assert datetime.fromisoformat(first["expires"]) == NOW + timedelta(days=30)
    assert [signer["status"] for signer in first["signers"]] == ["WAITING", "SIGNED"]
    assert [signer["can_act"] for signer in first["signers"]] == [True, False]
    assert [signer["identifier"] for signer in first["signers"]] == ["***********", "kunde-42"]
    assert [signer["by_identity_number"] for signer in first["signers"]] == [True, False]
    assert [document["mime"] for document in first["documents"]] == [
        "application/pdf",
        "text/plain",
    ]
    assert (polled["status"], polled["unconfirmed"]) == ("COMPLETED_SUCCESSFULLY", True)
    [queue] = overview["queues"]
    assert (queue["sender"], queue["name"]) == (SENDER, None)
    assert datetime.fromisoformat(queue["next_permitted_poll_time"]) == NOW
    [change] = queue["changes"]
    assert (change["number"], change["job_id"]) == (1, 2)
    assert datetime.fromisoformat(change["leased_until"]) == NOW + timedelta(minutes=10)
    assert overview["requests"][0]["operation"] == "poll"
    assert overview["counters"][SENDER]["calls"] == {"create": 2, "poll": 1}
    assert PERSON not in json.dumps(overview)
    # The endpoints for the parts return the same values.
    for part in ("jobs", "queues", "requests", "counters", "faults"):
        assert (await control_api("GET", f"/{part}")) == (200, overview[part])
    assert (await control_api("GET", "/jobs/2")) == (200, polled)
    clock.wait(minutes=10)
    _, queues = await control_api("GET", "/queues")
    assert queues[0]["changes"][0]["leased_until"] is None


async def test_identity_numbers_in_texts_of_the_sender_are_masked(sandbox, sender, control_api):
    body = sender.body(
        signers=f"<signer><signer-identifier>{PERSON}</signer-identifier></signer>",
        extra=f"{POLLED}<polling-queue>{PERSON}</polling-queue>",
    ).replace(b"ordre-77", f"om {PERSON}".encode())
    assert (await sender.send(body)).status == 200
    await control_api("POST", "/jobs/1/expire")
    _, overview = await control_api("GET", "/overview")
    assert PERSON not in json.dumps(overview)
    assert overview["jobs"][0]["reference"] == "om ***********"


async def test_the_token_is_available_before_the_signer_has_finished(sender, control_api):
    created = await sender.create()
    status, answer = await control_api("GET", "/jobs/1/signers/1/status-query-token")
    assert status == 200
    token = answer["status_query_token"]
    url = f"{created.text('//s:status-url/text()')}?status_query_token={token}"
    assert (await sender.get(url)).error == (404, "SIGNING_CEREMONY_NOT_COMPLETED")
    _, acted = await control_api("POST", "/jobs/1/signers/1/sign")
    assert acted["exit_url"].endswith(f"={token}")
    assert (await sender.get(url)).status == 200
    assert (await control_api("GET", "/jobs/1/signers/1/status-query-token"))[1] == answer
    assert (await control_api("GET", "/jobs/1/signers/3/status-query-token"))[0] == 404


async def test_the_root_url_returns_the_openapi_document(control_api):
    status, document = await control_api("GET", "/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    assert await control_api("GET", "") == await control_api("GET", "/") == (200, document)


async def test_a_read_lets_jobs_expire(sandbox, sender, control_api, clock):
    await sender.create()
    clock.wait(days=31)
    _, jobs = await control_api("GET", "/jobs")
    assert jobs[0]["status"] == "FAILED"


# --- Actions


@pytest.mark.parametrize(
    ("act", "exit_url", "status"),
    [
        ("sign", "https://example.com/done", "SIGNED"),
        ("reject", "https://example.com/rejected", "REJECTED"),
        ("fail", "https://example.com/error", "FAILED"),
    ],
)
async def test_it_acts_as_any_signer(sandbox, sender, control_api, act, exit_url, status):
    created = await sender.create()
    code, answer = await control_api("POST", f"/jobs/1/signers/2/{act}")
    assert code == 200
    assert answer["exit_url"].startswith(exit_url)
    token = answer["exit_url"].rpartition("=")[2]
    job = await sender.get(f"{created.text('//s:status-url/text()')}?status_query_token={token}")
    assert job.texts("//s:status/text()")[1] == status
    code, answer = await control_api("POST", f"/jobs/1/signers/2/{act}")
    assert (code, answer["error"]) == (
        409,
        f"Job 1: this signer has finished, with the status {status}.",
    )
    with pytest.raises(SandboxError, match="no longer works"):
        await sandbox.sign(redirect_urls(created)[1])


async def test_a_change_is_delivered_again_after_its_lease_is_ended(sandbox, sender, control_api):
    created = await sender.create(extra=POLLED, signers=ONE_SIGNER)
    await sandbox.sign(redirect_urls(created)[0])
    assert (await control_api("POST", "/jobs/1/changes/1/end-lease"))[0] == 404  # not leased
    first = await sender.get(sender.jobs)
    assert (await control_api("POST", "/jobs/1/changes/2/end-lease"))[0] == 404
    assert (await control_api("POST", "/jobs/1/changes/1/end-lease")) == (204, None)
    assert (await sender.get(sender.jobs)).body == first.body
    await sandbox.end_lease(1, 1)
    assert (await sender.get(sender.jobs)).body == first.body
    with pytest.raises(SandboxError, match="no leased status change 7"):
        await sandbox.end_lease(1, 7)


async def test_documents_of_an_ended_job_can_be_deleted_at_any_time(sandbox, sender, control_api):
    created = await sender.create(signers=ONE_SIGNER)
    assert (await control_api("DELETE", "/jobs/1/documents"))[0] == 409
    await sandbox.sign(redirect_urls(created)[0])
    pades = created.text("//s:status-url/text()").removesuffix("status") + "pades"
    assert (await sender.get(pades)).status == 200
    assert (await control_api("DELETE", "/jobs/1/documents")) == (204, None)
    assert (await sender.get(pades)).error == (410, "DOCUMENTS_DELETED")
    assert (await control_api("DELETE", "/jobs/1/documents"))[0] == 404
    assert (await control_api("GET", "/jobs/1"))[1]["documents_deleted"] is True


async def test_the_sandboxs_clock_moves_forward_and_the_senders_clock_does_not(
    sandbox, sender, control_api
):
    created = await sender.create()
    await sender.get(sender.jobs)
    assert (await control_api("POST", "/advance", {"seconds": 29.5})) == (204, None)
    assert (await sender.get(sender.jobs)).status == 429
    assert (await control_api("POST", "/advance", {"seconds": 0.5})) == (204, None)
    assert (await sender.get(sender.jobs)).status == 204
    assert (await control_api("POST", "/advance", {"seconds": 30 * 24 * 3600})) == (204, None)
    assert (await control_api("GET", "/jobs/1"))[1]["status"] == "FAILED"
    assert (await control_api("GET", "/overview"))[1]["advanced_by"] == 30 * 24 * 3600 + 30
    # The signing time is compared with the clock before it was moved.
    again = await sender.create()
    assert again.text("//s:signature-job-id/text()") == "2"
    assert created.text("//s:signature-job-id/text()") == "1"


async def test_an_action_is_reported_once(sandbox, control_api):
    before = sandbox.overview().version
    await control_api("POST", "/advance", {"seconds": 1})
    await sandbox.advance(1)
    assert sandbox.overview().version == before + 2


async def test_the_clock_can_only_be_50_years_ahead(sandbox, control_api):
    for _ in range(50):
        await sandbox.advance(365 * 24 * 3600)
    status, answer = await control_api("POST", "/advance", {"seconds": 1})
    assert (status, "at most 50 years" in answer["error"]) == (409, True)


@pytest.mark.parametrize("seconds", [0, -1, 366 * 24 * 3600])
async def test_the_clock_moves_forward_by_at_most_a_year_and_never_back(
    sandbox, control_api, seconds
):
    assert (await control_api("POST", "/advance", {"seconds": seconds}))[0] == 400
    with pytest.raises(SandboxError, match="seconds must be more than 0"):
        await sandbox.advance(seconds)


async def test_faults_are_added_removed_and_cleared(sandbox, sender, control_api):
    fault = {"kind": "server_error", "status": 502, "times": 1, "operation": "check_access"}
    assert (await control_api("POST", "/faults", fault)) == (200, {"number": 1})
    assert (await control_api("POST", "/faults", {"kind": "reset"})) == (200, {"number": 2})
    _, pending = await control_api("GET", "/faults")
    assert pending[0]["fault"] == {
        **fault,
        "path": None,
        "probability": 1.0,
        "after": False,
        "seconds": None,
        "code": None,
        "header": None,
    }
    assert pending[0]["left"] == 1
    assert (await control_api("DELETE", "/faults/2")) == (204, None)
    assert (await control_api("DELETE", "/faults/2"))[0] == 404
    assert [(await sender.get(sender.root)).status for _ in range(2)] == [502, 200]
    sandbox.faults.add(Fault(kind=FaultKind.RESET))
    assert (await control_api("DELETE", "/faults")) == (204, None)
    assert sandbox.faults.pending == ()


async def test_certificates_are_issued_and_brokers_authorised(
    sandbox, control_api, clock, tmp_path
):
    status, issued = await control_api(
        "POST", "/enterprise-certificates", {"organization_number": BROKER}
    )
    assert status == 200
    content = base64.b64decode(issued["pkcs12"])
    assert (content, issued["password"]) == sandbox.enterprise_pkcs12(BROKER)
    _, certificate, _ = pkcs12.load_key_and_certificates(content, issued["password"].encode())
    [organization] = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_IDENTIFIER)
    assert organization.value == f"NTRNO-{BROKER}"
    async with caller_of(sandbox, clock, tmp_path, certificate=BROKER) as broker:
        assert (await broker.get(broker.root)).status == 403
        permission = {"certificate_organization": BROKER, "sender": SENDER}
        assert (await control_api("POST", "/brokers", permission)) == (204, None)
        assert (await broker.get(broker.root)).status == 200
    assert (await control_api("GET", "/overview"))[1]["brokers"] == [permission]
    with pytest.raises(SandboxError, match="nine digits"):
        sandbox.authorize_broker(BROKER, "1")
    async with control_api.session.get(f"{control_api.root}/ca.pem") as answer:
        assert await answer.read() == sandbox.ca_pem


async def test_reset_leaves_nothing_but_the_certificates(sandbox, sender, control_api):
    await sender.create()
    sandbox.faults.add(Fault(kind=FaultKind.DELAY, seconds=0.1, times=9))
    certificate = sandbox.enterprise_pkcs12(SENDER)
    assert (await control_api("POST", "/reset")) == (204, None)
    _, overview = await control_api("GET", "/overview")
    for part in ("jobs", "queues", "requests", "faults", "brokers"):
        assert overview[part] == []
    assert overview["counters"] == {}
    assert sandbox.received == ()
    assert sandbox.enterprise_pkcs12(SENDER) == certificate
    # The id of a job is never used twice.
    assert (await sender.create()).text("//s:signature-job-id/text()") == "2"


# --- Invalid requests


@pytest.fixture(scope="module")
async def idle_api():
    """The control API of a sandbox for requests that change nothing."""
    async with Sandbox(clock=Clock()) as sandbox, aiohttp.ClientSession() as session:
        yield ControlCaller(session, sandbox.control_url)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "expected"),
    [
        ("GET", "/jobs/7", None, 404, "no job 7"),
        ("POST", "/jobs/7/signers/1/sign", None, 404, "no job 7"),
        ("GET", "/elsewhere", None, 404, "openapi.json"),
        ("GET", "/jobs/007", None, 404, "out of range"),
        ("GET", "/jobs/%D9%A1", None, 404, "out of range"),
        ("POST", "/jobs/7/signers/1/dance", None, 404, "openapi.json"),
        ("POST", "/faults", None, 415, "application/json"),
        ("POST", "/faults", [], 400, "The body: Input should be an object."),
        ("POST", "/faults", {}, 400, "The body has no field kind"),
        ("POST", "/faults", {"kind": "odd"}, 400, "kind: Input should be 'delay', 'reset',"),
        ("POST", "/faults", {"kind": "delay"}, 400, "delay needs the field seconds"),
        ("POST", "/faults", {"kind": "reset", "when": 1}, 400, "unknown field 'when'"),
        ("POST", "/faults", {"when": 1}, 400, "'when'. Its fields are: kind, times, operation"),
        (
            "POST",
            "/faults",
            {"kind": "reset", "times": 1.5},
            400,
            "times: Input should be a valid int",
        ),
        ("POST", "/advance", {"seconds": float("nan")}, 400, "seconds: Input should be a finite"),
        ("POST", "/advance", {"seconds": float("inf")}, 400, "seconds: Input should be a finite"),
        ("POST", "/advance", {"seconds": 0}, 400, "seconds: Input should be greater than 0."),
        ("POST", "/brokers", {"sender": 1}, 400, "has no field certificate_organization"),
    ],
)
async def test_an_invalid_request_gets_the_reason(idle_api, method, path, body, status, expected):
    code, answer = await idle_api(method, path, body)
    assert code == status
    assert list(answer) == ["error"]
    assert expected in answer["error"]


@pytest.mark.parametrize(
    "body",
    [
        PERSON,
        {"kind": PERSON},
        {"kind": "reset", PERSON: 1},
        {"kind": "reset", f"{PERSON[:6]}\N{NO-BREAK SPACE}{PERSON[6:]}": 1},
        {"kind": "reset", "times": PERSON},
        {"kind": "reset", "after": PERSON},
        {"kind": "reset", "operation": PERSON},
        {"kind": "reset", "path": [PERSON]},
        {"kind": "reset", "code": PERSON},
        {"kind": "error_document", "code": f"a {PERSON}"},
    ],
)
async def test_an_error_does_not_quote_the_values_of_the_request(idle_api, body, caplog):
    status, answer = await idle_api("POST", "/faults", body)
    assert status == 400
    assert PERSON not in "".join(filter(str.isdigit, answer["error"]))
    assert PERSON not in "".join(filter(str.isdigit, caplog.text))


async def test_the_error_for_an_unknown_signer_names_the_number(sender, control_api):
    await sender.create()
    assert await control_api("POST", "/jobs/1/signers/3/sign") == (
        404,
        {"error": "Job 1 has no signer 3."},
    )


async def test_a_whole_number_may_have_a_decimal_point(control_api):
    fault = {"kind": "server_error", "times": 3.0, "status": 502.0}
    assert (await control_api("POST", "/faults", fault))[0] == 200
    _, [pending] = await control_api("GET", "/faults")
    assert (pending["left"], pending["fault"]["status"]) == (3, 502)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b'\xef\xbb\xbf{"seconds": 1}', 400),  # a byte order mark
        ('{"seconds": 1}'.encode("utf-16"), 400),
        (b'{"seconds": "\\ud800"}', 400),  # half of a surrogate pair
        (b'{"\\ud800": 1}', 400),
        (b'{"seconds": ' + b"9" * 5000 + b"}", 400),
        (b'{"seconds": 1e999}', 400),
        (b'{"seconds": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", 400),
        (b'{"a":' * 10_000, 400),
        (b"{" + b",".join(b'"%d":1' % number for number in range(5000)) + b"}", 400),
        (b" " * 65_537, 413),
        (b"[" * 1_000_000, 413),
        (gzip.compress(b" " * 10_000_000, mtime=0), 400),  # its Content-Encoding is not stated
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else str(value),
)
async def test_a_body_that_is_not_json_or_is_too_large_is_refused(idle_api, content, status):
    code, answer = await idle_api.send("POST", "/advance", content)
    assert code == status
    assert list(answer) == ["error"]


async def test_a_compressed_body_is_refused_before_it_is_decompressed(idle_api):
    status, answer = await idle_api.send(
        "POST", "/advance", gzip.compress(b'{"seconds": 1}'), {"Content-Encoding": "gzip"}
    )
    assert (status, "no Content-Encoding" in answer["error"]) == (415, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("HEAD", "/jobs", 200, None),
        ("HEAD", "", 200, None),
        ("POST", "", 405, "GET, HEAD"),
        ("HEAD", "/events", 405, "GET"),  # a response without an end has no length
        ("PROPFIND", "/faults", 405, "DELETE, GET, HEAD, POST"),
        ("GET", "/reset", 405, "POST"),
    ],
)
async def test_every_path_refuses_the_methods_that_it_does_not_have(
    idle_api, method, path, status, allowed
):
    async with idle_api.session.request(method, f"{idle_api.root}{path}") as answer:
        assert (answer.status, answer.headers.get("Allow")) == (status, allowed)
        text = await answer.text()
    if method != "HEAD":
        assert f"{method}. It supports: {allowed}." in json.loads(text)["error"]


async def half_a_request(sandbox):
    """A connection to the control API on which half of a body has been sent."""
    host, _, port = (
        sandbox.control_url.removeprefix("http://").removesuffix("/control").partition(":")
    )
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"POST /control/advance HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 14\r\n"
        'Connection: close\r\nContent-Type: application/json\r\n\r\n{"seco'.encode()
    )
    return reader, writer


async def test_a_body_that_does_not_arrive_is_refused(clock, monkeypatch):
    monkeypatch.setattr(
        "posten_signering.sandbox._sandbox.running.ControlApi",
        lambda control: ControlApi(control=control, body_timeout=0),
    )
    async with Sandbox(clock=clock) as sandbox:
        reader, writer = await half_a_request(sandbox)
        assert await reader.readline() == b"HTTP/1.1 408 Request Timeout\r\n"
        writer.write(b'nds": 1}')
        assert b"did not arrive" in await reader.read()
        writer.close()
        await writer.wait_closed()


async def test_a_client_may_leave_in_the_middle_of_a_body(sandbox, control_api, caplog):
    _, writer = await half_a_request(sandbox)
    await writer.drain()
    await control_api("GET", "/faults")
    writer.close()
    await writer.wait_closed()
    for _ in range(3):
        assert (await control_api("GET", "/faults"))[0] == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_bug_in_the_sandbox_is_logged(sandbox, control_api, caplog, monkeypatch):
    monkeypatch.setattr("posten_signering.sandbox._control.control.Overview", lambda **_: 1 / 0)
    assert (await control_api("GET", "/overview"))[0] == 500
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    monkeypatch.undo()


async def test_a_storage_failure_is_reported(clock, tmp_path):
    sandbox = Sandbox(clock=clock, directory=tmp_path)
    await sandbox.__aenter__()
    storage = sandbox._now_running.control.storage
    storage._executor.submit(storage._connection.execute, "PRAGMA query_only = ON").result()
    async with aiohttp.ClientSession() as session:
        status, answer = await ControlCaller(session, sandbox.control_url)(
            "POST", "/advance", {"seconds": 1}
        )
    assert status == 500
    assert "can't write" in answer["error"]
    with pytest.raises(SandboxError):
        await sandbox.__aexit__(None, None, None)
