"""`OnePerProcess` of the examples: opened once by all threads, closed, and opened again."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
from example_apps import module


class Opening:
    """Counts how often it is entered and left. Fails while `error` is set."""

    def __init__(self) -> None:
        self.entered = self.left = 0
        self.error = None

    @asynccontextmanager
    async def __call__(self):
        if self.error is not None:
            raise self.error
        self.entered += 1
        yield self
        self.left += 1


@pytest.fixture
def opening():
    return Opening()


@pytest.fixture
def one(opening):
    made = module("one_per_process").OnePerProcess(opening)
    yield made
    made.close()


def test_concurrent_first_calls_open_it_once(one, opening):
    barrier = threading.Barrier(4)

    def use(_: int) -> object:
        barrier.wait()
        return one.open()

    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(use, range(4)))
    assert len(set(opened)) == opening.entered == 1


def test_it_can_be_opened_after_it_was_closed_and_a_second_close_does_nothing(one, opening):
    for number in (1, 2):
        one.open()
        one.close()
        one.close()
        assert (opening.entered, opening.left) == (number, number)


def test_a_failure_to_open_leaves_no_thread_and_the_next_call_opens_it(one, opening):
    opening.error = LookupError("no certificate")
    before = threading.active_count()
    with pytest.raises(LookupError):
        one.open()
    assert threading.active_count() == before
    opening.error = None
    one.open()
    assert opening.entered == 1
