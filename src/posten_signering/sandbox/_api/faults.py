"""Faults to develop against: what can go wrong between a client and the service. Performs no I/O.

A `Fault` is a value that says what happens and to which requests. `Faults` holds those that will act, and
gives each to the requests that it meets. `spoiled` puts a fault into a message.
"""

import random
import re
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from lxml import etree

from posten_signering.sandbox._intake.xml import SERVICE_NAMESPACE, Element, local_name


class Operation(StrEnum):
    """The operations of the API, one for each endpoint of the service."""

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
        DELAY: The answer comes `seconds` later.
        RESET: The connection is reset, and no answer comes.
        TRUNCATED_BODY: The connection is closed in the middle of the answer's body.
        SERVER_ERROR: `status` (500) with a page of HTML, as from a gateway.
        UNAVAILABLE: 503 with a page of HTML and a `Retry-After` of `seconds` (1).
        ERROR_DOCUMENT: `status` with an error document with the error code `code`.
        RATE_LIMITED: The organisation is blocked for `seconds` (30), as after too many calls.
        MALFORMED_XML: The message ends in its middle.
        DOCTYPE: The message has a DOCTYPE.
        ENTITIES: The message has a DOCTYPE with entities, each a tenfold of the one before.
        WRONG_ROOT: The message is another one than was asked for.
        DOUBLED_ELEMENTS: What stands once in the message stands there twice.
        UNKNOWN_ELEMENTS: The message has elements and attributes that no schema knows.
        UNKNOWN_STATUSES: Job and signers have a status that nobody knows.
        MISSING_HEADER: The answer lacks the header `header`.
        CLOCK_SKEW: `Date` and the next permitted poll time are off by `seconds`, which may be
            negative.
        FOREIGN_CERTIFICATE: A new connection meets the certificate of another organisation.
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
    UNKNOWN_STATUSES = "unknown_statuses"
    MISSING_HEADER = "missing_header"
    CLOCK_SKEW = "clock_skew"
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
}
"""Which of `seconds`, `status`, `code`, `header` and `after` a kind of fault takes."""

_LONGEST = 365 * 24 * 3600

