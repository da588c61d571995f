"""The whole direct flow against the sandbox, over mutual TLS on loopback. Other programs verify the results."""

import dataclasses
import io
import random
import subprocess
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pki
import pytest
import verify_bundle
from doubles import CUSTOMER, PDF, PERSON, Clock, UnlimitedFleet, job
from lxml import etree
from pypdf import PdfReader, PdfWriter
from pypdf.generic import DecodedStreamObject

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
    NotAuthorizedError,
    RateLimitedError,
    SignedDocumentMissingError,
    SigningCeremonyNotCompletedError,
    StatusUrlMissingError,
    TlsError,
    TooEagerPollingError,
    TransportError,
    UntrustedUrlError,
)
from posten_signering.sandbox import Fault, FaultKind, RateLimit, Sandbox, SandboxError

pytestmark = pytest.mark.anyio

SIGNERS = (PERSON, CUSTOMER)
OTHER = "999888777"
WAITING, SIGNED = SignerStatus.WAITING, SignerStatus.SIGNED


@pytest.fixture(scope="module")
def clock():
    return Clock()


@pytest.fixture(scope="module")
async def shared_sandbox(clock):
    async with Sandbox(clock=clock, rate_limit=None) as running:
        yield running


@pytest.fixture
async def sandbox(shared_sandbox):
    await shared_sandbox.reset()
    return shared_sandbox


def configured(sandbox: Sandbox, clock: Clock, *arguments, **fields) -> ClientConfiguration:
    """A configuration whose client never waits in real time. Waiting is tested elsewhere."""

    async def sleep(seconds: float) -> None:
        clock.wait(seconds=seconds)

    waiting = {"monotonic": clock.monotonic, "sleep": sleep, "random": lambda: 0.0}
    options = {"fleet": UnlimitedFleet(), **waiting, **fields}
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
    return [status.signature_of(signer).status for signer in SIGNERS]


async def sign(sandbox: Sandbox, created: DirectJobResponse) -> str:
    """Signs as both signers, and returns the exit URL of the last one."""
    exit_urls = [await sandbox.sign(created.signer(signer).redirect_url) for signer in SIGNERS]
    return exit_urls[-1]


# --- By token


async def test_the_flow_by_token_from_creation_to_the_signed_documents(
    sandbox, client, tmp_path, xmlsec1, pdfsig, pdftotext
):
    created = await client.create(job())
    assert created.reference == "order-77"

    exit_url = await sandbox.sign(created.signer(PERSON).redirect_url)
    assert exit_url.startswith("https://shop.example/done?")
    in_progress = await client.get_status(created, token_in(exit_url))
    assert (in_progress.status, statuses(in_progress)) == (
        DirectJobStatus.IN_PROGRESS,
        [SIGNED, WAITING],
    )
    assert in_progress.pades_url is None
    assert (await client.get_xades(in_progress.signature_of(PERSON))).startswith(b"<")
    with pytest.raises(SignedDocumentMissingError):
        await client.get_xades(in_progress.signature_of(CUSTOMER))
    with pytest.raises(SignedDocumentMissingError):
        await client.get_pades(in_progress)

    exit_url = await sandbox.sign(created.signer(CUSTOMER).redirect_url)
    status = await client.get_status(created, token_in(exit_url))
    assert status.status is DirectJobStatus.COMPLETED_SUCCESSFULLY
    assert statuses(status) == [SIGNED, SIGNED]
    assert all(signature.since.utcoffset() is not None for signature in status.signatures)
    assert (status.job_id, status.reference) == (created.job_id, "order-77")

    path = tmp_path / "signed.pdf"
    size = await client.download_pades(status, path)
    assert size == path.stat().st_size
    assert await client.get_pades(status) == path.read_bytes()
    assert_signature_is_valid(pdfsig, path)
    text = run(pdftotext, "-layout", path, "-")
    assert "Lease" in text
    assert "Vilkår" in text
    async with client.open_pades(status) as stream:
        assert stream.content_length == size
        assert b"".join([chunk async for chunk in stream]) == path.read_bytes()
    for signature in status.signatures:
        xades = etree.fromstring(await client.get_xades(signature))
        assert len(list(xades.iter("{http://uri.etsi.org/01903/v1.3.2#}SigningTime"))) == 1
    await client.confirm(status)

    [received] = sandbox.received
    assert list(received.documents.values()) == [PDF, "Vilkår".encode()]
    (tmp_path / "verified").mkdir()
    verify_bundle.verify(
        received.container, root_pem=sandbox.ca_pem, tmp_path=tmp_path / "verified"
    )


