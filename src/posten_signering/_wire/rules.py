"""The rules that a job breaks, under public paths: those that the schema can't say, and what the schema finds. Pure.

The schema validates lengths, patterns and counts (`xml.faults`): nothing of that is written here.
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

# Everything but the production Char of XML 1.0 (fifth edition, 2.2).
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# The schema's names that the public values call otherwise.
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


def shape(job: DirectJob, sender: Sender) -> list[Violation]:
    """What of a job is of a wrong type, so that no message can be made of it."""
    return _violations(job, sender, fields=False)


def broken(
    job: DirectJob, sender: Sender, messages: Iterable[Secret[bytes]]
) -> tuple[Violation, ...]:
    """Every rule that a job breaks, those of its documents' content excepted.

    Args:
        job: The job, of the right shape.
        sender: The sender that was resolved for it.
        messages: The job as rendered messages, which are validated with the packaged schema.
    """
    of_schema = (
        Violation(path=_public_path(fault), rule=fault.rule)
        for message in messages
        for fault in faults(message)
    )
    found = [*_signers(job), *_violations(job, sender, fields=True), *of_schema]
    return tuple(dict.fromkeys(found))


def _violations(job: DirectJob, sender: Sender, *, fields: bool) -> list[Violation]:
    # The sender may be the job's own, and then comes twice.
    parts = [*_parts("", job, DirectJob), *_parts("sender", sender, Sender)]
    found = (
        violation
        for path, value, kind in parts
        if _is_field(kind) is fields
        for violation in _of_kind(path, value, kind)
    )
    return list(dict.fromkeys(found))


# The annotations of the public values say what each field of a job must be.
_annotations = cache(get_type_hints)


def _parts(path: str, value: object, kind: Any) -> Iterator[tuple[str, object, Any]]:  # noqa: ANN401 - an annotation may be anything
    """Path, value and annotation of everything in a value; an optional part that is None is left out."""
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
    """Whether a message can be made without a right value: it gets a stand-in."""
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
    return f"holds a character that XML can't carry: {character} at position {unfit.start()}"


def _type_rule(value: object, kind: Any) -> str | None:  # noqa: ANN401 - as in _parts
    if get_origin(kind) is Sequence:
        # A job makes a tuple of everything that can be iterated.
        right, wanted = isinstance(value, Sequence), "a sequence"
    elif not isinstance(kind, type):
        right = isinstance(value, (bytes, str)) or hasattr(value, "__fspath__")
        wanted = "bytes or a path"
    elif issubclass(kind, StrEnum):
        members = ", ".join(kind.__members__)
        return None if value in list(kind) else f"must be of {kind.__name__}: {members}"
    else:
        right, wanted = isinstance(value, kind), kind.__name__
    return None if right else f"must be {wanted}, not {type(value).__name__}"


def _signers(job: DirectJob) -> Iterator[Violation]:
    """At least one signer, each with one identifier, no two with the same.

    The service tells signers apart by the text of their identifier, of whichever kind.
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
    given = (signer.personal_identification_number, signer.custom_identifier)
    # What is not text is reported elsewhere, and may not even be hashable.
    return {each for each in given if isinstance(each, str)}  # pyright: ignore[reportUnnecessaryIsInstance] - callers may not check types


def text(value: object, *, stand_in: str = "-") -> str:
    """The text as a message can carry it, so that the schema can check the rest of an invalid job.

    Args:
        value: The text.
        stand_in: Used in place of what is not text; keeps to the schema.
    """
    return _NOT_IN_XML.sub("-", value) if isinstance(value, str) else stand_in


def _public_path(fault: SchemaFault) -> str:
    parts = list[str]()
    for name, index in fault.path:
        if name == "document":
            parts.pop()  # its container, which the public values do not have
        public = _PUBLIC_NAMES.get(name, name.replace("-", "_"))
        parts.append(f"{public}[{index}]" if name in _REPEATED and index is not None else public)
    return ".".join(parts)
