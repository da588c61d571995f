"""Eight processes poll one queue of a service that moves the permitted time at each early poll.

First in virtual time, against the model of the service. Then with real processes and the sandbox, where seconds stand
for the service's 10 minutes. While changes enter the queue of a `RedisFleet`, its processes are replaced.
"""

import asyncio
import itertools
import logging
import random
import shutil
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio
import redis_process
import virtual_time
from model_service import SENDER, ModelService, Outcome, Poll, now
from model_transport import ModelTransport, process_of

from posten_signering import DirectClient, InMemoryFleet

from .fleet_judging import PollEvidence, judged_polls
from .processes import WorkerProcesses, check_running, terminate
from .service import ORGANIZATION_NUMBER, Service, job, service
from .table import Row

_PROCESSES = 8
_LEASE = 60.0
_SEED = 11
_MOST_EARLY = 0.01
# Without a shared fleet, a process may leave the queue to another one for 36 intervals.
_LONGEST_DELAY = 40

_HOUR = 3600.0
_INTERVAL = 600.0
_CHANGES_IN_A_HISTORY = 21
# The first processes start within this many seconds, as in a rolling update.
_STARTS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What the processes share, and what an early poll costs.

    Attributes:
        name: The name in the table.
        penalty: How far an early poll moves the permitted time, in intervals.
        redis: Whether the processes share a `RedisFleet`. Otherwise they share nothing.
        interval: The wait between two polls of an empty queue, in seconds.
        intervals: The time in which changes enter the queue, in intervals.
        changes: The number of changes.
    """

    name: str
    penalty: float
    redis: bool
    interval: float
    intervals: int
    changes: int


_SCENARIOS = (
    Scenario(
        name="RedisFleet, moved by the whole interval",
        penalty=1.0,
        redis=True,
        interval=2.0,
        intervals=120,
        changes=40,
    ),
    Scenario(
        name="nothing shared, moved by 1/20 of the interval",
        penalty=0.05,
        redis=False,
        interval=5.0,
        intervals=24,
        changes=12,
    ),
    Scenario(
        name="nothing shared, moved by the whole interval",
        penalty=1.0,
        redis=False,
        interval=5.0,
        intervals=24,
        changes=12,
    ),
)
_SHORT = replace(_SCENARIOS[0], intervals=6, changes=5)


def run(*, short: bool) -> list[Row]:
    """The table's rows. Without redis-server, there are none of a `RedisFleet`."""
    # A permitted time that early polls have moved far ahead causes a warning, here on purpose.
    logging.getLogger("posten_signering").setLevel(logging.ERROR)
    histories = 3 if short else 50
    rows = [
        *_in_virtual_time(histories, penalty=30.0, shared=False, most_delay=1.0),
        *_in_virtual_time(histories, penalty=_INTERVAL, shared=False, most_delay=3.0),
        *_in_virtual_time(histories, penalty=_INTERVAL, shared=True, most_delay=1.0),
    ]
    program = shutil.which("redis-server")
    for scenario in (_SHORT,) if short else _SCENARIOS:
        if scenario.redis and program is None:
            sys.stderr.write(f"{scenario.name} is skipped: redis-server is not installed.\n")
            continue
        with tempfile.TemporaryDirectory(prefix="posten-signering-soak-") as name:
            folder = Path(name)
            if scenario.redis:
                with redis_process.running(program, folder) as redis:
                    rows += judged_polls(_observed(scenario, folder, redis.uri))
            else:
                rows += judged_polls(_observed(scenario, folder, None))
    return rows


def _observed(scenario: Scenario, folder: Path, redis: str | None) -> PollEvidence:
    with service(
        folder,
        lease=_LEASE,
        empty_wait=scenario.interval,
        early_poll_penalty=scenario.penalty * scenario.interval,
        paced=False,
    ) as running:
        jobs = asyncio.run(_created(running, scenario.changes))
        journals = folder / "journals"
        journals.mkdir()
        workers = WorkerProcesses(
            service=running, journals=journals, processes=_PROCESSES, lease=_LEASE, redis=redis
        )
        put = _put_changes(scenario, workers, jobs)
        delivered: dict[int, float] = {}
        for handling in workers.handlings(ahead=0.0):
            earlier = delivered.get(handling.change, handling.begun)
            delivered[handling.change] = min(earlier, handling.begun)
        counters = running.get("counters")[ORGANIZATION_NUMBER]
        return PollEvidence(
            scenario=scenario.name,
            interval=scenario.interval,
            put=put,
            delivered=delivered,
            polls=counters["calls"]["poll"],
            early_of_one=counters["early_polls_of_one_client"],
            early_between=counters["early_polls_between_clients"],
            most_early=_MOST_EARLY if scenario.redis else None,
        )


