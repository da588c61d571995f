"""The error for a response outside 2xx: by error code first, by HTTP status second."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posten_signering._values.secret import Secret
from posten_signering._wire import operations
from posten_signering._wire.exchange import Response
from posten_signering._wire.refusals import refusal
from posten_signering.errors import (
    ApiError,
    BrokerNotAuthorizedError,
    InvalidStatusQueryTokenError,
    NotAuthorizedError,
    RateLimitedError,
    SigningCeremonyNotCompletedError,
    TooEagerPollingError,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def error_document(code: str, message: str = "Because.") -> bytes:
    return (
        f'<ns4:error xmlns:ns4="http://signering.posten.no/schema/v1"><ns4:error-code>{code}'
        f"</ns4:error-code><ns4:error-message>{message}</ns4:error-message>"
        "<ns4:error-type>CLIENT</ns4:error-type></ns4:error>"
    ).encode()


def response_with(status: int, body: bytes = b"", **headers: str) -> Response:
    return Response(
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=Secret(body),
        received=NOW,
    )


@pytest.mark.parametrize("status", [400, 429, 500])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("BROKER_NOT_AUTHORIZED", BrokerNotAuthorizedError),
        ("NOT_AUTHORIZED", NotAuthorizedError),
        ("INVALID_STATUS_QUERY_TOKEN", InvalidStatusQueryTokenError),
        ("SIGNING_CEREMONY_NOT_COMPLETED", SigningCeremonyNotCompletedError),
    ],
)
@pytest.mark.parametrize("polling", [True, False])
def test_a_known_error_code_counts_more_than_the_status(status, code, kind, polling) -> None:
    error = refusal("do it", response_with(status, error_document(code)), polling=polling)
    assert type(error) is kind
    assert (error.status, error.code, error.message, error.type) == (
        status,
        code,
        "Because.",
        "CLIENT",
    )


@pytest.mark.parametrize("code", ["broker_not_authorized", "SCHEMA_VALIDATION_ERROR", "NEW_ONE"])
def test_an_unknown_error_code_is_in_the_text_of_the_api_error(code) -> None:
    error = refusal("create the job", response_with(400, error_document(code)))
    assert type(error) is ApiError
    assert str(error) == (
        f"The service refused the request to create the job: HTTP 400, {code}: Because."
    )


@pytest.mark.parametrize(
    "content_type", ["application/xml", "application/xml; charset=utf-8", "text/html", ""]
)
def test_an_error_document_is_read_with_any_content_type(content_type) -> None:
    response = response_with(403, error_document("NOT_AUTHORIZED"), content_type=content_type)
    assert type(refusal("do it", response)) is NotAuthorizedError


@pytest.mark.parametrize(
    ("body", "content_type", "described"),
    [
        (b"", "", "the response was empty"),
        (b"  \n", "text/plain", "the response was empty"),
        (
            b"<html>Bad gateway</html>",
            "text/html; charset=utf-8",
            "the response was of type text/html, not",
        ),
        (b"Forbidden", "text/plain", "the response was of type text/plain, not"),
        (b"\xff\x00\xfe", "", "the response was without a Content-Type, not"),
        (b"<other/>", "application/xml", "the response was of type application/xml, not"),
    ],
)
def test_a_response_without_an_error_document_is_described_and_kept(
    body, content_type, described
) -> None:
    error = refusal("do it", response_with(502, body, content_type=content_type))
    assert type(error) is ApiError
    assert (error.code, error.message, error.type) == (None, None, None)
    assert str(error).startswith("The service refused the request to do it: HTTP 502")
    assert described in str(error)
    assert error.answer == (body.decode(errors="replace").strip() or None)


def test_a_redirect_is_named_without_its_target() -> None:
    error = refusal("do it", response_with(302, location="https://elsewhere.example"))
    assert "a redirect, which the client never follows" in str(error)
    assert "elsewhere" not in str(error)


def test_identity_numbers_in_the_services_texts_are_masked() -> None:
    document = error_document("SCHEMA_VALIDATION_ERROR", "Value '12345678910' is not valid")
    error = refusal("do it", response_with(400, document))
    assert error.message == "Value '***********' is not valid"
    assert "12345678910" not in str(error)
    page = refusal("do it", response_with(502, b"bad 12345678910"))
    assert page.answer == "bad ***********"


@pytest.mark.parametrize(
    "written",
    [
        *("12345678910", "123456 78910", "12 34 56 78910", "12.34.56-78910", "123456\u00a078910"),
        *("123456%2078910", "123456+78910", "%2012345678910", "x12345678910y", "_12345678910_"),
        *("=12345678910&", "\u0661\u0662345678910", "a/12345678910/b", "%3D123456%2078910"),
    ],
)
def test_an_identity_number_is_masked_in_every_way_of_writing_it(written) -> None:
    page = refusal("do it", response_with(502, f"of ({written})".encode()))
    assert "*" * 11 in page.answer
    assert "78910" not in page.answer


@pytest.mark.parametrize(
    "number",
    [
        *("1234567891012345", "123456789101", "1234567891", "12345678-9101", "984661185"),
        *("2026-11-26 10:00", "1234.56.78910", "123456\n78910", "0000123456 78910"),
    ],
)
def test_a_number_of_a_different_length_is_not_masked(number) -> None:
    page = refusal("do it", response_with(502, f"Request {number} failed".encode()))
    assert page.answer == f"Request {number} failed"


TOKEN = Secret("canary+token/1")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("See https://api.example/api/1?x=canary.", "See https://api.example/***"),
        ("'HTTP://web.example#/redirect/canary' is", "'HTTP://web.example#***' is"),
        ('("http://h:8080/canary",&lt;', '("http://h:8080/***",&lt;'),
        ("<a href='https://h/canary/17885599999'>", "<a href='https://h/***'>"),
        ("https://h and https://h/ tell nothing", "https://h and https://h/ tell nothing"),
        ("Token canary+token/1 of 17885599999", "Token *** of ***********"),
        ("GET /status?status_query_token=canary%2Btoken%2F1", "GET /status?status_query_token=***"),
    ],
)
def test_urls_and_the_token_in_the_request_are_masked(text, masked) -> None:
    page = refusal("do it", response_with(502, text.encode()), token=TOKEN)
    assert page.answer == masked
    document = error_document("A_CODE", text.replace("&", "&amp;").replace("<", "&lt;"))
    error = refusal("do it", response_with(400, document), token=TOKEN)
    assert error.message == masked
    assert "canary" not in str(error)


def test_the_token_of_a_status_query_is_masked() -> None:
    root = "https://api.example/api"
    operation = operations.status(root, Secret(f"{root}/1/status"), TOKEN)
    with pytest.raises(ApiError) as caught:
        operation.decode(response_with(400, b"No such token: canary+token/1"))
    assert caught.value.answer == "No such token: ***"


@pytest.mark.parametrize("token", [None, Secret("")])
def test_a_request_without_a_token_masks_none(token) -> None:
    """The counterpart of the test above."""
    error = refusal("do it", response_with(502, b"Token canary+token/1"), token=token)
    assert error.answer == "Token canary+token/1"


@pytest.mark.parametrize("before", range(1985, 2001))
def test_a_truncated_response_shows_no_part_of_a_secret(before) -> None:
    for secret in ("17885599999", "https://h/canary-canary", TOKEN.reveal()):
        page = "x" * before + " " + secret
        shown = refusal("do it", response_with(502, page.encode()), token=TOKEN).answer
        assert len(shown) <= 2000
        assert "178" not in shown
        assert "can" not in shown


class TestStatus429:
    def test_on_a_poll_it_means_too_early_and_has_the_next_permitted_time(self) -> None:
        response = response_with(
            429,
            x_next_permitted_poll_time="2026-01-02T04:14:05.500+01:00",
            date="Fri, 02 Jan 2026 03:04:05 GMT",
        )
        error = refusal("poll", response, polling=True)
        assert type(error) is TooEagerPollingError
        assert error.next_permitted_poll_time == datetime(2026, 1, 2, 3, 14, 5, 500000, tzinfo=UTC)
        assert error.wait == timedelta(minutes=10, seconds=0.5)

    def test_on_a_poll_without_headers_it_means_too_early_for_an_unknown_time(self) -> None:
        error = refusal("poll", response_with(429), polling=True)
        assert type(error) is TooEagerPollingError
        assert (error.next_permitted_poll_time, error.wait) == (None, None)

    @pytest.mark.parametrize("polling", [True, False])
    def test_the_services_rate_limit_blocks_for_30_seconds(self, polling) -> None:
        error = refusal("do it", response_with(429, dosfilter="delayed"), polling=polling)
        assert type(error) is RateLimitedError
        assert error.blocked_until == NOW + timedelta(seconds=30)
        assert error.wait == timedelta(seconds=30)

    @pytest.mark.parametrize(("retry_after", "seconds"), [("120", 120), ("5", 30), ("soon", 30)])
    def test_a_longer_retry_after_makes_the_block_longer(self, retry_after, seconds) -> None:
        error = refusal(
            "do it", response_with(429, dosfilter="delayed", **{"retry-after": retry_after})
        )
        assert error.wait == timedelta(seconds=seconds)

    @pytest.mark.parametrize(
        ("retry_after", "seconds"),
        [("7", 7), (" 60 ", 60), ("", None), ("soon", None), ("-1", None), ("9" * 5000, 99_999)],
    )
    def test_a_gateways_block_lasts_for_its_retry_after(self, retry_after, seconds) -> None:
        error = refusal("do it", response_with(429, retry_after=retry_after))
        assert type(error) is RateLimitedError
        expected = None if seconds is None else NOW + timedelta(seconds=seconds)
        assert error.blocked_until == expected

    def test_an_error_document_with_an_unknown_code_does_not_hide_the_rate_limit(self) -> None:
        response = response_with(429, error_document("TOO_MANY_REQUESTS"), dosfilter="x")
        assert type(refusal("do it", response)) is RateLimitedError


@given(st.integers(300, 599), st.binary(max_size=200), st.booleans())
def test_every_response_outside_2xx_becomes_an_api_error(status, body, polling) -> None:
    assert isinstance(refusal("do it", response_with(status, body), polling=polling), ApiError)


@pytest.mark.parametrize(
    ("retry_after", "date", "seconds"),
    [
        ("7", None, 7),
        ("Fri, 02 Jan 2026 03:04:15 GMT", None, 10),
        ("Friday, 02-Jan-26 03:04:15 GMT", None, 10),
        ("Fri, 02 Jan 2026 03:04:15 GMT", "Fri, 02 Jan 2026 03:04:12 GMT", 3),
        ("Fri, 02 Jan 2026 03:04:15 GMT", "no date", 10),
        ("Fri, 02 Jan 2026 03:04:00 GMT", None, 0),
        ("Fri, 02 Jan 2026 03:04:15 GMT", "Fri, 02 Jan 2026 05:00:00 GMT", 0),
        ("Sat, 03 Jan 2026 06:50:44 GMT", None, 99_999),
        ("Sat, 03 Jan 2026 06:50:45 GMT", None, 99_999),
        ("Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", 99_999),
        ("100000", None, 99_999),
        *(
            (text, None, None)
            for text in ("", "soon", "-5", "1.5", "Fri, 99 Jan 2026 03:04:15 GMT")
        ),
    ],
)
def test_retry_after_of_any_refusal_may_be_seconds_or_a_date(retry_after, date, seconds) -> None:
    headers = {"retry-after": retry_after} | ({} if date is None else {"date": date})
    for error in (
        refusal("do it", response_with(503, **headers)),
        refusal("do it", response_with(503, error_document("BUSY"), **headers)),
        refusal("do it", response_with(429, **headers)),
        refusal("do it", response_with(429, dosfilter="delayed", **headers)),
        refusal("poll", response_with(429, **headers), polling=True),
    ):
        assert error.retry_after == (None if seconds is None else timedelta(seconds=seconds))
