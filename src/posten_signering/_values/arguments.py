"""Checks the types of arguments, because not every caller runs a type checker."""

import functools
from inspect import iscoroutinefunction

from posten_signering._values.secret import Secret
from posten_signering.errors import ArgumentTypeError


def require(argument: str, value: Secret[object], expected: str, *types: type) -> None:
    """Checks that an argument has one of these types.

    Args:
        argument: The name of the argument.
        value: The argument. No error and no traceback shows it.
        expected: The types in words.
        types: The types. `int` does not include True and False, unless `bool` is named too.

    Raises:
        ArgumentTypeError: The argument has a different type.
    """
    is_unwanted_bool = isinstance(value.reveal(), bool) and bool not in types
    if not isinstance(value.reveal(), types) or is_unwanted_bool:
        raise ArgumentTypeError(argument, expected=expected, found=type(value.reveal()))


def is_async(function: object) -> bool:
    """Whether a function, or an object that can be called, is async."""
    while isinstance(function, functools.partial):
        function = function.func
    # Of its type: to call a class is not to call its instances.
    call = getattr(type(function), "__call__", None)  # noqa: B004 - to see whether it is async
    return iscoroutinefunction(function) or iscoroutinefunction(call)
