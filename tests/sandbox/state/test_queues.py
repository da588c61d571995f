"""Polling queues and the rate limit: pure transitions, with the time as an argument."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import bundles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from posten_signering.sandbox._intake.messages import read_job_request, read_manifest
from posten_signering.sandbox._state import queues
from posten_signering.sandbox._state.job import Job, JobStatus, Signer, SignerState, SignerStatus
from posten_signering.sandbox._state.queues import Outcome, Queue
from posten_signering.sandbox._state.state_rate import Calls, admit
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import RateLimit, Settings

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


def poll(queue, now):
    return queues.poll(queue, now=now, settings=SETTINGS)


def queue_of(*numbers: int) -> Queue:
    queue = Queue()
    for number in numbers:
        queue = queues.put(queue, job(number))
    return queue


def test_an_empty_queue_asks_for_a_wait_and_answers_again_after_it():
    queue, answer = poll(Queue(), START)
    assert (answer.outcome, answer.next_permitted) == (Outcome.EMPTY, at(seconds=30))
    queue, answer = poll(queue, at(seconds=30))
    assert (answer.outcome, answer.next_permitted) == (Outcome.EMPTY, at(seconds=60))


def test_a_poll_before_its_time_is_too_early_and_gets_nothing():
    queue, _ = poll(Queue(), START)
    queue = queues.put(queue, job(1))
    queue, answer = poll(queue, at(seconds=29, milliseconds=999))
    assert (answer.outcome, answer.change) == (Outcome.TOO_EARLY, None)
    assert answer.next_permitted == at(seconds=30)
    _, answer = poll(queue, at(seconds=30))
    assert answer.outcome is Outcome.CHANGE


def test_too_early_polls_do_not_hold_off_a_poller_that_keeps_its_time():
    queue, _ = poll(Queue(), START)
    for second in range(1, 30):
        queue, _ = poll(queue, at(seconds=second))
    _, answer = poll(queue, at(seconds=30))
    assert answer.outcome is Outcome.EMPTY


def test_a_penalty_for_early_polls_can_be_set():
    strict = replace(SETTINGS, early_poll_penalty=timedelta(seconds=5))
    queue, _ = poll(Queue(), START)
    for seconds in (35, 40):
        queue, answer = queues.poll(queue, now=at(seconds=1), settings=strict)
        assert answer.next_permitted == at(seconds=seconds)


def test_after_a_change_the_next_poll_is_permitted_at_once():
    queue, first = poll(queue_of(1, 2), START)
    assert first.next_permitted == START
    queue, second = poll(queue, START)
    assert [first.change.job_id, second.change.job_id] == [1, 2]
    _, third = poll(queue, START)
    assert third.outcome is Outcome.EMPTY


def test_a_change_comes_back_the_same_when_its_lease_ends_unconfirmed():
    queue, first = poll(queue_of(1), START)
    queue, hidden = poll(queue, at(minutes=9, seconds=59, milliseconds=999))
    assert hidden.outcome is Outcome.EMPTY
    _, again = poll(queue, hidden.next_permitted)
    assert replace(again.change, hidden_until=None) == replace(first.change, hidden_until=None)
    assert again.change.hidden_until == hidden.next_permitted + SETTINGS.lease


def test_a_confirmed_change_is_gone_and_can_be_confirmed_once():
    queue, answer = poll(queue_of(1), START)
    queue = queues.confirm(queue, 1, answer.change.number)
    _, later = poll(queue, at(hours=1))
    assert later.outcome is Outcome.EMPTY
    with pytest.raises(Refusal) as refused:
        queues.confirm(queue, 1, answer.change.number)
    assert refused.value.status == 404


def test_a_change_can_still_be_confirmed_after_its_lease():
    queue, answer = poll(queue_of(1), START)
    queue, again = poll(queue, at(hours=1))
    assert queues.confirm(queue, 1, answer.change.number).changes == ()
    assert again.change.number == answer.change.number


@pytest.mark.parametrize(("job_id", "number"), [(2, 1), (1, 2), (1, 0)])
def test_only_the_change_of_that_job_and_number_is_confirmed(job_id, number):
    queue, _ = poll(queue_of(1), START)
    with pytest.raises(Refusal):
        queues.confirm(queue, job_id, number)


def test_a_change_that_nobody_fetched_can_not_be_confirmed():
    with pytest.raises(Refusal):
        queues.confirm(queue_of(1), 1, 1)


def test_a_change_keeps_saying_what_the_job_was_like_when_it_came_about():
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
    queue = queues.put(queues.put(Queue(), waiting), job(1))
    queue, first = poll(queue, START)
    _, second = poll(queue, START)
    assert [first.change.status, second.change.status] == [
        JobStatus.IN_PROGRESS,
        JobStatus.COMPLETED_SUCCESSFULLY,
    ]
    assert first.change.signers[1].status is SignerStatus.WAITING


class QueueAgainstModel(RuleBasedStateMachine):
    """Any order of puts, polls, confirmations and waits, against a list of plain records."""

    def __init__(self):
        super().__init__()
        self.queue = Queue()
        self.now = START
        self.permitted = START
        self.waiting: dict[int, datetime] = {}  # change number -> when it may be fetched
        self.fetched: dict[int, int] = {}
        self.jobs: dict[int, int] = {}

    @rule(number=st.integers(1, 5))
    def put(self, number):
        self.queue = queues.put(self.queue, job(number))
        new = max(self.jobs, default=0) + 1
        self.jobs[new] = number
        self.waiting[new] = START

    @rule(seconds=st.sampled_from([0.001, 1, 29.999, 30, 599.999, 600]))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule()
    def poll(self):
        self.queue, answer = poll(self.queue, self.now)
        visible = [number for number, since in self.waiting.items() if since <= self.now]
        if self.now < self.permitted:
            assert answer.outcome is Outcome.TOO_EARLY
            assert answer.next_permitted == self.permitted
        elif visible:
            number = min(visible)
            assert answer.change.number == number
            assert answer.change.job_id == self.jobs[number]
            assert answer.next_permitted == self.now
            self.waiting[number] = self.now + SETTINGS.lease
            self.fetched[number] = self.jobs[number]
        else:
            assert answer.outcome is Outcome.EMPTY
            assert answer.next_permitted == self.now + SETTINGS.empty_queue_wait
        self.permitted = answer.next_permitted

    @precondition(lambda self: self.fetched)
    @rule(data=st.data())
    def confirm(self, data):
        number = data.draw(st.sampled_from(sorted(self.fetched)))
        self.queue = queues.confirm(self.queue, self.fetched.pop(number), number)
        del self.waiting[number]

    @invariant()
    def nothing_is_lost_or_doubled(self):
        assert [change.number for change in self.queue.changes] == sorted(self.waiting)


TestQueueAgainstModel = QueueAgainstModel.TestCase


LIMIT = RateLimit(calls=10, period=timedelta(seconds=1), block=timedelta(seconds=30))


def admitted(calls, now):
    return admit(calls, now=now, limit=LIMIT)


def test_ten_calls_a_second_are_answered_and_the_eleventh_blocks_for_thirty_seconds():
    calls = Calls()
    for _ in range(10):
        calls, answered = admitted(calls, START)
        assert answered
    calls, answered = admitted(calls, at(milliseconds=999))
    assert not answered
    blocked_until = at(milliseconds=999) + timedelta(seconds=30)
    calls, answered = admitted(calls, blocked_until - timedelta(milliseconds=1))
    assert not answered
    _, answered = admitted(calls, blocked_until)
    assert answered


def test_calls_count_for_one_second():
    calls = Calls()
    for tenth in range(100):
        calls, answered = admitted(calls, at(milliseconds=100 * tenth))
        assert answered


@given(gaps=st.lists(st.integers(0, 400), min_size=1, max_size=60))
def test_no_second_ever_has_more_answered_calls_than_the_limit(gaps):
    calls, now, answered_at = Calls(), START, []
    for gap in gaps:
        now += timedelta(milliseconds=gap)
        calls, answered = admitted(calls, now)
        if answered:
            answered_at.append(now)
    for index, start in enumerate(answered_at):
        within = [time for time in answered_at[index:] if time < start + LIMIT.period]
        assert len(within) <= LIMIT.calls
