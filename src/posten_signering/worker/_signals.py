"""The signals that ask a worker to stop: taken by one worker at a time, and given back."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager

from posten_signering.errors import ConfigurationError

SIGNALS = (signal.SIGTERM, signal.SIGINT)

_ONE_WORKER = threading.Lock()


@contextmanager
def signals_taken() -> Generator[None]:
    """Within the context the signals are for one worker, and for no other of the process.

    Raises:
        ConfigurationError: Another worker has them, or the event loop has a handler of its own.
    """
    if not _ONE_WORKER.acquire(blocking=False):
        raise ConfigurationError(
            "Another StatusChangeWorker of this process handles signals already. Leave "
            "handle_signals off, and call stop() of every worker from a signal handler of your own."
        )
    try:
        _refuse_handlers_of_the_loop()
        yield
    finally:
        _ONE_WORKER.release()


@contextmanager
def handlers_restored() -> Generator[None]:
    """Gives the signals their former handlers back: an event loop would leave the system's default."""
    # None is a handler that Python did not install, and can't install again.
    before = {each: found for each in SIGNALS if (found := signal.getsignal(each)) is not None}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _refuse_handlers_of_the_loop() -> None:
    # A loop has one handler for each signal: it would be lost, and what Python shows of it does nothing.
    taken = [
        each
        for each in SIGNALS
        if getattr(signal.getsignal(each), "__module__", None) == "asyncio.unix_events"
    ]
    if taken:
        names = " and ".join(each.name for each in taken)
        raise ConfigurationError(
            f"The event loop has a handler for {names} (loop.add_signal_handler), which handle_signals "
            "would replace. Leave handle_signals off, and call the worker's stop() from that handler."
        )
