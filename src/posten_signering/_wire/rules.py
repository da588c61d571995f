"""Finds every rule that a job breaks, and names the field by its public path. Pure.

The schema checks lengths, patterns and counts (`xml.faults`). Only rules that it can't express are here.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, cast, get_args, get_origin, get_type_hints

from posten_signering._values.job import (
    DirectJob,
    DirectSigner,
    DocumentType,
    ExitUrls,
    Sender,
)
from posten_signering._values.secret import Secret
from posten_signering._wire.urls import exit_url_rule
from posten_signering._wire.xml import SchemaFault
from posten_signering.errors import Violation

# Every character outside the production Char of XML 1.0 (fifth edition, 2.2).
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

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


def part_violations(job: DirectJob, sender: Sender) -> tuple[list[Violation], list[Violation]]:
    """Every part of a job whose type or text is wrong.

    Returns:
        The wrong parts with which no message can be rendered, and those with which one can.
    """
    of_job = _check("", job, _kind(DirectJob))
    of_sender = _check("sender", sender, _kind(Sender))
    # If the sender is the job's own, its violations are found twice: dict.fromkeys drops the second.
    found = dict.fromkeys([*of_job, *of_sender])
    return (
        [violation for violation, is_field in found if not is_field],
        [violation for violation, is_field in found if is_field],
    )


def rule_violations(
    job: DirectJob, of_fields: Iterable[Violation], faults: Iterable[SchemaFault]
) -> tuple[Violation, ...]:
    """Every rule that a job breaks, except those for the content of its documents.

    Args:
        job: A job of which no part has a wrong type.
        of_fields: The violations of its texts and enums.
        faults: The rules of the schema that the messages of the job break.
    """
    of_schema = (Violation(path=_public_path(fault), rule=fault.rule) for fault in faults)
    return tuple(dict.fromkeys([*_signers(job), *of_fields, *_exit_urls(job), *of_schema]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What the annotation of a public value allows. The annotations are the rules for the types.

    Attributes:
        type: The type of the value. None means bytes or a path.
        is_optional: Whether the value may be None.
        is_field: Whether even a wrong value can be rendered: true of texts and enums, except DocumentType.
        item: The kind of a sequence's items; None if the value is no sequence.
        parts: The names and kinds of a dataclass's fields; empty for every other type.
    """

    type: type[Any] | None
    is_optional: bool
    is_field: bool
    item: "_Kind | None"
    parts: "tuple[tuple[str, _Kind], ...]"


@cache
def _kind(annotation: Any) -> _Kind:  # noqa: ANN401 - an annotation may be anything
    is_optional = type(None) in get_args(annotation)
    if is_optional:
        (annotation,) = set(get_args(annotation)) - {type(None)}
    is_sequence = get_origin(annotation) is Sequence
    is_class = isinstance(annotation, type)
    hints = get_type_hints(annotation) if is_class and is_dataclass(annotation) else {}
    return _Kind(
        type=Sequence if is_sequence else annotation if is_class else None,
        is_optional=is_optional,
        is_field=is_class and issubclass(annotation, str) and annotation is not DocumentType,
        item=_kind(get_args(annotation)[0]) if is_sequence else None,
        parts=tuple((name, _kind(hint)) for name, hint in hints.items()),
    )


def _check(path: str, value: object, kind: _Kind) -> Iterator[tuple[Violation, bool]]:
    """The violations of a value and of its parts, at every depth, and whether each part is a field."""
    if value is None and kind.is_optional:
        return
    rule = _text_rule(value) if kind.type is str else _type_rule(value, kind.type)
    if rule is not None:
        yield Violation(path=path, rule=rule), kind.is_field
    if kind.item is not None and isinstance(value, Sequence):
        for index, item in enumerate(cast("Sequence[object]", value)):
            yield from _check(f"{path}[{index}]", item, kind.item)
    elif kind.parts and isinstance(value, cast("type", kind.type)):
        for name, part in kind.parts:
            inner = f"{path}.{name}" if path else name
            yield from _check(inner, getattr(value, name), part)


def _text_rule(value: object) -> str | None:
    if not isinstance(value, str):
        return f"must be text, not {type(value).__name__}"
    not_allowed = _NOT_IN_XML.search(value)
    if not_allowed is None:
        return None
    character = f"U+{ord(not_allowed[0]):04X}"
    return f"must not contain {character}, which XML does not allow (it is at position {not_allowed.start()})"


def _type_rule(value: object, expected: type[Any] | None) -> str | None:
    if expected is None:
        is_right, words = isinstance(value, (bytes, str)), "bytes or a path"
        is_right = is_right or hasattr(value, "__fspath__")
    elif expected is Sequence:
        # DirectJob has already converted any other iterable to a tuple.
        is_right, words = isinstance(value, Sequence), "a sequence"
    elif issubclass(expected, StrEnum):
        # Callers may give the text of a member.
        if type(value) is expected or value in list(expected):
            return None
        return f"must be a member of {expected.__name__}: {', '.join(expected.__members__)}"
    else:
        is_right, words = isinstance(value, expected), expected.__name__
    return None if is_right else f"must be {words}, not {type(value).__name__}"


def _signers(job: DirectJob) -> Iterator[Violation]:
    """A job needs at least one signer. Each signer has exactly one identifier, unique within the job.

    An identity number and a custom identifier with the same text count as equal, because the service
    distinguishes signers by that text. White space around it does not count, because responses are read
    without it.
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
        if signer.custom_identifier and _identifiers(signer) == {""}:
            rule = "must not be only white space"
            yield Violation(path=f"{path}.custom_identifier", rule=rule)
        if any(times[text] > 1 for text in _identifiers(signer)):
            yield Violation(path=path, rule="has the same identifier as another signer of the job")


def _identifiers(signer: DirectSigner) -> set[str]:
    both = (signer.personal_identification_number, signer.custom_identifier)
    # `part_violations` reports a value that is not text. It may not be hashable.
    return {text.strip() for text in both if isinstance(text, str)}  # pyright: ignore[reportUnnecessaryIsInstance] - callers may not check types


def _exit_urls(job: DirectJob) -> Iterator[Violation]:
    """Each exit URL must be one that a browser follows, because a signer would be stranded otherwise."""
    for name, _ in _kind(ExitUrls).parts:
        url = getattr(job.exit_urls, name)
        if _text_rule(url) is None:  # `part_violations` reports any other value
            rule = exit_url_rule(Secret(url))
            if rule is not None:
                yield Violation(path=f"exit_urls.{name}", rule=rule)


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
