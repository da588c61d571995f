"""Faults that a developer injects: failures between a client and the service. Performs no I/O.

A `Fault` says what goes wrong and with which requests. `Faults` holds the pending faults and selects those
that happen to a request.
"""

import random
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from posten_signering.sandbox._values.masking import masked


class Operation(StrEnum):
    """The operations of the API, one for each endpoint of the service.

    Attributes:
        CHECK_ACCESS: Checks that the certificate has access.
        CREATE: Creates a job.
        POLL: Gets the next status change of a polling queue.
        STATUS: Gets the status of a job with a status query token.
        NEW_REDIRECT_URL: Requests a new redirect URL for a signer.
        PADES: Gets the signed PDF of a job.
        XADES: Gets the XAdES signature of a signer.
        CONFIRM: Confirms a status change.
        DELETE_DOCUMENTS: Deletes the documents of a job.
    """

    CHECK_ACCESS = "check_access"
    CREATE = "create"
    POLL = "poll"
    STATUS = "status"
    NEW_REDIRECT_URL = "new_redirect_url"
    PADES = "pades"
    XADES = "xades"
    CONFIRM = "confirm"
    DELETE_DOCUMENTS = "delete_documents"


class FaultKind(StrEnum):
    """What goes wrong.

    Attributes:
        DELAY: The response comes `seconds` later.
        RESET: The connection is reset without a response.
        TRUNCATED_BODY: The connection is closed in the middle of the response body.
        SERVER_ERROR: The HTTP status `status` (default 500) with an HTML page, as from a gateway.
        UNAVAILABLE: HTTP 503 with an HTML page, and a `Retry-After` of `seconds` (default 1).
        ERROR_DOCUMENT: The HTTP status `status` and an error document with the error code `code`.
        RATE_LIMITED: The organisation is blocked, as after too many calls: for `seconds` (default: the
            `block` of the sandbox's rate limit, 30).
        MALFORMED_XML: Only the first half of the message is sent.
        DOCTYPE: The message has a DOCTYPE.
        ENTITIES: The message has a DOCTYPE with nested entities; each expands the one before ten times.
        WRONG_ROOT: The root element is that of a different message.
        DOUBLED_ELEMENTS: Every element that occurs once occurs twice.
        UNKNOWN_ELEMENTS: The message has elements and attributes that are not in the schema.
        UNKNOWN_SIGNER_STATUS: Every signer has a status that is not in the schema.
        UNKNOWN_JOB_STATUS: The job has a status that is not in the schema.
        OVERSIZED_BODY: The body is followed by spaces, up to 1 GiB; `Content-Length` has that length.
        ENDLESS_BODY: The body is followed by spaces without end, and the response has no `Content-Length`.
        MISSING_HEADER: The response does not have the header `header`.
        CLOCK_SKEW: `seconds`, which may be negative, are added to `Date` and to the next permitted
            poll time.
        FAR_POLL_TIME: `seconds` are added to the next permitted poll time of the response. The queue
            may be polled as before.
        FOREIGN_CERTIFICATE: On a new connection, the server presents a different organisation's
            certificate.
    """

    DELAY = "delay"
    RESET = "reset"
    TRUNCATED_BODY = "truncated_body"
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"
    ERROR_DOCUMENT = "error_document"
    RATE_LIMITED = "rate_limited"
    MALFORMED_XML = "malformed_xml"
    DOCTYPE = "doctype"
    ENTITIES = "entities"
    WRONG_ROOT = "wrong_root"
    DOUBLED_ELEMENTS = "doubled_elements"
    UNKNOWN_ELEMENTS = "unknown_elements"
    UNKNOWN_SIGNER_STATUS = "unknown_signer_status"
    UNKNOWN_JOB_STATUS = "unknown_job_status"
    OVERSIZED_BODY = "oversized_body"
    ENDLESS_BODY = "endless_body"
    MISSING_HEADER = "missing_header"
    CLOCK_SKEW = "clock_skew"
    FAR_POLL_TIME = "far_poll_time"
    FOREIGN_CERTIFICATE = "foreign_certificate"


