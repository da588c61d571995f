"""Where exit URLs lead: a sender's portal, as small as it can be."""

import aiohttp
import pytest

from posten_signering.sandbox._pages.portal import Portal

pytestmark = pytest.mark.anyio


async def test_the_portal_tells_of_each_browser_that_comes_back_once():
    async with (
        Portal("http://127.0.0.1:1/overview", patience=0) as portal,
        aiohttp.ClientSession() as session,
    ):

        async def come(address):
            async with session.get(address, headers={"Accept-Language": "en"}) as answer:
                assert answer.status == 200
                assert "Referrer-Policy" in answer.headers
                return await answer.text()

        said = await come(f"{portal.completion}?status_query_token=a")
        assert "You are back at the sender" in said
        assert 'href="http://127.0.0.1:1/overview"' in said
        await come(f"{portal.completion}?status_query_token=a")
        await come(portal.completion)
        assert "rejected" in await come(f"{portal.rejection}?status_query_token=b")
        assert "failed" in await come(f"{portal.error}?status_query_token=c")
        arrivals = [await portal.came_back() for _ in range(3)]
        assert [address.rpartition("=")[2] for address in arrivals] == ["a", "b", "c"]
        assert "status_query_token" not in repr(arrivals)
        async with session.get(portal.completion.replace("completion", "nowhere")) as answer:
            assert answer.status == 404
