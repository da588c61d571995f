"""The whole direct flow, over mutual TLS on loopback, against the sandbox; its results judged by others."""

import dataclasses
import io
import subprocess
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pki
import pytest
import verify_bundle
from doubles import CUSTOMER, PDF, PERSON, Clock, Unpaced, job
from lxml import etree
from pypdf import PdfReader

from posten_signering import (
    AuthenticationLevel,
    ClientConfiguration,
    Compression,
    DirectClient,
    DirectJob,
    DirectJobResponse,
    DirectJobStatus,
    DirectSigner,
    Document,
    DocumentType,
    EnterpriseCertificate,
    Environment,
    IdentifierInSignedDocuments,
    InMemoryRateLimiter,
    OnBehalfOf,
    Sender,
    SignatureType,
    SignerStatus,
    StatusRetrievalMethod,
    TrustAnchors,
)
from posten_signering.errors import (
    ApiError,
    BrokerNotAuthorizedError,
    CreateOutcomeUnknownError,
    DocumentsNotDeletableError,
    InvalidStatusQueryTokenError,
    RateLimitedError,
    SignedDocumentMissingError,
    SigningCeremonyNotCompletedError,
    StatusUrlMissingError,
    TlsError,
    TooEagerPollingError,
    TransportError,
    UntrustedUrlError,
)
from posten_signering.sandbox import RateLimit, Sandbox, SandboxError

pytestmark = pytest.mark.anyio

SIGNERS = (PERSON, CUSTOMER)
OTHER = "999888777"
WAITING, SIGNED = SignerStatus.WAITING, SignerStatus.SIGNED


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def sandbox(clock):
    async with Sandbox(clock=clock, rate_limit=None) as running:
        yield running


def configured(sandbox: Sandbox, clock: Clock, *arguments, **fields) -> ClientConfiguration:
    """A client that waits for nobody: pace, waiting and patience are tested elsewhere."""

    async def sleep(seconds: float) -> None:
        clock.wait(seconds=seconds)

    waiting = {"monotonic": clock.monotonic, "sleep": sleep, "random": lambda: 0.0}
    options = {"rate_limiter": Unpaced(), **waiting, **fields}
    return sandbox.client_configuration(*arguments, **options)


@pytest.fixture
async def client(sandbox, clock):
    async with DirectClient(configured(sandbox, clock)) as opened:
        yield opened


def polled(**fields) -> DirectJob:
    return job(status_retrieval_method=StatusRetrievalMethod.POLLING, **fields)


def token_in(exit_url: str) -> str:
    [token] = parse_qs(urlsplit(exit_url).query)["status_query_token"]
    return token


def statuses(status) -> list[str]:
    return [status.signature_of(each).status for each in SIGNERS]


async def sign(sandbox: Sandbox, created: DirectJobResponse) -> str:
    """Both sign; the exit URL of the last."""
    exit_urls = [await sandbox.sign(created.signer(each).redirect_url) for each in SIGNERS]
    return exit_urls[-1]


# --- By token


async def test_a_job_by_token_from_creation_to_the_signed_documents(
    sandbox, client, tmp_path, xmlsec1, pdfsig, pdftotext
):
    created = await client.create(job())
    assert created.reference == "order-77"

    exit_url = await sandbox.sign(created.signer(PERSON).redirect_url)
    assert exit_url.startswith("https://shop.example/done?")
    half = await client.get_status(created, token_in(exit_url))
    assert (half.status, statuses(half)) == (DirectJobStatus.IN_PROGRESS, [SIGNED, WAITING])
    assert half.pades_url is None
    assert (await client.get_xades(half.signature_of(PERSON))).startswith(b"<")
    with pytest.raises(SignedDocumentMissingError):
        await client.get_xades(half.signature_of(CUSTOMER))
    with pytest.raises(SignedDocumentMissingError):
        await client.get_pades(half)

    exit_url = await sandbox.sign(created.signer(CUSTOMER).redirect_url)
    status = await client.get_status(created, token_in(exit_url))
    assert status.status is DirectJobStatus.COMPLETED_SUCCESSFULLY
    assert statuses(status) == [SIGNED, SIGNED]
    assert all(each.since.utcoffset() is not None for each in status.signatures)
    assert (status.job_id, status.reference) == (created.job_id, "order-77")

    path = tmp_path / "signed.pdf"
    size = await client.download_pades(status, path)
    assert size == path.stat().st_size
    assert await client.get_pades(status) == path.read_bytes()
    signature_is_valid(pdfsig, path)
    said = run(pdftotext, "-layout", path, "-")
    assert "Lease" in said
    assert "Vilkår" in said
    async with client.open_pades(status) as stream:
        assert stream.content_length == size
        assert b"".join([chunk async for chunk in stream]) == path.read_bytes()
    for each in status.signatures:
        xades = etree.fromstring(await client.get_xades(each))
        assert len(list(xades.iter("{http://uri.etsi.org/01903/v1.3.2#}SigningTime"))) == 1
    await client.confirm(status)

    [received] = sandbox.received
    assert list(received.documents.values()) == [PDF, "Vilkår".encode()]
    (tmp_path / "judged").mkdir()
    verify_bundle.verify(received.container, root_pem=sandbox.ca_pem, tmp_path=tmp_path / "judged")


