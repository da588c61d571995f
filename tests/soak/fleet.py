"""Processes that share a fleet call the sandbox over mutual TLS, while their Redis fails in several ways.

The sandbox records when each call arrives. No second may have more than 10 arrivals.
"""

import asyncio
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median
from threading import BrokenBarrierError

import redis_process

from posten_signering import DirectClient, Fleet, RedisFleet
from posten_signering.errors import SigningError

from .fleet_judging import CallEvidence, judged_calls
from .processes import check_running
from .service import ORGANIZATION_NUMBER, Service, service
from .table import Row

_FORK = get_context("fork")
_START_WITHIN = 60.0
# After this many seconds, the state that Redis lost is complete again.
_FRESH = 4.0
_NAME = "caller"
_LOW_LOAD_CALLS = 100
_LOW_LOAD_PAUSE = 0.25
_ACQUIRE_WITHIN_MS = 2.0


class Redis:
    """A Redis that can fail, and that starts again at the same port."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._port = redis_process.free_port()
        self._server: redis_process.Redis | None = None
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        running = redis_process.running(self._program, self._folder, self._port)
        self._server = self._stack.enter_context(running)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._stack.close()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        self.kill()
        self.start()

    def flush(self) -> None:
        assert self._server is not None
        assert self._server.ask("FLUSHALL").startswith(b"+OK")

    def close(self) -> None:
        if self._server is not None and self._server.process.poll() is None:
            self.resume()
        self._stack.close()

    def _signal(self, number: signal.Signals) -> None:
        assert self._server is not None
        self._server.process.send_signal(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What happens to the processes and to Redis.

    Attributes:
        name: The name in the table.
        script: Lets Redis fail. Yields when Redis goes away and when it is back.
        processes: The number of processes; each calls in `tasks` tasks.
        latency: How long the service takes to answer, in seconds.
        least_per_second: The required calls per second; None if every throughput is right.
        first_call_within: The most seconds until the first call; None if every time is right.
        starts_without_redis: Whether Redis is away at the start.
    """

    name: str
    script: Callable[[Redis, float], Iterator[None]]
    processes: int = 20
    tasks: int = 2
    latency: float = 0.05
    least_per_second: float | None = None
    first_call_within: float | None = None
    starts_without_redis: bool = False


def _undisturbed(_: Redis, seconds: float) -> Iterator[None]:
    time.sleep(3 * seconds)
    yield from ()


def _killed(redis: Redis, seconds: float) -> Iterator[None]:
    return _away(redis.kill, redis.start, seconds)


def _paused(redis: Redis, seconds: float) -> Iterator[None]:
    return _away(redis.pause, redis.resume, seconds)


def _away_at_the_start(redis: Redis, seconds: float) -> Iterator[None]:
    yield
    time.sleep(2 * seconds)
    yield
    redis.start()
    time.sleep(_FRESH + seconds)


def _away(begin: Callable[[], None], end: Callable[[], None], seconds: float) -> Iterator[None]:
    time.sleep(seconds)
    begin()
    yield
    time.sleep(2 * seconds)
    yield
    end()
    time.sleep(_FRESH + seconds)


def _flushed(redis: Redis, seconds: float) -> Iterator[None]:
    return _repeated(redis.flush, seconds)


def _restarted(redis: Redis, seconds: float) -> Iterator[None]:
    return _repeated(redis.restart, seconds)


def _killed_and_flushed_later(redis: Redis, seconds: float) -> Iterator[None]:
    yield from _killed(redis, seconds)
    redis.flush()
    time.sleep(_FRESH + seconds)


def _repeated(fail: Callable[[], None], seconds: float) -> Iterator[None]:
    time.sleep(seconds)
    for _ in range(max(1, int(seconds / 2))):
        fail()
        # The next failure begins at a different moment after the fleet has recovered.
        time.sleep(_FRESH + 1.3)
    yield from ()


_COLD = Scenario(
    name="cold start",
    script=_undisturbed,
    processes=8,
    tasks=4,
    least_per_second=8.0,
    first_call_within=5.0,
)
_SLOW = Scenario(
    name="cold start, slow service",
    script=_undisturbed,
    processes=8,
    tasks=4,
    latency=0.5,
    least_per_second=5.5,
    first_call_within=5.0,
)
_KILLED = Scenario(name="Redis killed", script=_killed, least_per_second=5.0)
_PAUSED = Scenario(name="Redis paused", script=_paused, least_per_second=5.0)
_FLUSHED = Scenario(name="Redis flushed", script=_flushed)
_RESTARTED = Scenario(name="Redis restarted", script=_restarted)
_AWAY = Scenario(
    name="Redis away at the start", script=_away_at_the_start, starts_without_redis=True
)
_SCENARIOS = (_COLD, _SLOW, _KILLED, _PAUSED, _FLUSHED, _RESTARTED, _AWAY)
# A busy machine may be slow, but may not exceed the rate.
_SHORT = (
    replace(_COLD, least_per_second=None, first_call_within=None),
    Scenario(name="Redis killed, and flushed later", script=_killed_and_flushed_later),
)


