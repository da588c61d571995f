"""The signals that stop a worker. Only one worker of a process can handle them at a time."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager

from posten_signering.errors import ConfigurationError

SIGNALS = (signal.SIGTERM, signal.SIGINT)

_RESERVED = threading.Lock()


@contextmanager
def reserve_signals() -> Generator[None]:
    """Within the context, no other worker of the process can handle the signals.

    Raises:
        ConfigurationError: Another worker handles the signals, or the event loop has a handler for one.
    """
    if not _RESERVED.acquire(blocking=False):
        raise ConfigurationError(
            "Another StatusChangeWorker of this process already handles signals. Set "
            "handle_signals=False, and call stop() of each worker from your own signal handler."
        )
    try:
        _refuse_handlers_of_the_event_loop()
        yield
    finally:
        _RESERVED.release()


@contextmanager
def restore_handlers() -> Generator[None]:
    """At the end of the context, restores the signal handlers that were installed before.

    An event loop would install the system's default handlers instead.
    """
    # None is a handler that Python did not install, so Python can't restore it.
    handlers = {
        number: handler for number in SIGNALS if (handler := signal.getsignal(number)) is not None
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _refuse_handlers_of_the_event_loop() -> None:
    # An event loop has one handler for each signal. The worker's handler would replace it, and it could
    # not be restored: signal.getsignal returns a function of asyncio that does nothing.
    handled = [
        number
        for number in SIGNALS
        if getattr(signal.getsignal(number), "__module__", None) == "asyncio.unix_events"
    ]
    if handled:
        names = " and ".join(number.name for number in handled)
        raise ConfigurationError(
            f"The event loop has a handler for {names} (loop.add_signal_handler), which handle_signals "
            "would replace. Set handle_signals=False, and call the worker's stop() from that handler."
        )
