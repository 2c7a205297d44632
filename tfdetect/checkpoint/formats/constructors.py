"""Replacements for the functions named in a pickle.

None of those functions is called. The few that make arrays, tensors and plain containers have a
counterpart that checks its arguments and builds the value; everything else becomes a `Placeholder`.
"""

from __future__ import annotations

from tfdetect.checkpoint.formats.numpy_objects import NUMPY_CONSTRUCTORS
from tfdetect.checkpoint.formats.objects import (
    Budget,
    Constructor,
    Malformed,
    Placeholder,
    set_item,
)
from tfdetect.checkpoint.formats.torch_objects import TORCH_CONSTRUCTORS


def _encode(args: tuple, budget: Budget) -> bytes:
    text, encoding = args
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Malformed("encodes text in something other than latin-1; save it again")
    budget.claim("byte strings", len(text))
    return text.encode("latin-1")


def _mapping(args: tuple, budget: Budget) -> dict:
    """OrderedDict() filled later, OrderedDict(pairs) of Python 2, Counter(dict)."""
    content = args[0] if args else {}
    if not isinstance(content, (dict, list)):
        raise Malformed("has a mapping of unknown format; save it again")
    budget.claim("containers", len(content))
    mapping: dict = {}
    for key, value in content.items() if isinstance(content, dict) else content:
        set_item(mapping, key, value)
    return mapping


def _defaultdict(args: tuple, budget: Budget) -> dict:
    return {}  # its factory would be called for missing keys only, and there is none to miss


def _sequence(args: tuple, budget: Budget) -> list:
    """A set, as a list (its contents are never used, and hashing them is not safe)."""
    content = args[0] if args else []
    if not isinstance(content, list):
        raise Malformed("has a set of unknown format; save it again")
    budget.claim("containers", len(content))
    return list(content)


def _empty_bytes(args: tuple, budget: Budget) -> bytes:
    if args:
        raise Malformed("makes bytes from something else; save it again")
    return b""


def _object(args: tuple, budget: Budget) -> Placeholder:
    """`copyreg._reconstructor(class, base, state)`, the older form of any object."""
    return Placeholder(getattr(args[0], "name", "object") if args else "object")


CONSTRUCTORS: dict[str, Constructor] = {
    **NUMPY_CONSTRUCTORS,
    **TORCH_CONSTRUCTORS,
    "_codecs.encode": _encode,
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "collections.defaultdict": _defaultdict,
    "builtins.set": _sequence,
    "builtins.frozenset": _sequence,
    "builtins.bytes": _empty_bytes,
    "copyreg._reconstructor": _object,
}

# No training code writes these; a file that names them was made to run a program when it is loaded
# with pickle or torch.load. It would do nothing here, but its author should not be trusted.
_ATTACKS = frozenset(
    [
        *("os", "posix", "nt", "subprocess", "pty", "sys", "shutil", "socket"),
        *("runpy", "importlib", "ctypes", "webbrowser", "pdb"),
    ]
)
_ATTACKS_OF_BUILTINS = frozenset(
    ["eval", "exec", "execfile", "compile", "open", "file", "input", "__import__", "breakpoint"]
)


def is_attack(module: str, name: str) -> bool:
    """Whether a name in a pickle can only serve to run a program."""
    if module in ("builtins", "__builtin__", "__builtins__"):
        return name.partition(".")[0] in _ATTACKS_OF_BUILTINS
    return module.partition(".")[0] in _ATTACKS