def run(program: str, *arguments: str | Path) -> str:
    command = [program, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def assert_signature_is_valid(pdfsig: str, path: Path) -> None:
    """The PDF has one valid signature over the whole file, and none when a byte is changed."""
    output = run(pdfsig, path)
    assert output.count("Signature Validation: Signature is Valid.") == 1
    assert "Total document signed" in output
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
async def test_a_signer_who_does_not_sign_ends_the_job(sandbox, client, act, exit_url, expected):
    created = await client.create(job())
    reached_url = await getattr(sandbox, act)(created.signer(PERSON).redirect_url)
    assert reached_url.startswith(exit_url)
    status = await client.get_status(created, token_in(reached_url))
    assert (status.status, statuses(status)) == (DirectJobStatus.FAILED, expected)
    with pytest.raises(SignedDocumentMissingError):
        await client.get_pades(status)
    with pytest.raises(DocumentsNotDeletableError):
        await client.delete_documents(status)
    await client.confirm(status)


async def test_wrong_and_early_tokens_are_refused(sandbox, client):
    created = await client.create(job())
    with pytest.raises(InvalidStatusQueryTokenError):
        await client.get_status(created, "guess/+&=")
    early = sandbox.status_query_token(created.signer(PERSON).redirect_url)
    with pytest.raises(SigningCeremonyNotCompletedError):
        await client.get_status(created, early)
    other_job = await client.create(job())
    exit_url = await sandbox.sign(other_job.signer(PERSON).redirect_url)
    with pytest.raises(InvalidStatusQueryTokenError):
        await client.get_status(created, token_in(exit_url))


async def test_a_new_redirect_url_replaces_the_last_one(sandbox, client):
    created = await client.create(job())
    first = created.signer(PERSON)
    second = await client.request_new_redirect_url(first)
    assert (second.signer_url, second.personal_identification_number) == (first.signer_url, PERSON)
    with pytest.raises(SandboxError):
        await sandbox.sign(first.redirect_url)
    await sandbox.sign(second.redirect_url)
    with pytest.raises(ApiError):
        await client.request_new_redirect_url(second)


async def test_stored_urls_are_enough_for_the_whole_flow(sandbox, client, clock, tmp_path):
    """Another process can continue with URLs from a database."""
    created = await client.create(job())
    stored = [created.status_url, *(created.signer(signer).signer_url for signer in SIGNERS)]
    status_url, *signer_urls = stored
    for url in signer_urls:
        signer = await client.request_new_redirect_url(url)
        token = token_in(await sandbox.sign(signer.redirect_url))
    status = await client.get_status(status_url, token)
    assert await client.get_pades(status.pades_url) == await client.get_pades(status)
    for signature in status.signatures:
        assert await client.download_xades(signature.xades_url, tmp_path / "xades.xml") > 1000
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


async def test_the_flow_by_polling_from_creation_to_the_last_confirmation(
    sandbox, client, tmp_path, pdfsig
):
    created = await client.create(polled())
    assert created.status_url is None
    with pytest.raises(StatusUrlMissingError):
        await client.get_status(created, "token")
    await sign(sandbox, created)
    states, keys = [], set()
    async for change in client.status_changes():
        assert (change.job_id, change.reference) == (created.job_id, "order-77")
        states.append((change.status, statuses(change)))
        keys.add(change.deduplication_key)
        if change.status == DirectJobStatus.COMPLETED_SUCCESSFULLY:
            await client.download_pades(change, tmp_path / "signed.pdf")
            await client.confirm(change)
            break
        await client.confirm(change)
    assert states == [("IN_PROGRESS", [SIGNED, WAITING]), ("COMPLETED_SUCCESSFULLY", [SIGNED] * 2)]
    assert len(keys) == 2
    assert_signature_is_valid(pdfsig, tmp_path / "signed.pdf")
    assert (await client.get_status_change()).change is None


async def test_a_change_is_redelivered_until_it_is_confirmed(sandbox, client, clock):
    created = await client.create(polled())
    await sandbox.reject(created.signer(PERSON).redirect_url)
    first = (await client.get_status_change()).change
    empty = await client.get_status_change()
    assert (empty.change, empty.wait <= timedelta(seconds=31)) == (None, True)
    clock.wait(minutes=10, seconds=1)
    second = (await client.get_status_change()).change
    assert second.deduplication_key == first.deduplication_key
    await client.confirm(second)
    clock.wait(hours=1)
    assert (await client.get_status_change()).change is None


async def test_the_iterator_waits_while_the_queue_is_empty(sandbox, clock):
    """A poll of another client makes it wait longer."""
    async with (
        DirectClient(configured(sandbox, clock)) as client,
        DirectClient(configured(sandbox, clock)) as other_client,
    ):
        created = await client.create(polled())
        assert (await other_client.get_status_change()).change is None
        with pytest.raises(TooEagerPollingError) as caught:
            await client.get_status_change()
        assert caught.value.next_permitted_poll_time > clock.now
        start = clock.now
        await sandbox.sign(created.signer(PERSON).redirect_url)
        change = await anext(client.status_changes())
        assert statuses(change) == [SIGNED, WAITING]
        assert timedelta(seconds=30) <= clock.now - start <= timedelta(seconds=32)


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault(kind=FaultKind.SERVER_ERROR, status=status, times=2) for status in (401, 403, 404)),
        Fault(kind=FaultKind.UNAVAILABLE, times=2),
        Fault(kind=FaultKind.RESET, times=2),
        Fault(kind=FaultKind.FOREIGN_CERTIFICATE, times=2),
    ],
    ids=lambda fault: f"{fault.kind} {fault.status or ''}",
)
async def test_the_iterator_waits_until_a_transient_failure_has_ended(sandbox, clock, fault):
    async with DirectClient(configured(sandbox, clock)) as client:
        created = await client.create(polled())
        await sandbox.sign(created.signer(PERSON).redirect_url)
    sandbox.faults.add(fault)
    async with DirectClient(configured(sandbox, clock)) as client:
        changes = client.status_changes()
        assert (await anext(changes)).job_id == created.job_id
        assert changes.counts.failures == 2