def run(program: str, *arguments: str | Path) -> str:
    command = [program, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def signature_is_valid(pdfsig: str, path: Path) -> None:
    """One valid signature over the whole file, and none in it with a byte changed."""
    said = run(pdfsig, path)
    assert said.count("Signature Validation: Signature is Valid.") == 1
    assert "Total document signed" in said
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 3] ^= 1
    path.with_suffix(".changed").write_bytes(changed)
    assert "Signature is Valid." not in run(pdfsig, path.with_suffix(".changed"))


@pytest.mark.parametrize(
    ("act", "exit_url", "expected"),
    [
        ("reject", "https://shop.example/rejected?", ["REJECTED", "NOT_APPLICABLE"]),
        ("fail", "https://shop.example/error?", ["FAILED", "NOT_APPLICABLE"]),
    ],
)
async def test_who_does_not_sign_ends_the_job(sandbox, client, act, exit_url, expected):
    created = await client.create(job())
    came_to = await getattr(sandbox, act)(created.signer(PERSON).redirect_url)
    assert came_to.startswith(exit_url)
    status = await client.get_status(created, token_in(came_to))
    assert (status.status, statuses(status)) == (DirectJobStatus.FAILED, expected)
    with pytest.raises(SignedDocumentMissingError):
        await client.get_pades(status)
    with pytest.raises(DocumentsNotDeletableError):
        await client.delete_documents(status)
    await client.confirm(status)


async def test_tokens_that_open_nothing(sandbox, client):
    created = await client.create(job())
    with pytest.raises(InvalidStatusQueryTokenError):
        await client.get_status(created, "guess/+&=")
    early = sandbox.status_query_token(created.signer(PERSON).redirect_url)
    with pytest.raises(SigningCeremonyNotCompletedError):
        await client.get_status(created, early)
    another = await client.create(job())
    exit_url = await sandbox.sign(another.signer(PERSON).redirect_url)
    with pytest.raises(InvalidStatusQueryTokenError):
        await client.get_status(created, token_in(exit_url))


async def test_a_new_redirect_url_takes_the_place_of_the_last(sandbox, client):
    created = await client.create(job())
    first = created.signer(PERSON)
    second = await client.request_new_redirect_url(first)
    assert (second.signer_url, second.personal_identification_number) == (first.signer_url, PERSON)
    with pytest.raises(SandboxError):
        await sandbox.sign(first.redirect_url)
    await sandbox.sign(second.redirect_url)
    with pytest.raises(ApiError):
        await client.request_new_redirect_url(second)


async def test_with_nothing_but_stored_urls(sandbox, client, clock, tmp_path):
    """What another process needs: text from a database."""
    created = await client.create(job())
    stored = [created.status_url, *(created.signer(each).signer_url for each in SIGNERS)]
    status_url, *signer_urls = stored
    for url in signer_urls:
        signer = await client.request_new_redirect_url(url)
        token = token_in(await sandbox.sign(signer.redirect_url))
    status = await client.get_status(status_url, token)
    assert await client.get_pades(status.pades_url) == await client.get_pades(status)
    for each in status.signatures:
        assert await client.download_xades(each.xades_url, tmp_path / "xades.xml") > 1000
    await client.confirm(status.confirmation_url)
    clock.wait(hours=25)
    later = await client.get_status(status_url, token)
    await client.delete_documents(later.delete_documents_url)


