"""Values as JSON has them, and back: frozen dataclasses, texts, numbers, times, bytes. No I/O.

A dataclass is an object with its fields, a time is ISO 8601 text, bytes are Base64. A field that has
a default may be missing where it is read: what was written before the field came still reads.
"""

import base64
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

Plain = None | bool | int | float | str | list[Any] | dict[str, Any]


class NotPlainError(Exception):
    """Something has not the form of its type; the message says what, and quotes no value."""


def to_plain(value: object) -> Plain:
    """A value as JSON has it."""
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, object]", value)
        return {key: to_plain(each) for key, each in entries.items()}
    if is_dataclass(value):
        return {each.name: to_plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(each) for each in cast("tuple[object, ...]", value)]
    return _simple(value)


def _simple(value: object) -> Plain:
    if isinstance(value, Enum):
        return cast("Plain", value.value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, str) else cast("Plain", value)


def from_plain(kind: type[T], plain: object, name: str = "the value") -> T:
    """A value of a type, from what JSON had.

    Args:
        kind: A dataclass, or the type of a field.
        plain: What JSON had.
        name: What messages call it.

    Raises:
        NotPlainError: It has another form, or the dataclass refuses it.
    """
    return cast("T", _read(kind, plain, name))


def hints(kind: type[Any]) -> Mapping[str, Any]:
    """The types of a dataclass's fields."""
    if kind not in _hints:
        _hints[kind] = get_type_hints(kind)
    return _hints[kind]


_hints: dict[type[Any], Mapping[str, Any]] = {}
"""Those that were asked for: working them out is slow."""


def without_none(kind: object) -> tuple[object, bool]:
    """A type without `None`, and whether `None` was in it."""
    if get_origin(kind) is not types.UnionType:
        return kind, False
    [rest] = [each for each in get_args(kind) if each is not types.NoneType]
    return rest, True


def is_required(field: "Field[Any]") -> bool:
    """Whether a field of a dataclass has no default."""
    return field.default is MISSING and field.default_factory is MISSING


def _read(kind: object, plain: object, name: str) -> object:
    kind, optional = without_none(kind)
    if plain is None and (optional or kind is types.NoneType):
        return None
    if get_origin(kind) is tuple:
        if not isinstance(plain, list):
            raise NotPlainError(f"{name} must be an array.")
        each_kind = get_args(kind)[0]
        items = enumerate(cast("list[object]", plain))
        return tuple(_read(each_kind, each, f"{name}[{index}]") for index, each in items)
    if is_dataclass(kind):
        return _read_dataclass(cast("type[Any]", kind), plain, name)
    return _read_simple(cast("type[Any]", kind), plain, name)


def _read_dataclass(kind: type[Any], plain: object, name: str) -> object:
    if not isinstance(plain, dict):
        raise NotPlainError(f"{name} must be an object.")
    given = cast("dict[str, object]", plain)
    known = {each.name: each for each in fields(kind)}
    for unknown in sorted(given.keys() - known.keys()):
        raise NotPlainError(f"{name} has no field {unknown[:40]!r}; it has: {', '.join(known)}.")
    for field in known.values():
        if field.name not in given and is_required(field):
            raise NotPlainError(f"{name} lacks {field.name}.")
    read = {key: _read(hints(kind)[key], each, key) for key, each in given.items()}
    try:
        return kind(**read)
    except ValueError as error:
        raise NotPlainError(str(error)) from None


def _read_simple(kind: type[Any], plain: object, name: str) -> object:
    # In JSON a whole number is a number like any other, while `true` is none.
    wanted: tuple[type, ...] = {float: (int, float), int: (int,), bool: (bool,)}.get(kind, (str,))
    if not isinstance(plain, wanted) or (isinstance(plain, bool) and kind is not bool):
        raise NotPlainError(f"{name} must be {_in_words(kind)}.")
    try:
        if kind is datetime:
            return datetime.fromisoformat(str(plain))
        if issubclass(kind, bytes):
            return kind(base64.b64decode(str(plain), validate=True))
        return kind(plain)
    except ValueError:
        raise NotPlainError(f"{name} must be {_in_words(kind)}.") from None


def _in_words(kind: type[Any]) -> str:
    if issubclass(kind, Enum):
        return f"one of {', '.join(str(each.value) for each in kind)}"
    if issubclass(kind, bytes):
        return "Base64 text"
    words: dict[type[Any], str] = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        datetime: "a time in ISO 8601",
    }
    return words.get(kind, "text")
