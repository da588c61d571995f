"""The URLs that the client builds, and the token in an exit URL, which no error shows."""

from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from doubles import frames_with_locals
from hypothesis import given
from hypothesis import strategies as st

from posten_signering import status_query_token_in
from posten_signering._values.secret import Secret
from posten_signering._wire import urls
from posten_signering.errors import NotAvailableError, StatusQueryTokenMissingError

TOKEN = "0Vpxc9nqrx-tZ4FRWk_2RSqeEEBR"
ROOT = "https://api.example/api"
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1)


@given(TEXTS, TEXTS)
def test_a_queue_name_and_a_token_can_be_read_back_from_the_url(queue, token):
    parsed = urlsplit(urls.polling_queue(ROOT, "1", queue).reveal())
    assert parse_qs(parsed.query, strict_parsing=True) == {"polling_queue": [queue]}
    parsed = urlsplit(urls.with_token(Secret(f"{ROOT}/s?a=b"), Secret(token)).reveal())
    assert parse_qs(parsed.query) == {"a": ["b"], "status_query_token": [token]}


def test_an_organization_number_is_escaped_in_the_path():
    assert urls.signature_jobs(ROOT, "1/../2?x#y").reveal() == (
        f"{ROOT}/1%2F..%2F2%3Fx%23y/direct/signature-jobs"
    )


@pytest.mark.parametrize(
    "url_or_query",
    [
        f"https://shop.example/signed?status_query_token={TOKEN}",
        f"https://shop.example/signed?order=7&status_query_token={TOKEN}",
        f"https://shop.example/a=b&c/signed?status_query_token={TOKEN}&lang=no#top",
        f"/signed?status_query_token={TOKEN}",
        f"?status_query_token={TOKEN}",
        f"order=7&status_query_token={TOKEN}",
        f"https://shop.example/?status_query_token=older&status_query_token={TOKEN}",
    ],
)
def test_the_token_is_found_in_a_url_or_its_query(url_or_query):
    assert status_query_token_in(url_or_query) == TOKEN


@given(st.text(min_size=1))
def test_every_token_is_read_back_unchanged(token):
    url = httpx.URL("https://shop.example/signed?a=1", params={"status_query_token": token})
    assert status_query_token_in(str(url)) == token


@pytest.mark.parametrize(
    "url_or_query",
    [
        "",
        "https://shop.example/signed",
        "https://shop.example/signed?status_query_token=",
        f"https://shop.example/signed?Status_Query_Token={TOKEN}",
        f"https://shop.example/signed?token={TOKEN}",
        f"https://shop.example/signed#status_query_token={TOKEN}",
        f"https://shop.example/status_query_token={TOKEN}?a=1",
    ],
)
def test_a_url_without_a_token_raises_an_error_that_does_not_show_it(url_or_query):
    with pytest.raises(StatusQueryTokenMissingError, match="has no status_query_token") as caught:
        status_query_token_in(url_or_query)
    assert isinstance(caught.value, NotAvailableError)
    shown = frames_with_locals(caught.value)
    assert "status_query_token_in" in shown
    assert TOKEN not in shown