async def test_documents_can_be_deleted_a_day_later(sandbox, client, clock):
    created = await client.create(job())
    token = token_in(await sign(sandbox, created))
    status = await client.get_status(created, token)
    with pytest.raises(DocumentsNotDeletableError):
        await client.delete_documents(status)
    clock.wait(hours=23, minutes=59)
    with pytest.raises(DocumentsNotDeletableError):
        await client.delete_documents(await client.get_status(created, token))
    clock.wait(minutes=1)
    later = await client.get_status(created, token)
    await client.delete_documents(later)
    with pytest.raises(ApiError):
        await client.get_pades(status)


# --- By polling


async def test_a_polled_job_from_creation_to_the_last_confirmation(
    sandbox, client, tmp_path, pdfsig
):
    created = await client.create(polled())
    assert created.status_url is None
    with pytest.raises(StatusUrlMissingError):
        await client.get_status(created, "token")
    await sign(sandbox, created)
    seen, keys = [], set()
    async for change in client.status_changes():
        assert (change.job_id, change.reference) == (created.job_id, "order-77")
        seen.append((change.status, statuses(change)))
        keys.add(change.deduplication_key)
        if change.status == DirectJobStatus.COMPLETED_SUCCESSFULLY:
            await client.download_pades(change, tmp_path / "signed.pdf")
            await client.confirm(change)
            break
        await client.confirm(change)
    assert seen == [("IN_PROGRESS", [SIGNED, WAITING]), ("COMPLETED_SUCCESSFULLY", [SIGNED] * 2)]
    assert len(keys) == 2
    signature_is_valid(pdfsig, tmp_path / "signed.pdf")
    assert (await client.get_status_change()).change is None


async def test_a_change_comes_back_until_it_is_confirmed(sandbox, client, clock):
    created = await client.create(polled())
    await sandbox.reject(created.signer(PERSON).redirect_url)
    first = (await client.get_status_change()).change
    empty = await client.get_status_change()
    assert (empty.change, empty.wait <= timedelta(seconds=31)) == (None, True)
    clock.wait(minutes=10, seconds=1)
    again = (await client.get_status_change()).change
    assert again.deduplication_key == first.deduplication_key
    await client.confirm(again)
    clock.wait(hours=1)
    assert (await client.get_status_change()).change is None


async def test_the_iterator_waits_out_an_empty_queue(sandbox, clock):
    """A poll of somebody else makes it wait longer: it is told so, and waits."""
    async with (
        DirectClient(configured(sandbox, clock)) as client,
        DirectClient(configured(sandbox, clock)) as another,
    ):
        created = await client.create(polled())
        assert (await another.get_status_change()).change is None
        with pytest.raises(TooEagerPollingError) as caught:
            await client.get_status_change()
        assert caught.value.next_permitted_poll_time > clock.now
        start = clock.now
        await sandbox.sign(created.signer(PERSON).redirect_url)
        change = await anext(client.status_changes())
        assert statuses(change) == [SIGNED, WAITING]
        assert timedelta(seconds=30) <= clock.now - start <= timedelta(seconds=32)


async def test_a_job_that_expires_is_told_in_the_queue(sandbox, client):
    created = await client.create(polled())
    await sandbox.sign(created.signer(CUSTOMER).redirect_url)
    await sandbox.expire(created.job_id)
    changes = client.status_changes()
    await client.confirm(await anext(changes))
    last = await anext(changes)
    assert (last.status, statuses(last)) == (DirectJobStatus.FAILED, ["EXPIRED", SIGNED])


async def test_queues_have_names_and_one_has_none(sandbox, clock):
    """Each job's changes are in its sender's queue, and in no other."""
    default = Sender(organization_number=pki.SENDER)
    named = dataclasses.replace(default, polling_queue="shop & søn/2")
    async with DirectClient(configured(sandbox, clock)) as client:
        ids = {}
        for sender in (default, named):
            created = await client.create(polled(sender=sender))
            await sandbox.reject(created.signer(PERSON).redirect_url)
            ids[sender] = created.job_id
        for sender in (named, default):
            poll = await client.get_status_change(sender=sender)
            assert poll.change.job_id == ids[sender]
        for sender in (named, default):
            assert (await client.get_status_change(sender=sender)).change is None


