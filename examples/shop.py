"""A shop whose customers sign a lease. It uses the direct flow and gets the status by token.

This module is independent of the web framework; the FastAPI and aiohttp apps add the routes. Work that
must not be interrupted runs in a task of the shop. It continues when the customer closes the browser or
the server cancels the request.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from contracts import DRAFT, OUTCOME_UNKNOWN, Contract, Contracts

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


class NoJobError(SigningError):
    """An exit URL was opened, but its contract has no job."""


# These errors mean that the service did not redirect the visitor to the exit URL after a signing.
NOT_RETURNED_BY_SERVICE = (
    StatusQueryTokenMissingError,
    InvalidStatusQueryTokenError,
    SigningCeremonyNotCompletedError,
    NoJobError,
)

logger = logging.getLogger("shop")


def shop_url() -> str:
    """The URL of the shop, which the exit URLs begin with."""
    return os.environ.get("SHOP_URL", "http://127.0.0.1:8000")


@asynccontextmanager
async def open_shop() -> AsyncGenerator["Shop"]:
    """Opens the shop while the app runs. All requests share one client."""
    configuration = await asyncio.to_thread(ClientConfiguration.from_env)
    folder = Path(os.environ.get("SHOP_FOLDER", "."))
    contracts = Contracts(folder / "shop.sqlite3")
    await contracts.open()
    async with DirectClient(configuration) as client:
        shop = Shop(client, contracts, shop_url(), folder)
        for contract in await contracts.unconfirmed():
            shop.start_task(shop.store_and_confirm(contract.id))
        yield shop
        await shop.wait_for_tasks()


class Shop:
    """Creates the jobs of contracts, gets their status and stores the signed documents."""

    def __init__(self, client: DirectClient, contracts: Contracts, url: str, folder: Path) -> None:
        self.client = client
        self.contracts = contracts
        self._url = url
        self._folder = folder
        self._tasks = set[asyncio.Task[None]]()

    def start_task(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Starts work that must not be interrupted. To await it, use `asyncio.shield`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the event loop keeps only a weak reference to a task
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait_for_tasks(self) -> None:
        """Waits up to 30 seconds for the started tasks, before the client is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(30):
                while self._tasks:
                    await asyncio.wait(self._tasks)

    async def redirect_url(self, contract_id: str, signer: str) -> str | None:
        """A new redirect URL for a signer's browser. None if the signer can't sign."""
        await asyncio.shield(self.start_task(self._create(contract_id)))
        contract = await self.contracts.get(contract_id)
        if contract is None or signer not in contract.signer_urls or not contract.awaits(signer):
            return None
        response = await self.client.request_new_redirect_url(contract.signer_urls[signer])
        return response.redirect_url

    async def _create(self, contract_id: str) -> None:
        """Creates the job of a contract, if it has none, and records the outcome."""
        contract = await self.contracts.claim(contract_id)
        if contract is None:  # there is a job already, or another request is creating it
            return
        page = f"{self._url}/contracts/{contract.id}"
        job = DirectJob(
            title="Lease of a flat",
            documents=[Document(title="Lease of a flat", content=LEASE)],
            signers=[DirectSigner(custom_identifier=signer) for signer in contract.signers],
            exit_urls=ExitUrls(
                completion=f"{page}/signed", rejection=f"{page}/rejected", error=f"{page}/failed"
            ),
            reference=f"{contract.id}-{contract.attempts}",  # different for each attempt
        )
        try:
            created = await self.client.create(job)
        except CreateOutcomeUnknownError:
            logger.exception("Contract %s: the job may exist", contract.id)
            await self.contracts.record_no_job(contract.id, OUTCOME_UNKNOWN)
        except SigningError:
            logger.exception("Contract %s: the job was not created", contract.id)
            await self.contracts.record_no_job(contract.id, DRAFT)
        else:
            await self.contracts.record_job(contract.id, created)

    async def signer_returned(self, contract: Contract, status_query_token: str) -> None:
        """Handles a signer at an exit URL. Only the service's status counts, not which URL it was."""
        await asyncio.shield(self.start_task(self._update_status(contract, status_query_token)))

    async def _update_status(self, contract: Contract, status_query_token: str) -> None:
        if contract.status_url is None:
            raise NoJobError
        try:
            status = await self.client.get_status(contract.status_url, status_query_token)
        except SigningError as error:
            logger.warning("Contract %s: the service gave no status: %s", contract.id, error)
            raise
        if await self.contracts.record_status(contract.id, status):
            self.start_task(self.store_and_confirm(contract.id))

    async def store_and_confirm(self, contract_id: str) -> None:
        """Stores the signed lease, and only then confirms the outcome to the service."""
        contract = await self.contracts.get(contract_id)
        if contract is None or contract.confirmation_url is None:
            return
        try:
            if contract.pades_url is not None:
                await self.client.download_pades(contract.pades_url, self.signed_path(contract))
            await self.client.confirm(contract.confirmation_url)
            await self.contracts.record_confirmation(contract.id)
        except (SigningError, OSError):
            logger.exception(
                "Contract %s: not stored or not confirmed; the next start retries", contract.id
            )

    def signed_path(self, contract: Contract) -> Path:
        """The path of the signed lease. The file exists after it was stored."""
        return self._folder / f"{contract.id}.pdf"
