"""The steps from a request to the API to its response.

The steps are, in this order: faults before the request takes effect, access control and rate limit, the
service, the storage, faults after the request took effect, the record of requests. No URL or body is logged.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from http import HTTPStatus
from typing import TypeVar, cast

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
    flood,
    reset,
    send,
)
from posten_signering.sandbox._api.corruption import CORRUPTING, STATUS_CHANGING, corrupted
from posten_signering.sandbox._api.faults import Fault, FaultKind, Faults, Operation
from posten_signering.sandbox._state.access import Access
from posten_signering.sandbox._state.queues import QueueName
from posten_signering.sandbox._state.storage import Storage
from posten_signering.sandbox._values.masking import masked, masked_path
from posten_signering.sandbox._values.refusal import Refusal, SandboxError
from posten_signering.sandbox._values.settings import RateLimit, Settings

T = TypeVar("T")

logger = logging.getLogger("posten_signering.sandbox")

NEXT_PERMITTED_POLL_TIME = "X-Next-permitted-poll-time"
DOS_FILTER = "DoSFilter"

_REPLACING = frozenset({FaultKind.SERVER_ERROR, FaultKind.UNAVAILABLE, FaultKind.ERROR_DOCUMENT})
_FLOODS: Mapping[FaultKind | None, int | None] = {
    FaultKind.OVERSIZED_BODY: 1024**3,
    FaultKind.ENDLESS_BODY: None,
}
_BODY = frozenset({FaultKind.TRUNCATED_BODY, FaultKind.OVERSIZED_BODY, FaultKind.ENDLESS_BODY})
_ADDED_LATER = frozenset({"date", "server", "content-length"})
_COMPRESSIONS = frozenset({"br", "compress", "deflate", "gzip", "x-gzip", "zstd"})
_BODY_WITHIN = 300.0
_LONGEST_SHOWN = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchanges:
    """The parts of the sandbox that every exchange uses.

    Attributes:
        settings: Times and limits.
        access: Decides who may call.
        faults: The faults that will happen.
        delays: Delays requests.
        activity: Records every request.
        storage: Stores every change before the response is sent.
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
        """An application that handles every request, with a known path or not, as an exchange."""
        application = web.Application(
            client_max_size=self.settings.largest_body, middlewares=[self._exchange]
        )
        application.on_response_prepare.append(self._add_headers)
        application.on_shutdown.append(self._close)
        return application

    async def _close(self, _: web.Application) -> None:
        self.delays.close()

    @web.middleware
    async def _exchange(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        name = request.match_info.route.name
        # aiohttp keeps bytes that are not UTF-8 as surrogates, which have no place in the control API's JSON.
        client = request.headers.get("User-Agent", "").encode(errors="surrogateescape")
        exchange = Exchange(
            common=self,
            request=request,
            operation=None if name is None else Operation(name),
            organization=request.match_info.get("organization", certificate_organization(request)),
            client=masked(client.decode(errors="replace"))[:_LONGEST_SHOWN],
        )
        _current.set(exchange)
        work = asyncio.ensure_future(exchange.run(handler))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # aiohttp cancels this task when the client disconnects (see `running`). The request still
            # takes effect, unless a fault delays it before that.
            exchange.caller.leave()
            if self.delays.closed:
                work.cancel()
            return await work

    async def _add_headers(self, _: web.Request, response: web.StreamResponse) -> None:
        # aiohttp refuses a request with an unknown `Expect` header before an exchange exists.
        exchange = _current.get(None)
        now = self.settings.now() + (timedelta(0) if exchange is None else exchange.skew)
        response.headers["Date"] = format_datetime(now.astimezone(UTC), usegmt=True)
        response.headers["Server"] = "posten-signering-sandbox"
        for name in () if exchange is None else exchange.missing:
            response.headers.popall(name, None)


@dataclass(kw_only=True, slots=True)
class Exchange:
    """One request with its response.

    Attributes:
        common: The parts of the sandbox that every exchange uses.
        request: The request.
        operation: The operation; None when the path is unknown.
        organization: The organisation number in the path, else the one in the certificate.
        client: The User-Agent header.
        caller: The client that waits for the response.
        faults: The faults that have happened to the request.
        refusal: Why the request was refused: error code and message.
        poll: The queue that was polled, and its next permitted poll time.
        skew: What a fault adds to the times in the response's headers.
        missing: The headers, in lower case, that a fault removes from the response.
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
        """Sends the response, or resets the connection."""
        try:
            answer = await self._answer(handler)
        except CutOffError:
            if not self.caller.discarded:
                self._record(None)
            return reset(self.request)
        self._change_headers(answer)
        taken = self._take_faults(_BODY, fits=lambda _: len(body_of(answer)) > 1, most=1)
        kind = taken[0].kind if taken else None
        self._record(answer)
        if kind not in _FLOODS:
            return await send(self.request, answer, cut=kind is FaultKind.TRUNCATED_BODY)
        work = partial(flood, self.request, answer, length=_FLOODS[kind])
        try:
            return await self.common.delays.run(self.caller, work)
        except CutOffError:
            return reset(self.request)

    async def _answer(self, handler: Handler) -> web.Response:
        """The response to the request.

        Raises:
            CutOffError: The connection must be reset instead.
        """
        replaced = await self._replaced_by_fault(after=False)
        if replaced is not None:
            return replaced
        self._block_by_fault()
        answer = await self._call_service(handler)
        try:
            await self.common.storage.commit()
        except SandboxError as error:
            logger.error("%s", error)  # noqa: TRY400 - the message is enough without a traceback
            answer = error_answer(500, "INTERNAL_ERROR", str(error))
        replaced = await self._replaced_by_fault(after=True)
        if replaced is not None:
            self.poll = None
            return replaced
        self._corrupt_message(answer)
        return answer

    # The service.

    async def body(self) -> bytes:
        """The body of the request.

        Raises:
            Refusal: The body is compressed, or does not end.
            CutOffError: The client has disconnected, or the sandbox was reset or is stopping.
        """
        # The official Java client sends the Content-Encoding UTF-8 with some requests.
        encodings = self.request.headers.get("Content-Encoding", "").lower()
        for encoding in sorted(_COMPRESSIONS.intersection(re.split("[, ]+", encodings))):
            raise Refusal(
                415,
                "UNSUPPORTED_MEDIA_TYPE",
                f"The body of the request has the Content-Encoding {encoding}. Send it without.",
            )
        try:
            return await self.common.delays.run(self.caller, self._read)
        except TimeoutError:
            message = f"The body of the request was not complete after {_BODY_WITHIN:g} seconds."
            raise Refusal(408, "REQUEST_TIMEOUT", message) from None

    async def until_reset(self, work: Callable[[], Awaitable[T]]) -> T:
        """Does work for the request, also when its client disconnects.

        Raises:
            CutOffError: The sandbox was reset or is stopping.
        """
        return await self.common.delays.run(self.caller, work, ends_when_left=False)

    async def _read(self) -> bytes:
        # When a chunk is malformed, aiohttp waits for the rest of the body forever.
        async with asyncio.timeout(_BODY_WITHIN):
            return await self.request.read()

    async def _call_service(self, handler: Handler) -> web.Response:
        try:
            blocked = self._admit()
            return cast("web.Response", await handler(self.request)) if blocked is None else blocked
        except Refusal as refusal:
            return self._refused(refusal.status, refusal.code, refusal.message)
        except web.HTTPRequestEntityTooLarge:
            limit = self.common.settings.largest_body
            message = f"The body of the request is larger than {limit} bytes. Make it smaller."
            return self._refused(413, "REQUEST_TOO_LARGE", message)
        except web.HTTPException as error:
            status = HTTPStatus(error.status)
            message = f"{status.phrase}: {status.description}."
            answer = self._refused(status, status.name, message)
            if isinstance(error, web.HTTPMethodNotAllowed):
                answer.headers["Allow"] = error.headers["Allow"]
            return answer
        except (web.RequestPayloadError, ConnectionError):
            # If the client has disconnected, this response is only recorded.
            message = "The body of the request is incomplete, or its chunks are malformed."
            return self._refused(400, "BAD_REQUEST", message)
        except CutOffError:
            raise
        except Exception:
            method = masked(self.request.method)
            logger.exception("A %s request failed because of a bug in the sandbox", method)
            message = "The request failed because of a bug in the sandbox: see the sandbox's log."
            return error_answer(500, "INTERNAL_ERROR", message)

    def _refused(self, status: int, code: str, message: str) -> web.Response:
        self.refusal = (code, message)
        return error_answer(status, code, message)

    def _admit(self) -> web.Response | None:
        if self.request.transport is None:
            raise ConnectionResetError  # the client has disconnected, so its certificate is unknown
        access, organization = self.common.access, self.organization or ""
        access.authorize(certificate_organization(self.request), organization)
        if access.admit(organization, now=self.common.settings.now()):
            return None
        # A filter in front of the service sends this response, so it has no error document and no poll time.
        self.refusal = (DOS_FILTER, "The organisation is blocked by the rate limit.")
        return web.Response(status=429, text="Too many requests", headers={DOS_FILTER: "rejected"})

    # The faults.

    def _take_faults(
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

    async def _replaced_by_fault(self, *, after: bool) -> web.Response | None:
        """The response of a fault that acts before or after the request takes effect; None without one.

        Raises:
            CutOffError: A fault resets the connection, or a delay was ended early.
        """

        def fits(fault: Fault) -> bool:
            return fault.after is after

        for fault in self._take_faults({FaultKind.DELAY}, fits=fits):
            await self.common.delays.wait(self.caller, fault.seconds or 0)
        if self._take_faults({FaultKind.RESET}, fits=fits, most=1):
            raise CutOffError
        for fault in self._take_faults(_REPLACING, fits=fits, most=1):
            return replacement(fault)
        return None

    def _block_by_fault(self) -> None:
        settings = self.common.settings
        for fault in self._take_faults({FaultKind.RATE_LIMITED}):
            usual = (settings.rate_limit or RateLimit()).block
            block = usual if fault.seconds is None else timedelta(seconds=fault.seconds)
            self.common.access.block(self.organization or "", until=settings.now() + block)

    def _corrupt_message(self, answer: web.Response) -> None:
        if answer.content_type != "application/xml":
            return

        def fits(fault: Fault) -> bool:
            return corrupted(body_of(answer), fault.kind) is not None

        for kinds, most in ((STATUS_CHANGING, None), (CORRUPTING, 1)):
            for fault in self._take_faults(kinds, fits=fits, most=most):
                answer.body = corrupted(body_of(answer), fault.kind)

    def _change_headers(self, answer: web.Response) -> None:
        for fault in self._take_faults({FaultKind.CLOCK_SKEW}):
            self.skew += timedelta(seconds=fault.seconds or 0)
        if self.poll is not None:
            late = sum(fault.seconds or 0 for fault in self._take_faults({FaultKind.FAR_POLL_TIME}))
            shown = self.poll[1] + self.skew + timedelta(seconds=late)
            answer.headers[NEXT_PERMITTED_POLL_TIME] = format_time(shown)
        present = _ADDED_LATER | {name.lower() for name in answer.headers}

        def fits(fault: Fault) -> bool:
            return (fault.header or "").lower() in present

        for fault in self._take_faults({FaultKind.MISSING_HEADER}, fits=fits):
            self.missing.add((fault.header or "").lower())
        if "content-length" in self.missing:
            # Without this header, only the end of the connection shows the end of the body.
            answer.force_close()

    def _record(self, answer: web.Response | None) -> None:
        activity, request = self.common.activity, self.request
        has_poll_time = answer is not None and NEXT_PERMITTED_POLL_TIME.lower() not in self.missing
        if self.poll is not None and has_poll_time:
            queue, next_permitted = self.poll
            activity.record_poll_time(queue, self.client, next_permitted)
        code, refusal = self.refusal or (None, None)
        activity.record_request(
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
                faults=tuple(fault.kind for fault in self.faults),
            ),
            refusal_code=code,
        )
        self.common.feed.touch()

    def record_poll(self, queue: QueueName, next_permitted: datetime, *, too_early: bool) -> None:
        """Records a poll, for the header of the response and for the counters."""
        self.poll = (queue, next_permitted)
        if too_early:
            now = self.common.settings.now()
            self.common.activity.record_early_poll(queue, self.client, now=now)


# aiohttp handles each request in a task, and adds the response's headers in the same task.
_current = ContextVar[Exchange]("exchange")


def current_exchange() -> Exchange:
    """The exchange that this task handles."""
    return _current.get()
