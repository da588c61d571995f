"""Replacing the certificate of an open client: each call keeps the one with which it began."""

import asyncio
import base64
import functools
import gc
import hashlib
import io
import itertools
import logging
import threading
import weakref
import zipfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import anyio
import doubles
import loopback
import pki
import pytest
import transport_client
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from doubles import (
    PADES,
    Answer,
    Clock,
    ScriptedTransport,
    UnlimitedFleet,
    Unsent,
    client_of,
    created_xml,
    job,
    poll_headers,
    status_xml,
)
from lxml import etree

from posten_signering import (
    CertificateAuthority,
    CertificateExpiring,
    CertificateInUse,
    CertificateKind,
    DirectClient,
    EnterpriseCertificate,
    Environment,
    Retries,
    TrustAnchors,
)
from posten_signering._client import lifecycle
from posten_signering.errors import (
    ArgumentTypeError,
    ClientStateError,
    ConfigurationError,
    RateLimitedError,
    TlsError,
    TransportError,
)

pytestmark = pytest.mark.anyio

DS = "{http://www.w3.org/2000/09/xmldsig#}"
DAY = timedelta(days=1)
JOBS = f"/{pki.SENDER}/direct/signature-jobs"


def issued(name: str, number: str = pki.SENDER, **fields) -> pki.Issued:
    """A certificate of an organisation, with a key of its own."""
    return _issued(name, number, **fields)


@functools.cache
def _issued(name: str, number: str, **fields) -> pki.Issued:
    subject = pki.subject(name, organization_identifier=f"NTRNO-{number}")
    return pki.issue(subject, pki.intermediate("Sender CA"), **fields)


def certificate(name: str, number: str = pki.SENDER, **fields) -> EnterpriseCertificate:
    return issued(name, number, **fields).enterprise()


NAMES = ("Old", "New", "Third")
OLD, NEW, THIRD = map(certificate, NAMES)
DERS = {issued(name).der: name for name in NAMES}


def name_of(der: bytes) -> str:
    """The name of one of the three certificates."""
    return DERS[der]


def signer_of(body: bytes) -> str:
    """The name of the certificate that signed the container in a request, by the signature itself."""
    with zipfile.ZipFile(io.BytesIO(body[body.index(b"PK\x03\x04") :])) as container:
        signatures = etree.fromstring(container.read("META-INF/signatures.xml"))
    shown = [base64.b64decode(element.text) for element in signatures.iter(f"{DS}X509Certificate")]
    signer = x509.load_der_x509_certificate(shown[0])
    # A document of its own, because the ancestors would make lxml add a wrong xmlns="".
    signed_info = etree.tostring(signatures.find(f".//{DS}SignedInfo"), with_tail=False)
    signer.public_key().verify(
        base64.b64decode(signatures.find(f".//{DS}SignatureValue").text),
        etree.tostring(etree.fromstring(signed_info), method="c14n"),
        padding.PKCS1v15(),
        hashes.SHA256(),
    )
    return name_of(shown[0])


# --- A service with TLS on loopback


@dataclass
class Service:
    """A service that knows the client certificate of each request."""

    server: loopback.Server
    document: bytes = PADES
    handler: loopback.Handler | None = None

    async def respond(self, received: loopback.Received) -> bytes | None:
        if self.handler is not None:
            return await self.handler(received)
        if received.method == "POST" and received.target.endswith("/signature-jobs"):
            return loopback.answer(body=created_xml())
        if received.target.endswith("/pades"):
            return loopback.answer(body=self.document)
        if received.method == "GET" and received.target.endswith("/direct/signature-jobs"):
            return loopback.answer(
                body=status_xml(), X_Next_permitted_poll_time=pki.NOW.isoformat()
            )
        return loopback.answer(body=b"The organisation is known.")

    @property
    def peers(self) -> list[str]:
        """The name of the client certificate of each request."""
        return [name_of(received.peer) for received in self.server.received]

    @property
    def connected(self) -> Counter[str]:
        """The open connections, by the name of the client's certificate."""
        return Counter(name_of(loopback.peer_of(writer)) for writer in self.server.writers)

    def url(self, path: str) -> str:
        return f"{self.server.url('/api')}{path}"


