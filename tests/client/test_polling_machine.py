"""A state machine test of the iterator, single polls and the worker, against the model of the service.

Three processes poll two queues of one organisation. They share nothing, or one fleet. An early poll moves the
permitted time, or does not. Time, faults, outages, blocks and the deaths of processes come in random order. After
every step, no poll was too early, and no change was lost, delivered twice by mistake or confirmed too early. In
the end the faults stop, all processes poll, and every change is delivered and confirmed.
"""

import asyncio
import math
from contextlib import AsyncExitStack
from itertools import pairwise

import anyio
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from machine_process import Plan, Process
from model_faults import Fault, Kind
from model_service import OTHER_QUEUE, SENDER, ModelService, Outcome
from virtual_time import VirtualLoop, settle

from posten_signering import InMemoryFleet

SENDERS = st.sampled_from([SENDER, OTHER_QUEUE])
NAMES = ("one", "two", "three")
PROCESSES = st.sampled_from(NAMES)
# A killed process is replaced by a spare one. All are started at once, because starting one takes
# threads, and virtual time does not wait for threads.
SPARES = 2
KINDS = st.sampled_from([kind for kind in Kind if kind is not Kind.RAISES])
STATUSES = st.sampled_from([500, 502, 503, 504])
DEFAULT_WAIT = 600.0
# Processes that share nothing leave a queue to each other for up to 6 hours.
LONGEST_END_IN_HOURS = 72


