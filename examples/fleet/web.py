"""The web process: places orders, creates their signing jobs, and shows what became of them.

python -m fleet.web
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import psycopg
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from fleet.orders import Order, Orders, OrderState, open_orders
from posten_signering import (
    ClientConfiguration,
    DirectClient,
    DirectJob,
    DirectSigner,
    Document,
    ExitUrls,
    RedisFleet,
    StatusRetrievalMethod,
)
from posten_signering.errors import CreateOutcomeUnknownError, SigningError

LEASE = Path(__file__).parents[1] / "lease.pdf"
SHOP_URL = os.environ.get("SHOP_URL", "http://127.0.0.1:8000")
REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
NO_STORE = {"Cache-Control": "no-store"}

logger = logging.getLogger("web")


@dataclass(frozen=True, slots=True)
class Shop:
    """What all requests share."""

    orders: Orders
    client: DirectClient


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Keeps the connection pool and the client open while the app runs."""
    configuration = replace(
        await asyncio.to_thread(ClientConfiguration.from_env), fleet=RedisFleet(REDIS_URL)
    )
    async with open_orders() as orders, DirectClient(configuration) as client:
        app.state.shop = Shop(orders, client)
        yield


app = FastAPI(lifespan=lifespan)


async def get_shop(request: Request) -> Shop:
    """The shop that `lifespan` opened."""
    shop: Shop = request.app.state.shop
    return shop


ShopDependency = Annotated[Shop, Depends(get_shop)]


@app.post("/orders")
async def order(shop: ShopDependency) -> RedirectResponse:
    """Places an order, creates its job, and redirects the customer to the service."""
    reference = await shop.orders.place()
    job = DirectJob(
        title="Lease of a flat",
        documents=[Document(title="Lease of a flat", content=LEASE)],
        signers=[DirectSigner(custom_identifier="tenant")],
        exit_urls=ExitUrls(
            completion=f"{SHOP_URL}/back", rejection=f"{SHOP_URL}/back", error=f"{SHOP_URL}/back"
        ),
        reference=reference,
        status_retrieval_method=StatusRetrievalMethod.POLLING,
    )
    try:
        created = await shop.client.create(job)
    except CreateOutcomeUnknownError as error:
        # Never create the job again: there might be two. The order is settled by a status change.
        logger.warning("Order %s: %s", reference, error)
        return RedirectResponse("/", 303)
    except SigningError:
        await shop.orders.job_not_created(reference)
        raise
    signer = created.single_signer
    await shop.orders.job_created(reference, created.job_id, signer.signer_url)
    return RedirectResponse(signer.redirect_url, 303, headers=NO_STORE)


@app.post("/orders/{reference}/sign")
async def sign(shop: ShopDependency, reference: str) -> RedirectResponse:
    """Redirects a customer who has not signed yet to the service."""
    signer_url = await shop.orders.signer_url(reference)
    if signer_url is None:
        raise HTTPException(404)
    signer = await shop.client.request_new_redirect_url(signer_url)
    return RedirectResponse(signer.redirect_url, 303, headers=NO_STORE)


@app.get("/back")
async def back() -> RedirectResponse:
    """The exit URL, where the service sends the customer. A worker learns the outcome from the queue."""
    return RedirectResponse("/", 303, headers=NO_STORE)  # to a URL without the token


@app.get("/")
async def show(shop: ShopDependency) -> HTMLResponse:
    """The orders. A real shop would show a customer's own orders only."""
    return HTMLResponse(page(await shop.orders.latest()), headers=NO_STORE)


@app.get("/orders/{reference}/signed.pdf")
async def signed_pdf(shop: ShopDependency, reference: str) -> Response:
    """The signed lease."""
    content = await shop.orders.signed_pdf(reference)
    if content is None:
        raise HTTPException(404)
    return Response(content, media_type="application/pdf", headers=NO_STORE)


@app.get("/live")
async def live() -> Response:
    """For a liveness probe: the event loop runs. It must not depend on the database or the service."""
    return Response()


@app.get("/ready")
async def ready(shop: ShopDependency) -> Response:
    """For a readiness probe: orders can be placed."""
    await shop.orders.latest()
    return Response()


@app.exception_handler(SigningError)
async def signing_failed(_: Request, error: Exception) -> HTMLResponse:
    """The error page for a failed call to the service."""
    logger.error("A call to the signing service failed", exc_info=error)
    return HTMLResponse("The signing service did not respond.", 502, headers=NO_STORE)


@app.exception_handler(psycopg.Error)
async def database_failed(_: Request, error: Exception) -> HTMLResponse:
    """The error page for a database that is away."""
    logger.error("The database did not respond: %s", error)
    return HTMLResponse("The shop is closed for a moment. Please reload.", 503, headers=NO_STORE)


def page(orders: Sequence[Order]) -> str:
    """The page with the orders. It reloads itself."""
    rows = "".join(
        f"<tr><td>{order.reference}<td>{order.state}<td>{_action(order)}" for order in orders
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Rent a flat</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="refresh" content="5">'
        "<style>body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem } td, th { padding: .5rem; text-align: left }</style>"
        '<h1>Rent a flat</h1><form method="post" action="/orders"><button>Rent and sign</button></form>'
        f"<table><tr><th>Order<th>State<th>{rows}</table>"
    )


def _action(order: Order) -> str:
    match order.state:
        case OrderState.SIGNED:
            return f'<a href="/orders/{order.reference}/signed.pdf">the signed lease</a>'
        case OrderState.READY_TO_SIGN if order.signer_url is not None:
            return f'<form method="post" action="/orders/{order.reference}/sign"><button>Sign</button></form>'
        case _:
            return ""


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s web %(process)d: %(message)s")
    logging.getLogger("psycopg.pool").setLevel(logging.WARNING)
    # Without an access log, because it would contain the tokens of the exit URLs. A request that runs
    # at SIGTERM gets 20 seconds; the order of a job that is then still being created stays OUTCOME_UNKNOWN.
    uvicorn.run(
        app,
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(os.environ.get("PORT", "8000")),
        access_log=False,
        timeout_graceful_shutdown=20,
    )
