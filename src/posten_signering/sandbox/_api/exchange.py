"""What every request to the API goes through, whatever it asks for.

In this order: the faults that come before the service, admission, the service itself, the store, the
faults that come after it, the log of requests. Neither URLs nor bodies are logged.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import cast

from aiohttp import web

from posten_signering.sandbox._api.activity import Activity, Answered
from posten_signering.sandbox._api.answers import error_answer, format_time, replacement
from posten_signering.sandbox._api.connection import body_of, certificate_organization, reset, send
from posten_signering.sandbox._api.delays import Caller, Delays
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
from posten_signering.sandbox._state.store import Store
from posten_signering.sandbox._values.feed import Feed
from posten_signering.sandbox._values.masking import masked, masked_path
from posten_signering.sandbox._values.refusal import Refusal, SandboxError
from posten_signering.sandbox._values.settings import RateLimit, Settings

logger = logging.getLogger("posten_signering.sandbox")

NEXT_PERMITTED_POLL_TIME = "X-Next-permitted-poll-time"
DOS_FILTER = "DoSFilter"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REPLACING = frozenset({FaultKind.SERVER_ERROR, FaultKind.UNAVAILABLE, FaultKind.ERROR_DOCUMENT})
_ADDED_LATER = frozenset({"date", "server", "content-length"})
_LONGEST_SHOWN = 200


@dataclass(kw_only=True, slots=True)
class _Exchange:
    """One request while it is answered.

    Attributes:
        operation: What it asks for.
        path: Where.
        organization: In the path, or that of the certificate.
        client: Its User-Agent.
        caller: Who waits for the answer.
        faults: Those that have happened to it.
        refusal: Why it was refused, as code and message.
        poll: The queue it polled, and the next permitted time.
        skew: How much the answer's times are off.
        missing: The headers that the answer lacks.
    """

    operation: Operation | None
    path: str = field(repr=False)
    organization: str | None
    client: str
    caller: Caller = field(default_factory=Caller)
    faults: list[Fault] = field(default_factory=list[Fault])
    refusal: tuple[str, str] | None = None
    poll: tuple[QueueName, datetime] | None = None
    skew: timedelta = timedelta(0)
    missing: set[str] = field(default_factory=set[str])


# aiohttp has a task for each request, in which its headers are added too.
_current = ContextVar["_Exchange | None"]("exchange", default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchanges:
    """Takes requests through what is the same for all of them.

    Attributes:
        settings: Times and limits.
        access: Who may call.
        faults: What goes wrong.
        delays: Hold requests back.
        activity: Told of every request.
        store: Where changes must be before they are answered.
        feed: Told that something has changed.
    """

    settings: Settings
    access: Access
    faults: Faults
    delays: Delays
    activity: Activity
    store: Store
    feed: Feed

    def application(self) -> web.Application:
        """An application whose requests, of whatever route, go through this."""
        application = web.Application(
            client_max_size=self.settings.largest_body, middlewares=[self._through]
        )
        application.on_response_prepare.append(self._add_headers)
        application.on_shutdown.append(self._close)
        return application

    async def _close(self, _: web.Application) -> None:
        self.delays.close()

    def polled(self, queue: QueueName, next_permitted: datetime, *, too_early: bool) -> None:
        """Takes note that the present request polls, for the answer's header and the counters."""
        exchange = cast("_Exchange", _current.get())
        exchange.poll = (queue, next_permitted)
        if too_early:
            self.activity.polled_too_early(queue, exchange.client, now=self.settings.now())

    @web.middleware
    async def _through(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        name = request.match_info.route.name
        exchange = _Exchange(
            operation=None if name is None else Operation(name),
            path=request.path,
            organization=request.match_info.get("organization", certificate_organization(request)),
            client=masked(request.headers.get("User-Agent", ""))[:_LONGEST_SHOWN],
        )
        _current.set(exchange)
        work = asyncio.ensure_future(self._worked(request, handler, exchange))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # aiohttp says so that the client has left (see `_running`). What it asked for goes on,
            # but for what a delay holds back.
            exchange.caller.leave()
            if self.delays.closed:
                work.cancel()
            return await work

    async def _worked(
        self, request: web.Request, handler: Handler, exchange: _Exchange
    ) -> web.StreamResponse:
        answer = await self._answer(request, handler, exchange)
        if answer is None:
            if not exchange.caller.forgotten:
                self._note(request, exchange, None)
            return reset(request)
        self._spoil_headers(answer, exchange)
        cut = self._happens(
            exchange, {FaultKind.TRUNCATED_BODY}, fits=lambda _: len(body_of(answer)) > 1
        )
        self._note(request, exchange, answer)
        return await send(request, answer, cut=bool(cut))

    async def _answer(
        self, request: web.Request, handler: Handler, exchange: _Exchange
    ) -> web.Response | None:
        """The answer; None when the connection is reset instead."""
        if not await self._delay(exchange, after=False) or self._resets(exchange, after=False):
            return None
        answer = self._replacement(exchange, after=False)
        if answer is not None:
            return answer
        self._block(exchange)
        answer = await self._committed(await self._served(request, handler, exchange))
        if not await self._delay(exchange, after=True) or self._resets(exchange, after=True):
            return None
        replacement = self._replacement(exchange, after=True)
        if replacement is not None:
            exchange.poll = None
            return replacement
        self._spoil_message(answer, exchange)
        return answer

    # What the service does.

    async def _served(
        self, request: web.Request, handler: Handler, exchange: _Exchange
    ) -> web.Response:
        try:
            blocked = self._admit(request, exchange)
            return blocked if blocked is not None else cast("web.Response", await handler(request))
        except Refusal as refusal:
            return self._refused(exchange, refusal.status, refusal.code, refusal.message)
        except web.HTTPRequestEntityTooLarge:
            most = self.settings.largest_body
            message = f"The body has more than {most} bytes."
            return self._refused(exchange, 413, "REQUEST_TOO_LARGE", message)
        except web.HTTPException as error:
            status = HTTPStatus(error.status)
            message = f"{status.phrase}: {status.description}."
            answer = self._refused(exchange, status, status.name, message)
            if isinstance(error, web.HTTPMethodNotAllowed):
                answer.headers["Allow"] = error.headers["Allow"]
            return answer
        except ConnectionError:
            # The client went away in the middle of its request; nobody reads this answer.
            return self._refused(exchange, 400, "BAD_REQUEST", "The request was cut off.")
        except Exception:
            logger.exception("The sandbox failed at a %s: a mistake in the sandbox", request.method)
            return error_answer(500, "INTERNAL_ERROR", "The sandbox failed; its log tells why.")

    @staticmethod
    def _refused(exchange: _Exchange, status: int, code: str, message: str) -> web.Response:
        exchange.refusal = (code, message)
        return error_answer(status, code, message)

    def _admit(self, request: web.Request, exchange: _Exchange) -> web.Response | None:
        organization = exchange.organization or ""
        self.access.authorize(certificate_organization(request), organization)
        if self.access.admit(organization, now=self.settings.now()):
            return None
        # From a filter in front of the service: no error document, and no next poll time.
        exchange.refusal = (DOS_FILTER, "The rate limit: too many calls of this organisation.")
        return web.Response(status=429, text="Too many requests", headers={DOS_FILTER: "rejected"})

    async def _committed(self, answer: web.Response) -> web.Response:
        try:
            await self.store.commit()
        except SandboxError as error:
            logger.error("%s", error)  # noqa: TRY400 - its message is all there is to tell
            return error_answer(500, "INTERNAL_ERROR", str(error))
        return answer

    # What goes wrong.

    def _happens(
        self,
        exchange: _Exchange,
        kinds: Collection[FaultKind],
        *,
        fits: Callable[[Fault], bool] = lambda _: True,
        most: int | None = None,
    ) -> tuple[Fault, ...]:
        taken = self.faults.take(
            kinds, operation=exchange.operation, path=exchange.path, fits=fits, most=most
        )
        exchange.faults += taken
        return taken

    async def _delay(self, exchange: _Exchange, *, after: bool) -> bool:
        """Holds the request back, and says whether somebody still waits for the answer then."""
        for fault in self._happens(
            exchange, {FaultKind.DELAY}, fits=lambda fault: fault.after is after
        ):
            if not await self.delays.hold(exchange.caller, fault.seconds or 0):
                return False
        return True

    def _resets(self, exchange: _Exchange, *, after: bool) -> bool:
        return bool(
            self._happens(
                exchange, {FaultKind.RESET}, fits=lambda fault: fault.after is after, most=1
            )
        )

    def _replacement(self, exchange: _Exchange, *, after: bool) -> web.Response | None:
        for fault in self._happens(
            exchange, _REPLACING, fits=lambda fault: fault.after is after, most=1
        ):
            return replacement(fault)
        return None

    def _block(self, exchange: _Exchange) -> None:
        for fault in self._happens(exchange, {FaultKind.RATE_LIMITED}):
            usual = (self.settings.rate_limit or RateLimit()).block
            block = usual if fault.seconds is None else timedelta(seconds=fault.seconds)
            self.access.block(exchange.organization or "", until=self.settings.now() + block)

    def _spoil_message(self, answer: web.Response, exchange: _Exchange) -> None:
        if answer.content_type != "application/xml":
            return
        for fault in self._happens(
            exchange,
            SPOILING,
            fits=lambda fault: spoiled(body_of(answer), fault.kind) is not None,
            most=1,
        ):
            answer.body = spoiled(body_of(answer), fault.kind)

    def _spoil_headers(self, answer: web.Response, exchange: _Exchange) -> None:
        for fault in self._happens(exchange, {FaultKind.CLOCK_SKEW}):
            exchange.skew += timedelta(seconds=fault.seconds or 0)
        if exchange.poll is not None:
            time = exchange.poll[1] + exchange.skew
            answer.headers[NEXT_PERMITTED_POLL_TIME] = format_time(time)
        present = _ADDED_LATER | {name.lower() for name in answer.headers}
        for fault in self._happens(
            exchange,
            {FaultKind.MISSING_HEADER},
            fits=lambda fault: (fault.header or "").lower() in present,
        ):
            exchange.missing.add((fault.header or "").lower())
        if "content-length" in exchange.missing:
            # The end of the connection is then the end of the body.
            answer.force_close()

    async def _add_headers(self, _: web.Request, response: web.StreamResponse) -> None:
        exchange = _current.get()
        now = self.settings.now() + (timedelta(0) if exchange is None else exchange.skew)
        response.headers["Date"] = format_datetime(now.astimezone(UTC), usegmt=True)
        response.headers["Server"] = "posten-signering-sandbox"
        for name in () if exchange is None else exchange.missing:
            response.headers.popall(name, None)

    def _note(self, request: web.Request, exchange: _Exchange, answer: web.Response | None) -> None:
        told = answer is not None and NEXT_PERMITTED_POLL_TIME.lower() not in exchange.missing
        if exchange.poll is not None and told:
            queue, next_permitted = exchange.poll
            self.activity.told(queue, exchange.client, next_permitted)
        code, refusal = exchange.refusal or (None, None)
        self.activity.answered(
            Answered(
                time=self.settings.now(),
                method=masked(request.method)[:_LONGEST_SHOWN],
                path=masked_path(request.path, request.query.items())[:_LONGEST_SHOWN],
                operation=exchange.operation,
                organization=exchange.organization,
                client=exchange.client,
                status=None if answer is None else answer.status,
                refusal_code=code,
                refusal=refusal,
                faults=tuple(fault.kind.value for fault in exchange.faults),
            )
        )
        self.feed.touch()
