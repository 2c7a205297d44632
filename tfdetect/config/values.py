"""Types of configuration values, and their conversion from text.

The rules are those of yacs, on which Detectron2's configuration is built, with two differences:
an integer is taken where a float is expected, and the entries of a list are checked too.
"""

from __future__ import annotations

import reprlib
import warnings
from ast import literal_eval
from collections.abc import Iterator
from typing import Any

_SCALARS = (str, int, float, bool, type(None))
_KIND = {
    str: "text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    tuple: "a list",
    dict: "a section",
    type(None): "null",
}
# Far more than any list of a real config has, and few enough to walk at once. YAML aliases can
# make a list of 10 ** 9 entries out of a few lines.
_MAX_ENTRIES = 10_000
_MAX_DEPTH = 16


class ValueMismatch(ValueError):
    """A value that does not fit its key; the message says what was given and what is expected."""


def decode(value: Any) -> Any:
    """Convert text that is a Python literal to its value, as yacs does; leave everything else.

    `"(640, 672)"` is a tuple and `"1e-3"`, which YAML 1.1 takes for text, a float. Only literals
    are understood (`ast.literal_eval`): nothing is executed.
    """
    if not isinstance(value, str):
        return value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of doubtful escapes in what is a path after all
            return literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def encode(value: Any) -> Any:
    """Return plain lists and scalars which, written as YAML and read again, give `value`."""
    if isinstance(value, (list, tuple)):
        return _sequences(value, list)
    if isinstance(value, str) and decode(value) != value:
        return repr(value)
    return value


def coerce(value: Any, default: Any, *, takes_mappings: bool = False) -> Any:
    """Return `value` in the type of `default`, which is the value of its key in the schema.

    As in Detectron2, lists and tuples are interchangeable, None goes anywhere and a key whose
    default is None takes any number. An integer is taken for a float. The entries of a list must
    be numbers where those of the default are numbers, and text where they are text.

    Args:
        value: of the configuration.
        default: of its key.
        takes_mappings: whether a list may also hold mappings from text to what it holds.

    Raises:
        ValueMismatch: it does not fit.
    """
    both_lists = isinstance(value, (list, tuple)) and isinstance(default, (list, tuple))
    if type(value) is int and isinstance(default, float):
        try:
            return float(value)
        except OverflowError:
            raise ValueMismatch("got an integer too large for a float") from None
    fits_none = default is None and type(value) in (int, float)
    if not (value is None or type(value) is type(default) or both_lists or fits_none):
        expected = "a number" if default is None else _KIND[type(default)]
        raise ValueMismatch(f"got {describe(value)}, expected {expected}")
    if not isinstance(value, (list, tuple)):
        return value
    kinds = {isinstance(leaf, str) for leaf in _leaves(default)}
    for leaf in _leaves(value, takes_mappings):
        if type(leaf) not in _SCALARS:
            raise ValueMismatch(f"got {describe(leaf)} in a list, expected text or numbers")
        if kinds == {False} and (isinstance(leaf, str) or leaf is None):
            raise ValueMismatch(f"got {describe(leaf)} in a list, expected numbers")
        if kinds == {True} and not isinstance(leaf, str):
            raise ValueMismatch(f"got {describe(leaf)} in a list, expected text")
    # Nested lists take the default's type too, so that a file written and read again is equal. A
    # copy, so that values which share a YAML anchor do not share an object.
    outer = type(default)
    inner = next((type(entry) for entry in default if isinstance(entry, (list, tuple))), outer)
    return outer(_sequences(entry, inner) for entry in value)


def describe(value: Any) -> str:
    """Name the kind of a value, with the value itself where it is short."""
    kind = _KIND.get(type(value), type(value).__name__)
    if type(value) in (str, int, float, bool):
        try:
            return f"{kind} ({reprlib.repr(value)})"
        except ValueError:  # an integer of thousands of digits
            return kind
    return kind


def _leaves(value: Any, takes_mappings: bool = False) -> Iterator[Any]:
    """Yield what the nested lists, and mappings from text, of `value` hold."""
    stack = [(value, 0)]
    visited = 0
    while stack:
        entry, depth = stack.pop()
        visited += 1
        if visited > _MAX_ENTRIES or depth > _MAX_DEPTH:
            raise ValueMismatch("got a list with too many or too deeply nested entries")
        if isinstance(entry, (list, tuple)):
            stack.extend((child, depth + 1) for child in reversed(entry))
        elif takes_mappings and isinstance(entry, dict) and all(isinstance(k, str) for k in entry):
            stack.extend((child, depth + 1) for child in entry.values())
        else:
            yield entry


def _sequences(value: Any, kind: type) -> Any:
    """Copy a value with its lists and tuples, at every level, made into `kind`."""
    if isinstance(value, (list, tuple)):
        return kind(_sequences(entry, kind) for entry in value)
    if isinstance(value, dict):
        return {key: _sequences(entry, kind) for key, entry in value.items()}
    return value