@asynccontextmanager
async def service_and_client(**fields) -> AsyncIterator[tuple[Service, DirectClient]]:
    async with AsyncExitStack() as stack:
        service = Service(loopback.Server())
        service.server = await stack.enter_async_context(
            loopback.http_server(service.respond, transport_client.server_context())
        )
        environment = Environment(
            name="Loopback",
            service_root=service.server.url("/api"),
            default_poll_wait=timedelta(seconds=30),
        )
        settings = {
            "environment": environment,
            "certificate": OLD,
            "trust_anchors": TrustAnchors().trusting(pki.root().pem),
            **fields,
        }
        client = await stack.enter_async_context(
            DirectClient(doubles.configuration(None, **settings))
        )
        yield service, client


# --- What is refused


def refused() -> dict[str, tuple[object, type[Exception], str]]:
    number = "999888777"
    return {
        "another organisation": (
            certificate("Other", number),
            ConfigurationError,
            f"organisation {number}, but the client was created for organisation {pki.SENDER}",
        ),
        "no organisation": (
            pki.issue(pki.subject("Nobody"), pki.root()).enterprise(),
            ConfigurationError,
            f"no organisation number, but the client was created for organisation {pki.SENDER}",
        ),
        "expired": (
            certificate("Expired", not_before=pki.NOW - 9 * DAY, not_after=pki.NOW - DAY),
            ConfigurationError,
            "expired at",
        ),
        "not valid yet": (
            certificate("Early", not_before=pki.NOW + DAY),
            ConfigurationError,
            "is not valid before",
        ),
        "a path": ("new.p12", ArgumentTypeError, "certificate must be an EnterpriseCertificate"),
        "nothing": (None, ArgumentTypeError, "certificate must be an EnterpriseCertificate"),
        "a key that OpenSSL rejects": (
            small_key(),
            ConfigurationError,
            "OpenSSL rejects the enterprise certificate",
        ),
    }


def small_key() -> EnterpriseCertificate:
    key = pki.rsa.generate_private_key(public_exponent=65537, key_size=1024)
    name = pki.subject("Small", organization_identifier=f"NTRNO-{pki.SENDER}")
    return pki.issue(name, pki.root(), key=key).enterprise()


@pytest.mark.parametrize("reason", refused())
async def test_the_old_certificate_stays_in_use_when_the_new_one_is_refused(reason):
    new, error, message = refused()[reason]
    async with service_and_client() as (service, client):
        await client.check_access()
        connections = service.server.connections
        with pytest.raises(error) as raised:
            await client.replace_certificate(new)
        assert message in str(raised.value)
        if error is ConfigurationError:
            assert str(raised.value).startswith("The certificate was not replaced, and the old one")
        assert client.certificate is OLD
        await client.create(job())
        assert service.peers == ["Old", "Old"]
        assert signer_of(service.server.received[1].body) == "Old"
        assert service.server.connections == connections  # also the idle connection is still used


async def test_a_client_that_is_not_open_can_not_replace_its_certificate():
    client = DirectClient(doubles.configuration(ScriptedTransport()))
    with pytest.raises(ClientStateError, match="was not entered"):
        await client.replace_certificate(NEW)
    async with client:
        await client.replace_certificate(NEW)
        assert client.certificate is NEW
    with pytest.raises(ClientStateError, match="is closed"):
        await client.replace_certificate(OLD)
    assert client.certificate is NEW
    assert client.configuration.certificate is not NEW


# --- Which certificate a call uses


async def test_new_calls_use_the_new_certificate_and_idle_connections_are_closed(caplog):
    caplog.set_level(logging.INFO, "posten_signering")
    async with service_and_client() as (service, client):
        await client.create(job())
        assert service.connected == {"Old": 1}
        await client.replace_certificate(NEW)
        assert client.certificate is NEW
        await loopback.until(lambda: not service.connected)
        await client.create(job())
        await client.get_pades(service.url("/pades"))
        assert service.connected == {"New": 1}
        assert service.peers == ["Old", "New", "New"]
        for record, name in zip(caplog.records, ("Old", "New"), strict=True):
            assert f"New calls use the enterprise certificate CN={name}," in record.getMessage()
        assert [signer_of(request.body) for request in service.server.received[:2]] == [
            "Old",
            "New",
        ]


