"""A shop whose customers sign a lease: the direct flow, with the status learned by token.

Knows no web framework: the apps on FastAPI and aiohttp are this, behind addresses. What must not be
broken off half way runs in a task of the shop, not of a request: a customer who goes away, or a server
that cancels the request, does not touch it.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from contracts import DOUBTFUL, DRAFT, Contract, Contracts

from posten_signering import (
    ClientConfiguration,
    DirectClient,
    DirectJob,
    DirectSigner,
    Document,
    ExitUrls,
)
from posten_signering.errors import (
    CreateOutcomeUnknownError,
    InvalidStatusQueryTokenError,
    SigningCeremonyNotCompletedError,
    SigningError,
    StatusQueryTokenMissingError,
)

LEASE = Path(__file__).with_name("lease.pdf")


class NobodyWasSentAwayError(SigningError):
    """An exit URL was opened of a contract that has no job."""


# Somebody opened an exit URL who did not come from the service.
NO_SIGNER_CAME_BACK = (
    StatusQueryTokenMissingError,
    InvalidStatusQueryTokenError,
    SigningCeremonyNotCompletedError,
    NobodyWasSentAwayError,
)

logger = logging.getLogger("shop")


def shop_url() -> str:
    """Where customers find the shop; their browsers come back here from the service."""
    return os.environ.get("SHOP_URL", "http://127.0.0.1:8000")


@asynccontextmanager
async def open_shop() -> AsyncGenerator["Shop"]:
    """The shop, for the life of the app: with one client, which all requests share."""
    configuration = await asyncio.to_thread(ClientConfiguration.from_env)
    folder = Path(os.environ.get("SHOP_FOLDER", "."))
    contracts = Contracts(folder / "shop.sqlite3")
    await contracts.open()
    async with DirectClient(configuration) as client:
        shop = Shop(client, contracts, shop_url(), folder)
        for contract in await contracts.unconfirmed():
            shop.start(shop.keep(contract.id))
        yield shop
        await shop.finish()


class Shop:
    """Contracts, and what the signing service does with them."""

    def __init__(self, client: DirectClient, contracts: Contracts, url: str, folder: Path) -> None:
        self.client = client
        self.contracts = contracts
        self._url = url
        self._folder = folder
        self._tasks = set[asyncio.Task[None]]()

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Starts what has to come to its end. Await it under `asyncio.shield`, if at all."""
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the event loop alone would not keep it alive
        task.add_done_callback(self._tasks.discard)
        return task

    async def finish(self) -> None:
        """Waits for what was started, before the client is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(30):
                while self._tasks:
                    await asyncio.wait(self._tasks)

    async def redirect_url(self, contract_id: str, signer: str) -> str | None:
        """Where to send a signer's browser: a URL for this once. None when there is no job."""
        await asyncio.shield(self.start(self._create(contract_id)))
        contract = await self.contracts.get(contract_id)
        if contract is None or signer not in contract.signer_urls:
            return None
        fresh = await self.client.request_new_redirect_url(contract.signer_urls[signer])
        return fresh.redirect_url

    async def _create(self, contract_id: str) -> None:
        """Creates the job of a contract, once, and writes down what came of it."""
        contract = await self.contracts.claim(contract_id)
        if contract is None:  # it has a job, or another request is creating it
            return
        page = f"{self._url}/contracts/{contract.id}"
        job = DirectJob(
            title="Lease of a flat",
            documents=[Document(title="Lease of a flat", content=LEASE)],
            signers=[DirectSigner(custom_identifier=signer) for signer in contract.signers],
            exit_urls=ExitUrls(
                completion=f"{page}/signed", rejection=f"{page}/rejected", error=f"{page}/failed"
            ),
            reference=f"{contract.id}-{contract.tries}",  # tells a doubtful try from the next
        )
        try:
            created = await self.client.create(job)
        except CreateOutcomeUnknownError:
            logger.exception("Contract %s may have a job", contract.id)
            await self.contracts.not_created(contract.id, DOUBTFUL)
        except SigningError:
            logger.exception("Contract %s has no job", contract.id)
            await self.contracts.not_created(contract.id, DRAFT)
        else:
            await self.contracts.created(contract.id, created)

    async def came_back(self, contract: Contract, status_query_token: str) -> None:
        """A signer came back to an exit URL: what counts is not which, but what the service says."""
        await asyncio.shield(self.start(self._learn(contract, status_query_token)))

    async def _learn(self, contract: Contract, status_query_token: str) -> None:
        if contract.status_url is None:
            raise NobodyWasSentAwayError
        try:
            status = await self.client.get_status(contract.status_url, status_query_token)
        except SigningError as error:
            logger.warning("Contract %s has no new status: %s", contract.id, error)
            raise
        if await self.contracts.learned(contract.id, status):
            self.start(self.keep(contract.id))

    async def keep(self, contract_id: str) -> None:
        """First the signed lease is ours, then the service is told that we have it."""
        contract = await self.contracts.get(contract_id)
        if contract is None or contract.confirmation_url is None:
            return
        try:
            if contract.pades_url is not None:
                await self.client.download_pades(contract.pades_url, self.signed(contract))
            await self.client.confirm(contract.confirmation_url)
            await self.contracts.confirmed(contract.id)
        except (SigningError, OSError):
            logger.exception("Contract %s is not kept: the next start tries again", contract.id)

    def signed(self, contract: Contract) -> Path:
        """Where the signed lease is, once it is kept."""
        return self._folder / f"{contract.id}.pdf"