_NEEDS = {
    FaultKind.DELAY: {"seconds"},
    FaultKind.ERROR_DOCUMENT: {"code"},
    FaultKind.MISSING_HEADER: {"header"},
    FaultKind.CLOCK_SKEW: {"seconds"},
}
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
"""The error codes of the service; a fault may give any other too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something that goes wrong, and the requests that it happens to.

    Attributes:
        kind: What goes wrong.
        times: It happens to so many requests; None: to every one.
        operation: It happens to this operation only.
        path: It happens to paths that match this pattern only, `*` and `?` as in file names; the
            path begins with `/api/` and has no query.
        probability: How likely it happens to a request that it could happen to, above 0 to 1.
        after: Whether the request takes effect first: a job is created, a change leased. With a
            delay, a reset, a server error, an unavailable service.
        seconds: With a delay, a clock skew, an unavailable service, a rate limit.
        status: The HTTP status of a server error or an error document; by default 500, or that
            which the service gives with the code.
        code: The `error-code` of an error document.
        header: The header that is missing, such as `X-Next-permitted-poll-time` or `Date`.

    Raises:
        ValueError: A field is missing, out of range, or means nothing with this kind.
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
            raise ValueError(f"The fault {self.kind} takes no {name}.")
        for name in sorted(_NEEDS.get(self.kind, set()) - given):
            raise ValueError(f"The fault {self.kind} needs {name}.")
        self._check_range()

    def _check_range(self) -> None:
        if self.times is not None and self.times < 1:
            raise ValueError("times must be 1 or more, or None for every request.")
        if not 0 < self.probability <= 1:
            raise ValueError("probability must be above 0, and at most 1.")
        if self.seconds is not None and self.seconds < 0 and self.kind is not FaultKind.CLOCK_SKEW:
            raise ValueError(f"The seconds of the fault {self.kind} can't be negative.")
        if self.status is not None and not 400 <= self.status <= 599:
            raise ValueError("status must be one that says no, from 400 to 599.")
        # At most one year. Rejects NaN.
        if self.seconds is not None and not abs(self.seconds) <= _LONGEST:
            raise ValueError(f"seconds must be at most {_LONGEST}.")
        if self.code is not None and re.fullmatch(r"[\w.-]{1,100}", self.code) is None:
            raise ValueError("code must be 1 to 100 letters, digits and underscores.")
        if self.header is not None and re.fullmatch(r"[!-9;-~]{1,100}", self.header) is None:
            raise ValueError("header must be the name of a header.")
        if self.kind is FaultKind.FOREIGN_CERTIFICATE and (self.operation or self.path):
            raise ValueError("A connection has neither an operation nor a path.")

    @property
    def http_status(self) -> int:
        """The HTTP status that a server error or an error document is answered with."""
        return self.status or _STATUSES.get(self.code or "INTERNAL_ERROR", 400)

    def concerns(self, operation: Operation | None, path: str) -> bool:
        """Whether it could happen to a request."""
        return self.operation in {None, operation} and (
            self.path is None or fnmatchcase(path, self.path)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingFault:
    """A fault that will act.

    Attributes:
        number: Its number, to remove it by.
        fault: What it does.
        left: On how many more requests it acts; None: on every one.
    """

    number: int
    fault: Fault
    left: int | None


class Faults:
    """The faults that will act, in the order in which they were added.

    Args:
        random: A number from 0 up to 1, for faults with a probability.
        changed: Called when the pending faults have changed.
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
        """Those that will act, oldest first."""
        return tuple(self._pending.values())

    def add(self, fault: Fault) -> int:
        """Lets a fault happen from the next request on.

        Returns:
            Its number, to remove it by.
        """
        self._last_number += 1
        self._pending[self._last_number] = PendingFault(
            number=self._last_number, fault=fault, left=fault.times
        )
        self._changed()
        return self._last_number

    def remove(self, number: int) -> bool:
        """Ends one fault; says whether there was one with this number."""
        found = self._pending.pop(number, None) is not None
        if found:
            self._changed()
        return found

    def clear(self) -> None:
        """Ends all faults."""
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
        """The faults that happen to a request now; each counts as having happened.

        Args:
            kinds: Those that are asked for.
            operation: The request's operation, if it has one.
            path: The request's path.
            fits: Whether a fault can happen here.
            most: So many at most; None: all.
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


# How a message is spoiled.

_FOREIGN_NAMESPACE = "urn:posten-signering-sandbox:unknown"
_PLACE = "the-place-of-the-entity"
_STATUS_NAMES = {"signature-job-status", "status"}


def spoiled(content: bytes, kind: FaultKind) -> bytes | None:
    """A message with the fault in it; None when the fault finds nothing to spoil."""
    if kind is FaultKind.MALFORMED_XML:
        return content[: len(content) // 2]
    root = etree.fromstring(content)
    # Signatures are XML too, but no messages of the service.
    if etree.QName(root).namespace != SERVICE_NAMESPACE:
        return None
    return _SPOILERS[kind](root)


def _with_doctype(root: Element) -> bytes:
    return _prefixed(root, f"<!DOCTYPE {local_name(root)}>")


def _with_entities(root: Element) -> bytes:
    first = next(element for element in root.iter(etree.Element) if len(element) == 0)
    first.text = _PLACE
    entities = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{number} "{f"&a{number - 1};" * 10}">' for number in range(1, 10)
    )
    spoiled = _prefixed(root, f"<!DOCTYPE {local_name(root)} [{entities}]>")
    return spoiled.replace(_PLACE.encode(), b"&a9;")


def _of_another_kind(root: Element) -> bytes:
    # A message of the service, but one that it never answers.
    root.tag = f"{{{SERVICE_NAMESPACE}}}direct-signature-job-manifest"
    return _serialized(root)


def _with_doubles(root: Element) -> bytes:
    for parent in [element for element in root.iter(etree.Element) if len(element)]:
        names = [child.tag for child in parent]
        for child in [child for child in parent if names.count(child.tag) == 1]:
            child.addnext(deepcopy(child))
    return _serialized(root)


def _with_unknown_elements(root: Element) -> bytes:
    for element in list(root.iter(etree.Element)):
        element.set("unknown-attribute", "unknown")
        if len(element):
            element.insert(0, element.makeelement(f"{{{SERVICE_NAMESPACE}}}unknown-element"))
            etree.SubElement(element, f"{{{_FOREIGN_NAMESPACE}}}unknown").text = "unknown"
    return _serialized(root)


def _with_unknown_statuses(root: Element) -> bytes | None:
    found = [
        element for element in root.iter(etree.Element) if local_name(element) in _STATUS_NAMES
    ]
    for element in found:
        element.text = "NOBODY_KNOWS_THIS"
    return _serialized(root) if found else None


_SPOILERS: Mapping[FaultKind, Callable[[Element], bytes | None]] = {
    FaultKind.DOCTYPE: _with_doctype,
    FaultKind.ENTITIES: _with_entities,
    FaultKind.WRONG_ROOT: _of_another_kind,
    FaultKind.DOUBLED_ELEMENTS: _with_doubles,
    FaultKind.UNKNOWN_ELEMENTS: _with_unknown_elements,
    FaultKind.UNKNOWN_STATUSES: _with_unknown_statuses,
}

SPOILING = frozenset({FaultKind.MALFORMED_XML, *_SPOILERS})
"""The faults that spoil messages."""


def _serialized(root: Element) -> bytes:
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", standalone=True)


def _prefixed(root: Element, doctype: str) -> bytes:
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + doctype.encode() + etree.tostring(root)