class Polling(RuleBasedStateMachine):
    """The random steps of three processes.

    Attributes:
        slow: The longest time in seconds that a request, and a response, is in flight.
        processes: The processes at work.
        spares: The processes that replace killed ones.
        started: All of these, and the killed ones, by their own names.
    """

    slow = 0.2

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.opened = AsyncExitStack()
        self.processes: dict[str, Process] = {}
        self.spares: list[Process] = []
        self.started: dict[str, Process] = {}
        self.checked = 0

    def run(self, work) -> None:
        async def step() -> None:
            await work
            await settle()

        self.runner.run(step())

    @initialize(
        seed=st.integers(0, 2**32),
        shares=st.booleans(),
        penalty=st.sampled_from([0.0, 30.0, DEFAULT_WAIT]),
    )
    def begin(self, seed: int, shares: bool, penalty: float) -> None:  # noqa: FBT001 - Hypothesis passes it by name
        self.service = ModelService(seed=seed, slow=self.slow, early_poll_penalty=penalty)
        fleet = InMemoryFleet() if shares else None

        async def start() -> None:
            for number in range(len(NAMES) + SPARES):
                name = f"process {number}"
                self.started[name] = await Process.start(
                    self.service,
                    name,
                    self.opened,
                    fleet=fleet or InMemoryFleet(share=1 / len(NAMES)),
                    party="the fleet" if shares else name,
                    seed=seed + number,
                )

        self.run(start())
        processes = list(self.started.values())
        self.processes = dict(zip(NAMES, processes, strict=False))
        self.spares = processes[len(NAMES) :]

    # Steps

    @rule(sender=SENDERS, count=st.integers(1, 3))
    def the_status_of_a_job_changes(self, sender, count) -> None:
        for _ in range(count):
            self.service.put(sender)

    @rule(
        seconds=st.one_of(
            st.sampled_from([0.0005, 0.02, 0.3, 5.0, 31.0, 60.0, 599.9, 601.5, 1200.0]),
            st.floats(0, 700),
        )
    )
    def time_passes(self, seconds) -> None:
        before = len(self.service.polls)
        loops = sum(len(process.running) for process in self.processes.values())
        self.run(anyio.sleep(seconds))
        without_change = [
            poll for poll in self.service.polls[before:] if poll.outcome is not Outcome.CHANGE
        ]
        assert len(without_change) <= loops * (12 + math.ceil(seconds / 30)), "a tight loop"

    @rule(name=PROCESSES, sender=SENDERS, confirms=st.booleans())
    def a_loop_starts(self, name, sender, confirms) -> None:
        if len(self.processes[name].running) < 4:
            self.run(self._call(self.processes[name].iterate, sender, confirms=confirms))

    @rule(name=PROCESSES, sender=SENDERS, concurrency=st.integers(1, 4))
    def a_worker_starts(self, name, sender, concurrency) -> None:
        process = self.processes[name]
        if len(process.running) < 4:
            self.run(self._call(process.work, sender, concurrency=concurrency))

    @rule(
        name=PROCESSES,
        plan=st.builds(
            Plan, st.sampled_from([0.0, 0.5, 30.0, 599.0, 610.0, 1500.0]), st.booleans()
        ),
    )
    def the_next_handler_gets_a_plan(self, name, plan) -> None:
        self.processes[name].plans.append(plan)

    @precondition(lambda self: any(process.running for process in self.processes.values()))
    @rule(data=st.data(), how=st.sampled_from(["close", "scope", "Task.cancel"]))
    def a_loop_or_worker_is_ended(self, data, how) -> None:
        process, running = data.draw(
            st.sampled_from(
                [
                    (process, running)
                    for process in self.processes.values()
                    for running in process.running
                ]
            )
        )
        self.run(process.end(running, how))

    @precondition(lambda self: self.spares)
    @rule(name=PROCESSES)
    def a_process_is_killed_and_replaced(self, name) -> None:
        self.run(self.processes[name].die())
        self.processes[name] = self.spares.pop()

    @rule(name=PROCESSES, sender=SENDERS)
    def a_single_poll(self, name, sender) -> None:
        self.run(self.processes[name].poll_once(sender))

    @rule(name=PROCESSES, sender=SENDERS, count=st.integers(1, 12), seconds=st.floats(0, 2))
    def other_calls(self, name, sender, count, seconds) -> None:
        """Each call has its own scope, because a shared one would cancel them in a random order."""

        async def call() -> None:
            with anyio.move_on_after(seconds):
                await self.processes[name].call(sender)

        self.run(self._gather([call() for _ in range(count)]))

    @rule(faults=st.lists(st.builds(Fault, kind=KINDS, status=STATUSES), min_size=1, max_size=3))
    def the_next_calls_fail(self, faults) -> None:
        self.service.script.extend(faults)

    @rule(sender=SENDERS, readable=st.booleans())
    def a_change_is_unreadable_or_all_become_readable(self, sender, readable) -> None:
        if readable:
            for change in self.service.changes:
                change.readable = True
        else:
            self.service.put(sender).readable = False

    @rule(name=PROCESSES, fault=st.one_of(st.none(), st.builds(Fault, kind=KINDS, status=STATUSES)))
    def an_outage_starts_or_ends(self, name, fault) -> None:
        self.service.outages.pop(name, None)
        if fault is not None:
            self.service.outages[name] = fault

    @rule()
    def calls_of_another_program_block_the_organisation(self) -> None:
        self.run(self._call(self.service.block_now, SENDER.organization_number))

    # Invariants

    @invariant()
    def no_poll_was_too_early(self) -> None:
        for poll in self.service.polls[self.checked :] if self.processes else ():
            assert not poll.knowingly_too_early
            if poll.lost_at is not None:
                assert poll.sent_at >= poll.lost_at + DEFAULT_WAIT - 1e-6, "after a lost response"
        self.checked = len(self.service.polls) if self.processes else 0

    @invariant()
    def the_polls_of_a_process_or_fleet_ran_one_after_the_other(self) -> None:
        for queue in self.service.queues if self.processes else ():
            assert queue.most_in_flight <= 1

    @invariant()
    def our_calls_caused_no_block_and_waited_for_blocks_to_end(self) -> None:
        if self.processes:
            assert self.service.blocks[SENDER.organization_number] == 0
            assert not any(call.knowingly_blocked for call in self.service.calls[-200:])

    @invariant()
    def every_received_change_was_delivered_once(self) -> None:
        for name, process in self.started.items():
            received = [
                poll.delivered_number
                for poll in self.service.polls
                if poll.process == name and poll.delivered_number is not None
            ]
            deliveries = len(process.delivered) - process.retried + process.skipped
            assert len(received) == deliveries
            assert {number for number, _ in process.delivered} <= set(received)
            assert not process.overlaps
            assert not process.unexpected_errors

    @invariant()
    def redeliveries_came_after_a_lease_and_confirmations_after_the_work(self) -> None:
        for change in self.service.changes if self.processes else ():
            starts = [until - self.service.lease for until, _ in change.leases]
            assert all(later >= start + self.service.lease for start, later in pairwise(starts))
            if change.confirmed is not None:
                at, name = change.confirmed
                done = self.started[name].done.get(change.number, [])
                assert done
                assert min(done) <= at

    # The end

    def teardown(self) -> None:
        try:
            if self.processes:
                self._end_without_faults()
        finally:
            self.runner.close()

    def _end_without_faults(self) -> None:
        self.service.script.clear()
        self.service.outages.clear()
        for change in self.service.changes:
            change.readable = True
        for process in self.processes.values():
            process.plans.clear()

        self.run(self._work_to_the_end())
        for check in (
            self.no_poll_was_too_early,
            self.the_polls_of_a_process_or_fleet_ran_one_after_the_other,
            self.our_calls_caused_no_block_and_waited_for_blocks_to_end,
            self.every_received_change_was_delivered_once,
            self.redeliveries_came_after_a_lease_and_confirmations_after_the_work,
        ):
            check()
        delivered = {number for process in self.started.values() for number, _ in process.delivered}
        assert delivered == {change.number for change in self.service.changes}
        assert all(change.confirmed for change in self.service.changes)
        self.run(self.opened.aclose())

    async def _work_to_the_end(self) -> None:
        """All processes work, until every change is confirmed."""
        await self._end_all("Task.cancel")
        for process in self.processes.values():
            process.work(SENDER, concurrency=2)
            process.iterate(OTHER_QUEUE, confirms=True)
        for _ in range(LONGEST_END_IN_HOURS):
            await anyio.sleep(3600)
            if all(change.confirmed for change in self.service.changes):
                break
        await self._end_all("close")

    async def _end_all(self, how: str) -> None:
        for process in self.processes.values():
            for running in list(process.running):
                await process.end(running, how)
        # Handlers have 30 seconds to finish, and a poll in flight is finished too.
        await anyio.sleep(100)
        assert not any(process.running for process in self.processes.values())

    @staticmethod
    async def _gather(calls) -> None:
        await asyncio.gather(*calls)

    @staticmethod
    async def _call(function, *arguments, **options) -> None:
        function(*arguments, **options)


class PollingOfASlowService(Polling):
    slow = 3.0


class PollingOfAFastService(Polling):
    slow = 0.005


# Each machine has 25 runs of 50 steps. With the profile `ci` they are the same every time. The soak has more: 170
# that are the same every time with `make soak-short`, thousands of random ones with `make soak`.
PROFILE = settings.get_current_profile_name()
RUNS = settings.default.max_examples if PROFILE == "soak" else 25


def case(machine: type[Polling]) -> type:
    """Makes a test case of the state machine."""
    if PROFILE == "ci":
        # A different seed per machine. Otherwise all of them would take the same steps.
        seed(machine.__name__)(machine)
    test = machine.TestCase
    test.settings = settings(
        max_examples=RUNS,
        stateful_step_count=50,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    test.pytestmark = [pytest.mark.timeout(0 if PROFILE == "soak" else 600)]
    return test


TestPolling = case(Polling)
TestPollingOfASlowService = case(PollingOfASlowService)
TestPollingOfAFastService = case(PollingOfAFastService)
