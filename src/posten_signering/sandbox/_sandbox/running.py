"""Starts and stops a sandbox: creates all of its parts, and its two servers."""

import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

import anyio

from posten_signering.sandbox._api.activity import Activity, Feed
from posten_signering.sandbox._api.connection import Delays, address_of, listen, serve
from posten_signering.sandbox._api.exchange import Exchanges
from posten_signering.sandbox._api.faults import FaultKind, Faults
from posten_signering.sandbox._api.service import Service
from posten_signering.sandbox._control.control import Control
from posten_signering.sandbox._control.endpoints import ControlApi
from posten_signering.sandbox._control.excerpt import overview_excerpt
from posten_signering.sandbox._documents.processes import DocumentProcesses
from posten_signering.sandbox._intake.judge import Bundle
from posten_signering.sandbox._pages.application import application, explain_refusals
from posten_signering.sandbox._pages.exits import add_exit_pages
from posten_signering.sandbox._pages.guard import guard
from posten_signering.sandbox._pages.overview import OverviewPage
from posten_signering.sandbox._pages.signer import SignerPages
from posten_signering.sandbox._signed.documents import JobDocuments
from posten_signering.sandbox._signed.pki import Authority
from posten_signering.sandbox._state.access import Access
from posten_signering.sandbox._state.job import Job
from posten_signering.sandbox._state.state import State
from posten_signering.sandbox._state.storage import Storage
from posten_signering.sandbox._values import links
from posten_signering.sandbox._values.clock import AdvancedClock, system_clock
from posten_signering.sandbox._values.links import Links
from posten_signering.sandbox._values.settings import Settings
from posten_signering.sandbox._values.workers import Workers


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A running sandbox.

    Attributes:
        links: Its URLs.
        control: The actions of the control API.
        stack: Closes everything that the sandbox has open.
    """

    links: Links
    control: Control
    stack: AsyncExitStack

    async def aclose(self) -> None:
        """Stops the sandbox, even when the caller is cancelled meanwhile."""
        await _close(self.stack)


async def start(
    settings: Settings,
    *,
    clock: AdvancedClock,
    receive: Callable[[Job, Bundle], None],
    forget_received: Callable[[], None],
) -> Running:
    """Starts a sandbox.

    Args:
        settings: The settings that the user gave.
        clock: The sandbox's clock. It wraps the one in the settings.
        receive: Called for each created job, with the job and the bundle that it was created from.
        forget_received: Called when the sandbox is reset.

    Raises:
        OSError: A port is in use, or the directory can't be written to.
        SandboxError: Another sandbox uses the directory, the file in it can't be read, or a port is
            out of range.
    """
    stack = AsyncExitStack()
    try:
        storage = await Storage.open(settings.directory)
        stack.push_async_callback(storage.aclose)
        workers = Workers()
        stack.push_async_callback(workers.aclose)
        clock.offsets = storage.tables.clock
        processes = DocumentProcesses(settings.document_time_limit)
        stack.push_async_callback(processes.aclose)
        settings = replace(settings, clock=clock)
        authority = await workers.run(
            Authority,
            now=settings.now(),
            machine_now=system_clock(),
            keys=storage.tables.keys,
            enterprises=storage.tables.enterprises,
        )
        await storage.commit()
        feed = Feed()
        faults = Faults(random=settings.random, changed=feed.touch)
        delays = Delays(settings.sleep)
        context = await workers.run(_server_context, authority, faults)
        api_socket = stack.enter_context(listen(settings.port, setting="port"))
        pages_socket = stack.enter_context(listen(settings.pages_port, setting="pages_port"))
        activity = Activity()
        access = Access(settings, storage.tables.calls, storage.tables.brokers)
        service = Service(
            settings=settings,
            clock=clock,
            exchanges=Exchanges(
                settings=settings,
                access=access,
                faults=faults,
                delays=delays,
                activity=activity,
                storage=storage,
                feed=feed,
            ),
            state=State(settings, storage.tables),
            access=access,
            documents=JobDocuments(authority, workers, processes, storage),
            links=Links(
                service_root=f"https://{address_of(api_socket)}{links.API}",
                pages_url=f"http://{address_of(pages_socket)}/",
            ),
            trusted=authority.trusted,
            workers=workers,
            received=receive,
        )
        control = Control(
            settings=settings,
            clock=clock,
            storage=storage,
            state=service.state,
            access=access,
            authority=authority,
            workers=workers,
            faults=faults,
            delays=delays,
            activity=activity,
            feed=feed,
            forget_received=forget_received,
        )
        await serve(
            stack,
            service.application(),
            api_socket,
            context=context,
            cancel_when_client_leaves=True,
        )
        pages_port = pages_socket.getsockname()[1]
        pages = application([guard(port=pages_port, storage=storage, feed=feed), explain_refusals])
        SignerPages(
            settings=settings,
            state=service.state,
            documents=service.documents,
            cookie=f"posten-signering-{pages_port}",
        ).add_to(pages.router)
        add_exit_pages(pages.router)
        OverviewPage(excerpt=partial(overview_excerpt, control)).add_to(pages.router)
        ControlApi(control=control).add_to(pages)
        await serve(stack, pages, pages_socket)
        return Running(links=service.links, control=control, stack=stack)
    except BaseException:
        await _close(stack)
        raise


async def _close(stack: AsyncExitStack) -> None:
    # A cancelled caller must not leave a file locked or a port in use.
    with anyio.CancelScope(shield=True):
        await stack.aclose()


def _server_context(authority: Authority, faults: Faults) -> ssl.SSLContext:
    """The server's TLS context. A pending fault makes it use another organisation's certificate."""
    context = authority.server_context(authority.service)
    foreign = authority.server_context(authority.foreign_service())

    def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if faults.take({FaultKind.FOREIGN_CERTIFICATE}):
            connection.context = foreign

    # Called for every new connection, even for one without a server name.
    context.sni_callback = choose
    return context
