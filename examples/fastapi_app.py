"""The web app on FastAPI.

make example-fastapi       starts it with a sandbox
python fastapi_app.py      uses the POSTEN_SIGNERING_* variables: see docs/reference/configuration.md
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from urllib.parse import urlsplit

import shop_pages
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
from shop import LEASE, NOT_RETURNED_BY_SERVICE, Shop, open_shop, shop_url

from posten_signering import DownloadStream, status_query_token_in
from posten_signering.errors import SigningError

PDF = "application/pdf"
NO_STORE = {"Cache-Control": "no-store"}
OUTCOMES = ("signed", "rejected", "failed")

logger = logging.getLogger("shop")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Keeps the shop, with its one client, open while the app runs."""
    async with open_shop() as app.state.shop:
        yield


app = FastAPI(lifespan=lifespan)


async def get_shop(request: Request) -> Shop:
    """The shop that `lifespan` opened."""
    shop: Shop = request.app.state.shop
    return shop


ShopDependency = Annotated[Shop, Depends(get_shop)]


async def get_contract(key: str, shop: ShopDependency) -> Contract:
    """The contract whose key is in the URL."""
    contract = await shop.contracts.with_key(key)
    if contract is None:
        raise HTTPException(404)
    return contract


ContractDependency = Annotated[Contract, Depends(get_contract)]


@app.get("/")
async def start() -> HTMLResponse:
    """The start page."""
    return HTMLResponse(shop_pages.start())


@app.get("/lease.pdf")
async def lease() -> FileResponse:
    """The lease to sign."""
    return FileResponse(LEASE, media_type=PDF)


@app.post("/contracts")
async def add(shop: ShopDependency, *, with_landlord: bool = False) -> RedirectResponse:
    """Adds a draft of a contract and redirects to its page. No job is created yet."""
    signers = ["tenant", "landlord"] if with_landlord else ["tenant"]
    return RedirectResponse(f"/contracts/{await shop.contracts.add(signers)}", 303)


@app.get("/contracts/{key}")
async def show(contract: ContractDependency) -> HTMLResponse:
    """The contract's page."""
    return HTMLResponse(shop_pages.contract(contract), headers=NO_STORE)


@app.post("/contracts/{key}/signers/{signer}")
async def sign(shop: ShopDependency, contract: ContractDependency, signer: str) -> RedirectResponse:
    """Redirects a signer to the service, or to the contract's page if they can't sign."""
    redirect_url = await shop.redirect_url(contract.id, signer)
    if redirect_url is None:
        return RedirectResponse(f"/contracts/{contract.key}", 303)
    return RedirectResponse(redirect_url, 303, headers=NO_STORE)


async def pades(
    shop: ShopDependency, contract: ContractDependency
) -> AsyncIterator[DownloadStream | None]:
    """A stream of the service's copy, or None if our copy is stored. FastAPI closes the stream."""
    if shop.signed_path(contract).exists():
        yield None
    elif contract.pades_url is None:
        raise HTTPException(404)
    else:
        async with shop.client.open_pades(contract.pades_url) as stream:
            yield stream


@app.get("/contracts/{key}/signed.pdf")
async def signed_pdf(
    shop: ShopDependency,
    contract: ContractDependency,
    stream: Annotated[DownloadStream | None, Depends(pades)],
) -> Response:
    """The signed lease: our stored copy, or before that a stream from the service."""
    if stream is None:
        return FileResponse(shop.signed_path(contract), media_type=PDF, headers=NO_STORE)
    headers = dict(NO_STORE)
    if stream.content_length is not None:
        headers["Content-Length"] = str(stream.content_length)
    return StreamingResponse(stream, media_type=PDF, headers=headers)


@app.get("/contracts/{contract_id}/{outcome}")
async def signer_returns(
    request: Request, shop: ShopDependency, contract_id: str, outcome: str
) -> RedirectResponse:
    """The three exit URLs. Redirects to a URL without the token."""
    contract = await shop.contracts.get(contract_id)
    if contract is None or outcome not in OUTCOMES:
        raise HTTPException(404)
    logger.info("A signer of contract %s returned: %s", contract.id, outcome)
    await shop.signer_returned(contract, status_query_token_in(str(request.url)))
    return RedirectResponse(f"/contracts/{contract.key}", 303, headers=NO_STORE)


@app.exception_handler(SigningError)
async def explain(_: Request, error: Exception) -> HTMLResponse:
    """The error page for a failed call to the service."""
    if isinstance(error, NOT_RETURNED_BY_SERVICE):
        return problem("This link does not belong to a completed signing.", 400)
    logger.error("A call to the signing service failed", exc_info=error)
    return problem("The signing service did not respond. Please reload.", 502)


@app.exception_handler(404)
async def missing(_: Request, __: Exception) -> HTMLResponse:
    """The error page for a URL that does not exist."""
    return problem("This page does not exist.", 404)


def problem(text: str, status: int) -> HTMLResponse:
    """A page that must not be cached, because its URL may contain a token."""
    return HTMLResponse(shop_pages.problem(text), status, headers=NO_STORE)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    # Without an access log, because it would contain the tokens of the exit URLs.
    uvicorn.run(app, host="127.0.0.1", port=urlsplit(shop_url()).port or 80, access_log=False)
