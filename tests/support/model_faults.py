"""Faults that can occur between a process and the model of the service."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus

from posten_signering.errors import SigningError, TransportError, TransportTimeoutError


class Kind(Enum):
    REFUSED = auto()  # the connection was refused, so no byte was sent
    LOST_REQUEST = auto()  # the connection broke before the service had read the request
    LOST_ANSWER = auto()  # the service processed the request, but its response was lost
    SILENCE = auto()  # as LOST_ANSWER, and the client timed out
    CUT = auto()  # the client got the response's headers, but the connection broke in the body
    GATEWAY = auto()  # a gateway responded instead of the service, with `status`
    PAGE = auto()  # a gateway responded with status 200 and an HTML page
    TRUNCATED = auto()  # the response's XML ends too early
    NO_DATE = auto()
    BROKEN_DATE = auto()
    NO_POLL_TIME = auto()
    BROKEN_POLL_TIME = auto()
    RAISES = auto()  # the transport raises `error`


BEFORE = {Kind.REFUSED, Kind.LOST_REQUEST, Kind.RAISES}
AFTER = {Kind.LOST_ANSWER, Kind.SILENCE}
LOSES_ANSWER = {Kind.LOST_REQUEST, Kind.LOST_ANSWER, Kind.SILENCE, Kind.CUT, Kind.PAGE}
DATE = {Kind.NO_DATE, Kind.BROKEN_DATE}
POLL_TIME = {Kind.NO_POLL_TIME, Kind.BROKEN_POLL_TIME}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault of one call."""

    kind: Kind
    status: int = HTTPStatus.SERVICE_UNAVAILABLE
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"<html>Sorry</html>"
    error: SigningError | None = None

    def raised(self) -> SigningError:
        """The error that the process's transport raises."""
        match self.kind:
            case Kind.REFUSED:
                return TransportError("The service can't be reached.", request_may_have_left=False)
            case Kind.SILENCE:
                return TransportTimeoutError(
                    "The service did not respond in time.", request_may_have_left=True
                )
            case _:
                lost = TransportError("The connection was lost.", request_may_have_left=True)
                return self.error or lost