async def test_an_error_document_that_denies_access_ends_the_iterator(sandbox, client):
    sandbox.faults.add(Fault(kind=FaultKind.ERROR_DOCUMENT, code="NOT_AUTHORIZED", times=1))
    with pytest.raises(NotAuthorizedError):
        await anext(client.status_changes())


async def test_the_expiry_of_a_job_is_delivered_in_the_queue(sandbox, client):
    created = await client.create(polled())
    await sandbox.sign(created.signer(CUSTOMER).redirect_url)
    await sandbox.expire(created.job_id)
    changes = client.status_changes()
    await client.confirm(await anext(changes))
    last = await anext(changes)
    assert (last.status, statuses(last)) == (DirectJobStatus.FAILED, ["EXPIRED", SIGNED])


async def test_named_queues_and_the_unnamed_queue_are_separate(sandbox, clock):
    """A change is only in the queue of the sender of its job."""
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


# --- Contents of a job


async def test_every_setting_of_a_job_reaches_the_service(sandbox, client):
    signature_job = polled(
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
    created = await client.create(signature_job)
    assert created.single_signer.personal_identification_number == PERSON
    [received] = sandbox.received
    manifest = etree.fromstring(received.manifest)
    settings = {
        etree.QName(element).localname: element.text for element in manifest.iter() if element.text
    }
    assert {
        "description": "Les først",
        "required-authentication": "3",
        "identifier-in-signed-documents": "NAME",
        "signature-type": "AUTHENTICATED_ELECTRONIC_SIGNATURE",
        "on-behalf-of": "OTHER",
    }.items() <= settings.items()
    assert b"<polling-queue>shop<" in received.request.replace(b"ns0:", b"")


@pytest.mark.parametrize("compression", Compression)
async def test_documents_from_files_arrive_byte_for_byte(
    sandbox, clock, tmp_path, compression, pdfsig
):
    """A text and a PDF of 1 MiB, in a stored and in a deflated container."""
    text, pdf = "Vilkår nummer en.\n".encode(), _pdf_of_one_mebibyte()
    (tmp_path / "a.txt").write_bytes(text)
    (tmp_path / "b.pdf").write_bytes(pdf)
    documents = [
        Document(title="A", content=tmp_path / "a.txt", type=DocumentType.TEXT),
        Document(title="B", content=tmp_path / "b.pdf"),
    ]
    async with DirectClient(configured(sandbox, clock, compression=compression)) as client:
        created = await client.create(job(documents=documents))
    assert list(sandbox.received[-1].documents.values()) == [text, pdf]
    (tmp_path / "verified").mkdir()
    verify_bundle.verify(
        sandbox.received[-1].container, root_pem=sandbox.ca_pem, tmp_path=tmp_path / "verified"
    )
    assert created.job_id == sandbox.received[-1].job_id


def _pdf_of_one_mebibyte() -> bytes:
    """A PDF with an object that no page uses. Its pages are simple, so the sandbox signs it in a moment."""
    writer, unused, file = (
        PdfWriter(clone_from=io.BytesIO(PDF)),
        DecodedStreamObject(),
        io.BytesIO(),
    )
    unused.set_data(random.Random(1).randbytes(1024 * 1024))
    writer._add_object(unused)
    writer.write(file)
    return file.getvalue()


async def test_a_text_alone_becomes_a_signed_pdf(sandbox, client, tmp_path, pdfsig):
    text = Document(title="Vilkår", content="Æ, ø og å".encode(), type=DocumentType.TEXT)
    created = await client.create(job(documents=[text]))
    status = await client.get_status(created, token_in(await sign(sandbox, created)))
    await client.download_pades(status, tmp_path / "signed.pdf")
    assert_signature_is_valid(pdfsig, tmp_path / "signed.pdf")
    pages = PdfReader(io.BytesIO(await client.get_pades(status))).pages
    assert "Æ, ø og å" in pages[-1].extract_text()


# --- Authorisation


async def test_check_access_names_the_organisation(sandbox, client):
    assert pki.SENDER in await client.check_access()


async def test_a_broker_needs_authorisation(sandbox, clock):
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


async def test_the_rate_limit_error_says_how_long_the_block_lasts(clock):
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


async def test_the_default_fleet_stays_below_the_rate_limit(clock):
    """It makes 40 calls on the test's clock, and none is refused."""

    async def sleep(seconds: float) -> None:
        clock.wait(seconds=seconds)

    time = {"monotonic": clock.monotonic, "sleep": sleep}
    async with (
        Sandbox(clock=clock) as sandbox,
        DirectClient(configured(sandbox, clock, fleet=None, **time)) as client,
    ):
        start = clock.now
        for _ in range(40):
            await client.check_access()
        assert timedelta(seconds=4) < clock.now - start < timedelta(seconds=8)


async def test_a_service_certificate_of_another_authority_is_not_trusted(sandbox, clock):
    async with Sandbox(clock=clock) as other_sandbox:
        configuration = configured(
            sandbox, clock, trust_anchors=TrustAnchors().trusting(other_sandbox.ca_pem)
        )
        async with DirectClient(configuration) as client:
            with pytest.raises(TlsError, match="is not trusted") as caught:
                await client.create(job())
    assert caught.value.request_may_have_left is False
    assert sandbox.received == ()


async def test_a_service_certificate_of_another_organisation_is_not_trusted(sandbox, clock):
    configuration = configured(sandbox, clock)
    environment = dataclasses.replace(
        configuration.environment, server_organization_number="123123123"
    )
    async with DirectClient(dataclasses.replace(configuration, environment=environment)) as client:
        with pytest.raises(TlsError, match=r"belongs to organisation 984661185, not to 123123123"):
            await client.check_access()


@pytest.mark.parametrize("issuer", ["another sandbox", "unknown"])
async def test_an_unknown_client_certificate_is_refused(sandbox, clock, issuer):
    async with Sandbox(clock=clock) as other_sandbox:
        certificate = pki.sender().enterprise()
        if issuer == "another sandbox":
            content, password = other_sandbox.enterprise_pkcs12(pki.SENDER)
            certificate = EnterpriseCertificate.from_pkcs12(content, password=password)
        async with DirectClient(configured(sandbox, clock, certificate=certificate)) as client:
            # In TLS 1.3 the refusal comes after the client's part of the handshake, and may be lost with
            # the connection. The message names the client certificate in both cases.
            with pytest.raises(TransportError, match="the client certificate"):
                await client.check_access()
            with pytest.raises(TransportError, match="the client certificate") as caught:
                await client.create(job())
            assert isinstance(caught.value, TlsError | CreateOutcomeUnknownError)
    assert sandbox.received == ()


async def test_a_url_of_another_sandbox_is_not_followed(sandbox, client, clock):
    async with Sandbox(clock=clock, rate_limit=None) as other_sandbox:
        async with DirectClient(configured(other_sandbox, clock)) as other_client:
            created = await other_client.create(job())
        with pytest.raises(UntrustedUrlError):
            await client.get_status(created, "token")
        with pytest.raises(UntrustedUrlError):
            await client.request_new_redirect_url(created.signer(PERSON).redirect_url)


async def test_a_configuration_from_variables_reaches_the_sandbox(sandbox, clock, tmp_path):
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