TAKES: Mapping[FaultKind, frozenset[str]] = {
    FaultKind.DELAY: frozenset({"seconds", "after"}),
    FaultKind.RESET: frozenset({"after"}),
    FaultKind.SERVER_ERROR: frozenset({"status", "after"}),
    FaultKind.UNAVAILABLE: frozenset({"seconds", "after"}),
    FaultKind.ERROR_DOCUMENT: frozenset({"status", "code"}),
    FaultKind.RATE_LIMITED: frozenset({"seconds"}),
    FaultKind.MISSING_HEADER: frozenset({"header"}),
    FaultKind.CLOCK_SKEW: frozenset({"seconds"}),
    FaultKind.FAR_POLL_TIME: frozenset({"seconds"}),
}
"""The fields that a kind of fault takes, of `seconds`, `status`, `code`, `header` and `after`."""

NEEDS: Mapping[FaultKind, frozenset[str]] = {
    FaultKind.DELAY: frozenset({"seconds"}),
    FaultKind.ERROR_DOCUMENT: frozenset({"code"}),
    FaultKind.MISSING_HEADER: frozenset({"header"}),
    FaultKind.CLOCK_SKEW: frozenset({"seconds"}),
    FaultKind.FAR_POLL_TIME: frozenset({"seconds"}),
}
"""The fields that a kind of fault needs."""

OF_CONNECTIONS = frozenset({FaultKind.FOREIGN_CERTIFICATE})
"""The kinds that happen to a connection, not to a request. They have no `operation` and no `path`."""

LONGEST = 365 * 24 * 3600
"""The largest number of `seconds`: one year."""

CODE = "[A-Za-z0-9_.-]{1,100}"
"""The pattern of an error code."""

HEADER = "[!-9;-~]{1,100}"
"""The pattern of the name of an HTTP header."""