class GatedFleet(UnlimitedFleet):
    """A fleet whose calls wait for `gate`. `waiting` is set by the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.waiting = anyio.Event(), anyio.Event()

    async def acquire(self, organization_number):
        self.waiting.set()
        await self.gate.wait()
        return await super().acquire(organization_number)


async def test_a_call_that_waits_for_the_rate_budget_keeps_its_certificate():
    fleet = GatedFleet()
    async with service_and_client(fleet=fleet) as (service, client):
        creating = asyncio.create_task(client.create(job()))
        polling = asyncio.create_task(client.get_status_change())
        await fleet.waiting.wait()
        # It waits for its turn, because the queue's first poll has not ended.
        second_poll = asyncio.create_task(client.get_status_change())
        await asyncio.sleep(0)
        await client.replace_certificate(NEW)
        later = asyncio.create_task(client.create(job()))
        fleet.gate.set()
        await asyncio.gather(creating, polling, second_poll, later)
        peers = Counter(
            (request.method, name_of(request.peer)) for request in service.server.received
        )
        assert peers == {("POST", "Old"): 1, ("GET", "Old"): 2, ("POST", "New"): 1}
        for request in service.server.received:
            if request.method == "POST":
                assert signer_of(request.body) == name_of(request.peer)
        # The connections of the old certificate end with their exchanges, while the client is open.
        await loopback.until(lambda: service.connected == {"New": 1})


async def test_a_retry_uses_the_certificate_with_which_its_call_began():
    async def new_one(seconds: float) -> None:
        await client.replace_certificate(NEW)

    async with service_and_client(retries=Retries(max_retries=1), sleep=new_one) as (
        service,
        client,
    ):

        async def fail(received):
            service.handler = None

        service.handler = fail
        await client.check_access()
        assert client.certificate is NEW
        await client.check_access()
        assert service.peers == ["Old", "Old", "New"]


async def test_with_a_custom_transport_only_the_signer_changes_and_a_retried_create_keeps_its_own():
    async def new_one(seconds: float) -> None:
        await client.replace_certificate(NEW)

    unsent = TransportError("The service can't be reached.", request_may_have_left=False)
    script = [Unsent(unsent), Answer(200, created_xml()), Answer(200, created_xml())]
    async with client_of(
        *script, certificate=OLD, retries=Retries(max_retries=1), sleep=new_one
    ) as (client, transport):
        await client.create(job())
        await client.create(job())
        assert [signer_of(sent.body) for sent in transport.sent] == ["Old", "New"]
        assert transport.closed == 0
    assert transport.closed == 1


async def test_an_iterator_uses_the_new_certificate_at_its_next_poll():
    async def new_one(seconds: float) -> None:
        if len(service.peers) == 2:
            await client.replace_certificate(NEW)
        if len(service.peers) == 4:
            changes.stop()
        clock.wait(seconds=seconds)

    clock = Clock()
    async with service_and_client(clock=clock, monotonic=clock.monotonic, sleep=new_one) as (
        service,
        client,
    ):

        async def empty(received):
            headers = poll_headers(clock.now, timedelta(seconds=30))
            return loopback.answer(
                204, **{name.replace("-", "_"): value for name, value in headers.items()}
            )

        service.handler = empty
        changes = client.status_changes()
        assert [change async for change in changes] == []
        assert service.peers == ["Old", "Old", "New", "New"]


async def test_an_open_download_finishes_on_its_connection(tmp_path):
    async with service_and_client() as (service, client):
        service.document = b"%PDF-1.7\n" + bytes(8 * 1024 * 1024) + b"%%EOF\n"
        async with client.open_pades(service.url("/pades")) as stream:
            chunks = aiter(stream)
            received = [await anext(chunks)]
            await client.replace_certificate(NEW)
            await client.check_access()
            assert service.connected == {"Old": 1, "New": 1}
            received += [chunk async for chunk in chunks]
        assert b"".join(received) == service.document
        assert service.peers == ["Old", "New"]
        await loopback.until(lambda: service.connected == {"New": 1})


async def test_a_block_by_the_rate_limit_holds_for_the_calls_of_both_certificates():
    blocked = Answer(429, headers={"dosfilter": "delayed"})
    clock = Clock()
    sleep = doubles.Sleep(clock)
    async with client_of(
        blocked, Answer(200, b"Known."), clock=clock, monotonic=clock.monotonic, sleep=sleep
    ) as (client, _):
        with pytest.raises(RateLimitedError):
            await client.check_access()
        await client.replace_certificate(NEW)
        await client.check_access()
    assert sleep.slept == [30]


async def test_an_iterator_of_a_closed_client_sends_nothing():
    async with client_of() as (client, transport):
        changes = client.status_changes()
    with pytest.raises(ClientStateError, match="is closed"):
        await anext(changes)
    assert transport.sent == []


# --- Replacements at the same time, and the end of the client


@pytest.fixture
def may_end(monkeypatch):
    """New certificates are not ready before this event is set."""
    event, prepare = threading.Event(), lifecycle._credentials

    def hold(configuration, new, *earlier):
        if new is not OLD:
            assert event.wait(30)
        return prepare(configuration, new, *earlier)

    monkeypatch.setattr(lifecycle, "_credentials", hold)
    return event


async def test_of_several_replacements_the_last_one_to_be_called_stays(may_end):
    wrong = certificate("Other", "999888777")
    async with service_and_client() as (service, client):
        limiter = client._opened.limiter
        limiter.total_tokens = 4
        replacing = [
            asyncio.create_task(client.replace_certificate(new))
            for new in (NEW, THIRD, wrong, NEW, THIRD, wrong)
        ]
        await loopback.until(lambda: limiter.borrowed_tokens)
        for _ in range(20):
            await asyncio.sleep(0)
        assert limiter.borrowed_tokens == 1  # one after the other
        may_end.set()
        results = await asyncio.gather(*replacing, return_exceptions=True)
        assert list(map(type, results)) == [type(None), type(None), ConfigurationError] * 2
        assert client.certificate is THIRD
        await client.create(job())
        [request] = service.server.received
        assert (name_of(request.peer), signer_of(request.body)) == ("Third", "Third")


async def test_the_certificate_in_use_is_checked_and_keeps_its_connections():
    clock = Clock()
    async with service_and_client(clock=clock) as (service, client):
        await client.check_access()
        await client.replace_certificate(issued("Old").enterprise())
        await client.check_access()
        assert service.server.connections == 1
        clock.now = OLD.not_after + DAY
        with pytest.raises(ConfigurationError, match="expired at"):
            await client.replace_certificate(OLD)


async def test_closing_the_client_closes_the_connections_of_every_certificate():
    async with service_and_client() as (service, client):
        service.document = b"%PDF-1.7\n" + bytes(8 * 1024 * 1024) + b"%%EOF\n"
        async with AsyncExitStack() as downloads:
            chunks = []
            for new in (NEW, THIRD, None):
                opening = client.open_pades(service.url("/pades"))
                chunks.append(aiter(await downloads.enter_async_context(opening)))
                await anext(chunks[-1])
                if new is not None:
                    await client.replace_certificate(new)
            assert service.connected == {"Old": 1, "New": 1, "Third": 1}
            await client.aclose()
            await loopback.until(lambda: not service.connected)
            for iterator in chunks:
                with pytest.raises(TransportError):
                    await consumed(iterator)


async def consumed(chunks) -> None:
    async for _ in chunks:
        pass


async def test_a_client_that_is_closed_during_a_replacement_stays_closed(may_end):
    async with service_and_client() as (service, client):
        await client.check_access()
        limiter = client._opened.limiter
        replacing = [asyncio.create_task(client.replace_certificate(new)) for new in (NEW, THIRD)]
        await loopback.until(lambda: limiter.borrowed_tokens)
        await client.aclose()
        may_end.set()
        results = await asyncio.gather(*replacing, return_exceptions=True)
        assert list(map(type, results)) == [ClientStateError, ClientStateError]
        assert client.certificate is OLD
        with pytest.raises(ClientStateError, match="is closed"):
            await client.check_access()
        await loopback.until(lambda: not service.connected)


async def test_a_replacement_that_is_cancelled_changes_nothing(may_end):
    async with service_and_client() as (service, client):
        limiter = client._opened.limiter
        replacing = asyncio.create_task(client.replace_certificate(NEW))
        await loopback.until(lambda: limiter.borrowed_tokens)
        replacing.cancel()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await replacing
        await client.create(job())
        assert (client.certificate, service.peers) == (OLD, ["Old"])
        await client.replace_certificate(THIRD)
        assert client.certificate is THIRD


async def test_the_transport_of_an_old_certificate_is_freed_with_its_last_call():
    """It holds the private key, in its TLS context."""
    async with service_and_client() as (service, client):
        await client.check_access()
        freed = anyio.Event()
        gc.disable()
        try:
            weakref.finalize(client._opened.credentials.own_transport, freed.set)
            async with client.open_pades(service.url("/pades")) as stream:
                await client.replace_certificate(NEW)
                assert not freed.is_set()
                await consumed(aiter(stream))
            assert freed.is_set()
        finally:
            gc.enable()


# --- Trust anchors and chains


def authority(issuer: pki.Issued) -> CertificateAuthority:
    return CertificateAuthority(name=issuer.name, sha256=hashlib.sha256(issuer.der).hexdigest())


async def test_the_trust_anchors_of_the_old_certificates_file_stay_in_use():
    """CA certificates in a .p12 file are trust anchors, and the new file may have those of another issuer."""
    other_root = pki.root("Other root")
    other = pki.issue(
        pki.subject("Other", organization_identifier=f"NTRNO-{pki.SENDER}"), other_root
    ).enterprise()
    context = pki.server_context(pki.service())
    async with loopback.http_server(transport_client.OK, context) as server:
        pinned = Environment(
            name="Pinned",
            service_root=server.url("/api"),
            authorities=[authority(pki.root()), authority(other_root)],
        )
        old, new = (
            doubles.configuration(None, environment=pinned, certificate=own) for own in (OLD, other)
        )
        async with DirectClient(old) as client:
            await client.replace_certificate(other)
            await client.check_access()
        async with DirectClient(new) as client:
            with pytest.raises(TlsError, match="is not trusted"):
                await client.check_access()


async def test_a_certificate_without_its_issuers_is_completed_from_the_trust_anchors(caplog):
    issuers = TrustAnchors().trusting(*(issuer.pem for issuer in issued("New").issuers))
    alone = issued("New").enterprise(cas=[])
    async with service_and_client(trust_anchors=issuers) as (service, client):
        await client.replace_certificate(alone)
        await client.check_access()
        assert service.peers == ["New"]
    assert caplog.records == []
    async with client_of(certificate=OLD) as (client, _):
        await client.replace_certificate(alone)
    [warning] = caplog.records
    assert "the certificate of CN=Sender CA is missing" in warning.getMessage()


async def test_an_expired_trust_anchor_is_reported_and_does_not_prevent_a_connection():
    """OpenSSL would prefer the expired intermediate to the one that the service sends."""
    expired = pki.issue(
        pki.subject("Business CA"),
        pki.root(),
        ca=True,
        not_before=pki.NOW - 9 * DAY,
        not_after=pki.NOW - DAY,
    )
    anchors, events = TrustAnchors().trusting(pki.root().pem, expired.pem), []
    async with service_and_client(trust_anchors=anchors, observers=[events.append]) as (_, client):
        await client.check_access()
        [warning] = [event for event in events if isinstance(event, CertificateExpiring)]
        assert (warning.kind, warning.subject) == (CertificateKind.TRUST_ANCHOR, "CN=Business CA")
        await client.replace_certificate(NEW)
        await client.check_access()
    assert sum(isinstance(event, CertificateExpiring) for event in events) == 1
    events.clear()
    async with client_of(trust_anchors=anchors, observers=[events.append]):
        assert all(
            isinstance(event, CertificateInUse) for event in events
        )  # a custom transport does not use them
    without_root = TrustAnchors().trusting(pki.root("Other").pem, expired.pem)
    async with service_and_client(trust_anchors=without_root) as (_, client):
        with pytest.raises(TlsError, match="“Business CA” is a trust anchor that has expired"):
            await client.check_access()


# --- Warnings


def expiring(days: float) -> pki.Issued:
    return issued(f"Expiring in {days} days", not_after=pki.NOW + days * DAY)


async def test_a_running_client_warns_daily_until_its_certificate_is_replaced(caplog):
    clock, events = Clock(), []
    script = [Answer(200, b"Known.")] * 7

    def warnings() -> list[float]:
        left = [event.time_left / DAY for event in events if isinstance(event, CertificateExpiring)]
        events.clear()
        return left

    async with client_of(
        *script, clock=clock, certificate=expiring(31).enterprise(), observers=[events.append]
    ) as (client, _):
        assert warnings() == []
        for days, expected in ((0, []), (1, [30]), (0.5, []), (0.5, [29]), (31, [-2])):
            clock.wait(days=days)
            await client.check_access()
            assert warnings() == expected
        await client.replace_certificate(expiring(40).enterprise())
        assert warnings() == [7]
        await client.replace_certificate(expiring(400).enterprise())
        clock.wait(days=2)
        await client.check_access()
        assert warnings() == []
    first, *_, expired, last = [record.getMessage() for record in caplog.records]
    end = expiring(31).enterprise().not_after.isoformat()
    assert first.startswith(
        "The enterprise certificate CN=Expiring in 31 days,organizationIdentifier=NTRNO-"
    )
    assert f"expires at {end}. Get a new one from its issuer" in first
    assert f"expired at {end}. Get a new one from its issuer" in expired
    assert "Expiring in 40 days" in last
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert {record.name for record in caplog.records} == {"posten_signering.certificates"}


async def test_an_iterator_warns_at_its_polls():
    async def sleep(seconds: float) -> None:
        clock.wait(days=1)
        if len(transport.sent) == 3:
            changes.stop()

    clock, events = Clock(), []
    script = [Answer(204, headers=poll_headers(pki.NOW, timedelta(0)))] * 3
    async with client_of(
        *script,
        clock=clock,
        sleep=sleep,
        certificate=expiring(31).enterprise(),
        observers=[events.append],
    ) as (client, transport):
        changes = client.status_changes()
        await consumed(changes)
    left = [event.time_left / DAY for event in events if isinstance(event, CertificateExpiring)]
    assert left == [30, 29]


# --- Under load


async def test_a_signature_and_a_connection_of_different_certificates_would_be_seen():
    async with service_and_client() as (service, client):
        opened = client._opened
        await client.replace_certificate(NEW)
        mixed = replace(client._opened.creation, session=opened.session)
        client._opened = replace(client._opened, creation=mixed)
        await client.create(job())
        [request] = service.server.received
        assert (name_of(request.peer), signer_of(request.body)) == ("Old", "New")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
async def test_no_call_fails_or_mixes_certificates_while_they_are_replaced_under_load():
    """Eight tasks create, poll and download. The certificate is replaced 12 times, and half of the attempts fail."""
    gc.collect()
    files = len(doubles.opened_files())
    other_organization, rejected = certificate("Other", "999888777"), small_key()
    async with service_and_client(max_connections=8) as (service, client):
        service.document = b"%PDF-1.7\n" + bytes(1024 * 1024) + b"%%EOF\n"
        stopped = anyio.Event()

        async def work(number: int) -> None:
            while not stopped.is_set():
                if number % 4 < 2:
                    await client.create(job())
                elif number % 4 == 2:
                    await client.get_status_change()
                else:
                    assert await client.get_pades(service.url("/pades")) == service.document

        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(work, number)
            async with client.open_pades(service.url("/pades")) as stream:
                chunks = aiter(stream)
                downloaded = [await anext(chunks)]
                # One fails before its worker thread, one in it.
                for new, wrong in zip(
                    [NEW, THIRD, OLD] * 4,
                    itertools.cycle([other_organization, rejected]),
                    strict=False,
                ):
                    with pytest.raises(ConfigurationError):
                        await client.replace_certificate(wrong)
                    await client.replace_certificate(new)
                    # Every certificate carries several calls of each kind.
                    seen = len(service.peers)
                    await loopback.until(lambda: len(service.peers) >= seen + 16)  # noqa: B023 - called here only
                downloaded += [chunk async for chunk in chunks]
            stopped.set()
        assert b"".join(downloaded) == service.document
        await loopback.until(lambda: service.connected.keys() == {"Old"})
        requests = [
            (name_of(request.peer), signer_of(request.body))
            for request in service.server.received
            if request.method == "POST"
        ]
        assert set(requests) == {(name, name) for name in ("Old", "New", "Third")}
        assert service.peers.count("New") >= 16
    await loopback.until(lambda: len(doubles.opened_files()) <= files)
