"""The transport between a process and the model of the service, with scripted faults.

The script has one fault, or none, for each call. A process knows a permitted time only if it received the response
that contained the time, or if a process that shares its fleet did.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
from doubles import ROOT, enterprise
from model_faults import AFTER, BEFORE, POLL_TIME, Fault, Kind
from model_service import SENDER, Answer, Call, ModelService, Outcome, Poll, Queue, now
from virtual_time import VirtualTime

from posten_signering import ClientConfiguration, DirectClient, Environment, Request

# The longest network time of a request and its response together, with the model's default settings.
MAX_ROUND_TRIP = 0.2


class ModelTransport:
    """The transport of one process to the model of the service.

    Args:
        service: The model.
        process: The name of the process.
        party: Who knows what the process learns: the name of its shared fleet. By default the process.

    Attributes:
        dead: Whether the process was killed. It then neither sends nor receives anything.
    """

    def __init__(self, service: ModelService, process: str, *, party: str | None = None) -> None:
        self.service = service
        self.process = process
        self.party = party or process
        self.closed = False
        self.dead = False

    @asynccontextmanager
    async def exchange(self, request: Request) -> AsyncIterator[Answer]:
        assert not self.closed
        if self.dead:
            await anyio.sleep_forever()
        fault = self._next_fault()
        call = Call(
            process=self.process,
            method=request.method,
            url=request.url.reveal(),
            sent_at=now(),
        )
        organization = call.url.removeprefix(ROOT).split("/")[1]
        informed_at = self.service.informed_at.get((self.party, organization), float("-inf"))
        # A call that leaves at the same moment as its party learns of the block does not count.
        call.knowingly_blocked = (
            informed_at + 1e-3 < now() < informed_at + self.service.block - 1e-6
        )
        self.service.calls.append(call)
        queue = self.service.queue_of(request)
        if queue is None:
            answer = await self._answer(request, call, None, fault)
            self._note_block(organization, answer)
            yield answer
            return
        poll = Poll(
            process=self.process,
            queue=queue,
            sent_at=now(),
            known_permitted_at=queue.known_permitted_at.get(self.party),
            lost_at=queue.lost_at.get(self.party),
        )
        self.service.polls.append(poll)
        try:
            with queue.polled_by(self.party):
                answer = await self._answer(request, call, poll, fault)
                self._note_permitted_time(queue, answer, fault)
                self._note_block(organization, answer)
                yield answer
        except BaseException as error:
            # Also catches a cancellation, because it loses the response too. A dead process learns nothing.
            if getattr(error, "request_may_have_left", True) and not self.dead:
                queue.lost_at[self.party] = now()
            raise
        if fault is not None and fault.kind is Kind.PAGE:
            queue.lost_at[self.party] = now()
        elif answer.readable:
            poll.delivered_number = answer.change

    def _next_fault(self) -> Fault | None:
        script = self.service.script
        return script.popleft() if script else self.service.outages.get(self.process)

    async def _answer(
        self, request: Request, call: Call, poll: Poll | None, fault: Fault | None
    ) -> Answer:
        kind = None if fault is None else fault.kind
        await self._travel()
        if poll is not None:
            poll.outcome = Outcome.NOT_RECEIVED
        if fault is not None and kind in BEFORE:
            raise fault.raised()
        if fault is not None and kind is Kind.GATEWAY:
            answer = Answer(fault.status, dict(fault.headers), fault.body)
        elif kind is Kind.PAGE:
            answer = Answer(200, {"content-type": "text/html"}, b"<html>Welcome</html>")
        else:
            call.arrived_at = now()
            answer = self.service.answer(request, self.process, poll)
            await anyio.sleep(self.service.busy)
        await self._travel()
        if fault is not None and kind in AFTER:
            await anyio.sleep(10 if kind is Kind.SILENCE else 0)
            raise fault.raised()
        _spoil(answer, kind)
        return answer

    def _note_permitted_time(self, queue: Queue, answer: Answer, fault: Fault | None) -> None:
        """Records that the party knows the permitted time, if the response contains it."""
        if answer.permitted_at is not None and (fault is None or fault.kind not in POLL_TIME):
            queue.known_permitted_at[self.party] = answer.permitted_at

    def _note_block(self, organization: str, answer: Answer) -> None:
        if "dosfilter" in answer.headers and not answer.cut:
            self.service.informed_at[self.party, organization] = now()

    async def _travel(self) -> None:
        await anyio.sleep(self.service.random.uniform(0.1, 1.0) * self.service.slow)

    async def aclose(self) -> None:
        self.closed = True


def _spoil(answer: Answer, kind: Kind | None) -> None:
    match kind:
        case Kind.CUT:
            answer.cut = True
        case Kind.TRUNCATED:
            answer.truncate()
        case Kind.NO_DATE:
            answer.headers.pop("date", None)
        case Kind.BROKEN_DATE:
            answer.headers["date"] = "yesterday"
        case Kind.NO_POLL_TIME:
            answer.headers.pop("x-next-permitted-poll-time", None)
        case Kind.BROKEN_POLL_TIME if "x-next-permitted-poll-time" in answer.headers:
            answer.headers["x-next-permitted-poll-time"] = "soon"
        case _:
            pass


@asynccontextmanager
async def process_of(
    service: ModelService,
    name: str = "one",
    *,
    time: VirtualTime | None = None,
    default_wait: float = 600.0,
    transport: ModelTransport | None = None,
    **fields,
) -> AsyncIterator[DirectClient]:
    """An open client of the model. It represents one of the processes that share the queues."""
    environment = Environment(
        name="Model", service_root=ROOT, default_poll_wait=timedelta(seconds=default_wait)
    )
    configuration = ClientConfiguration(
        environment=environment,
        certificate=enterprise(),
        sender=SENDER,
        transport=transport or ModelTransport(service, name),
        **{**(time or VirtualTime()).fields, **fields},
    )
    async with DirectClient(configuration) as client:
        yield client
