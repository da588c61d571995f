"""Fixtures: a sandbox with pages for a browser, and a sender that creates jobs in it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from posten_signering import (
    AuthenticationLevel,
    DirectClient,
    DirectJob,
    DirectJobResponse,
    DirectSigner,
    DirectSignerResponse,
    Document,
    DocumentType,
    ExitUrls,
    OnBehalfOf,
    SignatureType,
    StatusRetrievalMethod,
)
from posten_signering.sandbox import Sandbox
from posten_signering.sandbox._pages.portal import Portal
from posten_signering.sandbox.demo import contract

# A synthetic identity number: 80 is added to the month, so no real person has it.
PERSON = "17885599999"
CUSTOMER = "customer-42"


class Sender:
    """A sender with its client and the portal that its exit URLs lead to."""

    def __init__(self, sandbox: Sandbox, client: DirectClient, portal: Portal) -> None:
        self.sandbox = sandbox
        self.client = client
        self.portal = portal

    @staticmethod
    def signers(created: DirectJobResponse) -> tuple[DirectSignerResponse, ...]:
        """The signers in the order of the request. A response has a different order."""
        identifiers = (PERSON, CUSTOMER)[: len(created.signers)]
        return tuple(created.signer(identifier) for identifier in identifiers)

    async def create(
        self,
        *,
        title: str = "Leie av bolig på Tøyen",
        description: str
        | None = "Les begge dokumentene før du signerer.\nRing oss om noe er uklart.",
        documents: list[Document] | None = None,
        signers: int = 2,
        polled: bool = False,
        exit_urls: ExitUrls | None = None,
    ) -> DirectJobResponse:
        all_signers = [
            DirectSigner(personal_identification_number=PERSON),
            DirectSigner(
                custom_identifier=CUSTOMER,
                on_behalf_of=OnBehalfOf.OTHER,
                signature_type=SignatureType.AUTHENTICATED_SIGNATURE,
            ),
        ]
        return await self.client.create(
            DirectJob(
                title=title,
                description=description,
                authentication_level=AuthenticationLevel.FOUR,
                documents=documents
                or [
                    Document(title="Leiekontrakt", content=contract()),
                    Document(title="Vilkår", content=TERMS.encode(), type=DocumentType.TEXT),
                ],
                signers=all_signers[:signers],
                exit_urls=exit_urls
                or ExitUrls(
                    completion=f"{self.portal.completion}?order=77",
                    rejection=self.portal.rejection,
                    error=self.portal.error,
                ),
                status_retrieval_method=StatusRetrievalMethod.POLLING if polled else None,
            )
        )


TERMS = """Vilkår for leie

1. Leien betales den første i hver måned.
2. Hver av partene kan si opp avtalen med tre måneders varsel.
3. Æ, ø og å er velkomne her.
"""


class Clock:
    """The sandbox's clock: the time of this machine plus what a test adds."""

    def __init__(self) -> None:
        self.added = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.added


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[tuple[Sandbox, Clock, Portal]]:
    """One sandbox per module, because generating its keys takes longer than a test."""
    clock = Clock()
    async with (
        Sandbox(rate_limit=None, clock=clock) as sandbox,
        Portal(f"{sandbox.signing_pages_url}overview") as portal,
    ):
        yield sandbox, clock, portal


@pytest.fixture
async def sender(running) -> AsyncIterator[Sender]:
    """A sender that creates jobs in the sandbox."""
    sandbox, _, portal = running
    async with DirectClient(sandbox.client_configuration()) as client:
        yield Sender(sandbox, client, portal)
