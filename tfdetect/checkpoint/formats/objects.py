"""Objects read from a checkpoint's pickle, other than NumPy arrays and torch tensors.

Nothing that a pickle names is imported or called. What is not an array, a tensor or a plain
container becomes a `Placeholder`: the name of its class and the data that it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any


class Malformed(ValueError):
    """The pickle holds something that no checkpoint contains; the message is one line without the
    file name."""


class TooLarge(Malformed):
    """What the pickle claims to hold is more than its file can hold."""


@dataclass
class Budget:
    """Keeps what the pickle claims to hold below what its file can hold.

    One byte string that is named a thousand times costs the file nothing, and copies of it would
    end the process.
    """

    limit: int  # bytes of the file
    spent: dict[str, int] = field(default_factory=dict)

    def claim(self, kind: str, nbytes: int) -> None:
        self.spent[kind] = self.spent.get(kind, 0) + nbytes
        if self.spent[kind] > self.limit:
            raise TooLarge(f"its {kind} claim more bytes than the file has; save it again")


Constructor = Callable[[tuple, Budget], Any]


@dataclass(frozen=True)
class Global:
    """A name in the pickle, such as `torch.FloatStorage`: a label, nothing callable."""

    name: str


class Placeholder:
    """An inert stand-in for an object that is not read.

    Attributes:
        name: of its class, or of the function that would have made it.
        args: what that was given.
        reason: why it could not be read, where it is an array or a tensor; else None.
        state: its attributes, where they are a dictionary.
        entries: of a class derived from dict.
    """

    __slots__ = ("args", "entries", "name", "reason", "state")

    def __init__(self, name: str, args: tuple = (), reason: str | None = None) -> None:
        self.name = name
        self.args = args
        self.reason = reason
        self.state: dict = {}
        self.entries: dict = {}

    def set_state(self, state: Any) -> None:
        # (attributes, slots) of classes that have slots.
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], dict):
            state = state[0]
        if isinstance(state, dict):
            self.state = state


def set_item(mapping: Any, key: Any, value: Any) -> None:
    """Put an entry into a dictionary, or into the stand-in of one.

    A key other than text, bytes or a number of ordinary size is replaced by a placeholder, whose
    hash is its identity: hashing nested tuples can overflow the C stack, and hashing a number of
    a million digits takes its time at every use.
    """
    if isinstance(mapping, Placeholder):
        mapping = mapping.entries
    if not isinstance(mapping, dict):
        raise Malformed(f"puts entries into a {type(mapping).__name__}; save it again")
    number = isinstance(key, int) and key.bit_length() <= 64
    if not (number or isinstance(key, (str, bytes, float, type(None)))):
        key = Placeholder(type_name(key))
    mapping[key] = value


def type_name(value: Any) -> str:
    """A value's type, for messages: the class of a placeholder, or Python's own."""
    if isinstance(value, (Placeholder, Global)):
        return value.name[:100]
    return type(value).__name__


_MAX_DIMS = 32
_MAX_DIM = 1 << 40


def check_dims(value: Any, what: str) -> tuple[int, ...]:
    """Check a shape, stride or offset."""
    if not isinstance(value, (tuple, list)) or len(value) > _MAX_DIMS:
        raise Malformed(
            f"has {what} that is not a list of up to {_MAX_DIMS} numbers; save it again"
        )
    for dim in value:
        if type(dim) is not int or not 0 <= dim <= _MAX_DIM:
            raise Malformed(f"has {what} with an impossible number; save it again")
    return tuple(value)


def check_shape(value: Any, what: str) -> tuple[int, ...]:
    """Check a shape, that of an array without items too, which NumPy does not make of any size."""
    shape = check_dims(value, what)
    if prod(dim for dim in shape if dim) > _MAX_DIM:
        raise Malformed(f"has {what} with an impossible number; save it again")
    return shape
