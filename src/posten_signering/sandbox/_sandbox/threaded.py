"""The sandbox in a separate thread with its own event loop, for programs and tests without asyncio."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack

import anyio
from anyio.from_thread import BlockingPortal

from posten_signering import ClientConfiguration, ExitUrls, Sender
from posten_signering.sandbox._api.activity import OrganizationCounters
from posten_signering.sandbox._api.faults import Fault, Faults, PendingFault
from posten_signering.sandbox._control.overview import Overview
from posten_signering.sandbox._sandbox.sandbox import Received, Sandbox
from posten_signering.sandbox._values.hidden import Hidden
from posten_signering.sandbox._values.refusal import SandboxError
from posten_signering.sandbox._values.settings import SettingsArguments


class ThreadedSandbox:
    """A `Sandbox` with the same methods, but they block instead of being awaited.

    A plain `with` starts and stops it. Any thread may call it. It may also be used inside a running
    event loop, which each method blocks for a few milliseconds. Each method raises the same errors as the
    method of `Sandbox` with its name.

        with ThreadedSandbox() as sandbox:
            configuration = sandbox.client_configuration()

    Args:
        settings: See `Sandbox`. The sandbox calls functions among them, such as `clock`, in its own
            thread.

    Raises:
        OSError: See `Sandbox`.
        SandboxError: See `Sandbox`. Every method raises it when the sandbox is not running.
    """

    def __init__(self, **settings: Unpack[SettingsArguments]) -> None:
        self._sandbox = Sandbox(**settings)
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._portal is not None:
            raise SandboxError(
                "This sandbox is already running: create another `ThreadedSandbox` to run a second one."
            )
        with ExitStack() as stack:
            portal = stack.enter_context(_EventLoop())
            stack.enter_context(portal.wrap_async_context_manager(self._sandbox))
            self._portal = portal
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal = None
        self._stack.close()

    @property
    def service_root(self) -> str:
        """See `Sandbox.service_root`."""
        return self._sandbox.service_root

    @property
    def signing_pages_url(self) -> str:
        """See `Sandbox.signing_pages_url`."""
        return self._sandbox.signing_pages_url

    @property
    def control_url(self) -> str:
        """See `Sandbox.control_url`."""
        return self._sandbox.control_url

    @property
    def overview_url(self) -> str:
        """See `Sandbox.overview_url`."""
        return self._sandbox.overview_url

    @property
    def exit_urls(self) -> ExitUrls:
        """See `Sandbox.exit_urls`."""
        return self._sandbox.exit_urls

    @property
    def ca_pem(self) -> bytes:
        """See `Sandbox.ca_pem`."""
        return self._sandbox.ca_pem

    @property
    def ca_certificates(self) -> Mapping[str, bytes]:
        """See `Sandbox.ca_certificates`."""
        return self._sandbox.ca_certificates

    @property
    def received(self) -> Sequence[Received]:
        """See `Sandbox.received`."""
        return self._loop.call(lambda: self._sandbox.received)

    @property
    def faults(self) -> "ThreadedFaults":
        """The faults between clients and this sandbox; `faults.add(Fault(...))` adds one."""
        return ThreadedFaults(self._sandbox.faults, self._loop)

    @property
    def counters(self) -> Mapping[str, OrganizationCounters]:
        """See `Sandbox.counters`."""
        return self._loop.call(lambda: self._sandbox.counters)

    def overview(self) -> Overview:
        """See `Sandbox.overview`."""
        return self._loop.call(self._sandbox.overview)

    def enterprise_pkcs12(self, organization_number: str) -> tuple[bytes, str]:
        """See `Sandbox.enterprise_pkcs12`."""
        return self._loop.call(self._sandbox.enterprise_pkcs12, organization_number)

    def client_configuration(
        self,
        organization_number: str = "123456789",
        *,
        polling_queue: str | None = None,
        sender: Sender | None = None,
        **overrides: Any,  # noqa: ANN401 - the fields of ClientConfiguration have different types
    ) -> ClientConfiguration:
        """See `Sandbox.client_configuration`."""
        return self._loop.call(
            partial(
                self._sandbox.client_configuration,
                organization_number,
                polling_queue=polling_queue,
                sender=sender,
                **overrides,
            )
        )

    def authorize_broker(self, certificate_org: str, sender_org: str) -> None:
        """See `Sandbox.authorize_broker`."""
        self._loop.call(self._sandbox.authorize_broker, certificate_org, sender_org)

    def sign(self, redirect_url: str) -> str:
        """See `Sandbox.sign`."""
        redirect_url = Hidden(redirect_url)  # Its token must not show in a traceback with locals.
        return self._loop.call(self._sandbox.sign, redirect_url)

    def reject(self, redirect_url: str) -> str:
        """See `Sandbox.reject`."""
        redirect_url = Hidden(redirect_url)  # Its token must not show in a traceback with locals.
        return self._loop.call(self._sandbox.reject, redirect_url)

    def fail(self, redirect_url: str) -> str:
        """See `Sandbox.fail`."""
        redirect_url = Hidden(redirect_url)  # Its token must not show in a traceback with locals.
        return self._loop.call(self._sandbox.fail, redirect_url)

    def expire(self, job_id: int) -> None:
        """See `Sandbox.expire`."""
        self._loop.call(self._sandbox.expire, job_id)

    def end_lease(self, job_id: int, change: int) -> None:
        """See `Sandbox.end_lease`."""
        self._loop.call(self._sandbox.end_lease, job_id, change)

    def delete_documents(self, job_id: int) -> None:
        """See `Sandbox.delete_documents`."""
        self._loop.call(self._sandbox.delete_documents, job_id)

    def advance(self, seconds: float) -> None:
        """See `Sandbox.advance`."""
        self._loop.call(self._sandbox.advance, seconds)

    def reset(self) -> None:
        """See `Sandbox.reset`."""
        self._loop.call(self._sandbox.reset)

    def status_query_token(self, redirect_url: str) -> str:
        """See `Sandbox.status_query_token`."""
        redirect_url = Hidden(redirect_url)  # Its token must not show in a traceback with locals.
        return self._loop.call(self._sandbox.status_query_token, redirect_url)

    @property
    def _loop(self) -> BlockingPortal:
        if self._portal is None:
            raise SandboxError("This sandbox is not running: use it inside `with`.")
        return self._portal


class _EventLoop:
    """An event loop in a separate daemon thread, until the context exits.

    anyio's `start_blocking_portal` is a generator-based context manager. When a program exits inside its
    `with`, the interpreter closes the generator, and that waits for a thread that no longer runs. The
    program would then hang instead of exiting.
    """

    def __enter__(self) -> BlockingPortal:
        started: Future[BlockingPortal] = Future()

        async def run() -> None:
            async with BlockingPortal() as portal:
                started.set_result(portal)
                await portal.sleep_until_stopped()

        self._thread = threading.Thread(
            target=anyio.run, args=(run,), name="posten-signering-sandbox-loop", daemon=True
        )
        self._thread.start()
        self._portal = started.result()
        return self._portal

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # After an exception, such as Ctrl-C during the start, the tasks that still run are cancelled.
        self._portal.call(self._portal.stop, exception is not None)
        self._thread.join()


class ThreadedFaults:
    """The faults of a `ThreadedSandbox`; see `Faults`."""

    def __init__(self, faults: Faults, loop: BlockingPortal) -> None:
        self._faults = faults
        self._loop = loop

    @property
    def pending(self) -> tuple[PendingFault, ...]:
        """The pending faults, oldest first."""
        return self._loop.call(lambda: self._faults.pending)

    def add(self, fault: Fault) -> int:
        """Adds a fault, from the next request on. Returns its number, for `remove`."""
        return self._loop.call(self._faults.add, fault)

    def remove(self, number: int) -> bool:
        """Removes the fault with this number. Returns False when there is none."""
        return self._loop.call(self._faults.remove, number)

    def clear(self) -> None:
        """Removes all faults."""
        self._loop.call(self._faults.clear)
