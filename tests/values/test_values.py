"""The public values: frozen, keyword-only, and without personal data or secrets in their reprs."""

import copy
import dataclasses
import hashlib
import inspect
import pickle
import time
import zoneinfo
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import doubles
import pki
import pytest
from doubles import shown_in
from hypothesis import assume, given
from hypothesis import strategies as st

import posten_signering
from posten_signering import (
    AuthenticationLevel,
    CertificateAuthority,
    ClientConfiguration,
    DirectJob,
    DirectJobResponse,
    DirectJobStatus,
    DirectJobStatusResponse,
    DirectSigner,
    DirectSignerResponse,
    Document,
    DocumentType,
    EnterpriseCertificate,
    Environment,
    ExitUrls,
    FailurePolicy,
    IdentifierInSignedDocuments,
    OnBehalfOf,
    PollCounts,
    QueueState,
    RedisFleet,
    Request,
    Retries,
    Sender,
    Signature,
    SignatureType,
    SignerStatus,
    StatusPoll,
    StatusRetrievalMethod,
    TimeoutKind,
    Timeouts,
    TrustAnchors,
)
from posten_signering._values.secret import Secret
from posten_signering.errors import InvalidJobError, SignerNotFoundError, Violation

PERSON = "17885512345"
CUSTOMER = "canary-customer"
CANARIES = [PERSON, CUSTOMER, "canary", "https://", "12345678901", "%PDF"]

SIGNER = DirectSigner(
    personal_identification_number=PERSON,
    custom_identifier=CUSTOMER,
    signature_type=SignatureType.ADVANCED_SIGNATURE,
    on_behalf_of=OnBehalfOf.OTHER,
)
DOCUMENT = Document(title="canary title", content=b"%PDF-1.4 canary", type=DocumentType.PDF)
EXIT_URLS = ExitUrls(
    completion="https://canary.example/1",
    rejection="https://canary.example/2",
    error="https://canary.example/3",
)
SIGNER_RESPONSE = DirectSignerResponse(
    signer_url="https://canary.example/signers/1",
    redirect_url="https://canary.example#/redirect/token",
    personal_identification_number=PERSON,
    custom_identifier=CUSTOMER,
)
SIGNATURE = Signature(
    signer=PERSON,
    status=SignerStatus.SIGNED,
    since=datetime(2026, 1, 2, tzinfo=UTC),
    xades_url="https://canary.example/xades",
)
STATUS = DirectJobStatusResponse(
    job_id=7,
    reference="order-77",
    status=DirectJobStatus.COMPLETED_SUCCESSFULLY,
    signatures=[SIGNATURE],
    confirmation_url="https://canary.example/confirm",
    delete_documents_url="https://canary.example/delete",
    pades_url="https://canary.example/pades",
)


def values() -> list[object]:
    """An instance of each public value, with every field set."""
    job = DirectJob(
        title="canary title",
        documents=[DOCUMENT, Document(title="canary", content=Path("canary.pdf"))],
        signers=[SIGNER],
        exit_urls=EXIT_URLS,
        reference="order-77",
        description="canary description",
        sender=Sender(organization_number="123456789", polling_queue="shop"),
        authentication_level=AuthenticationLevel.FOUR,
        identifier_in_signed_documents=IdentifierInSignedDocuments.NAME,
        status_retrieval_method=StatusRetrievalMethod.POLLING,
    )
    response = DirectJobResponse(
        job_id=7,
        reference="order-77",
        status_url="https://canary.example/status?status_query_token=canary",
        signers=[SIGNER_RESPONSE],
    )
    return [
        job,
        job.sender,
        DOCUMENT,
        SIGNER,
        EXIT_URLS,
        response,
        SIGNER_RESPONSE,
        SIGNATURE,
        STATUS,
        StatusPoll(
            change=STATUS,
            next_permitted_poll_time=datetime(2026, 1, 2, tzinfo=UTC),
            wait=timedelta(minutes=10),
        ),
        QueueState(permitted_in=1.5, next_in=2.5, early_answers=1, leads=True),
        FailurePolicy(max_failures=3, max_outage=timedelta(hours=1)),
        PollCounts(changes=1, empty=2, too_early=3, failures=4),
        Retries(max_retries=1, budget=2, longest_retry_after=timedelta(seconds=3)),
        Timeouts(connect=1, api=2, download=3),
        CertificateAuthority(name="Root", sha256="0" * 64),
        Environment(name="Test", service_root=doubles.ROOT),
        TrustAnchors(candidates=(b"canary",), trusted=(b"canary",)),
        pki.sender().enterprise(),
        Request(
            method="POST",
            url=Secret("https://canary.example/status?status_query_token=canary"),
            headers={"Referer": "canary"},
            timeout=TimeoutKind.API,
        ),
        RedisFleet("redis://user:canary@canary.example", share=0.5, members_at_least=8),
        Violation(path="title", rule="at most 80 characters"),
    ]


