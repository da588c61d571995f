"""Finds every rule that a job breaks, and names the field by its public path. Pure.

The schema checks lengths, patterns and counts (`xml.faults`). Only rules that it can't express are here.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, cast, get_args, get_origin, get_type_hints

from posten_signering._values.job import DirectJob, DirectSigner, DocumentType, Sender
from posten_signering._values.secret import Secret
from posten_signering._wire.xml import SchemaFault, faults
from posten_signering.errors import Violation

# Every character outside the production Char of XML 1.0 (fifth edition, 2.2).
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# Names of the schema whose public name is different.
_PUBLIC_NAMES = {
    "completion-url": "completion",
    "rejection-url": "rejection",
    "error-url": "error",
    "polling-queue": "sender.polling_queue",
    "signer": "signers",
    "signer-identifier": "custom_identifier",
    "document": "documents",
    "required-authentication": "authentication_level",
}
_REPEATED = frozenset({"signer", "document"})


def type_violations(job: DirectJob, sender: Sender) -> list[Violation]:
    """Every part of a job whose type is wrong, so that no message can be rendered."""
    return _violations(job, sender, fields=False)


def rule_violations(
    job: DirectJob, sender: Sender, messages: Iterable[Secret[bytes]]
) -> tuple[Violation, ...]:
    """Every rule that a job breaks, except those for the content of its documents.

    Args:
        job: A job for which `type_violations` found nothing.
        sender: The sender of the job.
        messages: The rendered messages of the job. The packaged schema validates them.
    """
    of_schema = (
        Violation(path=_public_path(fault), rule=fault.rule)
        for message in messages
        for fault in faults(message)
    )
    violations = [*_signers(job), *_violations(job, sender, fields=True), *of_schema]
    return tuple(dict.fromkeys(violations))


def _violations(job: DirectJob, sender: Sender, *, fields: bool) -> list[Violation]:
    """The violations of text and enum fields, or those of all other parts."""
    # If the sender is the job's own, its violations are found twice: dict.fromkeys drops the second.
    parts = [*_parts("", job, DirectJob), *_parts("sender", sender, Sender)]
    violations = (
        violation
        for path, value, kind in parts
        if _is_field(kind) is fields
        for violation in _of_kind(path, value, kind)
    )
    return list(dict.fromkeys(violations))


# The annotations of the public values are the rules for the type of each field.
_annotations = cache(get_type_hints)


def _parts(path: str, value: object, kind: Any) -> Iterator[tuple[str, object, Any]]:  # noqa: ANN401 - an annotation may be anything
    """The path, value and annotation of every part of a value. Optional parts that are None are left out."""
    if type(None) in get_args(kind):
        if value is None:
            return
        (kind,) = set(get_args(kind)) - {type(None)}
    yield path, value, kind
    if get_origin(kind) is Sequence and isinstance(value, Sequence):
        for index, item in enumerate(cast("Sequence[object]", value)):
            yield from _parts(f"{path}[{index}]", item, get_args(kind)[0])
    elif isinstance(kind, type) and is_dataclass(kind) and isinstance(value, kind):
        for name, annotation in _annotations(kind).items():
            inner = f"{path}.{name}".removeprefix(".")
            yield from _parts(inner, getattr(value, name), annotation)


def _is_field(kind: Any) -> bool:  # noqa: ANN401 - as in _parts
    """Whether the part is a text or enum field, for which a stand-in can be rendered."""
    return kind is not DocumentType and isinstance(kind, type) and issubclass(kind, str)


def _of_kind(path: str, value: object, kind: Any) -> Iterator[Violation]:  # noqa: ANN401 - as in _parts
    rule = _text_rule(value) if kind is str else _type_rule(value, kind)
    if rule is not None:
        yield Violation(path=path, rule=rule)


def _text_rule(value: object) -> str | None:
    if not isinstance(value, str):
        return f"must be text, not {type(value).__name__}"
    unfit = _NOT_IN_XML.search(value)
    if unfit is None:
        return None
    character = f"U+{ord(unfit[0]):04X}"
    return f"must not contain {character}, which XML does not allow (it is at position {unfit.start()})"


def _type_rule(value: object, kind: Any) -> str | None:  # noqa: ANN401 - as in _parts
    if get_origin(kind) is Sequence:
        # DirectJob has already converted any other iterable to a tuple.
        is_right, expected = isinstance(value, Sequence), "a sequence"
    elif not isinstance(kind, type):
        is_right = isinstance(value, (bytes, str)) or hasattr(value, "__fspath__")
        expected = "bytes or a path"
    elif issubclass(kind, StrEnum):
        members = ", ".join(kind.__members__)
        return None if value in list(kind) else f"must be a member of {kind.__name__}: {members}"
    else:
        is_right, expected = isinstance(value, kind), kind.__name__
    return None if is_right else f"must be {expected}, not {type(value).__name__}"


def _signers(job: DirectJob) -> Iterator[Violation]:
    """A job needs at least one signer. Each signer has exactly one identifier, unique within the job.

    An identity number and a custom identifier with the same text count as equal, because the service
    distinguishes signers by that text.
    """
    if not job.signers:
        yield Violation(path="signers", rule="at least one is required")
    times = Counter(text for signer in job.signers for text in _identifiers(signer))
    for index, signer in enumerate(job.signers):
        path = f"signers[{index}]"
        both = (signer.personal_identification_number, signer.custom_identifier)
        if both.count(None) != 1:
            rule = "exactly one of personal_identification_number and custom_identifier is required"
            yield Violation(path=path, rule=rule)
        if any(times[text] > 1 for text in _identifiers(signer)):
            yield Violation(path=path, rule="has the same identifier as another signer of the job")


def _identifiers(signer: DirectSigner) -> set[str]:
    both = (signer.personal_identification_number, signer.custom_identifier)
    # `_violations` reports a value that is not text. It may not be hashable.
    return {text for text in both if isinstance(text, str)}  # pyright: ignore[reportUnnecessaryIsInstance] - callers may not check types


def text(value: object, *, stand_in: str = "-") -> str:
    """The text without characters that XML does not allow, so that even an invalid job can be rendered.

    Args:
        value: The text.
        stand_in: The result for a value that is not text. It must conform to the schema.
    """
    return _NOT_IN_XML.sub("-", value) if isinstance(value, str) else stand_in


def _public_path(fault: SchemaFault) -> str:
    parts = list[str]()
    for name, index in fault.path:
        if name == "document":
            parts.pop()  # the element `documents`, which the public values do not have
        public = _PUBLIC_NAMES.get(name, name.replace("-", "_"))
        parts.append(f"{public}[{index}]" if name in _REPEATED and index is not None else public)
    return ".".join(parts)
