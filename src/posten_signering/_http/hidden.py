"""Hides this package's exchanges from the log of httpcore and from OpenTelemetry's instrumentation of httpx.

A URL, a Location header or a cookie can hold a token. Other exchanges in the same process are logged and
instrumented as usual.
"""

import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial

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


class Hidden:
    """A context for one step of an exchange, for the current task only.

    In it, httpcore logs the names of its events without values, and OpenTelemetry makes no span or metric
    of the exchange, and adds no header to it.

    A class, because it is entered for each chunk of a download: a generator takes three times as long.
    """

    __slots__ = ("_end_suppression", "_token")

    def __enter__(self) -> None:
        for logger in _LOGGERS:
            # Checked each time, because the application's logging setup may have removed the filter.
            if _FILTER not in logger.filters:
                logger.addFilter(_FILTER)
        self._token = _IN_OUR_EXCHANGE.set(True)
        self._end_suppression = _suppress_opentelemetry()

    def __exit__(self, *_: object) -> None:
        try:
            _IN_OUR_EXCHANGE.reset(self._token)
        except ValueError:
            # Python ends a task that was pending when its loop was closed in a different context. The task's
            # own context has ended with it.
            return
        if self._end_suppression is not None:
            self._end_suppression()


def _suppress_opentelemetry() -> Callable[[], None] | None:
    """Suppresses OpenTelemetry's HTTP instrumentations. Returns the function that ends this.

    None if OpenTelemetry is not in the process. It is looked up each time, because an application may load
    it, and switch on an instrumentation, while a client is open.
    """
    context = sys.modules.get("opentelemetry.context")
    # The key is the last name that the module defines, so it is absent while the module is being imported.
    key = getattr(context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", None)
    if context is None or key is None:
        return None
    return partial(context.detach, context.attach(context.set_value(key, True)))