def configuration() -> ClientConfiguration:
    return doubles.configuration(
        doubles.ScriptedTransport(),
        environment=Environment.STAGING,
        proxy="http://user:canary@proxy.example:8080",
        trust_anchors=TrustAnchors(trusted=(b"canary",)),
    )


ALL_VALUES = [*values(), configuration()]


def type_name(value: object) -> str:
    return type(value).__name__


def test_these_tests_cover_every_public_value():
    public = {
        name
        for name in posten_signering.__all__
        if dataclasses.is_dataclass(value := getattr(posten_signering, name))
        and not issubclass(value, (posten_signering.Event, posten_signering.FleetContext))
    }
    assert {type_name(value) for value in ALL_VALUES} == public | {"Violation"}


@pytest.mark.parametrize("value", ALL_VALUES, ids=type_name)
def test_no_field_can_be_set(value):
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize(
    "value",
    [value for value in ALL_VALUES if not isinstance(value, RedisFleet)],
    ids=type_name,
)
def test_positional_arguments_are_refused(value):
    first = getattr(value, dataclasses.fields(value)[0].name)
    with pytest.raises(TypeError, match="positional argument"):
        type(value)(first)


@pytest.mark.parametrize("value", values(), ids=type_name)
def test_values_with_equal_fields_are_equal(value):
    copied = copy.copy(value)
    assert copied == value
    assert copied is not value
    assert value != object()


@pytest.mark.parametrize(
    "value",
    [value for value in values() if not isinstance(value, EnterpriseCertificate | Request)],
    ids=type_name,
)
def test_a_value_can_be_pickled_and_hashed(value):
    """Workers pickle values to send them on, and detect duplicates with a set."""
    assert pickle.loads(pickle.dumps(value)) == value
    assert len({value, copy.copy(value)}) == 1


@pytest.mark.parametrize("value", ALL_VALUES, ids=type_name)
@pytest.mark.parametrize("show", [repr, str, lambda value: f"{[value]}"], ids=["repr", "str", "in"])
def test_no_value_shows_personal_data_or_secrets(value, show):
    shown = show(value)
    if isinstance(value, Environment | ClientConfiguration):
        # The URLs of the service and of its certificate authorities are public.
        shown = shown.replace("https://", "")
    assert shown_in(shown, CANARIES) == []


def test_a_repr_with_personal_data_is_detected():
    assert shown_in(repr(dataclasses.asdict(values()[0])), CANARIES) == [
        *CANARIES[:4],
        CANARIES[-1],
    ]


