"""The control API: a test in any language acts on the sandbox and reads what has become of it."""

import base64
import json
import logging
from datetime import datetime, timedelta
from io import BytesIO

import aiohttp
import pytest
from bundles import NOW, PERSON, SENDER
from callers import caller_of, redirect_urls
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID
from hands import ControlCaller

from posten_signering.sandbox import Fault, FaultKind, Sandbox, SandboxError

pytestmark = pytest.mark.anyio

POLLED = "<status-retrieval-method>POLLING</status-retrieval-method>"
ONE_SIGNER = "<signer><signer-identifier>kunde-42</signer-identifier></signer>"
BROKER = "111222333"


# --- What it shows


async def test_the_overview_shows_jobs_signers_and_queues_with_leases(sandbox, sender, hand, clock):
    by_token = await sender.create()
    await sender.create(extra=POLLED, signers=ONE_SIGNER)
    await sandbox.sign(redirect_urls(by_token)[1])
    assert (await hand("POST", "/jobs/2/signers/1/sign"))[0] == 200
    await sender.get(sender.jobs)
    status, overview = await hand("GET", "/overview")
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
    # The parts are the same as the whole.
    for part in ("jobs", "queues", "requests", "counters", "faults"):
        assert (await hand("GET", f"/{part}")) == (200, overview[part])
    assert (await hand("GET", "/jobs/2")) == (200, polled)
    clock.wait(minutes=10)
    _, queues = await hand("GET", "/queues")
    assert queues[0]["changes"][0]["leased_until"] is None


async def test_what_a_sender_puts_an_identity_number_into_is_masked(sandbox, sender, hand):
    body = sender.body(
        signers=f"<signer><signer-identifier>{PERSON}</signer-identifier></signer>",
        extra=f"{POLLED}<polling-queue>{PERSON}</polling-queue>",
    ).replace(b"ordre-77", f"om {PERSON}".encode())
    assert (await sender.send(body)).status == 200
    await hand("POST", "/jobs/1/expire")
    _, overview = await hand("GET", "/overview")
    assert PERSON not in json.dumps(overview)
    assert overview["jobs"][0]["reference"] == "om ***********"


async def test_the_token_of_a_signer_is_there_before_the_signer_has_finished(sender, hand):
    created = await sender.create()
    told, answer = await hand("GET", "/jobs/1/signers/1/status-query-token")
    assert told == 200
    token = answer["status_query_token"]
    url = f"{created.text('//s:status-url/text()')}?status_query_token={token}"
    assert (await sender.get(url)).error == (404, "SIGNING_CEREMONY_NOT_COMPLETED")
    _, acted = await hand("POST", "/jobs/1/signers/1/sign")
    assert acted["exit_url"].endswith(f"={token}")
    assert (await sender.get(url)).status == 200
    assert (await hand("GET", "/jobs/1/signers/1/status-query-token"))[1] == answer
    assert (await hand("GET", "/jobs/1/signers/3/status-query-token"))[0] == 404


