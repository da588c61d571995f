"""A client's part in a `RedisFleet`: rate budget, turns to poll, deliveries, and all of these without Redis."""

import asyncio
import hashlib
import logging
import math
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import anyio

from posten_signering._session import redis_scripts as scripts
from posten_signering._session.fleet import (
    EndInFlight,
    FleetContext,
    FleetMember,
    PollTurn,
    QueueState,
    aged,
)
from posten_signering._session.loop import OwnLoop
from posten_signering._session.rate import ASSUMED_ARRIVED_AFTER, ONE_SECOND, SERVICE_LIMIT
from posten_signering._session.redis import RedisFleet
from posten_signering._session.slots import RATE, RATE_WITHOUT_RANK, Slots
from posten_signering._values.events import FleetAvailable, FleetUnavailable
from posten_signering._values.job import Sender
from posten_signering.errors import ConfigurationError

T = TypeVar("T")

logger = logging.getLogger("posten_signering.fleet")

Argument = str | int | float
Reply = list[Any]
"""What a script returns: numbers, texts and None."""

# The state in Redis expires 2 seconds after the last request. Several heartbeats fit into that time.
_HEARTBEAT_EVERY = 0.5
# How long Redis may take to answer a question for a place. A later answer would come too late.
_ANSWER_WITHIN = 1.0
# With a rounding error, a shorter sleep may end before its time.
_SHORTEST_WAIT = 0.001
# The longest sleeps before something is checked again.
_RECHECK_AFTER = 0.25
_RECHECK_AFTER_WHEN_BLOCKED = 1.0
_RECHECK_TURN_AFTER = 0.1
# Ends the turn of a process that was killed. The heartbeat renews it.
_TURN_LEASE = 5.0
# When a client leaves, its last requests to Redis may take this many seconds.
_LEAVE_WITHIN = 2.0
# Assumed while nothing is known. With `RATE_WITHOUT_RANK`, a client then makes one call in 10 seconds.
_ASSUMED_MEMBERS = 20


class RedisFailedError(Exception):
    """A request to Redis failed.

    Attributes:
        error_type: The name of the class of the failure.
        advice: What is wrong with the configuration; None if Redis is only away.
    """

    def __init__(self, error_type: str, advice: str | None = None) -> None:
        super().__init__(error_type)
        self.error_type = error_type
        self.advice = advice


class Scripts(Protocol):
    """Runs scripts in Redis."""

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Reply:
        """Returns the result of a script.

        Raises:
            RedisFailedError: Redis can't be used.
        """
        ...


