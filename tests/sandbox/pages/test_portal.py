"""The demo's portal, which the exit URLs lead to."""

import aiohttp
import pytest

from posten_signering.sandbox._pages.portal import Portal

pytestmark = pytest.mark.anyio


async def test_the_portal_reports_each_exit_url_once():
    async with (
        Portal("http://127.0.0.1:1/overview", style_timeout=0) as portal,
        aiohttp.ClientSession() as session,
    ):

        async def visit(address):
            async with session.get(address, headers={"Accept-Language": "en"}) as answer:
                assert answer.status == 200
                assert "Referrer-Policy" in answer.headers
                return await answer.text()

        text = await visit(f"{portal.completion}?status_query_token=a")
        assert "You are back at the sender" in text
        assert 'href="http://127.0.0.1:1/overview"' in text
        await visit(f"{portal.completion}?status_query_token=a")
        await visit(portal.completion)
        assert "rejected" in await visit(f"{portal.rejection}?status_query_token=b")
        assert "failed" in await visit(f"{portal.error}?status_query_token=c")
        exit_urls = [await portal.next_exit_url() for _ in range(3)]
        assert [url.rpartition("=")[2] for url in exit_urls] == ["a", "b", "c"]
        assert "status_query_token" not in repr(exit_urls)
        async with session.get(portal.completion.replace("completion", "nowhere")) as answer:
            assert answer.status == 404
