"""The shop on FastAPI.

make example-fastapi       against a sandbox that is started for it
python fastapi_app.py      with POSTEN_SIGNERING_* set as ClientConfiguration.from_env() says
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from urllib.parse import urlsplit

import pages
import uvicorn
from contracts import Contract
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from shop import LEASE, NO_SIGNER_CAME_BACK, Shop, open_shop, shop_url

from posten_signering import DownloadStream, status_query_token_in
from posten_signering.errors import SigningError

PDF = "application/pdf"
NO_STORE = {"Cache-Control": "no-store"}
OUTCOMES = ("signed", "rejected", "failed")

logger = logging.getLogger("shop")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """The shop is open, with its one client, as long as the app runs."""
    async with open_shop() as app.state.shop:
        yield


app = FastAPI(lifespan=lifespan)


async def the_shop(request: Request) -> Shop:
    """What the lifespan opened."""
    shop: Shop = request.app.state.shop
    return shop


InShop = Annotated[Shop, Depends(the_shop)]


async def the_contract(key: str, shop: InShop) -> Contract:
    """The contract whose page an address is, or is below."""
    contract = await shop.contracts.with_key(key)
    if contract is None:
        raise HTTPException(404)
    return contract


OfContract = Annotated[Contract, Depends(the_contract)]


@app.get("/")
async def start() -> HTMLResponse:
    """Where a customer begins."""
    return HTMLResponse(pages.start())


@app.get("/lease.pdf")
async def lease() -> FileResponse:
    """What is to be signed."""
    return FileResponse(LEASE, media_type=PDF)


@app.post("/contracts")
async def add(shop: InShop, *, with_landlord: bool = False) -> RedirectResponse:
    """A draft with an address of its own; there is no job yet."""
    signers = ["tenant", "landlord"] if with_landlord else ["tenant"]
    return RedirectResponse(f"/contracts/{await shop.contracts.add(signers)}", 303)


@app.get("/contracts/{key}")
async def show(contract: OfContract) -> HTMLResponse:
    """The contract's page."""
    return HTMLResponse(pages.contract(contract), headers=NO_STORE)


@app.post("/contracts/{key}/signers/{signer}")
async def sign(shop: InShop, contract: OfContract, signer: str) -> RedirectResponse:
    """Sends a signer's browser to the service, or back to the contract's page, which says why."""
    redirect_url = await shop.redirect_url(contract.id, signer)
    if redirect_url is None:
        return RedirectResponse(f"/contracts/{contract.key}", 303)
    return RedirectResponse(redirect_url, 303, headers=NO_STORE)


async def pades(shop: InShop, contract: OfContract) -> AsyncIterator[DownloadStream | None]:
    """The service's copy while we have none; FastAPI closes it, also when the customer goes away."""
    if shop.signed(contract).exists():
        yield None
    elif contract.pades_url is None:
        raise HTTPException(404)
    else:
        async with shop.client.open_pades(contract.pades_url) as stream:
            yield stream


@app.get("/contracts/{key}/signed.pdf")
async def signed_pdf(
    shop: InShop,
    contract: OfContract,
    stream: Annotated[DownloadStream | None, Depends(pades)],
) -> Response:
    """The signed lease: our own, once it is kept; until then the service's, as it comes."""
    if stream is None:
        return FileResponse(shop.signed(contract), media_type=PDF, headers=NO_STORE)
    headers = dict(NO_STORE)
    if stream.content_length is not None:
        headers["Content-Length"] = str(stream.content_length)
    return StreamingResponse(stream, media_type=PDF, headers=headers)


@app.get("/contracts/{contract_id}/{outcome}")
async def come_back(
    request: Request, shop: InShop, contract_id: str, outcome: str
) -> RedirectResponse:
    """The three exit URLs. The answer takes the token out of the browser's address bar."""
    contract = await shop.contracts.get(contract_id)
    if contract is None or outcome not in OUTCOMES:
        raise HTTPException(404)
    logger.info("A signer of contract %s came back: %s", contract.id, outcome)
    await shop.came_back(contract, status_query_token_in(str(request.url)))
    return RedirectResponse(f"/contracts/{contract.key}", 303, headers=NO_STORE)


@app.exception_handler(SigningError)
async def explain(_: Request, error: Exception) -> HTMLResponse:
    """What a customer reads when a call to the service failed."""
    if isinstance(error, NO_SIGNER_CAME_BACK):
        return problem("This address does not lead to a signing.", 400)
    logger.error("A call to the signing service failed", exc_info=error)
    return problem("The signing service gave no answer. Please reload.", 502)


@app.exception_handler(404)
async def missing(_: Request, __: Exception) -> HTMLResponse:
    """What a customer reads at an address that is none."""
    return problem("There is no such page.", 404)


def problem(text: str, status: int) -> HTMLResponse:
    """A page that no cache keeps: the address may hold a token."""
    return HTMLResponse(pages.problem(text), status, headers=NO_STORE)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    # An access log would hold the tokens of the exit URLs.
    uvicorn.run(app, host="127.0.0.1", port=urlsplit(shop_url()).port or 80, access_log=False)
