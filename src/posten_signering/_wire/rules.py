"""The rules of a job that the schema can't say, and the public paths of those it can. Pure.

The schema is the validator of lengths, patterns and counts (`xml.faults`): nothing of that is here.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeVar

from posten_signering._values.job import DirectJob, DirectSigner, Document, DocumentType, ExitUrls
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
        self._replaced = set[str]()

    def add(self, path: str, rule: str) -> None:
        """Notes one violation, once."""
        violation = Violation(path=path, rule=rule)
        if violation not in self._found:
            self._found.append(violation)

    def text(self, path: str, value: object) -> str:
        """The value, if it is text that XML can carry."""
        if not isinstance(value, str):
            self.add(path, f"must be text, not {type(value).__name__}")
            self._replaced.add(path)
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

    def of_type(self, path: str, value: object, public: type) -> bool:
        """Whether the value is one of that class."""
        right = isinstance(value, public)
        if not right:
            self.add(path, f"must be {public.__name__}, not {type(value).__name__}")
        return right

    def sequence(self, path: str, values: Sequence[W]) -> Sequence[W]:
        """The values; none where they are no sequence."""
        if isinstance(values, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may not check types
            return values
        self.add(path, f"must be a sequence, not {type(values).__name__}")
        return ()

    def schema(self, faults: Sequence[SchemaFault]) -> None:
        """Notes what the schema found, under public paths."""
        for fault in faults:
            path = _public_path(fault)
            if path not in self._replaced:
                self.add(path, fault.rule)

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
    times = Counter(text for each in job.signers for text in _identifiers(each))
    for index, signer in enumerate(job.signers):
        both = (signer.personal_identification_number, signer.custom_identifier)
        if both.count(None) != 1:
            violations.add(
                f"signers[{index}]",
                "exactly one of personal_identification_number and custom_identifier is required",
            )
        if any(times[text] > 1 for text in _identifiers(signer)):
            violations.add(
                f"signers[{index}]", "has the same identifier as another signer of the job"
            )


def with_both_identifiers(job: DirectJob) -> bool:
    """Whether some signer has two identifiers, of which a message takes one."""
    return any(
        each.personal_identification_number is not None and each.custom_identifier is not None
        for each in job.signers
    )


def _identifiers(signer: DirectSigner) -> set[str]:
    given = (signer.personal_identification_number, signer.custom_identifier)
    # What is no text is told elsewhere, and may not even be hashable.
    return {each for each in given if isinstance(each, str)}  # pyright: ignore[reportUnnecessaryIsInstance] - callers may not check types


def shape(job: DirectJob) -> tuple[Violation, ...]:
    """What is not even of the type that it should be, so that nothing else can be looked at."""
    violations = Violations()
    violations.of_type("exit_urls", job.exit_urls, ExitUrls)
    # A job makes a tuple of all that can be gone through.
    for index, signer in enumerate(violations.sequence("signers", job.signers)):
        violations.of_type(f"signers[{index}]", signer, DirectSigner)
    for index, document in enumerate(violations.sequence("documents", job.documents)):
        path = f"documents[{index}]"
        if violations.of_type(path, document, Document):
            violations.member(f"{path}.type", DocumentType, document.type or "", str)
            content = document.content
            if not (isinstance(content, (bytes, str)) or hasattr(content, "__fspath__")):
                violations.add(
                    f"{path}.content",
                    f"must be bytes or a path, not {type(content).__name__}",
                )
    return violations.all()
