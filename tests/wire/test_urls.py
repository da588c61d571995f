"""The URLs that the client builds, and the token of an exit URL: read as any web framework would, and never shown."""

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
def test_queue_and_token_survive_the_url(queue, token):
    parsed = urlsplit(urls.polling_queue(ROOT, "1", queue).reveal())
    assert parse_qs(parsed.query, strict_parsing=True) == {"polling_queue": [queue]}
    parsed = urlsplit(urls.with_token(Secret(f"{ROOT}/s?a=b"), Secret(token)).reveal())
    assert parse_qs(parsed.query) == {"a": ["b"], "status_query_token": [token]}


def test_an_organization_number_can_not_change_the_path():
    assert urls.signature_jobs(ROOT, "1/../2?x#y").reveal() == (
        f"{ROOT}/1%2F..%2F2%3Fx%23y/direct/signature-jobs"
    )


@pytest.mark.parametrize(
    "given_",
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
def test_the_token_is_found_in_an_address_or_its_query(given_):
    assert status_query_token_in(given_) == TOKEN


@given(st.text(min_size=1))
def test_any_token_comes_back_as_it_is(token):
    address = httpx.URL("https://shop.example/signed?a=1", params={"status_query_token": token})
    assert status_query_token_in(str(address)) == token


@pytest.mark.parametrize(
    "given_",
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
def test_an_address_without_a_token_has_an_error_of_its_own(given_):
    with pytest.raises(
        StatusQueryTokenMissingError, match="carries no status_query_token"
    ) as caught:
        status_query_token_in(given_)
    assert isinstance(caught.value, NotAvailableError)
    shown = frames_with_locals(caught.value)
    assert "status_query_token_in" in shown
    assert TOKEN not in shown
