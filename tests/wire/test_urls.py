"""The token of an exit URL is read as any web framework would, and never shows in the error."""

import traceback

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posten_signering import status_query_token_in
from posten_signering.errors import NotAvailableError, StatusQueryTokenMissingError

TOKEN = "0Vpxc9nqrx-tZ4FRWk_2RSqeEEBR"


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
def test_whatever_the_token_holds_it_comes_back(token):
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
def test_an_address_without_a_token_is_told_from_an_answer_of_the_service(given_):
    with pytest.raises(StatusQueryTokenMissingError, match="carries no status_query_token") as told:
        status_query_token_in(given_)
    assert isinstance(told.value, NotAvailableError)
    frames = [frame for frame, _ in traceback.walk_tb(told.tb)]
    ours = [frame for frame in frames if frame.f_code.co_filename.endswith("/urls.py")]
    assert TOKEN not in "".join(repr(frame.f_locals) for frame in ours)
    assert len(ours) == 1