# --- What a job may be


async def test_every_setting_of_a_job_arrives(sandbox, client):
    given = polled(
        description="Les først",
        authentication_level=AuthenticationLevel.THREE,
        identifier_in_signed_documents=IdentifierInSignedDocuments.NAME,
        sender=Sender(organization_number=pki.SENDER, polling_queue="shop"),
        signers=[
            DirectSigner(
                personal_identification_number=PERSON,
                signature_type=SignatureType.AUTHENTICATED_SIGNATURE,
                on_behalf_of=OnBehalfOf.OTHER,
            )
        ],
    )
    created = await client.create(given)
    assert created.single_signer.personal_identification_number == PERSON
    [received] = sandbox.received
    manifest = etree.fromstring(received.manifest)
    told = {etree.QName(each).localname: each.text for each in manifest.iter() if each.text}
    assert {
        "description": "Les først",
        "required-authentication": "3",
        "identifier-in-signed-documents": "NAME",
        "signature-type": "AUTHENTICATED_ELECTRONIC_SIGNATURE",
        "on-behalf-of": "OTHER",
    }.items() <= told.items()
    assert b"<polling-queue>shop<" in received.request.replace(b"ns0:", b"")


@pytest.mark.parametrize("compression", Compression)
async def test_documents_from_paths_of_many_sizes(sandbox, clock, tmp_path, compression, pdfsig):
    """A text of several MiB beside a PDF, byte for byte, in either form of the container."""
    text = ("Vilkår nummer en.\n" * 60_000).encode()
    (tmp_path / "a.txt").write_bytes(text)
    (tmp_path / "b.pdf").write_bytes(PDF)
    documents = [
        Document(title="A", content=tmp_path / "a.txt", type=DocumentType.TEXT),
        Document(title="B", content=tmp_path / "b.pdf"),
    ]
    async with DirectClient(configured(sandbox, clock, compression=compression)) as client:
        created = await client.create(job(documents=documents))
    assert list(sandbox.received[-1].documents.values()) == [text, PDF]
    (tmp_path / "judged").mkdir()
    verify_bundle.verify(
        sandbox.received[-1].container, root_pem=sandbox.ca_pem, tmp_path=tmp_path / "judged"
    )
    assert created.job_id == sandbox.received[-1].job_id


async def test_a_text_alone_becomes_a_signed_pdf(sandbox, client, tmp_path, pdfsig):
    text = Document(title="Vilkår", content="Æ, ø og å".encode(), type=DocumentType.TEXT)
    created = await client.create(job(documents=[text]))
    status = await client.get_status(created, token_in(await sign(sandbox, created)))
    await client.download_pades(status, tmp_path / "signed.pdf")
    signature_is_valid(pdfsig, tmp_path / "signed.pdf")
    pages = PdfReader(io.BytesIO(await client.get_pades(status))).pages
    assert "Æ, ø og å" in pages[-1].extract_text()


# --- Who may


async def test_access_is_told(sandbox, client):
    assert pki.SENDER in await client.check_access()


async def test_a_broker_needs_leave(sandbox, clock):
    sender = Sender(organization_number=OTHER)
    async with DirectClient(configured(sandbox, clock, sender=sender)) as broker:
        for call in (broker.create(polled()), broker.check_access(), broker.get_status_change()):
            with pytest.raises(BrokerNotAuthorizedError, match="authorise it as broker"):
                await call
        assert sandbox.received == ()
        sandbox.authorize_broker(pki.SENDER, OTHER)
        created = await broker.create(polled())
        await sandbox.reject(created.signer(PERSON).redirect_url)
        change = await anext(broker.status_changes())
        assert change.job_id == created.job_id
        await broker.confirm(change)


async def test_the_rate_limit_blocks_and_says_how_long(clock):
    limit = RateLimit(calls=2, block=timedelta(seconds=30))
    async with (
        Sandbox(clock=clock, rate_limit=limit) as sandbox,
        DirectClient(configured(sandbox, clock)) as client,
    ):
        for _ in range(2):
            await client.check_access()
        with pytest.raises(RateLimitedError) as caught:
            await client.check_access()
        assert caught.value.blocked_until == clock.now + timedelta(seconds=30)
        clock.wait(seconds=31)
        await client.check_access()