def _put_changes(scenario: Scenario, workers: WorkerProcesses, jobs: list[int]) -> dict[int, float]:
    """Signs jobs at random times while processes poll, and waits until the queue is empty.

    Returns:
        The time at which each change entered the queue, by its number.
    """
    rng = random.Random(_SEED)
    seconds = scenario.intervals * scenario.interval
    times = sorted(rng.uniform(0, seconds) for _ in jobs)
    names = (f"worker-{number}" for number in itertools.count(1))
    processes = [workers.start(next(names)) for _ in range(_PROCESSES)]
    put: dict[int, float] = {}
    began = time.monotonic()
    for number, (job_id, at) in enumerate(zip(jobs, times, strict=True), start=1):
        time.sleep(max(0.0, began + at - time.monotonic()))
        check_running(processes)
        put[number] = time.time()
        workers.service.post(f"jobs/{job_id}/signers/1/sign", {})
        if scenario.redis:
            # A rolling update: the oldest process is replaced. The new one knows what the fleet shares.
            terminate([processes.pop(0)])
            processes.append(workers.start(next(names)))
    deadline = began + seconds + _LONGEST_DELAY * scenario.interval
    while time.monotonic() < deadline and workers.service.waiting():
        time.sleep(0.2)
        check_running(processes)
    terminate(processes)
    return put


def _in_virtual_time(
    histories: int, *, penalty: float, shared: bool, most_delay: float
) -> list[Row]:
    """The rows of several histories of 12 hours."""
    put: dict[int, float] = {}
    delivered: dict[int, float] = {}
    polls: list[Poll] = []
    for seed in range(histories):
        model, times = virtual_time.run(partial(_history, seed, penalty=penalty, shared=shared))
        polls += model.polls
        for change, time_put in zip(model.changes, times, strict=True):
            number = len(put)
            put[number] = time_put
            if change.leases:
                delivered[number] = change.leases[0][0] - model.lease
    shares = "one fleet" if shared else "nothing shared"
    return judged_polls(
        PollEvidence(
            scenario=f"virtual time, {shares}, moved by {penalty:.0f} s",
            interval=_INTERVAL,
            put=put,
            delivered=delivered,
            polls=len(polls),
            early_of_one=sum(poll.knowingly_too_early for poll in polls),
            early_between=sum(
                poll.outcome is Outcome.TOO_EARLY and not poll.knowingly_too_early for poll in polls
            ),
            most_early=_MOST_EARLY if shared else None,
            most_delay=most_delay,
        )
    )


async def _history(seed: int, *, penalty: float, shared: bool) -> tuple[ModelService, list[float]]:
    """Processes poll for 12 hours, in which changes enter the queue, and for 12 hours after that.

    Returns:
        The model of the service, and the time at which each of its changes entered the queue.
    """
    rng = random.Random(seed)
    model = ModelService(seed=seed, early_poll_penalty=penalty)
    fleet = InMemoryFleet() if shared else None
    times = sorted(rng.uniform(0, 12 * _HOUR) for _ in range(_CHANGES_IN_A_HISTORY))

    async def consume(client: DirectClient, start: float) -> None:
        await anyio.sleep(start)
        async for change in client.status_changes():
            await client.confirm(change)

    async with AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(
                process_of(
                    model,
                    f"process {number}",
                    time=virtual_time.VirtualTime(seed=_PROCESSES * seed + number),
                    fleet=fleet or InMemoryFleet(share=1 / _PROCESSES),
                    transport=ModelTransport(
                        model, f"process {number}", party="the fleet" if shared else None
                    ),
                )
            )
            for number in range(_PROCESSES)
        ]
        async with anyio.create_task_group() as tasks:
            for client in clients:
                tasks.start_soon(consume, client, rng.uniform(0, _STARTS))
            for at in times:
                await anyio.sleep(at - now())
                model.put(SENDER)
            await anyio.sleep(12 * _HOUR)
            tasks.cancel_scope.cancel()
    return model, times


async def _created(running: Service, jobs: int) -> list[int]:
    """The ids of new jobs, which nobody has signed."""
    async with DirectClient(running.configuration(fleet=InMemoryFleet(share=None))) as client:
        return [(await client.create(job(f"job-{number}"))).job_id for number in range(jobs)]
