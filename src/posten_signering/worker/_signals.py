"""The signals that stop a worker, and the signal handlers that it may replace."""

import asyncio
import functools
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from posten_signering.errors import ConfigurationError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def receive_signals(on_signal: Callable[[signal.Signals], None]) -> Generator[None]:
    """Within the context, the event loop calls `on_signal` for each signal, except ignored signals.

    At the end of the context, restores the earlier handlers.

    Raises:
        ConfigurationError: A signal has a handler of other code, or this is not the main thread.
    """
    # Python can install a signal handler in the main thread only.
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError(
            "handle_signals works in the main thread only. Set handle_signals=False, and call the "
            "worker's stop() to stop it."
        )
    # A shell makes the programs that it runs in the background ignore SIGINT.
    earlier = {
        number: handler
        for number in SIGNALS
        if (handler := signal.getsignal(number)) is not signal.SIG_IGN
    }
    if owned := [number.name for number, handler in earlier.items() if not _is_default(handler)]:
        raise ConfigurationError(
            f"handle_signals would replace the signal handler of {' and '.join(owned)}, which belongs "
            "to other code, such as a web server, another worker or your program. Set "
            "handle_signals=False, and call the worker's stop() where your program learns that it must "
            "stop: at the end of a web app's lifespan, or in your own signal handler."
        )
    loop = asyncio.get_running_loop()

    # Not loop.add_signal_handler: its removal installs a default handler, not the earlier one.
    def receive(number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(on_signal, signal.Signals(number))

    try:
        for number in earlier:
            signal.signal(number, receive)
        yield
    finally:
        for number, handler in earlier.items():
            # Other code may have installed its handler in the meantime.
            if signal.getsignal(number) is receive:
                signal.signal(number, handler)


def _is_default(handler: object) -> bool:
    """Whether Python or asyncio installed the handler, so that no other code expects the signal.

    `asyncio.run` installs one for SIGINT, as do `anyio.run` and `uvloop.run`, which use its Runner.
    None is a handler that Python did not install, so Python can't restore it.
    """
    if isinstance(handler, functools.partial):
        handler = handler.func
    return (
        handler in (signal.SIG_DFL, signal.default_int_handler)
        or getattr(handler, "__module__", None) == "asyncio.runners"
    )
