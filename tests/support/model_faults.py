"""What can go wrong between a process and the model of the service."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus

from posten_signering.errors import SigningError, TransportError, TransportTimeoutError


class Kind(Enum):
    """What goes wrong with a call."""

    REFUSED = auto()  # no connection: nothing left
    LOST_REQUEST = auto()  # the connection broke before the service had read the request
    LOST_ANSWER = auto()  # the service took the request, the answer never came
    SILENCE = auto()  # the same, told by a timeout
    CUT = auto()  # the head of the answer came, its body broke off
    GATEWAY = auto()  # somebody before the service answered, with `status`
    PAGE = auto()  # somebody before the service answered 200, with a page for browsers
    TRUNCATED = auto()  # an answer whose XML ends too early
    NO_DATE = auto()
    BROKEN_DATE = auto()
    NO_POLL_TIME = auto()
    BROKEN_POLL_TIME = auto()
    RAISES = auto()  # whatever `error` says


BEFORE = {Kind.REFUSED, Kind.LOST_REQUEST, Kind.RAISES}
AFTER = {Kind.LOST_ANSWER, Kind.SILENCE}
LOSES_ANSWER = {Kind.LOST_REQUEST, Kind.LOST_ANSWER, Kind.SILENCE, Kind.CUT, Kind.PAGE}
HEADERS = {Kind.NO_DATE, Kind.BROKEN_DATE, Kind.NO_POLL_TIME, Kind.BROKEN_POLL_TIME}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong with one call."""

    kind: Kind
    status: int = HTTPStatus.SERVICE_UNAVAILABLE
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"<html>Sorry</html>"
    error: SigningError | None = None

    def raised(self) -> SigningError:
        """What the process's transport says of it."""
        match self.kind:
            case Kind.REFUSED:
                return TransportError("The service can't be reached.", request_may_have_left=False)
            case Kind.SILENCE:
                return TransportTimeoutError("It was silent.", request_may_have_left=True)
            case _:
                lost = TransportError("The connection was lost.", request_may_have_left=True)
                return self.error or lost