def test_a_repr_leaves_out_fields_with_personal_data_or_tokens():
    shown = {
        type_name(value): [field.name for field in dataclasses.fields(value) if field.repr]
        for value in values()[:10]
    }
    assert shown == {
        "DirectJob": [
            *("documents", "signers", "exit_urls", "reference", "sender"),
            *("authentication_level", "identifier_in_signed_documents", "status_retrieval_method"),
        ],
        "Sender": ["organization_number", "polling_queue"],
        "Document": ["type"],
        "DirectSigner": ["signature_type", "on_behalf_of"],
        "ExitUrls": [],
        "DirectJobResponse": ["job_id", "reference", "signers"],
        "DirectSignerResponse": [],
        "Signature": ["status", "since"],
        "DirectJobStatusResponse": ["job_id", "reference", "status", "signatures"],
        "StatusPoll": ["change", "next_permitted_poll_time", "wait"],
    }


def test_help_shows_no_environment_variables():
    """They may hold the certificate's password, and `help` prints the default of each argument."""
    assert "environ(" not in str(inspect.signature(ClientConfiguration.from_env))


# --- Senders and lists


@pytest.mark.parametrize("queue", [None, ""])
def test_none_and_empty_text_both_mean_the_default_queue(queue):
    assert Sender(organization_number="1", polling_queue=queue) == Sender(organization_number="1")
    assert Sender(organization_number="1", polling_queue=queue).polling_queue is None


def test_senders_with_a_different_number_or_queue_are_not_equal():
    sender = Sender(organization_number="123456789", polling_queue="shop")
    assert sender != Sender(organization_number="123456789", polling_queue="Shop")
    assert sender != Sender(organization_number="987654321", polling_queue="shop")


def test_a_single_exit_url_is_used_for_every_outcome():
    url = "https://shop.example/back"
    assert ExitUrls.single(url) == ExitUrls(completion=url, rejection=url, error=url)
    assert ExitUrls.single(url) != ExitUrls.single(f"{url}/")


def test_a_list_that_the_caller_changes_later_does_not_change_the_value():
    documents, signers = [DOCUMENT], [SIGNER]
    job = DirectJob(title="x", documents=documents, signers=signers, exit_urls=EXIT_URLS)
    responses, signatures, processors = [SIGNER_RESPONSE], [SIGNATURE], [print]
    response = DirectJobResponse(job_id=1, signers=responses)
    status = DirectJobStatusResponse(job_id=1, status="X", signatures=signatures)
    violations = [Violation(path="title", rule="x")]
    error = InvalidJobError(violations)
    configured = dataclasses.replace(configuration(), bundle_processors=processors)
    authorities = [CertificateAuthority(name="Root", sha256="0" * 64)]
    environment = Environment(name="x", service_root="https://x.example", authorities=authorities)
    for items in (
        *(documents, signers, responses, signatures, violations, processors, authorities),
    ):
        items.clear()
    assert job.documents == (DOCUMENT,)
    assert job.signers == (SIGNER,)
    assert response.signers == (SIGNER_RESPONSE,)
    assert status.signatures == (SIGNATURE,)
    assert configured.bundle_processors == (print,)
    assert len(error.violations) == len(environment.authorities) == 1


# --- Finding a signer


RESPONSE = DirectJobResponse(
    job_id=7,
    signers=[
        DirectSignerResponse(signer_url="2", redirect_url="2", custom_identifier=CUSTOMER),
        DirectSignerResponse(
            signer_url="1", redirect_url="1", personal_identification_number=PERSON
        ),
    ],
)


def test_a_signer_is_found_by_either_kind_of_identifier():
    assert RESPONSE.signer(PERSON).signer_url == "1"
    assert RESPONSE.signer(CUSTOMER).signer_url == "2"
    assert (
        dataclasses.replace(RESPONSE, signers=RESPONSE.signers[:1]).single_signer.signer_url == "2"
    )


def test_a_signature_is_found_by_the_signers_identifier():
    other = Signature(signer=CUSTOMER, status="WAITING")
    status = dataclasses.replace(STATUS, signatures=[Signature(status="X"), SIGNATURE, other])
    assert status.signature_of(PERSON) is SIGNATURE
    assert status.signature_of(CUSTOMER) is other


