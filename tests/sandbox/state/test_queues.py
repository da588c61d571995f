"""Polling queues: transitions without I/O, with the time as an argument."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import bundles
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from posten_signering.sandbox._intake.messages import read_job_request, read_manifest
from posten_signering.sandbox._state.job import Job, JobStatus, Signer, SignerState, SignerStatus
from posten_signering.sandbox._state.queues import Outcome, QueueName, Queues
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import Settings

START = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)
SETTINGS = Settings(empty_queue_wait=timedelta(seconds=30), lease=timedelta(minutes=10))


def job(number: int) -> Job:
    return Job(
        id=number,
        sender=bundles.SENDER,
        created=START,
        request=read_job_request(Octets(bundles.request_xml())),
        manifest=read_manifest(Octets(bundles.manifest_xml(bundles.two_files()))),
        signers=(
            Signer(
                state=SignerState(status=SignerStatus.SIGNED, since=START),
                redirect_token="r",
                status_query_token="s",
            ),
        ),
    )


def at(**later) -> datetime:
    return START + timedelta(**later)


NAME = QueueName(sender=bundles.SENDER, name=None)


def queue_of(*numbers: int, settings=SETTINGS) -> Queues:
    """The queues of the sandbox, with one change in the default queue for each of these jobs."""
    queue = Queues(settings, {}, {})
    for number in numbers:
        queue.put(job(number))
    return queue


def test_after_an_empty_queue_the_next_poll_is_permitted_after_the_wait():
    queue = queue_of()
    poll = queue.poll(NAME, now=START)
    assert (poll.outcome, poll.next_permitted) == (Outcome.EMPTY, at(seconds=30))
    poll = queue.poll(NAME, now=at(seconds=30))
    assert (poll.outcome, poll.next_permitted) == (Outcome.EMPTY, at(seconds=60))


def test_a_poll_before_the_permitted_time_is_too_early_and_gets_no_change():
    queue = queue_of()
    queue.poll(NAME, now=START)
    queue.put(job(1))
    poll = queue.poll(NAME, now=at(seconds=29, milliseconds=999))
    assert (poll.outcome, poll.change) == (Outcome.TOO_EARLY, None)
    assert poll.next_permitted == at(seconds=30)
    assert queue.poll(NAME, now=at(seconds=30)).outcome is Outcome.CHANGE


def test_too_early_polls_do_not_delay_the_next_permitted_poll_time():
    queue = queue_of()
    queue.poll(NAME, now=START)
    for second in range(1, 30):
        queue.poll(NAME, now=at(seconds=second))
    assert queue.poll(NAME, now=at(seconds=30)).outcome is Outcome.EMPTY


def test_an_early_poll_penalty_moves_the_next_permitted_poll_time():
    queue = queue_of(settings=replace(SETTINGS, early_poll_penalty=timedelta(seconds=5)))
    queue.poll(NAME, now=START)
    # The penalty is added to the permitted time, not to the time of the poll.
    for now, seconds in ((1, 35), (1, 40), (39, 45)):
        poll = queue.poll(NAME, now=at(seconds=now))
        assert (poll.outcome, poll.next_permitted) == (Outcome.TOO_EARLY, at(seconds=seconds))
    assert queue.poll(NAME, now=at(seconds=45)).outcome is Outcome.EMPTY


def test_with_the_whole_wait_as_the_penalty_no_poll_is_permitted_earlier_than_with_a_new_wait():
    queue = queue_of(settings=replace(SETTINGS, early_poll_penalty=SETTINGS.empty_queue_wait))
    queue.poll(NAME, now=START)
    for seconds in (0, 1, 29, 50, 90):
        now = at(seconds=seconds)
        assert queue.poll(NAME, now=now).next_permitted >= now + SETTINGS.empty_queue_wait


def test_early_polls_move_the_permitted_time_to_a_year_ahead_at_most():
    queue = queue_of(settings=replace(SETTINGS, early_poll_penalty=timedelta(days=300)))
    queue.poll(NAME, now=START)
    for days in (300, 365, 365):
        expected = min(at(days=days, seconds=30), at(days=365))
        assert queue.poll(NAME, now=START).next_permitted == expected


def test_after_a_change_the_next_poll_is_permitted_immediately():
    queue = queue_of(1, 2)
    first, second, third = (queue.poll(NAME, now=START) for _ in range(3))
    assert first.next_permitted == START
    assert [first.change.job_id, second.change.job_id] == [1, 2]
    assert third.outcome is Outcome.EMPTY


def test_an_unconfirmed_change_is_redelivered_unchanged_after_its_lease():
    queue = queue_of(1)
    first = queue.poll(NAME, now=START)
    hidden = queue.poll(NAME, now=at(minutes=9, seconds=59, milliseconds=999))
    assert hidden.outcome is Outcome.EMPTY
    redelivered = queue.poll(NAME, now=hidden.next_permitted)
    assert replace(redelivered.change, hidden_until=None) == replace(
        first.change, hidden_until=None
    )
    assert redelivered.change.hidden_until == hidden.next_permitted + SETTINGS.lease


def test_a_confirmed_change_leaves_the_queue_and_can_be_confirmed_only_once():
    queue = queue_of(1)
    poll = queue.poll(NAME, now=START)
    queue.confirm(job(1), poll.change.number)
    assert queue.poll(NAME, now=at(hours=1)).outcome is Outcome.EMPTY
    with pytest.raises(Refusal) as refused:
        queue.confirm(job(1), poll.change.number)
    assert refused.value.status == 404


def test_a_change_can_be_confirmed_after_its_lease():
    queue = queue_of(1)
    poll = queue.poll(NAME, now=START)
    redelivered = queue.poll(NAME, now=at(hours=1))
    assert redelivered.change.number == poll.change.number
    queue.confirm(job(1), poll.change.number)
    assert queue.changes(NAME) == []


@pytest.mark.parametrize(("job_id", "number"), [(2, 1), (1, 2), (1, 0)])
def test_a_confirmation_needs_the_right_job_and_number(job_id, number):
    queue = queue_of(1)
    queue.poll(NAME, now=START)
    with pytest.raises(Refusal):
        queue.confirm(job(job_id), number)
    assert len(queue.changes(NAME)) == 1


def test_a_change_that_was_never_fetched_can_not_be_confirmed():
    with pytest.raises(Refusal):
        queue_of(1).confirm(job(1), 1)


def test_the_oldest_change_comes_first_in_whatever_order_the_storage_returns_them():
    numbers = range(1, 13)
    stored = {}
    queue = Queues(SETTINGS, {}, stored)
    for number in numbers:
        queue.put(job(number))
    unordered = dict(sorted(stored.items(), key=lambda entry: str(entry[0].number)))
    restarted = Queues(SETTINGS, {}, unordered)
    polled = [restarted.poll(NAME, now=START).change.number for _ in numbers]
    assert polled == list(numbers)


def test_a_change_keeps_the_state_that_the_job_had_when_it_was_added():
    waiting = job(1)
    waiting = replace(
        waiting,
        signers=(
            *waiting.signers,
            replace(
                waiting.signers[0], state=SignerState(status=SignerStatus.WAITING, since=START)
            ),
        ),
    )
    queue = queue_of()
    queue.put(waiting)
    queue.put(job(1))
    first, second = (queue.poll(NAME, now=START) for _ in range(2))
    assert [first.change.status, second.change.status] == [
        JobStatus.IN_PROGRESS,
        JobStatus.COMPLETED_SUCCESSFULLY,
    ]
    assert first.change.signers[1].status is SignerStatus.WAITING


class QueueAgainstModel(RuleBasedStateMachine):
    """Compares the queue with a simple model, for any order of puts, polls, confirmations and waits."""

    def __init__(self):
        super().__init__()
        self.queue = queue_of()
        self.now = START
        self.permitted = START
        # By change number, the time from which a poll can fetch the change.
        self.waiting: dict[int, datetime] = {}
        self.fetched: dict[int, int] = {}
        self.jobs: dict[int, int] = {}

    @rule(number=st.integers(1, 5))
    def put(self, number):
        self.queue.put(job(number))
        new = max(self.jobs, default=0) + 1
        self.jobs[new] = number
        self.waiting[new] = START

    @rule(seconds=st.sampled_from([0.001, 1, 29.999, 30, 599.999, 600]))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule()
    def poll(self):
        poll = self.queue.poll(NAME, now=self.now)
        visible = [number for number, time in self.waiting.items() if time <= self.now]
        if self.now < self.permitted:
            assert poll.outcome is Outcome.TOO_EARLY
            assert poll.next_permitted == self.permitted
        elif visible:
            number = min(visible)
            assert poll.change.number == number
            assert poll.change.job_id == self.jobs[number]
            assert poll.next_permitted == self.now
            self.waiting[number] = self.now + SETTINGS.lease
            self.fetched[number] = self.jobs[number]
        else:
            assert poll.outcome is Outcome.EMPTY
            assert poll.next_permitted == self.now + SETTINGS.empty_queue_wait
        self.permitted = poll.next_permitted

    @precondition(lambda self: self.fetched)
    @rule(data=st.data())
    def confirm(self, data):
        number = data.draw(st.sampled_from(sorted(self.fetched)))
        self.queue.confirm(job(self.fetched.pop(number)), number)
        del self.waiting[number]

    @invariant()
    def no_change_is_lost_or_duplicated(self):
        assert [change.number for change in self.queue.changes(NAME)] == sorted(self.waiting)


TestQueueAgainstModel = QueueAgainstModel.TestCase
TestQueueAgainstModel.settings = settings(stateful_step_count=20)