_STATUSES = {
    "ASICE_VALIDATION_FAILED": 400,
    "BROKER_NOT_AUTHORIZED": 403,
    "DOCUMENTS_DELETED": 410,
    "DOCUMENTS_NOT_DELETABLE": 409,
    "FEATURE_NOT_AVAILABLE": 403,
    "INTERNAL_ERROR": 500,
    "INVALID_STATUS_QUERY_TOKEN": 403,
    "NOT_AUTHORIZED": 403,
    "NOT_FOUND": 404,
    "SCHEMA_VALIDATION_ERROR": 400,
    "SIGNER_HAS_FINISHED": 409,
    "SIGNING_CEREMONY_NOT_COMPLETED": 404,
    "TOO_EAGER_POLLING": 429,
}
ERROR_CODES = tuple(_STATUSES)
"""The error codes of the service. A fault may also use a code that is not among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A failure, and the requests that it happens to.

    Attributes:
        kind: What goes wrong.
        times: The number of requests that the fault happens to; None means every request.
        operation: Limits the fault to this operation; None means all operations.
        path: Limits the fault to paths that match this pattern, with `*` and `?` as in file names. A
            path begins with `/api/` and has no query.
        probability: The probability that the fault happens to a request that matches: above 0, at
            most 1.
        after: Whether the request takes effect first, so that a job is created or a change is leased.
            For DELAY, RESET, SERVER_ERROR and UNAVAILABLE.
        seconds: A time in seconds. For DELAY, CLOCK_SKEW, FAR_POLL_TIME, UNAVAILABLE and RATE_LIMITED.
        status: The HTTP status, for SERVER_ERROR (default 500) and ERROR_DOCUMENT (default: the
            status that the service sends with the code).
        code: The `error-code` of an ERROR_DOCUMENT.
        header: The name of the missing header, such as `X-Next-permitted-poll-time` or `Date`.

    Raises:
        ValueError: A field is missing, is out of range, or does not belong to this kind.
    """

    kind: FaultKind
    times: int | None = None
    operation: Operation | None = None
    path: str | None = None
    probability: float = 1.0
    after: bool = False
    seconds: float | None = None
    status: int | None = None
    code: str | None = None
    header: str | None = None

    def __post_init__(self) -> None:
        given = {
            name
            for name in ("seconds", "status", "code", "header")
            if getattr(self, name) is not None
        }
        given |= {"after"} if self.after else set()
        for name in sorted(given - TAKES.get(self.kind, frozenset())):
            raise ValueError(f"A fault of kind {self.kind} has no field {name}: leave it out.")
        for name in sorted(NEEDS.get(self.kind, frozenset()) - given):
            raise ValueError(f"A fault of kind {self.kind} needs the field {name}: add it.")
        for name in ("path", "code", "header"):
            text = getattr(self, name)
            if text is not None and masked(text) != text:
                raise ValueError(
                    f"{name} must not contain a national identity number, because the overview shows it."
                )
        self._check_range()

    def _check_range(self) -> None:
        if self.times is not None and self.times < 1:
            raise ValueError("times must be at least 1, or None for every request.")
        if not 0 < self.probability <= 1:
            raise ValueError("probability must be above 0 and at most 1.")
        if self.seconds is not None and self.seconds < 0 and self.kind is not FaultKind.CLOCK_SKEW:
            raise ValueError(f"seconds must not be negative in a fault of kind {self.kind}.")
        if self.status is not None and not 400 <= self.status <= 599:
            raise ValueError("status must be the HTTP status of an error, from 400 to 599.")
        # At most one year. Rejects NaN.
        if self.seconds is not None and not abs(self.seconds) <= LONGEST:
            raise ValueError(f"seconds must be between -{LONGEST} and {LONGEST} (one year).")
        if self.code is not None and re.fullmatch(CODE, self.code) is None:
            raise ValueError(
                "code must be 1 to 100 letters (A to Z), digits, underscores, dots and hyphens."
            )
        if self.header is not None and re.fullmatch(HEADER, self.header) is None:
            raise ValueError("header must be an HTTP header name of at most 100 characters.")
        if self.kind in OF_CONNECTIONS and (self.operation, self.path) != (None, None):
            raise ValueError(
                f"A fault of kind {self.kind} happens to a connection, not to a request: leave"
                " operation and path out."
            )

    @property
    def http_status(self) -> int:
        """The HTTP status of the response, for a server error or an error document."""
        return self.status or _STATUSES.get(self.code or "INTERNAL_ERROR", 400)

    def concerns(self, operation: Operation | None, path: str) -> bool:
        """Whether the fault's operation and path match those of a request."""
        return self.operation in {None, operation} and (
            self.path is None or fnmatchcase(path, self.path)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingFault:
    """A fault that will happen to requests.

    Attributes:
        number: The number that removes the fault: see `Faults.remove`.
        fault: The fault.
        left: The number of requests that the fault will still happen to; None means every request.
    """

    number: int
    fault: Fault
    left: int | None


class Faults:
    """The pending faults, in the order in which they were added.

    Args:
        random: Returns a number from 0 up to, but not including, 1. Used for faults with a probability.
        changed: Called whenever the pending faults change.
    """

    def __init__(
        self,
        *,
        random: Callable[[], float] = random.random,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._random = random
        self._changed = changed
        self._pending: dict[int, PendingFault] = {}
        self._last_number = 0

    @property
    def pending(self) -> tuple[PendingFault, ...]:
        """The pending faults, oldest first."""
        return tuple(self._pending.values())

    def add(self, fault: Fault) -> int:
        """Adds a fault, which happens from the next request on.

        Returns:
            The number of the fault, for `remove`.
        """
        self._last_number += 1
        self._pending[self._last_number] = PendingFault(
            number=self._last_number, fault=fault, left=fault.times
        )
        self._changed()
        return self._last_number

    def remove(self, number: int) -> bool:
        """Removes a fault. Returns whether a fault with this number was pending."""
        removed = self._pending.pop(number, None) is not None
        if removed:
            self._changed()
        return removed

    def clear(self) -> None:
        """Removes all faults."""
        self._pending.clear()
        self._changed()

    def take(
        self,
        kinds: Collection[FaultKind],
        *,
        operation: Operation | None = None,
        path: str = "",
        fits: Callable[[Fault], bool] = lambda _: True,
        most: int | None = None,
    ) -> tuple[Fault, ...]:
        """The faults that happen to a request now. Each of them is counted as having happened.

        Args:
            kinds: The kinds to select from.
            operation: The request's operation; None when the path is unknown.
            path: The request's path.
            fits: Returns whether a fault can happen to this request.
            most: The largest number of faults to select; None means all.
        """
        taken: list[Fault] = []
        for pending in self.pending:
            fault = pending.fault
            if len(taken) == most:
                break
            if fault.kind not in kinds or not fault.concerns(operation, path) or not fits(fault):
                continue
            if fault.probability < 1 and self._random() >= fault.probability:
                continue
            taken.append(fault)
            self._count(pending)
        return tuple(taken)

    def _count(self, pending: PendingFault) -> None:
        if pending.left is None:
            return
        if pending.left == 1:
            del self._pending[pending.number]
        else:
            self._pending[pending.number] = replace(pending, left=pending.left - 1)
        self._changed()
