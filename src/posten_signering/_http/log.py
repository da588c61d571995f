"""Removes the values of this package's exchanges from what httpcore logs at DEBUG.

httpcore logs the headers of every response, and a Location header or a cookie can hold a token. The names
of the events stay in the log. Other exchanges in the same process are logged as usual.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_LOGGERS = ("httpcore.connection", "httpcore.http11", "httpcore.proxy")

_IN_OUR_EXCHANGE: ContextVar[bool] = ContextVar("posten_signering_exchange", default=False)


class _EventNameOnly(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if _IN_OUR_EXCHANGE.get():
            record.msg, record.args = str(record.msg).partition(" ")[0], None
        return True


_FILTER = _EventNameOnly()


@contextmanager
def event_names_only() -> Generator[None, None, None]:
    """A context in which httpcore logs events without their values, for the current task only."""
    for name in _LOGGERS:
        # Added each time, because the application's logging setup may have removed it. Adding a filter
        # twice has no effect.
        logging.getLogger(name).addFilter(_FILTER)
    token = _IN_OUR_EXCHANGE.set(True)
    try:
        yield
    finally:
        _IN_OUR_EXCHANGE.reset(token)
