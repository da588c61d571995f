"""The sandbox in a thread with an event loop of its own, for programs and tests of any kind."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from posten_signering import ClientConfiguration, Sender
from posten_signering.sandbox._api.activity import OrganizationCounters
from posten_signering.sandbox._api.faults import Fault, PendingFault
from posten_signering.sandbox._control.overview import Overview
from posten_signering.sandbox._sandbox.received import Received
from posten_signering.sandbox._sandbox.sandbox import Sandbox
from posten_signering.sandbox._values.errors import SandboxError
from posten_signering.sandbox._values.hidden import Hidden
from posten_signering.sandbox._values.settings import SettingsArguments

T = TypeVar("T")


class ThreadedSandbox:
    """A `Sandbox` for any thread: with the same verbs, which wait instead of being awaited.

    A plain `with` starts and stops it. It may be used from several threads, and inside a running
    event loop, which its verbs hold up for a few milliseconds each.

        with ThreadedSandbox() as sandbox:
            configuration = sandbox.client_configuration()

    Args:
        settings: See `Sandbox`. What is called by the sandbox, such as `clock`, is called in its
            thread.

    Raises:
        OSError: See `Sandbox`.
        SandboxError: See `Sandbox`; and by every verb when it does not run.
    """

    def __init__(self, **settings: Unpack[SettingsArguments]) -> None:
        self._sandbox = Sandbox(**settings)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise SandboxError("This sandbox runs already; start another for a second one.")
        started = Future[None]()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="posten-signering-sandbox-loop", daemon=True
        )
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self._join()
            raise
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._join()

    @property
    def service_root(self) -> str:
        """See `Sandbox`."""
        return self._sandbox.service_root

    @property
    def signing_pages_url(self) -> str:
        """See `Sandbox`."""
        return self._sandbox.signing_pages_url

    @property
    def control_url(self) -> str:
        """See `Sandbox`."""
        return self._sandbox.control_url

    @property
    def overview_url(self) -> str:
        """See `Sandbox`."""
        return self._sandbox.overview_url

    @property
    def ca_pem(self) -> bytes:
        """See `Sandbox`."""
        return self._sandbox.ca_pem

    @property
    def ca_certificates(self) -> Mapping[str, bytes]:
        """See `Sandbox`."""
        return self._sandbox.ca_certificates

    @property
    def received(self) -> Sequence[Received]:
        """See `Sandbox`."""
        return self._do(lambda: self._sandbox.received)

    @property
    def faults(self) -> "ThreadedFaults":
        """What goes wrong between clients and this sandbox: `faults.add(Fault(...))`."""
        return ThreadedFaults(self._sandbox, self._do)

    @property
    def counters(self) -> Mapping[str, OrganizationCounters]:
        """See `Sandbox`."""
        return self._do(lambda: self._sandbox.counters)

    def overview(self) -> Overview:
        """See `Sandbox`."""
        return self._do(self._sandbox.overview)

    def enterprise_pkcs12(self, organization_number: str) -> tuple[bytes, str]:
        """See `Sandbox`."""
        return self._do(lambda: self._sandbox.enterprise_pkcs12(organization_number))

    def client_configuration(
        self,
        organization_number: str = "123456789",
        *,
        polling_queue: str | None = None,
        sender: Sender | None = None,
        **overrides: Any,  # noqa: ANN401 - the fields of ClientConfiguration, each of its own type
    ) -> ClientConfiguration:
        """See `Sandbox`."""
        return self._do(
            lambda: self._sandbox.client_configuration(
                organization_number, polling_queue=polling_queue, sender=sender, **overrides
            )
        )

    def authorize_broker(self, certificate_org: str, sender_org: str) -> None:
        """See `Sandbox`."""
        self._do(lambda: self._sandbox.authorize_broker(certificate_org, sender_org))

    def sign(self, redirect_url: str) -> str:
        """See `Sandbox`."""
        hidden = Hidden(redirect_url)
        del redirect_url  # Its token must not show in a traceback with locals.
        return self._wait(lambda: self._sandbox.sign(hidden))

    def reject(self, redirect_url: str) -> str:
        """See `Sandbox`."""
        hidden = Hidden(redirect_url)
        del redirect_url  # Its token must not show in a traceback with locals.
        return self._wait(lambda: self._sandbox.reject(hidden))

    def fail(self, redirect_url: str) -> str:
        """See `Sandbox`."""
        hidden = Hidden(redirect_url)
        del redirect_url  # Its token must not show in a traceback with locals.
        return self._wait(lambda: self._sandbox.fail(hidden))

    def expire(self, job_id: int) -> None:
        """See `Sandbox`."""
        self._wait(lambda: self._sandbox.expire(job_id))

    def end_lease(self, job_id: int, change: int) -> None:
        """See `Sandbox`."""
        self._wait(lambda: self._sandbox.end_lease(job_id, change))

    def delete_documents(self, job_id: int) -> None:
        """See `Sandbox`."""
        self._wait(lambda: self._sandbox.delete_documents(job_id))

    def advance(self, seconds: float) -> None:
        """See `Sandbox`."""
        self._wait(lambda: self._sandbox.advance(seconds))

    def reset(self) -> None:
        """See `Sandbox`."""
        self._wait(self._sandbox.reset)

    def status_query_token(self, redirect_url: str) -> str:
        """See `Sandbox`."""
        hidden = Hidden(redirect_url)
        del redirect_url  # Its token must not show in a traceback with locals.
        return self._do(lambda: self._sandbox.status_query_token(hidden))

    def _do(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return self._wait(call)

    def _wait(self, action: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._loop is None:
            raise SandboxError("This sandbox does not run: use it inside `with`.")
        return asyncio.run_coroutine_threadsafe(action(), self._loop).result()

    def _join(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _run(self, started: "Future[None]") -> None:
        try:
            asyncio.run(self._main(started))
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the start
            if not started.done():
                started.set_exception(error)

    async def _main(self, started: "Future[None]") -> None:
        async with self._sandbox:
            self._stop = asyncio.Event()
            self._loop = asyncio.get_running_loop()
            started.set_result(None)
            try:
                await self._stop.wait()
            finally:
                self._loop = None


class ThreadedFaults:
    """The faults of a `ThreadedSandbox`; see `Faults`."""

    def __init__(self, sandbox: Sandbox, do: Callable[[Callable[[], Any]], Any]) -> None:
        self._sandbox = sandbox
        self._do = do

    @property
    def pending(self) -> tuple[PendingFault, ...]:
        """Those that will act, oldest first."""
        found: tuple[PendingFault, ...] = self._do(lambda: self._sandbox.faults.pending)
        return found

    def add(self, fault: Fault) -> int:
        """Lets a fault happen from the next request on; gives its number, to remove it by."""
        number: int = self._do(lambda: self._sandbox.faults.add(fault))
        return number

    def remove(self, number: int) -> bool:
        """Ends one fault; says whether there was one with this number."""
        found: bool = self._do(lambda: self._sandbox.faults.remove(number))
        return found

    def clear(self) -> None:
        """Ends all faults."""
        self._do(self._sandbox.faults.clear)