async def test_the_clients_own_pace_stays_below_the_limit(clock):
    """The default limiter, on the clock of the test: 40 calls, and not one is refused."""

    async def sleep(seconds: float) -> None:
        clock.wait(seconds=seconds)

    pace = InMemoryRateLimiter(monotonic=clock.monotonic, sleep=sleep)
    async with (
        Sandbox(clock=clock) as sandbox,
        DirectClient(configured(sandbox, clock, rate_limiter=pace)) as client,
    ):
        start = clock.now
        for _ in range(40):
            await client.check_access()
        assert timedelta(seconds=4) < clock.now - start < timedelta(seconds=8)


async def test_a_service_of_another_authority_is_not_trusted(sandbox, clock):
    async with Sandbox(clock=clock) as another:
        stranger = configured(sandbox, clock, trust_anchors=TrustAnchors().trusting(another.ca_pem))
        async with DirectClient(stranger) as client:
            with pytest.raises(TlsError, match="is not trusted") as caught:
                await client.create(job())
    assert caught.value.request_may_have_left is False
    assert sandbox.received == ()


async def test_a_service_of_another_organisation_is_not_trusted(sandbox, clock):
    configuration = configured(sandbox, clock)
    environment = dataclasses.replace(
        configuration.environment, server_organization_number="123123123"
    )
    async with DirectClient(dataclasses.replace(configuration, environment=environment)) as client:
        with pytest.raises(TlsError, match=r"belongs to organisation 984661185, not to 123123123"):
            await client.check_access()


@pytest.mark.parametrize("whose", ["another sandbox's", "nobody's"])
async def test_a_certificate_that_the_service_does_not_know_is_refused(sandbox, clock, whose):
    async with Sandbox(clock=clock) as another:
        certificate = pki.sender().enterprise()
        if whose == "another sandbox's":
            content, password = another.enterprise_pkcs12(pki.SENDER)
            certificate = EnterpriseCertificate.from_pkcs12(content, password=password)
        async with DirectClient(configured(sandbox, clock, certificate=certificate)) as client:
            # In TLS 1.3 the refusal comes after the client's handshake, and may be lost with the
            # connection; the words say so in either case.
            with pytest.raises(TransportError, match="the client certificate"):
                await client.check_access()
            with pytest.raises(TransportError, match="the client certificate") as caught:
                await client.create(job())
            assert isinstance(caught.value, TlsError | CreateOutcomeUnknownError)
    assert sandbox.received == ()


async def test_a_url_of_another_sandbox_is_not_followed(sandbox, client, clock):
    async with Sandbox(clock=clock, rate_limit=None) as another:
        async with DirectClient(configured(another, clock)) as other_client:
            created = await other_client.create(job())
        with pytest.raises(UntrustedUrlError):
            await client.get_status(created, "token")
        with pytest.raises(UntrustedUrlError):
            await client.request_new_redirect_url(created.signer(PERSON).redirect_url)


async def test_an_environment_from_variables_reaches_the_sandbox(sandbox, clock, tmp_path):
    content, password = sandbox.enterprise_pkcs12(pki.SENDER)
    (tmp_path / "enterprise.p12").write_bytes(content)
    (tmp_path / "root.pem").write_bytes(sandbox.ca_pem)
    configuration = ClientConfiguration.from_env(
        {
            "POSTEN_SIGNERING_CERTIFICATE": str(tmp_path / "enterprise.p12"),
            "POSTEN_SIGNERING_CERTIFICATE_PASSWORD": password,
            "POSTEN_SIGNERING_SERVICE_ROOT": sandbox.service_root,
            "POSTEN_SIGNERING_TRUST_ANCHORS": str(tmp_path / "root.pem"),
            "POSTEN_SIGNERING_ORGANIZATION_NUMBER": pki.SENDER,
        }
    )
    assert isinstance(configuration.environment, Environment)
    async with DirectClient(dataclasses.replace(configuration, clock=clock)) as client:
        assert pki.SENDER in await client.check_access()
        assert (await client.create(job())).job_id == sandbox.received[-1].job_id
