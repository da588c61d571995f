"""Removes the values of this package's exchanges from what httpcore logs at DEBUG.

httpcore logs the headers of every response, and a Location header or a cookie can hold a token. The names
of the events stay in the log. Other exchanges in the same process are logged as usual.
"""

import logging
from contextvars import ContextVar

_LOGGERS = [
    logging.getLogger(name) for name in ("httpcore.connection", "httpcore.http11", "httpcore.proxy")
]

_IN_OUR_EXCHANGE: ContextVar[bool] = ContextVar("posten_signering_exchange", default=False)


class _EventNameOnly(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if _IN_OUR_EXCHANGE.get():
            record.msg, record.args = str(record.msg).partition(" ")[0], None
        return True


_FILTER = _EventNameOnly()


class EventNamesOnly:
    """A context in which httpcore logs events without their values, for the current task only.

    A class, because it is entered for each chunk of a download: a generator takes three times as long.
    """

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        for logger in _LOGGERS:
            # Checked each time, because the application's logging setup may have removed the filter.
            if _FILTER not in logger.filters:
                logger.addFilter(_FILTER)
        self._token = _IN_OUR_EXCHANGE.set(True)

    def __exit__(self, *_: object) -> None:
        _IN_OUR_EXCHANGE.reset(self._token)