class RedisMember:
    """A client's part in a `RedisFleet`.

    Args:
        fleet: The description of the fleet.
        context: The client.
        redis: Runs the scripts.
        local: Knows the poll times, turns and deliveries of this client, for the time without Redis.
    """

    def __init__(
        self, fleet: RedisFleet, context: FleetContext, redis: Scripts, local: FleetMember
    ) -> None:
        self._fleet = fleet
        self._context = context
        self._time = context.time
        self._redis = redis
        self._local = local
        self._id = uuid4().hex
        self._calls = 0
        self._keys = _Keys(context.service_root)
        limit = SERVICE_LIMIT * fleet.share
        self._most_places = max(1, int(0.9 * limit + 1e-9))
        # With a limit below one call per second, the only place is kept for longer.
        self._kept_for = max(ONE_SECOND, 1 / limit)
        members = fleet.members_at_least or _ASSUMED_MEMBERS
        self._slots = Slots(
            rate=RATE_WITHOUT_RANK * fleet.share,
            rank=members * self._time.random(),
            members=members,
        )
        self._rank_is_known = False
        # Redis's clock minus the monotonic clock, in seconds; 0 while it is not known.
        self._clock_difference = 0.0
        self._away = False
        self._logged_advice: str | None = None
        # On the monotonic clock:
        self._fresh_until = float("-inf")
        self._slots_from = float("-inf")
        self._blocked_until = dict[str, float]()
        # Requests run one after the other, in the order in which they were made.
        self._requesting = asyncio.Lock()
        self._background = set[asyncio.Task[Any]]()
        self._turns = set[str]()
        self._heart: asyncio.Task[None] | None = None
        self._has_left = False
        self._loop = OwnLoop("RedisFleet")

    async def open(self) -> None:
        """Joins the fleet.

        Raises:
            ConfigurationError: Redis can't be used as it is configured.
        """
        try:
            await self._heartbeat()
        except RedisFailedError as failure:
            if failure.advice is not None:
                raise ConfigurationError(failure.advice) from None
        self._heart = self._in_background(self._keep_heartbeats())

    async def aclose(self) -> None:
        """Leaves the fleet when the last requests have ended."""
        if self._heart is not None:
            self._heart.cancel()
        with anyio.move_on_after(_LEAVE_WITHIN, shield=True):
            await asyncio.sleep(0)  # calls that ended just now send their requests
            while self._background:
                await asyncio.wait(self._background)
        self._has_left = True

    async def acquire(self, organization_number: str) -> EndInFlight:
        """See `FleetMember`."""
        budget = self._budget_of(organization_number)
        self._calls += 1
        call = f"{self._id}/{self._calls}"
        try:
            while (wait := await self._seconds_until_call(budget, call)) is not None:
                await self._time.sleep(max(wait, _SHORTEST_WAIT))
        except BaseException:
            places, queue, queue_until, _ = self._keys.budget(budget)
            self._send_later(scripts.GIVE_BACK_PLACE, [places, queue, queue_until], [call])
            raise
        return self._end_in_flight(budget, call)

    async def block(self, organization_number: str, seconds: float) -> None:
        """See `FleetMember`."""
        budget = self._budget_of(organization_number)
        self._note_block(budget, seconds)
        *_, block = self._keys.budget(budget)
        await self._request(scripts.BLOCK, [block], [_milliseconds(seconds)])

    @asynccontextmanager
    async def turn(self, sender: Sender) -> AsyncGenerator[PollTurn]:
        """See `FleetMember`. One client of the fleet has the turn, and in it one task."""
        keys = turn_key, _ = self._keys.queue(sender)
        async with self._local.turn(sender) as local:
            try:
                known = await self._begin_turn(keys)
            except BaseException:
                self._send_later(scripts.GIVE_BACK_TURN, [turn_key], [self._id])
                raise
            turn = _Turn(_latest(local.state, known), self._time.monotonic)
            self._turns.add(turn_key)
            try:
                yield turn
            finally:
                self._turns.discard(turn_key)
                state = turn.known_now()
                local.learned(state)
                await self._request(scripts.END_TURN, keys, [self._id, *_as_arguments(state)])

    async def begin_delivery(self, deduplication_key: str) -> int:
        """See `FleetMember`."""
        here = await self._local.begin_delivery(deduplication_key)
        keys = [self._keys.deliveries(deduplication_key)]
        reply = await self._request(scripts.BEGIN_DELIVERY, keys, [uuid4().hex])
        return here if reply is None else max(here, reply[0])

    async def end_delivery(self, deduplication_key: str) -> None:
        """See `FleetMember`."""
        await self._local.end_delivery(deduplication_key)
        keys = [self._keys.deliveries(deduplication_key)]
        await self._request(scripts.END_DELIVERY, keys, [])

    # --- The rate budget

    async def _seconds_until_call(self, budget: str, call: str) -> float | None:
        """None when the call may be made now; else the seconds until this is to be checked again."""
        if self._has_left:
            return None  # the client is closed, so the call fails
        now = self._time.monotonic()
        blocked_for = self._blocked_until.get(budget, now) - now
        if blocked_for > 0:
            return min(blocked_for, _RECHECK_AFTER_WHEN_BLOCKED)
        by_slot = self._away or now < self._fresh_until
        if by_slot:
            wait = self._seconds_until_slot(budget, now)
            if wait is not None:
                return min(wait, _RECHECK_AFTER)
        if self._away:
            return None
        reply = await self._request(
            scripts.ASK_FOR_PLACE,
            [*self._keys.fleet, *self._keys.budget(budget)],
            [
                self._id,
                call,
                int(by_slot),
                _milliseconds(now + self._clock_difference + _ANSWER_WITHIN),
                self._most_places,
                _milliseconds(ASSUMED_ARRIVED_AFTER + self._kept_for),
            ],
        )
        if reply is None:  # Redis went away. A call that has taken a slot may be made.
            return None if by_slot else 0.0
        granted, wait_for, blocked_for = reply[4:]
        if blocked_for:
            self._note_block(budget, blocked_for / 1000)
        return None if granted else wait_for / 1000

    def _seconds_until_slot(self, budget: str, now: float) -> float | None:
        """None when a slot was taken."""
        if not (self._rank_is_known or self._away):
            return self._fresh_until - now
        if now < self._slots_from:
            return self._slots_from - now
        return self._slots.take(budget, now + self._clock_difference)

    def _end_in_flight(self, budget: str, call: str) -> EndInFlight:
        places, *_ = self._keys.budget(budget)
        ended = False

        def end_in_flight() -> None:
            nonlocal ended
            if not ended:
                ended = True
                # The garbage collector may end an abandoned call in another thread.
                self._loop.call_soon(
                    partial(
                        self._send_later,
                        scripts.END_IN_FLIGHT,
                        [places],
                        [call, _milliseconds(self._kept_for)],
                    )
                )

        return end_in_flight

    def _note_block(self, budget: str, seconds: float) -> None:
        until = self._time.monotonic() + seconds
        self._blocked_until[budget] = max(until, self._blocked_until.get(budget, until))

    def _budget_of(self, organization_number: str) -> str:
        return (
            self._context.organization_number
            if self._fleet.per_certificate
            else organization_number
        )

    # --- Turns

    async def _begin_turn(self, keys: Sequence[str]) -> QueueState | None:
        """Waits for the turn. Returns what Redis knows about the queue; None if it knows nothing, or is away."""
        while True:
            reply = await self._request(
                scripts.BEGIN_TURN, keys, [self._id, _milliseconds(_TURN_LEASE)]
            )
            if reply is None:
                return None
            if reply[0]:
                return _queue_state(reply[1:])
            await self._time.sleep(_RECHECK_TURN_AFTER * (0.5 + self._time.random()))

    # --- Requests to Redis

    async def _keep_heartbeats(self) -> None:
        """Keeps this client a member and its turns alive, and notices when Redis is away and back."""
        while True:
            # Not the sleep of the configuration, because what Redis stores expires by Redis's clock.
            await asyncio.sleep(_HEARTBEAT_EVERY)
            with suppress(RedisFailedError):
                await self._heartbeat()
            if self._turns:
                arguments: list[Argument] = [self._id, _milliseconds(_TURN_LEASE)]
                await self._request(scripts.RENEW_TURNS, list(self._turns), arguments)

    async def _heartbeat(self) -> None:
        async with self._requesting:
            await self._run(scripts.HEARTBEAT, self._keys.fleet, [self._id])

    async def _request(
        self, script: str, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Reply | None:
        """The result of a script; None while Redis is away. It ends even if the caller is cancelled."""
        if self._away:
            return None  # at once, although a heartbeat may wait for Redis
        return await asyncio.shield(self._send_later(script, keys, arguments))

    def _send_later(
        self, script: str, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> "asyncio.Task[Reply | None]":
        return self._in_background(self._run_unless_away(script, keys, arguments))

    def _in_background(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _run_unless_away(
        self, script: str, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Reply | None:
        async with self._requesting:
            if self._away or self._has_left:
                return None
            try:
                return await self._run(script, keys, arguments)
            except RedisFailedError:
                return None

    async def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Reply:
        sent_at = self._time.monotonic()
        try:
            reply = await self._redis.run(script, keys, arguments)
        except RedisFailedError as failure:
            self._note_failure(failure, sent_at)
            raise
        if self._away:
            self._away, self._logged_advice = False, None
            self._context.notify(FleetAvailable())
        if script in _SCRIPTS_THAT_JOIN:
            self._learn(reply, sent_at)
        return reply

    def _note_failure(self, failure: RedisFailedError, sent_at: float) -> None:
        if self._heart is None and failure.advice is not None:
            return  # entering the client raises an error
        if failure.advice is not None and failure.advice != self._logged_advice:
            # Redis may have been away when the client was entered. Only a person can end this failure.
            self._logged_advice = failure.advice
            logger.error("Redis will stay unusable until somebody acts. %s", failure.advice)
        if self._away:
            return
        self._away = True
        # Until then, the state in Redis may still be that of this moment. A Redis that comes back later
        # has a fresh state, so it does not count on knowing the calls that were made by slots.
        self._slots_from = max(self._slots_from, sent_at + scripts.STATE_EXPIRES_AFTER / 1000)
        self._context.notify(
            FleetUnavailable(
                error_type=failure.error_type, calls_per_second=self._slots.calls_per_second
            )
        )

    def _learn(self, reply: Sequence[int], sent_at: float) -> None:
        """Learns what Redis knows about the fleet."""
        now = self._time.monotonic()
        redis_now, fresh_for, rank, members = (int(number) for number in reply[:4])
        self._clock_difference = redis_now / 1000 - (sent_at + now) / 2
        self._fresh_until = now + fresh_for / 1000
        if fresh_for > 0:
            # Redis does not know yet which clients there are, and which calls they made in the last second.
            fresh_since = now - (scripts.FRESH_FOR - fresh_for) / 1000
            self._slots_from = max(self._slots_from, fresh_since + ONE_SECOND)
            return
        members = max(members, self._fleet.members_at_least or 1)
        if (rank, members, True) != (self._slots.rank, self._slots.members, self._rank_is_known):
            self._rank_is_known = True
            self._slots = Slots(rate=RATE * self._fleet.share, rank=rank, members=members)


_SCRIPTS_THAT_JOIN = {scripts.HEARTBEAT, scripts.ASK_FOR_PLACE}


class _Keys:
    """The names of the keys in Redis. Services have different keys, so they share nothing.

    Attributes:
        fleet: The keys of the membership.
    """

    def __init__(self, service_root: str) -> None:
        digest = hashlib.sha256(service_root.encode()).hexdigest()[:16]
        self._prefix = f"posten-signering:{digest}"
        self.fleet = [
            f"{self._prefix}:{name}" for name in ("alive", "fresh", "members", "members-until")
        ]

    def budget(self, organization_number: str) -> list[str]:
        """The keys of a rate budget: its places, its queue, until when calls wait in it, and its block."""
        names = ("places", "queue", "queue-until", "block")
        return [f"{self._prefix}:{organization_number}:{name}" for name in names]

    def queue(self, sender: Sender) -> list[str]:
        """The keys of a polling queue: the turn, and what is known about it."""
        queue = sender.organization_number
        if sender.polling_queue is not None:
            queue += f"/{sender.polling_queue}"
        return [f"{self._prefix}:{queue}:turn", f"{self._prefix}:{queue}:poll-state"]

    def deliveries(self, deduplication_key: str) -> str:
        """The key of the deliveries of a change."""
        return f"{self._prefix}:deliveries:{deduplication_key}"


class _Turn:
    def __init__(self, state: QueueState, monotonic: Callable[[], float]) -> None:
        self.state = state
        self._monotonic = monotonic
        self._latest, self._known_at = state, monotonic()

    def learned(self, state: QueueState) -> None:
        self._latest, self._known_at = state, self._monotonic()

    def known_now(self) -> QueueState:
        return aged(self._latest, self._monotonic() - self._known_at)


def _latest(local: QueueState, shared: QueueState | None) -> QueueState:
    """The later of two states. Each poll sets a later permitted time than the one before."""
    return local if shared is None or local.permitted_in > shared.permitted_in else shared


def _queue_state(reply: Sequence[Any]) -> QueueState | None:
    now, permitted_at, permitted_time, next_at, early_answers, leads = reply
    if permitted_at is None:
        return None
    return QueueState(
        permitted_in=(int(permitted_at) - now) / 1000,
        permitted_time=datetime.fromisoformat(permitted_time) if permitted_time else None,
        next_in=(int(next_at) - now) / 1000,
        early_answers=int(early_answers),
        leads=leads == "1",
    )


def _as_arguments(state: QueueState) -> list[Argument]:
    """The arguments of the script that stores a state."""
    time = state.permitted_time
    return [
        _milliseconds(state.permitted_in),
        "" if time is None else time.isoformat(),
        _milliseconds(state.next_in),
        state.early_answers,
        int(state.leads),
    ]


def _milliseconds(seconds: float) -> int:
    return max(0, math.ceil(seconds * 1000))
