"""Reads a pickle as data: nothing named in it is imported, called or given attributes.

A pickle is a program for a small stack machine. `pickle.Unpickler` runs all of it, and even with
a strict `find_class` leaves doors open: BUILD sets attributes on any object, a memo
index of 2 ** 31 takes tens of gigabytes, hashing deeply nested tuples overflows the C stack. So
this is a reimplementation of the machine, with the instructions that protocols 2 to 5 write.
Arrays,
tensors and plain containers are made by this project's own functions; every other object is an
inert `Placeholder`, which only matters where a weight should be.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

from tfdetect.checkpoint.formats.constructors import CONSTRUCTORS, is_attack
from tfdetect.checkpoint.formats.numpy_objects import Array, DType
from tfdetect.checkpoint.formats.objects import (
    Budget,
    Global,
    Malformed,
    Placeholder,
    TooLarge,
    set_item,
)
from tfdetect.checkpoint.formats.torch_objects import Storage, Tensor, read_persistent_id
from tfdetect.errors import InputError

# A checkpoint has some 35 instructions per tensor; ten thousand tensors with the momentum of each
# are far from this.
_MAX_INSTRUCTIONS = 2_000_000
_REFUSAL = "a checkpoint needs arrays and plain containers only, so save the weights alone"


def unpickle(file: Any, source: str, size: int, storages: dict[str, Storage] | None = None) -> Any:
    """Read the first pickle of `file`.

    Args:
        file: where the pickle begins; a binary file or an `mmap`.
        source: its name in messages.
        size: bytes of the whole checkpoint; its arrays may not claim more.
        storages: is given every storage that the pickle names, by key.

    Returns:
        Plain containers of scalars, `Array`, `Tensor`, `Global` and `Placeholder`.

    Raises:
        InputError: it is not a pickle, is truncated, or names what only an attack does.
    """
    try:
        return _Machine(size, {} if storages is None else storages).run(file)
    except Malformed as error:
        raise InputError(f"{source}: {error}") from None
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        # From pickletools on bytes that are not a pickle, and from missing arguments.
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{source}: truncated or damaged ({reason}); download or save it again"
        ) from None


class _Machine:
    def __init__(self, size: int, storages: dict[str, Storage]) -> None:
        self.budget = Budget(size)
        self.storages = storages
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each mark
        self.memo: dict[int, Any] = {}

    def run(self, file: Any) -> Any:
        for count, (opcode, arg, _) in enumerate(pickletools.genops(file)):
            if count > _MAX_INSTRUCTIONS:
                raise Malformed("its pickle is too long for a checkpoint; save the weights alone")
            if opcode.name in _PUSHES_ARGUMENT:
                self.stack.append(arg)
            elif opcode.name in _INSTRUCTIONS:
                _INSTRUCTIONS[opcode.name](self, arg)
            elif opcode.name == "INST":
                raise _refuse(str(arg))
            else:
                raise Malformed(f"the pickle instruction {opcode.name} is not allowed: {_REFUSAL}")
        return self.stack.pop()

    def mark(self, arg: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        if not self.below:
            raise Malformed("its pickle is damaged (no mark); download or save it again")
        items, self.stack = self.stack, self.below.pop()
        return items

    def pop(self, count: int) -> tuple:
        if len(self.stack) < count:
            raise Malformed("its pickle is damaged (empty stack); download or save it again")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        return items

    def drop(self, arg: Any) -> None:
        self.pop(1)

    def top(self) -> Any:
        if not self.stack:
            raise Malformed("its pickle is damaged (empty stack); download or save it again")
        return self.stack[-1]

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise Malformed(f"its pickle is damaged (no memo {index}); download or save it again")
        self.stack.append(self.memo[index])

    def put(self, index: int) -> None:
        self.memo[index] = self.top()

    def memoize(self, arg: Any) -> None:
        self.put(len(self.memo))

    def extend(self, items: list[Any] | tuple) -> None:
        target = self.top()
        if isinstance(target, Placeholder):  # of a class derived from list; its items are not used
            return
        if not isinstance(target, list):
            raise Malformed(f"appends to a {type(target).__name__}; save it again")
        target.extend(items)

    def set_items(self, items: list[Any] | tuple) -> None:
        if len(items) % 2:
            raise Malformed("its pickle is damaged (key without value); save it again")
        for key, value in zip(items[::2], items[1::2], strict=True):
            set_item(self.top(), key, value)

    def global_(self, module_and_name: str) -> None:
        """Push the label of a name."""
        module, _, name = module_and_name.partition(" ")
        if is_attack(module, name):
            raise _refuse(module_and_name)
        full = f"{module.replace('numpy.core', 'numpy._core')}.{name}"
        self.stack.append(Global(full.replace("__builtin__.", "builtins.")))

    def stack_global(self, arg: Any) -> None:
        module, name = self.pop(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise Malformed("names a class by something other than text; save it again")
        self.global_(f"{module} {name}")

    def reduce(self, arg: Any) -> None:
        self.stack.append(self.make(*self.pop(2)))

    def new_object_ex(self, arg: Any) -> None:
        made_of, args, _ = self.pop(3)  # keyword arguments are left out
        self.stack.append(self.make(made_of, args))

    def make(self, function: Any, args: Any) -> Any:
        """What stands in for function(*args)."""
        if not isinstance(function, (Global, Placeholder)) or not isinstance(args, tuple):
            raise Malformed(f"calling a {type(function).__name__} is not allowed: {_REFUSAL}")
        constructor = CONSTRUCTORS.get(function.name) if isinstance(function, Global) else None
        if constructor is None:
            return Placeholder(function.name, args)
        try:
            return constructor(args, self.budget)
        except TooLarge:
            raise
        except _DAMAGE as error:
            return Placeholder(function.name, args, reason=_reason(error))

    def build(self, arg: Any) -> None:
        (state,) = self.pop(1)
        target = self.top()
        if isinstance(target, Placeholder):
            target.set_state(state)
        elif isinstance(target, (Array, DType)):
            try:
                target.set_state(state, self.budget)
            except TooLarge:
                raise
            except _DAMAGE as error:
                target.reason = _reason(error)
        elif not isinstance(target, (dict, list, tuple, Tensor)):
            # (Those may have attributes, such as a state dict's _metadata: left out.)
            raise Malformed(
                f"setting the state of a {type(target).__name__} is not allowed: {_REFUSAL}"
            )

    def persistent_id(self, arg: Any) -> None:
        (pid,) = self.pop(1)
        value: Any
        try:
            value = read_persistent_id(pid)
        except Malformed as error:
            value = Placeholder("storage", reason=str(error))
        if isinstance(value, Storage):
            self.storages.setdefault(value.key, value)
        self.stack.append(value)


# From checks, and from unpacking arguments of another number or type than they should be.
_DAMAGE = (ValueError, TypeError, IndexError, OverflowError, AttributeError)


def _reason(error: Exception) -> str:
    if isinstance(error, Malformed):
        return str(error)
    return f"truncated or damaged ({' '.join(str(error).split())[:120]}); save it again"


def _refuse(module_and_name: str) -> Malformed:
    name = ".".join(module_and_name.split())[:100]
    return Malformed(
        f"refusing to load {name}: no checkpoint needs it, and it would run a program when this "
        "file is opened with PyTorch; get it from another source"
    )


_PUSHES_ARGUMENT = frozenset(
    [
        # INT is text, in which Python 2 wrote what exceeds 32 bits, such as the id of a parameter.
        *("BININT", "BININT1", "BININT2", "INT", "LONG1", "LONG4", "BINFLOAT"),
        *("SHORT_BINSTRING", "BINSTRING", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    ]
)

_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda m, arg: None,
    "FRAME": lambda m, arg: None,
    "STOP": lambda m, arg: None,
    "MARK": _Machine.mark,
    "POP": _Machine.drop,
    "POP_MARK": lambda m, arg: m.since_mark().clear(),
    "NONE": lambda m, arg: m.stack.append(None),
    "NEWTRUE": lambda m, arg: m.stack.append(True),
    "NEWFALSE": lambda m, arg: m.stack.append(False),
    "EMPTY_TUPLE": lambda m, arg: m.stack.append(()),
    "TUPLE1": lambda m, arg: m.stack.append(m.pop(1)),
    "TUPLE2": lambda m, arg: m.stack.append(m.pop(2)),
    "TUPLE3": lambda m, arg: m.stack.append(m.pop(3)),
    "TUPLE": lambda m, arg: _push(m, tuple(m.since_mark())),
    "EMPTY_LIST": lambda m, arg: m.stack.append([]),
    "APPEND": lambda m, arg: m.extend(m.pop(1)),
    "APPENDS": lambda m, arg: m.extend(m.since_mark()),
    # Sets as lists, see `constructors._sequence`.
    "EMPTY_SET": lambda m, arg: m.stack.append([]),
    "ADDITEMS": lambda m, arg: m.extend(m.since_mark()),
    "FROZENSET": lambda m, arg: _push(m, m.since_mark()),
    "EMPTY_DICT": lambda m, arg: m.stack.append({}),
    "SETITEM": lambda m, arg: m.set_items(m.pop(2)),
    "SETITEMS": lambda m, arg: m.set_items(m.since_mark()),
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GLOBAL": _Machine.global_,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "NEWOBJ_EX": _Machine.new_object_ex,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
}


def _push(machine: _Machine, value: Any) -> None:
    # `machine.stack.append(...)` would take the stack before an argument that replaces it.
    machine.stack.append(value)
