"""The signals that ask a worker to stop, and who had them before."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import ClassVar

from posten_signering.errors import ConfigurationError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class SignalsTaken:
    """The signals are one worker's for as long as the context lasts; nobody's handlers are replaced."""

    _by_a_worker: ClassVar[bool] = False

    def __enter__(self) -> None:
        """Takes them.

        Raises:
            ConfigurationError: The loop has a handler of its own, or another worker has them.
        """
        if SignalsTaken._by_a_worker:
            raise ConfigurationError(
                "Another StatusChangeWorker of this process handles signals already. Leave "
                "handle_signals off, and call stop() of every worker from a signal handler of your own."
            )
        _refuse_handlers_of_the_loop()
        SignalsTaken._by_a_worker = True

    def __exit__(self, *_: object) -> None:
        """Lets another worker take them."""
        SignalsTaken._by_a_worker = False


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


@contextmanager
def handlers_restored() -> Generator[None]:
    """Gives signals back to who had them before: an event loop would leave the system's default."""
    # None is a handler that Python did not install, and can't.
    before = {each: found for each in SIGNALS if (found := signal.getsignal(each)) is not None}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
