"""The web app on aiohttp.

make example-aiohttp       starts it with a sandbox
python aiohttp_app.py      uses the POSTEN_SIGNERING_* variables: see docs/reference/configuration.md
"""

import logging
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import shop_pages
from aiohttp import web
from aiohttp.typedefs import Handler
from contracts import Contract
from shop import LEASE, NOT_RETURNED_BY_SERVICE, Shop, open_shop, shop_url

from posten_signering import status_query_token_in
from posten_signering.errors import SigningError

PDF = "application/pdf"
NO_STORE = {"Cache-Control": "no-store"}
SHOP = web.AppKey("SHOP", Shop)

logger = logging.getLogger("shop")
routes = web.RouteTableDef()


async def lifespan(app: web.Application) -> AsyncIterator[None]:
    """Keeps the shop, with its one client, open while the app runs."""
    async with open_shop() as app[SHOP]:
        yield


async def contract_of(request: web.Request) -> Contract:
    """The contract whose key is in the URL."""
    contract = await request.app[SHOP].contracts.with_key(request.match_info["key"])
    if contract is None:
        raise web.HTTPNotFound
    return contract


@routes.get("/")
async def start(_: web.Request) -> web.Response:
    """The start page."""
    return html(shop_pages.start())


@routes.get("/lease.pdf")
async def lease(_: web.Request) -> web.FileResponse:
    """The lease to sign."""
    return web.FileResponse(LEASE)


@routes.post("/contracts")
async def add(request: web.Request) -> web.Response:
    """Adds a draft of a contract and redirects to its page. No job is created yet."""
    signers = ["tenant", "landlord"] if "with_landlord" in request.query else ["tenant"]
    key = await request.app[SHOP].contracts.add(signers)
    raise web.HTTPSeeOther(f"/contracts/{key}")


@routes.get("/contracts/{key}")
async def show(request: web.Request) -> web.Response:
    """The contract's page."""
    return html(shop_pages.contract(await contract_of(request)))


@routes.post("/contracts/{key}/signers/{signer}")
async def sign(request: web.Request) -> web.Response:
    """Redirects a signer to the service, or to the contract's page if they can't sign."""
    contract = await contract_of(request)
    redirect_url = await request.app[SHOP].redirect_url(contract.id, request.match_info["signer"])
    if redirect_url is None:
        raise web.HTTPSeeOther(f"/contracts/{contract.key}")
    raise web.HTTPSeeOther(redirect_url, headers=NO_STORE)


@routes.get("/contracts/{contract_id}/{outcome:signed|rejected|failed}")
async def signer_returns(request: web.Request) -> web.Response:
    """The three exit URLs. Redirects to a URL without the token."""
    shop = request.app[SHOP]
    contract = await shop.contracts.get(request.match_info["contract_id"])
    if contract is None:
        raise web.HTTPNotFound
    logger.info("A signer of contract %s returned: %s", contract.id, request.match_info["outcome"])
    await shop.signer_returned(contract, status_query_token_in(request.path_qs))
    raise web.HTTPSeeOther(f"/contracts/{contract.key}", headers=NO_STORE)


@routes.get("/contracts/{key}/signed.pdf")
async def signed_pdf(request: web.Request) -> web.StreamResponse:
    """The signed lease: our stored copy, or before that a stream from the service."""
    shop, contract = request.app[SHOP], await contract_of(request)
    if shop.signed_path(contract).exists():
        return web.FileResponse(shop.signed_path(contract), headers=NO_STORE)
    if contract.pades_url is None:
        raise web.HTTPNotFound
    async with shop.client.open_pades(contract.pades_url) as stream:
        response = web.StreamResponse(headers=NO_STORE)
        response.content_type = PDF
        response.content_length = stream.content_length
        await response.prepare(request)
        async for chunk in stream:
            await response.write(chunk)  # raises when the customer has closed the connection
        await response.write_eof()
    return response


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Shows an error page when a call to the service failed or a page does not exist."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return html(shop_pages.problem("This page does not exist."), 404)
    except NOT_RETURNED_BY_SERVICE:
        return html(shop_pages.problem("This link does not belong to a completed signing."), 400)
    except SigningError:
        logger.exception("A call to the signing service failed")
        return html(shop_pages.problem("The signing service did not respond. Please reload."), 502)


def html(page: str, status: int = 200) -> web.Response:
    """A page that must not be cached, because its URL may contain a token."""
    return web.Response(text=page, content_type="text/html", status=status, headers=NO_STORE)


def application() -> web.Application:
    """Creates the app. An app can run only once."""
    app = web.Application(middlewares=[explain])
    app.add_routes(routes)
    app.cleanup_ctx.append(lifespan)
    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    # Without an access log, because it would contain the tokens of the exit URLs.
    web.run_app(
        application(), host="127.0.0.1", port=urlsplit(shop_url()).port or 80, access_log=None
    )
