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

from posten_signering._values.job import (
    DirectJob,
    DirectSigner,
    DocumentType,
    ExitUrls,
    Sender,
)
from posten_signering._values.secret import Secret
from posten_signering._wire.urls import exit_url_rule
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
        job: A job without type violations.
        sender: The sender of the job.
        messages: The rendered messages of the job. The packaged schema validates them.
    """
    of_schema = (
        Violation(path=_public_path(fault), rule=fault.rule)
        for message in messages
        for fault in faults(message)
    )
    fields = _violations(job, sender, fields=True)
    violations = [*_signers(job), *fields, *_exit_urls(job), *of_schema]
    return tuple(dict.fromkeys(violations))


def _violations(job: DirectJob, sender: Sender, *, fields: bool) -> list[Violation]:
    """The violations of text and enum fields, or those of all other parts."""
    # If the sender is the job's own, its violations are found twice: dict.fromkeys drops the second.
    parts = [*_parts("", job, DirectJob), *_parts("sender", sender, Sender)]
    violations = (
        violation
        for path, value, annotation in parts
        if _is_field(annotation) is fields
        for violation in _check_part(path, value, annotation)
    )
    return list(dict.fromkeys(violations))


# The annotations of the public values are the rules for the type of each field.
_annotations = cache(get_type_hints)


def _parts(path: str, value: object, annotation: Any) -> Iterator[tuple[str, object, Any]]:  # noqa: ANN401 - an annotation may be anything
    """The path, value and annotation of every part of a value. Optional parts that are None are left out."""
    if type(None) in get_args(annotation):
        if value is None:
            return
        (annotation,) = set(get_args(annotation)) - {type(None)}
    yield path, value, annotation
    if get_origin(annotation) is Sequence and isinstance(value, Sequence):
        for index, item in enumerate(cast("Sequence[object]", value)):
            yield from _parts(f"{path}[{index}]", item, get_args(annotation)[0])
    elif (
        isinstance(annotation, type) and is_dataclass(annotation) and isinstance(value, annotation)
    ):
        for name, field_annotation in _annotations(annotation).items():
            inner = f"{path}.{name}".removeprefix(".")
            yield from _parts(inner, getattr(value, name), field_annotation)


def _is_field(annotation: Any) -> bool:  # noqa: ANN401 - as in _parts
    """Whether even a wrong value can be rendered: true of texts and enums, except DocumentType."""
    return (
        annotation is not DocumentType
        and isinstance(annotation, type)
        and issubclass(annotation, str)
    )


def _check_part(path: str, value: object, annotation: Any) -> Iterator[Violation]:  # noqa: ANN401 - as in _parts
    rule = _text_rule(value) if annotation is str else _type_rule(value, annotation)
    if rule is not None:
        yield Violation(path=path, rule=rule)


def _text_rule(value: object) -> str | None:
    if not isinstance(value, str):
        return f"must be text, not {type(value).__name__}"
    not_allowed = _NOT_IN_XML.search(value)
    if not_allowed is None:
        return None
    character = f"U+{ord(not_allowed[0]):04X}"
    return f"must not contain {character}, which XML does not allow (it is at position {not_allowed.start()})"


def _type_rule(value: object, annotation: Any) -> str | None:  # noqa: ANN401 - as in _parts
    if get_origin(annotation) is Sequence:
        # DirectJob has already converted any other iterable to a tuple.
        is_right, expected = isinstance(value, Sequence), "a sequence"
    elif not isinstance(annotation, type):
        is_right = isinstance(value, (bytes, str)) or hasattr(value, "__fspath__")
        expected = "bytes or a path"
    elif issubclass(annotation, StrEnum):
        members = ", ".join(annotation.__members__)
        return (
            None
            if value in list(annotation)
            else f"must be a member of {annotation.__name__}: {members}"
        )
    else:
        is_right, expected = isinstance(value, annotation), annotation.__name__
    return None if is_right else f"must be {expected}, not {type(value).__name__}"


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
    # `_violations` reports a value that is not text. It may not be hashable.
    return {text.strip() for text in both if isinstance(text, str)}  # pyright: ignore[reportUnnecessaryIsInstance] - callers may not check types


def _exit_urls(job: DirectJob) -> Iterator[Violation]:
    """Each exit URL must be one that a browser follows, because a signer would be stranded otherwise."""
    for name in _annotations(ExitUrls):
        url = getattr(job.exit_urls, name)
        if _text_rule(url) is None:  # `_violations` reports any other value
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
