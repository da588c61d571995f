"""Keeps the values of our exchanges out of what httpcore logs at DEBUG.

httpcore writes the headers of every answer there, and a Location or a cookie can carry a token. The
names of the events stay, and other exchanges of the same process are left as they are.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_LOGGERS = ("httpcore.connection", "httpcore.http11", "httpcore.proxy")

_OURS: ContextVar[bool] = ContextVar("posten_signering_exchange", default=False)


class _EventNameOnly(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if _OURS.get():
            record.msg, record.args = str(record.msg).partition(" ")[0], None
        return True


_FILTER = _EventNameOnly()


@contextmanager
def event_names_only() -> Generator[None, None, None]:
    """Within the context, and in this task only, httpcore logs events without their values."""
    for name in _LOGGERS:
        # No effect where it is there already; a set-up of logging may have taken it away.
        logging.getLogger(name).addFilter(_FILTER)
    token = _OURS.set(True)
    try:
        yield
    finally:
        _OURS.reset(token)