def run(*, short: bool) -> list[Row]:
    """The table's rows. Empty if redis-server is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        sys.stderr.write("fleet is skipped: redis-server is not installed.\n")
        return []
    rows = list[Row]()
    for scenario in _SHORT if short else _SCENARIOS:
        with _place(program, starts=not scenario.starts_without_redis) as (folder, running, redis):
            fleet = RedisFleet(redis.url, members_at_least=scenario.processes)
            callers = Callers(service=running, folder=folder, fleet=fleet, tasks=scenario.tasks)
            rows += judged_calls(observed(scenario, callers, redis, seconds=3 if short else 10))
    if not short:
        with _place(program, starts=True) as (_, running, redis):
            waits = asyncio.run(_waits_at_low_load(running, RedisFleet(redis.url)))
            rows.append(
                Row(
                    what="low load: median wait for the fleet's permission, in ms",
                    counted=1000 * median(waits),
                    must_be=_ACQUIRE_WITHIN_MS,
                    at_most=True,
                )
            )
    return rows


@contextmanager
def _place(program: str, *, starts: bool) -> Generator[tuple[Path, Service, Redis]]:
    """A sandbox, and a Redis that is started if `starts` says so, with a folder for both."""
    with tempfile.TemporaryDirectory(prefix="posten-signering-soak-") as name:
        folder = Path(name)
        redis = Redis(program, folder)
        try:
            if starts:
                redis.start()
            with service(folder, paced=False) as running:
                yield folder, running, redis
        finally:
            redis.close()


def observed(
    scenario: Scenario, callers: "Callers", redis: Redis, *, seconds: float
) -> CallEvidence:
    """Starts the processes, runs the scenario, and collects what the sandbox recorded."""
    fault = {"kind": "delay", "seconds": scenario.latency, "after": True, "times": None}
    callers.service.post("faults", fault)
    changed = list[float]()
    try:
        began = callers.start(scenario.processes)
        if not scenario.starts_without_redis:
            _wait_for_first_call(callers)
        for _ in scenario.script(redis, seconds):
            check_running(callers.processes)
            changed.append(time.time())
        check_running(callers.processes)
        ended = time.time()
    finally:
        callers.stop()
    return CallEvidence(
        scenario=scenario.name,
        began=began,
        ended=ended,
        arrivals=callers.arrivals(),
        failed=callers.failed(),
        outage=(changed[0], changed[1]) if changed else None,
        least_per_second=scenario.least_per_second,
        first_call_within=scenario.first_call_within,
    )


def _wait_for_first_call(callers: "Callers") -> None:
    deadline = time.monotonic() + _START_WITHIN
    while not callers.arrivals() and time.monotonic() < deadline:
        check_running(callers.processes)
        time.sleep(0.2)


@dataclass(slots=True, kw_only=True)
class Callers:
    """Processes that call the service all the time.

    Attributes:
        service: The sandbox that they call.
        folder: A folder for the errors that they record.
        fleet: The fleet of each process.
        tasks: How many calls each process makes at the same time.
        processes: The processes that were started.
    """

    service: Service
    folder: Path
    fleet: Fleet
    tasks: int
    processes: list[BaseProcess] = field(default_factory=list)

    def start(self, processes: int) -> float:
        """Starts the processes. Returns the time at which all of them enter their clients."""
        # A client imports these when it is entered. Eight processes that do so on few cores take longer than the wait
        # for the fleet's permission, which is what counts here.
        for name in (
            "posten_signering._client.creation",
            "posten_signering._session.redis_connection",
        ):
            import_module(name)
        barrier = _FORK.Barrier(processes + 1)
        for number in range(processes):
            name = f"{_NAME}-{number}"
            process = _FORK.Process(target=self._main, args=(name, barrier), name=name, daemon=True)
            process.start()
            self.processes.append(process)
        try:
            barrier.wait(_START_WITHIN)
        except BrokenBarrierError:
            check_running(self.processes)
            raise
        return time.time()

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()

    def arrivals(self) -> list[float]:
        """The times at which their calls arrived."""
        return self.service.arrivals(f"({_NAME}-")

    def failed(self) -> int:
        """How many calls raised an error. The first errors are printed."""
        lines = [
            line
            for path in sorted(self.folder.glob(f"{_NAME}-*"))
            for line in path.read_text().splitlines()
        ]
        for line in lines[:5]:
            sys.stderr.write(f"a call failed: {line}\n")
        return len(lines)

    def _main(self, name: str, barrier) -> None:
        # A fleet without its Redis warns, and here Redis fails on purpose.
        logging.getLogger("posten_signering").setLevel(logging.ERROR)
        asyncio.run(self._call(name, barrier))

    async def _call(self, name: str, barrier) -> None:
        configuration = self.service.configuration(user_agent_suffix=name, fleet=self.fleet)
        barrier.wait(_START_WITHIN)
        with (self.folder / name).open("w", buffering=1) as errors:
            async with DirectClient(configuration) as client:

                async def call_on() -> None:
                    while True:
                        try:
                            await client.check_access()
                        except SigningError as error:
                            errors.write(f"{type(error).__name__}: {error}\n")

                await asyncio.gather(*(call_on() for _ in range(self.tasks)))


async def _waits_at_low_load(running: Service, fleet: Fleet) -> list[float]:
    """How long a call waits for the fleet's permission while nobody else calls, in seconds."""
    waits = list[float]()
    async with DirectClient(running.configuration(fleet=fleet)) as client:
        member = client._open().fleet
        for _ in range(_LOW_LOAD_CALLS):
            began = time.perf_counter()
            end_in_flight = await member.acquire(ORGANIZATION_NUMBER)
            waits.append(time.perf_counter() - began)
            end_in_flight()
            await asyncio.sleep(_LOW_LOAD_PAUSE)
    return waits