async def test_its_own_address_leads_to_the_document(hand):
    status, document = await hand("GET", "/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    assert await hand("GET", "") == await hand("GET", "/") == (200, document)
    said, answer = await hand("POST", "")
    assert said == 404
    assert "/control/openapi.json" in answer["error"]


async def test_time_passes_for_who_looks(sandbox, sender, hand, clock):
    await sender.create()
    clock.wait(days=31)
    _, jobs = await hand("GET", "/jobs")
    assert jobs[0]["status"] == "FAILED"


# --- What it does


@pytest.mark.parametrize(
    ("act", "address", "status"),
    [
        ("sign", "https://example.com/done", "SIGNED"),
        ("reject", "https://example.com/rejected", "REJECTED"),
        ("fail", "https://example.com/error", "FAILED"),
    ],
)
async def test_it_acts_as_any_signer(sandbox, sender, hand, act, address, status):
    created = await sender.create()
    said, answer = await hand("POST", f"/jobs/1/signers/2/{act}")
    assert said == 200
    assert answer["exit_url"].startswith(address)
    token = answer["exit_url"].rpartition("=")[2]
    told = await sender.get(f"{created.text('//s:status-url/text()')}?status_query_token={token}")
    assert told.texts("//s:status/text()")[1] == status
    said, answer = await hand("POST", f"/jobs/1/signers/2/{act}")
    assert said == 410
    assert "no longer works" in answer["error"]
    with pytest.raises(SandboxError, match="no longer works"):
        await sandbox.sign(redirect_urls(created)[1])


async def test_a_lease_that_is_ended_lets_the_change_come_back(sandbox, sender, hand):
    created = await sender.create(extra=POLLED, signers=ONE_SIGNER)
    await sandbox.sign(redirect_urls(created)[0])
    assert (await hand("POST", "/jobs/1/changes/1/end-lease"))[0] == 404  # nobody has it
    first = await sender.get(sender.jobs)
    assert (await hand("POST", "/jobs/1/changes/2/end-lease"))[0] == 404
    assert (await hand("POST", "/jobs/1/changes/1/end-lease")) == (204, None)
    assert (await sender.get(sender.jobs)).body == first.body
    await sandbox.end_lease(1, 1)
    assert (await sender.get(sender.jobs)).body == first.body
    with pytest.raises(SandboxError, match="no leased status change 7"):
        await sandbox.end_lease(1, 7)


async def test_documents_of_a_job_that_has_ended_are_deleted_at_any_time(sandbox, sender, hand):
    created = await sender.create(signers=ONE_SIGNER)
    assert (await hand("DELETE", "/jobs/1/documents"))[0] == 409
    await sandbox.sign(redirect_urls(created)[0])
    pades = created.text("//s:status-url/text()").removesuffix("status") + "pades"
    assert (await sender.get(pades)).status == 200
    assert (await hand("DELETE", "/jobs/1/documents")) == (204, None)
    assert (await sender.get(pades)).error == (410, "DOCUMENTS_DELETED")
    assert (await hand("DELETE", "/jobs/1/documents"))[0] == 404
    assert (await hand("GET", "/jobs/1"))[1]["documents_deleted"] is True


async def test_time_moves_on_but_the_senders_clock_stays_right(sandbox, sender, hand):
    created = await sender.create()
    await sender.get(sender.jobs)
    assert (await hand("POST", "/advance", {"seconds": 29.5})) == (204, None)
    assert (await sender.get(sender.jobs)).status == 429
    assert (await hand("POST", "/advance", {"seconds": 0.5})) == (204, None)
    assert (await sender.get(sender.jobs)).status == 204
    assert (await hand("POST", "/advance", {"seconds": 30 * 24 * 3600})) == (204, None)
    assert (await hand("GET", "/jobs/1"))[1]["status"] == "FAILED"
    assert (await hand("GET", "/overview"))[1]["advanced_by"] == 30 * 24 * 3600 + 30
    # Its signing time is held against the clock that both had.
    again = await sender.create()
    assert again.text("//s:signature-job-id/text()") == "2"
    assert created.text("//s:signature-job-id/text()") == "1"


async def test_an_action_is_reported_once(sandbox, hand):
    before = sandbox.overview().version
    await hand("POST", "/advance", {"seconds": 1})
    await sandbox.advance(1)
    assert sandbox.overview().version == before + 2


@pytest.mark.parametrize("seconds", [0, -1, 366 * 24 * 3600])
async def test_time_moves_by_no_more_than_a_year_and_never_back(sandbox, hand, seconds):
    assert (await hand("POST", "/advance", {"seconds": seconds}))[0] == 400
    with pytest.raises(SandboxError, match="moves on by"):
        await sandbox.advance(seconds)


async def test_faults_are_added_removed_and_cleared(sandbox, sender, hand):
    fault = {"kind": "server_error", "status": 502, "times": 1, "operation": "check_access"}
    assert (await hand("POST", "/faults", fault)) == (200, {"number": 1})
    assert (await hand("POST", "/faults", {"kind": "reset"})) == (200, {"number": 2})
    _, pending = await hand("GET", "/faults")
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
    assert (await hand("DELETE", "/faults/2")) == (204, None)
    assert (await hand("DELETE", "/faults/2"))[0] == 404
    assert [(await sender.get(sender.root)).status for _ in range(2)] == [502, 200]
    sandbox.faults.add(Fault(kind=FaultKind.RESET))
    assert (await hand("DELETE", "/faults")) == (204, None)
    assert sandbox.faults.pending == ()


async def test_certificates_are_issued_and_brokers_authorised(sandbox, hand, clock, tmp_path):
    said, issued = await hand("POST", "/enterprise-certificates", {"organization_number": BROKER})
    assert said == 200
    content = base64.b64decode(issued["pkcs12"])
    assert (content, issued["password"]) == sandbox.enterprise_pkcs12(BROKER)
    _, certificate, _ = pkcs12.load_key_and_certificates(content, issued["password"].encode())
    [organization] = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_IDENTIFIER)
    assert organization.value == f"NTRNO-{BROKER}"
    async with caller_of(sandbox, clock, tmp_path, certificate=BROKER) as broker:
        assert (await broker.get(broker.root)).status == 403
        permission = {"certificate_organization": BROKER, "sender": SENDER}
        assert (await hand("POST", "/brokers", permission)) == (204, None)
        assert (await broker.get(broker.root)).status == 200
    assert (await hand("GET", "/overview"))[1]["brokers"] == [permission]
    for number in ("12345678", "1234567890", "12345678x", ""):
        said, answer = await hand(
            "POST", "/enterprise-certificates", {"organization_number": number}
        )
        assert (said, answer["error"]) == (400, "An organisation number has nine digits.")
    with pytest.raises(SandboxError, match="nine digits"):
        sandbox.authorize_broker(BROKER, "1")
    async with hand.session.get(f"{hand.root}/ca.pem") as answer:
        assert await answer.read() == sandbox.ca_pem