@pytest.mark.parametrize(
    ("look_up", "message"),
    [
        (lambda: RESPONSE.signer("12345678901"), "Job 7 has no signer"),
        (lambda: RESPONSE.signer(""), "it has 2 signer"),
        (lambda: STATUS.signature_of("12345678901"), "The status of job 7 names no signer"),
        (lambda: RESPONSE.single_signer, "has 2 signers, not one"),
        (lambda: dataclasses.replace(RESPONSE, signers=[]).single_signer, "has 0 signers"),
    ],
)
def test_the_error_for_an_unknown_signer_does_not_show_the_identifier(look_up, message):
    with pytest.raises(SignerNotFoundError, match=message) as caught:
        look_up()
    assert shown_in(doubles.frames_with_locals(caught.value), CANARIES) == []


# --- Enumerations


def test_statuses_can_be_matched_as_members_and_as_text():
    def decision(status: DirectJobStatus | str) -> str:
        match status:
            case DirectJobStatus.COMPLETED_SUCCESSFULLY:
                return "done"
            case DirectJobStatus.FAILED | DirectJobStatus.IN_PROGRESS:
                return "not done"
            case unknown:
                return f"new: {unknown}"

    assert decision(DirectJobStatus.COMPLETED_SUCCESSFULLY) == "done"
    assert decision("COMPLETED_SUCCESSFULLY") == "done"
    assert decision(DirectJobStatus.FAILED) == "not done"
    assert decision("ARCHIVED") == "new: ARCHIVED"


def test_a_member_equals_its_text():
    assert f"{SignerStatus.SIGNED}" == str(SignerStatus.SIGNED) == "SIGNED"
    assert SignatureType.ADVANCED_SIGNATURE == "ADVANCED_ELECTRONIC_SIGNATURE"
    assert (AuthenticationLevel.THREE, AuthenticationLevel.FOUR) == ("3", "4")
    assert (DocumentType.PDF, DocumentType.TEXT) == ("application/pdf", "text/plain")
    with pytest.raises(ValueError, match="ARCHIVED"):
        DirectJobStatus("ARCHIVED")


def test_difitest_is_another_name_for_staging():
    assert Environment.DIFITEST is Environment.STAGING
    assert Environment.PRODUCTION != Environment.STAGING


def test_certificates_are_equal_if_their_content_is_equal():
    assert pki.sender().enterprise() == pki.sender().enterprise()
    assert pki.sender().enterprise() != pki.service().enterprise()


# --- The deduplication key

OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.builds(datetime.fromtimestamp, st.floats(0, 4e9), OFFSETS)
SIGNATURES = st.builds(
    Signature,
    signer=st.none() | st.text(min_size=1, max_size=4),
    status=st.sampled_from(list(SignerStatus)) | st.text(max_size=4),
    since=st.none() | TIMES,
    xades_url=st.none() | st.text(max_size=4),
)
STATES = st.builds(
    DirectJobStatusResponse,
    job_id=st.integers(0, 2**63 - 1),
    status=st.sampled_from(list(DirectJobStatus)) | st.text(max_size=4),
    signatures=st.lists(SIGNATURES, max_size=4),
)


def state(status: DirectJobStatusResponse) -> object:
    """The data that identifies a change, computed independently of the key."""
    return (
        status.job_id,
        str(status.status),
        sorted(
            (repr(signature.signer), str(signature.status), repr(utc(signature)))
            for signature in status.signatures
        ),
    )


def utc(signature: Signature) -> datetime | None:
    return signature.since and signature.since.astimezone(UTC)


@given(STATES, st.randoms(use_true_random=False), OFFSETS, st.text(max_size=4))
def test_two_deliveries_of_a_change_have_the_same_key(status, random, offset, text):
    """The order of the signatures, the offset of a time and the URLs do not matter."""
    signatures = [
        dataclasses.replace(
            signature,
            since=signature.since and signature.since.astimezone(offset),
            xades_url=text,
        )
        for signature in status.signatures
    ]
    random.shuffle(signatures)
    redelivered = dataclasses.replace(
        status,
        status=str(status.status),
        signatures=signatures,
        reference=text,
        confirmation_url=text,
        delete_documents_url=text,
        pades_url=text,
    )
    assert redelivered.deduplication_key == status.deduplication_key
    assert len(status.deduplication_key) == 64
    assert set(status.deduplication_key) <= set("0123456789abcdef")


