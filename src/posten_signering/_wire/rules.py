"""The rules of a job that the schema can't say, and the public paths of those it can. Pure.

The schema is the validator of lengths, patterns and counts (`xml.faults`): nothing of that is here.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeVar

from posten_signering._job import DirectJob, DirectSigner
from posten_signering._wire.xml import SchemaFault
from posten_signering.errors import Violation

W = TypeVar("W")

# Everything but the production Char of XML 1.0 (fifth edition, 2.2).
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# Where a schema path leads in the public values. An index is filled in for each `[]`.
_PUBLIC_PATHS = {
    "reference": "reference",
    "exit-urls": "exit_urls",
    "exit-urls/completion-url": "exit_urls.completion",
    "exit-urls/rejection-url": "exit_urls.rejection",
    "exit-urls/error-url": "exit_urls.error",
    "status-retrieval-method": "status_retrieval_method",
    "polling-queue": "sender.polling_queue",
    "signer": "signers",
    "signer[]": "signers[]",
    "signer[]/personal-identification-number": "signers[].personal_identification_number",
    "signer[]/signer-identifier": "signers[].custom_identifier",
    "signer[]/signature-type": "signers[].signature_type",
    "signer[]/on-behalf-of": "signers[].on_behalf_of",
    "sender/organization-number": "sender.organization_number",
    "title": "title",
    "description": "description",
    "documents": "documents",
    "documents/document": "documents",
    "documents/document[]": "documents[]",
    "documents/document[]/title": "documents[].title",
    "required-authentication": "authentication_level",
    "identifier-in-signed-documents": "identifier_in_signed_documents",
}
_REPEATED = frozenset({"signer", "document"})


class Violations:
    """Collects what is wrong with a job while its messages are built.

    Each method gives back a value that the message can be built from, so that one pass finds every
    violation.
    """

    def __init__(self) -> None:
        self._found = list[Violation]()

    def add(self, path: str, rule: str) -> None:
        """Notes one violation, unless one of the same path is there: the first says enough."""
        if not any(each.path == path for each in self._found):
            self._found.append(Violation(path=path, rule=rule))

    def text(self, path: str, value: object) -> str:
        """The value, if it is text that XML can carry."""
        if not isinstance(value, str):
            self.add(path, f"must be text, not {type(value).__name__}")
            return "-"
        unfit = _NOT_IN_XML.search(value)
        if unfit is not None:
            self.add(
                path,
                f"holds a character that XML can't carry: U+{ord(unfit[0]):04X} "
                f"at position {unfit.start()}",
            )
        return _NOT_IN_XML.sub("-", value)

    def optional_text(self, path: str, value: object) -> str | None:
        """As `text`; None stays None."""
        return None if value is None else self.text(path, value)

    def member(
        self, path: str, public: type[StrEnum], value: object, wire: Callable[[str], W]
    ) -> W | None:
        """The wire's member for a member of a public enumeration; None stays None."""
        if value is None:
            return None
        if value not in list(public):
            self.add(path, f"must be of {public.__name__}: {', '.join(public.__members__)}")
            return None
        return wire(public(str(value)))

    def schema(self, faults: Sequence[SchemaFault]) -> None:
        """Notes what the schema found, under public paths."""
        for fault in faults:
            self.add(_public_path(fault), fault.rule)

    def all(self) -> tuple[Violation, ...]:
        """What was found."""
        return tuple(self._found)


def _public_path(fault: SchemaFault) -> str:
    repeated = [index for name, index in fault.path if name in _REPEATED and index is not None]
    wire = "/".join(
        f"{name}[]" if name in _REPEATED and index is not None else name
        for name, index in fault.path
    )
    public = _PUBLIC_PATHS.get(wire, wire)
    for index in repeated:
        public = public.replace("[]", f"[{index}]", 1)
    return public


def look_at_signers(job: DirectJob, violations: Violations) -> None:
    """At least one signer, each with one identifier, no two with the same.

    The service tells signers apart by the text of their identifier, of whichever kind.
    """
    if not job.signers:
        violations.add("signers", "at least one is required")
    times = Counter(map(_identifier, job.signers))
    for index, signer in enumerate(job.signers):
        both = (signer.personal_identification_number, signer.custom_identifier)
        if both.count(None) != 1:
            violations.add(
                f"signers[{index}]",
                "exactly one of personal_identification_number and custom_identifier is required",
            )
        elif times[_identifier(signer)] > 1:
            violations.add(
                f"signers[{index}]", "has the same identifier as another signer of the job"
            )


def _identifier(signer: DirectSigner) -> object:
    number = signer.personal_identification_number
    return signer.custom_identifier if number is None else number