async def test_reset_leaves_nothing_but_the_certificates(sandbox, sender, hand):
    await sender.create()
    sandbox.faults.add(Fault(kind=FaultKind.DELAY, seconds=0.1, times=9))
    certificate = sandbox.enterprise_pkcs12(SENDER)
    assert (await hand("POST", "/reset")) == (204, None)
    _, overview = await hand("GET", "/overview")
    for part in ("jobs", "queues", "requests", "faults", "brokers"):
        assert overview[part] == []
    assert overview["counters"] == {}
    assert sandbox.received == ()
    assert sandbox.enterprise_pkcs12(SENDER) == certificate
    # The number of a job is not used twice.
    assert (await sender.create()).text("//s:signature-job-id/text()") == "2"


# --- What is asked for wrongly


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "/jobs/7", None, 404, "no job 7"),
        ("POST", "/jobs/7/expire", None, 404, "no job 7"),
        ("POST", "/jobs/7/signers/1/sign", None, 404, "no job 7"),
        ("GET", "/elsewhere", None, 404, "openapi.json"),
        ("POST", "/jobs/7/signers/1/dance", None, 404, "openapi.json"),
        ("PUT", "/faults", None, 404, "openapi.json"),
        ("POST", "/faults", None, 415, "application/json"),
        ("POST", "/faults", [], 400, "the body must be an object"),
        ("POST", "/faults", {}, 400, "lacks kind"),
        ("POST", "/faults", {"kind": "odd"}, 400, "kind must be one of delay, reset"),
        ("POST", "/faults", {"kind": "delay"}, 400, "delay needs seconds"),
        ("POST", "/faults", {"kind": "reset", "when": 1}, 400, "no field 'when'"),
        ("POST", "/advance", {"seconds": "1"}, 400, "seconds must be a number"),
        ("POST", "/faults", {"when": 1}, 400, "no field 'when'; it has: kind, times, operation"),
        ("POST", "/faults", {"kind": "reset", "times": 1.5}, 400, "times must be a whole number."),
        ("POST", "/faults", {"kind": "reset", "times": True}, 400, "times must be a whole number."),
        ("POST", "/faults", {"kind": "reset", "after": 1}, 400, "after must be true or false."),
        ("POST", "/faults", {"kind": "reset", "path": []}, 400, "path must be text."),
        ("POST", "/faults", {"kind": "reset", "operation": "x"}, 400, "confirm, delete_documents."),
        ("POST", "/advance", {"seconds": True}, 400, "seconds must be a number"),
        ("POST", "/brokers", {"sender": 1}, 400, "the body lacks certificate_organization."),
    ],
)
async def test_what_is_asked_for_wrongly_is_told(hand, method, path, body, status, said):
    told, answer = await hand(method, path, body)
    assert told == status
    assert list(answer) == ["error"]
    assert said in answer["error"]


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
async def test_what_was_asked_for_wrongly_is_not_quoted(hand, body, caplog):
    status, answer = await hand("POST", "/faults", body)
    assert status == 400
    assert PERSON not in "".join(filter(str.isdigit, answer["error"]))
    assert PERSON not in "".join(filter(str.isdigit, caplog.text))


async def test_a_signer_that_is_not_there_and_a_body_that_is_no_json_are_told(sender, hand):
    await sender.create()
    for number in (0, 3):
        told, answer = await hand("POST", f"/jobs/1/signers/{number}/sign")
        assert (told, answer["error"]) == (404, "Job 1 has no such signer.")
    headers = {"Content-Type": "application/json"}
    for data, status in ((b"{", 400), (b"\xff", 400), (b" " * 3_000_000, 413)):
        async with hand.session.post(
            f"{hand.root}/advance", data=BytesIO(data), headers=headers
        ) as answer:
            assert answer.status == status
            assert list(await answer.json()) == ["error"]


async def test_a_mistake_in_the_sandbox_is_told_as_such(sandbox, hand, caplog, monkeypatch):
    monkeypatch.setattr("posten_signering.sandbox._control.control.Overview", lambda **_: 1 / 0)
    assert (await hand("GET", "/overview"))[0] == 500
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    monkeypatch.undo()


async def test_a_storage_that_fails_is_told(clock, tmp_path):
    sandbox = Sandbox(clock=clock, directory=tmp_path)
    await sandbox.__aenter__()
    storage = sandbox._now_running.control.storage
    storage._executor.submit(storage._connection.execute, "PRAGMA query_only = ON").result()
    async with aiohttp.ClientSession() as session:
        told, answer = await ControlCaller(session, sandbox.control_url)(
            "POST", "/advance", {"seconds": 1}
        )
    assert told == 500
    assert "can't write" in answer["error"]
    with pytest.raises(SandboxError):
        await sandbox.__aexit__(None, None, None)