@given(STATES, STATES)
def test_keys_are_equal_only_if_the_changes_are_equal(one, other):
    assert (one.deduplication_key == other.deduplication_key) == (state(one) == state(other))


CHANGES = [
    lambda signature, text: {"signer": f"{signature.signer}{text}"},
    lambda signature, text: {"status": f"{signature.status}{text}"},
    lambda signature, text: {
        "since": (signature.since or doubles.Clock()()) + timedelta(microseconds=1)
    },
    lambda signature, text: {"since": None if signature.since else doubles.Clock()()},
]


@given(STATES, st.data(), st.text(min_size=1, max_size=3))
def test_each_difference_gives_a_different_key(status, data, text):
    assume(status.signatures)
    index = data.draw(st.integers(0, len(status.signatures) - 1))
    signature = status.signatures[index]
    change = data.draw(st.sampled_from(CHANGES))(signature, text)
    changed = list(status.signatures)
    changed[index] = dataclasses.replace(signature, **change)
    keys = {
        status.deduplication_key,
        dataclasses.replace(status, signatures=changed).deduplication_key,
        dataclasses.replace(status, signatures=status.signatures[1:]).deduplication_key,
        dataclasses.replace(status, job_id=status.job_id + 1).deduplication_key,
        dataclasses.replace(status, status=f"{status.status}{text}").deduplication_key,
    }
    assert len(keys) == 5


def test_the_key_does_not_change_between_versions():
    """Callers store the key."""
    state = (
        b'[7, "COMPLETED_SUCCESSFULLY", [["17885512345", "SIGNED", "2026-01-02T00:00:00+00:00"]]]'
    )
    assert STATUS.deduplication_key == hashlib.sha256(state).hexdigest()


def key_at(since: datetime) -> str:
    signature = Signature(signer="one", status=SignerStatus.SIGNED, since=since)
    return DirectJobStatusResponse(job_id=1, status="x", signatures=[signature]).deduplication_key


def hours(count: int) -> timezone:
    return timezone(timedelta(hours=count))


FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "same", "different"),
    [
        (
            FIRST.replace(tzinfo=hours(2)),
            FIRST.replace(hour=1, tzinfo=hours(3)),
            FIRST.replace(tzinfo=hours(3)),
        ),
        (
            LAST.replace(tzinfo=hours(-2)),
            LAST.replace(hour=22, tzinfo=hours(-3)),
            LAST.replace(tzinfo=hours(-3)),
        ),
        (FIRST.replace(hour=1, tzinfo=hours(1)), FIRST, FIRST.replace(tzinfo=hours(1))),
        (LAST.replace(hour=22, tzinfo=hours(-1)), LAST, LAST.replace(tzinfo=hours(-1))),
    ],
)
def test_times_at_the_ends_of_the_calendar_have_keys(one, same, different):
    """In UTC, some of them are outside the years that datetime knows."""
    assert key_at(one) == key_at(same) != key_at(different)


@pytest.mark.parametrize("time_zone", ["Europe/Oslo", "America/New_York"])
def test_a_naive_time_is_local_time_and_has_a_key_in_every_year(monkeypatch, time_zone):
    """A time zone west or east of Greenwich moves the first or the last hours out of the calendar."""
    usual = datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo(time_zone))
    monkeypatch.setenv("TZ", time_zone)
    time.tzset()
    try:
        keys = {key_at(moment.replace(tzinfo=None)) for moment in (FIRST, usual, LAST)}
    finally:
        monkeypatch.undo()
        time.tzset()
    assert len(keys) == 3
    assert key_at(usual) in keys
