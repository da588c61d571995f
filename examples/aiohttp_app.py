"""The shop on aiohttp.

make example-aiohttp       against a sandbox that is started for it
python aiohttp_app.py      with POSTEN_SIGNERING_* set as ClientConfiguration.from_env() says
"""

import logging
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pages
from aiohttp import web
from aiohttp.typedefs import Handler
from contracts import Contract
from shop import LEASE, NO_SIGNER_CAME_BACK, Shop, open_shop, shop_url

from posten_signering import status_query_token_in
from posten_signering.errors import SigningError

PDF = "application/pdf"
NO_STORE = {"Cache-Control": "no-store"}
SHOP = web.AppKey("SHOP", Shop)

logger = logging.getLogger("shop")
routes = web.RouteTableDef()


async def lifespan(app: web.Application) -> AsyncIterator[None]:
    """The shop is open, with its one client, as long as the app runs."""
    async with open_shop() as app[SHOP]:
        yield


async def the_contract(request: web.Request) -> Contract:
    """The contract whose page an address is, or is below."""
    contract = await request.app[SHOP].contracts.with_key(request.match_info["key"])
    if contract is None:
        raise web.HTTPNotFound
    return contract


@routes.get("/")
async def start(_: web.Request) -> web.Response:
    """Where a customer begins."""
    return html(pages.start())


@routes.get("/lease.pdf")
async def lease(_: web.Request) -> web.FileResponse:
    """What is to be signed."""
    return web.FileResponse(LEASE)


@routes.post("/contracts")
async def add(request: web.Request) -> web.Response:
    """A draft with an address of its own; there is no job yet."""
    signers = ["tenant", "landlord"] if "with_landlord" in request.query else ["tenant"]
    key = await request.app[SHOP].contracts.add(signers)
    raise web.HTTPSeeOther(f"/contracts/{key}")


@routes.get("/contracts/{key}")
async def show(request: web.Request) -> web.Response:
    """The contract's page."""
    return html(pages.contract(await the_contract(request)))


@routes.post("/contracts/{key}/signers/{signer}")
async def sign(request: web.Request) -> web.Response:
    """Sends a signer's browser to the service, or back to the contract's page, which says why."""
    contract = await the_contract(request)
    redirect_url = await request.app[SHOP].redirect_url(contract.id, request.match_info["signer"])
    if redirect_url is None:
        raise web.HTTPSeeOther(f"/contracts/{contract.key}")
    raise web.HTTPSeeOther(redirect_url, headers=NO_STORE)


@routes.get("/contracts/{contract_id}/{outcome:signed|rejected|failed}")
async def come_back(request: web.Request) -> web.Response:
    """The three exit URLs. The answer takes the token out of the browser's address bar."""
    shop = request.app[SHOP]
    contract = await shop.contracts.get(request.match_info["contract_id"])
    if contract is None:
        raise web.HTTPNotFound
    logger.info("A signer of contract %s came back: %s", contract.id, request.match_info["outcome"])
    await shop.came_back(contract, status_query_token_in(request.path_qs))
    raise web.HTTPSeeOther(f"/contracts/{contract.key}", headers=NO_STORE)


@routes.get("/contracts/{key}/signed.pdf")
async def signed_pdf(request: web.Request) -> web.StreamResponse:
    """The signed lease: our own, once it is kept; until then the service's, as it comes."""
    shop, contract = request.app[SHOP], await the_contract(request)
    if shop.signed(contract).exists():
        return web.FileResponse(shop.signed(contract), headers=NO_STORE)
    if contract.pades_url is None:
        raise web.HTTPNotFound
    async with shop.client.open_pades(contract.pades_url) as stream:
        response = web.StreamResponse(headers=NO_STORE)
        response.content_type = PDF
        response.content_length = stream.content_length
        await response.prepare(request)
        async for chunk in stream:
            await response.write(chunk)  # fails when the customer has gone away
        await response.write_eof()
    return response


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What a customer reads when a call to the service failed, or at an address that is none."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return html(pages.problem("There is no such page."), 404)
    except NO_SIGNER_CAME_BACK:
        return html(pages.problem("This address does not lead to a signing."), 400)
    except SigningError:
        logger.exception("A call to the signing service failed")
        return html(pages.problem("The signing service gave no answer. Please reload."), 502)


def html(page: str, status: int = 200) -> web.Response:
    """A page that no cache keeps: the address may hold a token."""
    return web.Response(text=page, content_type="text/html", status=status, headers=NO_STORE)


def application() -> web.Application:
    """The app; one for each time that it runs."""
    app = web.Application(middlewares=[explain])
    app.add_routes(routes)
    app.cleanup_ctx.append(lifespan)
    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    # An access log would hold the tokens of the exit URLs.
    web.run_app(
        application(), host="127.0.0.1", port=urlsplit(shop_url()).port or 80, access_log=None
    )
