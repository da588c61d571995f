"""A minimal browser for tests of the sandbox's pages, without JavaScript."""

from contextlib import asynccontextmanager

import aiohttp


class Visitor:
    """A minimal browser: it keeps cookies and remembers the last page. It follows redirects only on request."""

    def __init__(self, sandbox, session):
        self.root = sandbox.signing_pages_url.rstrip("/")
        self.session = session

    async def ask(self, method, path, **options):
        options.setdefault("allow_redirects", False)
        async with self.session.request(method, f"{self.root}{path}", **options) as answer:
            self.page = await answer.text(errors="replace")
            self.body = await answer.read()
            return answer

    async def get(self, path, **options):
        return await self.ask("GET", path, **options)

    async def enter(self, redirect_url):
        token = redirect_url.rpartition("/")[2]
        return await self.ask("POST", "/signing", data={"token": token})


@asynccontextmanager
async def visitor(sandbox, **headers):
    # Browsers keep cookies from a bare IP address too; aiohttp does so only with `unsafe=True`.
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, headers=headers) as session:
        yield Visitor(sandbox, session)
