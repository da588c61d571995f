"""One operation for each endpoint, held against the service's documentation without a socket."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from posten_signering import Sender
from posten_signering._values.secret import Secret
from posten_signering._wire import operations, urls
from posten_signering._wire.exchange import Message, Patience, Response
from posten_signering.errors import (
    ApiError,
    BrokerNotAuthorizedError,
    CreateOutcomeUnknownError,
    RateLimitedError,
    TooEagerPollingError,
    UnexpectedResponseError,
    UntrustedUrlError,
)

ROOT = "https://api.example/api"
SENDER = Sender(organization_number="123456789")
NS = "http://signering.posten.no/schema/v1"
STATUS = (
    f'<direct-signature-job-status-response xmlns="{NS}"><signature-job-id>7</signature-job-id>'
    "<signature-job-status>IN_PROGRESS</signature-job-status><status>WAITING</status>"
    "</direct-signature-job-status-response>"
).encode()
CREATED = (
    f'<direct-signature-job-response xmlns="{NS}"><signature-job-id>7</signature-job-id>'
    '<signer href="https://api.example/s/1"><signer-identifier>c</signer-identifier>'
    "<redirect-url>https://web.example</redirect-url></signer></direct-signature-job-response>"
).encode()
SIGNER = (
    f'<direct-signer-response xmlns="{NS}" href="https://api.example/s/1">'
    "<signer-identifier>c</signer-identifier><redirect-url>https://web.example/2</redirect-url>"
    "</direct-signer-response>"
).encode()


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Response:
    return Response(
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=Secret(body),
        received=datetime(2026, 1, 1, tzinfo=UTC),
    )


def error_document(code: str) -> bytes:
    return (
        f'<error xmlns="{NS}"><error-code>{code}</error-code><error-message>m</error-message>'
        "<error-type>CLIENT</error-type></error>"
    ).encode()


def create(reference: str | None = "order-77"):
    operation = operations.create(ROOT, SENDER, reference=reference)
    headers = {**operation.request.headers, "Content-Type": "multipart/mixed; boundary=b"}
    request = replace(operation.request, headers=headers, body=Message(Secret(b"body")))
    return replace(operation, request=request)


URL = Secret("https://api.example/api/x?y=1")
FOLLOWING = [
    operations.xades(ROOT, URL),
    operations.pades(ROOT, URL),
    operations.confirm(ROOT, URL),
    operations.delete_documents(ROOT, URL),
    operations.new_redirect_url(ROOT, URL),
    operations.status(ROOT, URL, Secret("token")),
]


@pytest.mark.parametrize(
    ("operation", "method", "url", "headers", "patience"),
    [
        (
            create(),
            "POST",
            "https://api.example/api/123456789/direct/signature-jobs",
            {"Accept": "application/xml", "Content-Type": "multipart/mixed; boundary=b"},
            Patience.API,
        ),
        (
            operations.poll(ROOT, SENDER),
            "GET",
            "https://api.example/api/123456789/direct/signature-jobs",
            {"Accept": "application/xml"},
            Patience.API,
        ),
        (
            operations.poll(ROOT, Sender(organization_number="123456789", polling_queue="a b+ø&?")),
            "GET",
            "https://api.example/api/123456789/direct/signature-jobs?polling_queue=a%20b%2B%C3%B8%26%3F",
            {"Accept": "application/xml"},
            Patience.API,
        ),
        (
            operations.status(ROOT, Secret(" https://api.example/api/s\n"), Secret("t/k+n=")),
            "GET",
            "https://api.example/api/s?status_query_token=t%2Fk%2Bn%3D",
            {"Accept": "application/xml"},
            Patience.API,
        ),
        (
            operations.status(ROOT, URL, Secret("t")),
            "GET",
            "https://api.example/api/x?y=1&status_query_token=t",
            {"Accept": "application/xml"},
            Patience.API,
        ),
        (
            operations.new_redirect_url(ROOT, URL),
            "POST",
            URL.reveal(),
            {"Accept": "application/xml", "Content-Type": "application/xml"},
            Patience.API,
        ),
        (
            operations.xades(ROOT, URL),
            "GET",
            URL.reveal(),
            {"Accept": "application/xml"},
            Patience.DOWNLOAD,
        ),
        (
            operations.pades(ROOT, URL),
            "GET",
            URL.reveal(),
            {"Accept": "application/octet-stream, application/xml"},
            Patience.DOWNLOAD,
        ),
        (
            operations.confirm(ROOT, URL),
            "POST",
            URL.reveal(),
            {"Accept": "application/xml"},
            Patience.API,
        ),
        (
            operations.delete_documents(ROOT, URL),
            "DELETE",
            URL.reveal(),
            {"Accept": "application/xml"},
            Patience.API,
        ),
        (
            operations.access(ROOT, SENDER),
            "GET",
            "https://api.example/api/123456789",
            {"Accept": "text/plain, application/xml"},
            Patience.API,
        ),
    ],
)
def test_each_operation_is_on_the_wire_as_documented(
    operation, method, url, headers, patience
) -> None:
    request = operation.request
    assert (request.method, request.url.reveal()) == (method, url)
    assert dict(request.headers) == headers
    assert request.patience is patience


def test_only_create_and_the_redirect_url_have_a_body() -> None:
    assert [each.name for each in FOLLOWING if each.request.body is not None] == [
        "make a new redirect URL"
    ]
    body = operations.new_redirect_url(ROOT, URL).request.body
    assert body is not None

    async def content() -> bytes:
        return b"".join([chunk async for chunk in body.chunks()])

    sent = anyio.run(content)
    assert len(sent) == body.length
    root = etree.fromstring(sent)
    assert etree.QName(root).localname == "direct-signer-update-request"
    assert [etree.QName(each).localname for each in root] == ["redirect-url"]


def test_no_operation_shows_a_url_or_a_token() -> None:
    for operation in [*FOLLOWING, create(), operations.poll(ROOT, SENDER)]:
        shown = repr(operation)
        assert "api.example" not in shown
        assert "token" not in shown


@pytest.mark.parametrize("url", ["https://evil.example/api/x", "http://api.example/api/x", "", "x"])
@pytest.mark.parametrize(
    "make",
    [
        operations.xades,
        operations.pades,
        operations.confirm,
        operations.delete_documents,
        operations.new_redirect_url,
        lambda root, url: operations.status(root, url, Secret("t")),
    ],
)
def test_a_url_that_leads_elsewhere_is_never_followed(make, url) -> None:
    with pytest.raises(UntrustedUrlError) as caught:
        make(ROOT, Secret(url))
    assert "evil" not in str(caught.value)


@given(st.text(max_size=40), st.text(min_size=1, max_size=40))
def test_token_and_queue_survive_the_url(queue, token) -> None:
    if queue.isprintable() and queue.encode(errors="replace").decode() == queue:
        parsed = urlsplit(urls.polling_queue(ROOT, "1", queue).reveal())
        assert parse_qs(parsed.query, keep_blank_values=True, strict_parsing=True) == {
            "polling_queue": [queue]
        }
    if token.isprintable() and token.encode(errors="replace").decode() == token:
        parsed = urlsplit(urls.with_token(Secret(f"{ROOT}/s?a=b"), Secret(token)).reveal())
        assert parse_qs(parsed.query, keep_blank_values=True) == {
            "a": ["b"],
            "status_query_token": [token],
        }


def test_an_organization_number_can_not_change_the_path() -> None:
    assert urls.signature_jobs(ROOT, "1/../2?x#y").reveal() == (
        f"{ROOT}/1%2F..%2F2%3Fx%23y/direct/signature-jobs"
    )


class TestCreate:
    @pytest.mark.parametrize("status", [200, 201, 202])
    def test_any_2xx_is_success(self, status) -> None:
        assert create().decode(answer(status, CREATED)).job_id == 7

    @pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422])
    def test_a_4xx_means_not_created(self, status) -> None:
        with pytest.raises(ApiError):
            create().decode(answer(status))

    @pytest.mark.parametrize("status", [302, 303, 307, 500, 502, 503, 504])
    def test_a_5xx_or_a_redirect_leaves_it_open_whether_the_job_exists(self, status) -> None:
        with pytest.raises(CreateOutcomeUnknownError) as caught:
            create().decode(answer(status, b"<html>", content_type="text/html"))
        assert caught.value.reference == "order-77"
        assert caught.value.reason == f"the service answered HTTP {status}"
        assert isinstance(caught.value.__cause__, ApiError)

    def test_a_known_refusal_is_one_whatever_the_status(self) -> None:
        with pytest.raises(BrokerNotAuthorizedError):
            create().decode(answer(500, error_document("BROKER_NOT_AUTHORIZED")))

    @pytest.mark.parametrize(
        ("body", "job_id"),
        [
            (CREATED[:-9], None),
            (b"", None),
            (b"<html/>", None),
            (CREATED.replace(b'href="https://api.example/s/1"', b""), 7),
        ],
    )
    def test_a_2xx_that_can_not_be_read_leaves_it_open(self, body, job_id) -> None:
        with pytest.raises(CreateOutcomeUnknownError) as caught:
            create(None).decode(answer(200, body))
        assert caught.value.job_id == job_id
        assert caught.value.reference is None
        assert (f"job id {job_id}" in str(caught.value)) == (job_id is not None)

    def test_the_rate_limit_means_not_created(self) -> None:
        with pytest.raises(RateLimitedError):
            create().decode(answer(429, dosfilter="x"))


class TestPoll:
    HEADERS = {
        "x_next_permitted_poll_time": "2026-01-01T00:10:00.250Z",
        "date": "Thu, 01 Jan 2026 00:00:00 GMT",
    }

    def test_a_change_with_its_poll_time(self) -> None:
        poll = operations.poll(ROOT, SENDER).decode(answer(200, STATUS, **self.HEADERS))
        assert poll.change is not None
        assert poll.change.job_id == 7
        assert poll.next_permitted_poll_time == datetime(2026, 1, 1, 0, 10, 0, 250000, tzinfo=UTC)
        assert poll.wait == timedelta(minutes=10, milliseconds=250)

    def test_an_empty_queue(self) -> None:
        poll = operations.poll(ROOT, SENDER).decode(answer(204, **self.HEADERS))
        assert poll.change is None
        assert poll.wait == timedelta(minutes=10, milliseconds=250)

    @pytest.mark.parametrize("status", [200, 204])
    def test_missing_headers_are_missing_values(self, status) -> None:
        poll = operations.poll(ROOT, SENDER).decode(answer(status, STATUS))
        assert (poll.next_permitted_poll_time, poll.wait) == (None, None)

    def test_too_early(self) -> None:
        with pytest.raises(TooEagerPollingError) as caught:
            operations.poll(ROOT, SENDER).decode(answer(429, **self.HEADERS))
        assert caught.value.wait == timedelta(minutes=10, milliseconds=250)

    def test_a_429_elsewhere_is_not_about_polling(self) -> None:
        with pytest.raises(RateLimitedError):
            operations.confirm(ROOT, URL).decode(answer(429, **self.HEADERS))

    def test_a_broken_change_is_an_error(self) -> None:
        with pytest.raises(UnexpectedResponseError):
            operations.poll(ROOT, SENDER).decode(answer(200, STATUS[:-5]))


class TestFollowing:
    @pytest.mark.parametrize("operation", FOLLOWING, ids=lambda each: each.name)
    @pytest.mark.parametrize("status", [302, 400, 403, 404, 410, 500])
    def test_everything_outside_2xx_is_an_error(self, operation, status) -> None:
        with pytest.raises(ApiError) as caught:
            operation.decode(answer(status))
        assert caught.value.status == status
        assert operation.name in str(caught.value)

    @pytest.mark.parametrize("status", [200, 204])
    @pytest.mark.parametrize("body", [b"", b"<whatever/>"])
    def test_confirm_and_delete_take_any_2xx_whatever_it_holds(self, status, body) -> None:
        assert operations.confirm(ROOT, URL).decode(answer(status, body)) is None
        assert operations.delete_documents(ROOT, URL).decode(answer(status, body)) is None

    def test_downloads_are_bytes(self) -> None:
        assert operations.pades(ROOT, URL).decode(answer(200, b"%PDF")) == b"%PDF"
        assert operations.xades(ROOT, URL).decode(answer(200, b"<x/>")) == b"<x/>"

    def test_a_new_redirect_url_comes_with_its_signer(self) -> None:
        signer = operations.new_redirect_url(ROOT, URL).decode(answer(200, SIGNER))
        assert signer.redirect_url == "https://web.example/2"
        assert signer.signer_url == "https://api.example/s/1"
        assert (signer.custom_identifier, signer.personal_identification_number) == ("c", None)

    def test_access_is_the_services_own_sentence(self) -> None:
        assert operations.access(ROOT, SENDER).decode(answer(200, "You are Ås\n".encode())) == (
            "You are Ås"
        )
