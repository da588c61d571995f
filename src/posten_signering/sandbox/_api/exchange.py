"""What every exchange with the API goes through, from the request to its answer, whatever is asked for.

In this order: the faults that come before the service, admission, the service itself, the storage, the
faults that come after it, the log of requests. Neither URLs nor bodies are logged.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler

from posten_signering.sandbox._api.activity import Activity, Feed, RequestSnapshot
from posten_signering.sandbox._api.answers import error_answer, format_time, replacement
from posten_signering.sandbox._api.connection import (
    Caller,
    CutOffError,
    Delays,
    body_of,
    certificate_organization,
    reset,
    send,
)
from posten_signering.sandbox._api.faults import (
    SPOILING,
    Fault,
    FaultKind,
    Faults,
    Operation,
    spoiled,
)
from posten_signering.sandbox._state.access import Access
from posten_signering.sandbox._state.queues import QueueName
from posten_signering.sandbox._state.storage import Storage
from posten_signering.sandbox._values.masking import masked, masked_path
from posten_signering.sandbox._values.refusal import Refusal, SandboxError
from posten_signering.sandbox._values.settings import RateLimit, Settings

logger = logging.getLogger("posten_signering.sandbox")

NEXT_PERMITTED_POLL_TIME = "X-Next-permitted-poll-time"
DOS_FILTER = "DoSFilter"

_REPLACING = frozenset({FaultKind.SERVER_ERROR, FaultKind.UNAVAILABLE, FaultKind.ERROR_DOCUMENT})
_ADDED_LATER = frozenset({"date", "server", "content-length"})
_LONGEST_SHOWN = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchanges:
    """What exchanges have in common.

    Attributes:
        settings: Times and limits.
        access: Who may call.
        faults: What goes wrong.
        delays: Hold requests back.
        activity: Takes note of every request.
        storage: Where changes must be before they are answered.
        feed: Reports every request.
    """

    settings: Settings
    access: Access
    faults: Faults
    delays: Delays
    activity: Activity
    storage: Storage
    feed: Feed

    def application(self) -> web.Application:
        """An application whose requests, of whatever route, are exchanges."""
        application = web.Application(
            client_max_size=self.settings.largest_body, middlewares=[self._through]
        )
        application.on_response_prepare.append(self._add_headers)
        application.on_shutdown.append(self._close)
        return application

    async def _close(self, _: web.Application) -> None:
        self.delays.close()

    @web.middleware
    async def _through(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        name = request.match_info.route.name
        exchange = Exchange(
            common=self,
            request=request,
            operation=None if name is None else Operation(name),
            organization=request.match_info.get("organization", certificate_organization(request)),
            client=masked(request.headers.get("User-Agent", ""))[:_LONGEST_SHOWN],
        )
        _current.set(exchange)
        work = asyncio.ensure_future(exchange.run(handler))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # aiohttp says so that the client has left (see `running`). The request takes effect all the
            # same, unless a delay holds it back.
            exchange.caller.leave()
            if self.delays.closed:
                work.cancel()
            return await work

    async def _add_headers(self, _: web.Request, response: web.StreamResponse) -> None:
        # aiohttp itself refuses a request with an unknown `Expect`, before there is an exchange.
        exchange = _current.get(None)
        now = self.settings.now() + (timedelta(0) if exchange is None else exchange.skew)
        response.headers["Date"] = format_datetime(now.astimezone(UTC), usegmt=True)
        response.headers["Server"] = "posten-signering-sandbox"
        for name in () if exchange is None else exchange.missing:
            response.headers.popall(name, None)


@dataclass(kw_only=True, slots=True)
class Exchange:
    """One request with its answer.

    Attributes:
        common: What it has in common with the others.
        request: The request.
        operation: What it asks for.
        organization: In the path, or that of the certificate.
        client: Its User-Agent.
        caller: Who waits for the answer.
        faults: Those that have happened to it.
        refusal: Why it was refused, as code and message.
        poll: The queue it polled, and the next permitted time.
        skew: How much the answer's times are off.
        missing: The headers that the answer lacks.
    """

    common: Exchanges
    request: web.Request = field(repr=False)
    operation: Operation | None
    organization: str | None
    client: str
    caller: Caller = field(default_factory=Caller)
    faults: list[Fault] = field(default_factory=list[Fault])
    refusal: tuple[str, str] | None = None
    poll: tuple[QueueName, datetime] | None = None
    skew: timedelta = timedelta(0)
    missing: set[str] = field(default_factory=set[str])

    async def run(self, handler: Handler) -> web.StreamResponse:
        """Answers the request, or resets the connection."""
        try:
            answer = await self._answer(handler)
        except CutOffError:
            if not self.caller.forgotten:
                self._note(None)
            return reset(self.request)
        self._spoil_headers(answer)
        cut = self._happens({FaultKind.TRUNCATED_BODY}, fits=lambda _: len(body_of(answer)) > 1)
        self._note(answer)
        return await send(self.request, answer, cut=bool(cut))

    async def _answer(self, handler: Handler) -> web.Response:
        """The answer.

        Raises:
            CutOffError: There is none.
        """
        replaced = await self._disturbed(after=False)
        if replaced is not None:
            return replaced
        self._block()
        answer = await self._served(handler)
        try:
            await self.common.storage.commit()
        except SandboxError as error:
            logger.error("%s", error)  # noqa: TRY400 - its message says everything
            answer = error_answer(500, "INTERNAL_ERROR", str(error))
        replaced = await self._disturbed(after=True)
        if replaced is not None:
            self.poll = None
            return replaced
        self._spoil_message(answer)
        return answer

    # What the service does.

    async def _served(self, handler: Handler) -> web.Response:
        try:
            blocked = self._admit()
            return cast("web.Response", await handler(self.request)) if blocked is None else blocked
        except Refusal as refusal:
            return self._refused(refusal.status, refusal.code, refusal.message)
        except web.HTTPRequestEntityTooLarge:
            most = self.common.settings.largest_body
            return self._refused(413, "REQUEST_TOO_LARGE", f"The body has more than {most} bytes.")
        except web.HTTPException as error:
            status = HTTPStatus(error.status)
            message = f"{status.phrase}: {status.description}."
            answer = self._refused(status, status.name, message)
            if isinstance(error, web.HTTPMethodNotAllowed):
                answer.headers["Allow"] = error.headers["Allow"]
            return answer
        except ConnectionError:
            # The client went away in the middle of its request; nobody reads this answer.
            return self._refused(400, "BAD_REQUEST", "The request was cut off.")
        except Exception:
            method = self.request.method
            logger.exception("The sandbox failed at a %s: a mistake in the sandbox", method)
            return error_answer(500, "INTERNAL_ERROR", "The sandbox failed; its log tells why.")

    def _refused(self, status: int, code: str, message: str) -> web.Response:
        self.refusal = (code, message)
        return error_answer(status, code, message)

    def _admit(self) -> web.Response | None:
        access, organization = self.common.access, self.organization or ""
        access.authorize(certificate_organization(self.request), organization)
        if access.admit(organization, now=self.common.settings.now()):
            return None
        # From a filter in front of the service: no error document, and no next poll time.
        self.refusal = (DOS_FILTER, "The rate limit: too many calls of this organisation.")
        return web.Response(status=429, text="Too many requests", headers={DOS_FILTER: "rejected"})

    # What goes wrong.

    def _happens(
        self,
        kinds: Collection[FaultKind],
        *,
        fits: Callable[[Fault], bool] = lambda _: True,
        most: int | None = None,
    ) -> tuple[Fault, ...]:
        taken = self.common.faults.take(
            kinds, operation=self.operation, path=self.request.path, fits=fits, most=most
        )
        self.faults += taken
        return taken

    async def _disturbed(self, *, after: bool) -> web.Response | None:
        """What goes wrong before or after the request takes effect: the answer that a fault gives instead.

        Raises:
            CutOffError: A fault resets the connection, or nobody waits for the answer any more.
        """

        def fits(fault: Fault) -> bool:
            return fault.after is after

        for fault in self._happens({FaultKind.DELAY}, fits=fits):
            await self.common.delays.hold(self.caller, fault.seconds or 0)
        if self._happens({FaultKind.RESET}, fits=fits, most=1):
            raise CutOffError
        for fault in self._happens(_REPLACING, fits=fits, most=1):
            return replacement(fault)
        return None

    def _block(self) -> None:
        settings = self.common.settings
        for fault in self._happens({FaultKind.RATE_LIMITED}):
            usual = (settings.rate_limit or RateLimit()).block
            block = usual if fault.seconds is None else timedelta(seconds=fault.seconds)
            self.common.access.block(self.organization or "", until=settings.now() + block)

    def _spoil_message(self, answer: web.Response) -> None:
        if answer.content_type != "application/xml":
            return

        def fits(fault: Fault) -> bool:
            return spoiled(body_of(answer), fault.kind) is not None

        for fault in self._happens(SPOILING, fits=fits, most=1):
            answer.body = spoiled(body_of(answer), fault.kind)

    def _spoil_headers(self, answer: web.Response) -> None:
        for fault in self._happens({FaultKind.CLOCK_SKEW}):
            self.skew += timedelta(seconds=fault.seconds or 0)
        if self.poll is not None:
            answer.headers[NEXT_PERMITTED_POLL_TIME] = format_time(self.poll[1] + self.skew)
        present = _ADDED_LATER | {name.lower() for name in answer.headers}

        def fits(fault: Fault) -> bool:
            return (fault.header or "").lower() in present

        for fault in self._happens({FaultKind.MISSING_HEADER}, fits=fits):
            self.missing.add((fault.header or "").lower())
        if "content-length" in self.missing:
            # The end of the connection is then the end of the body.
            answer.force_close()

    def _note(self, answer: web.Response | None) -> None:
        activity, request = self.common.activity, self.request
        told = answer is not None and NEXT_PERMITTED_POLL_TIME.lower() not in self.missing
        if self.poll is not None and told:
            queue, next_permitted = self.poll
            activity.told(queue, self.client, next_permitted)
        code, refusal = self.refusal or (None, None)
        activity.answered(
            RequestSnapshot(
                number=activity.next_number,
                time=self.common.settings.now(),
                method=masked(request.method)[:_LONGEST_SHOWN],
                path=masked_path(request.path, request.query.items())[:_LONGEST_SHOWN],
                operation=self.operation,
                organization=self.organization,
                client=self.client,
                status=None if answer is None else answer.status,
                refusal=refusal,
                faults=tuple(fault.kind.value for fault in self.faults),
            ),
            refusal_code=code,
        )
        self.common.feed.touch()

    def polled(self, queue: QueueName, next_permitted: datetime, *, too_early: bool) -> None:
        """Takes note of a poll, for the header of the answer and for the counters."""
        self.poll = (queue, next_permitted)
        if too_early:
            now = self.common.settings.now()
            self.common.activity.polled_too_early(queue, self.client, now=now)


# aiohttp has a task for each request, in which its headers are added too.
_current = ContextVar[Exchange]("exchange")


def current_exchange() -> Exchange:
    """The exchange that is handled in this task."""
    return _current.get()
