"""What may come out of a checkpoint's pickle: arrays, tensors and plain containers.

A pickle names the functions that make its objects. None of those functions is called here; the
few that arrays and tensors need have a counterpart below, which checks what it is given and
builds a value of its own. `CONSTRUCTORS` is the complete list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np


class Malformed(ValueError):
    """The pickle holds what no checkpoint does; the message is one line without the file name."""


@dataclass
class Budget:
    """Keeps what the pickle claims to hold below what its file can hold.

    Views of one storage cost nothing, so a short file could name terabytes of them; the first use
    that copies them would end the process.
    """

    limit: int  # bytes of the file
    spent: dict[str, int] = field(default_factory=dict)
    tensors: set[Tensor] = field(default_factory=set)

    def claim(self, kind: str, nbytes: int) -> None:
        self.spent[kind] = self.spent.get(kind, 0) + nbytes
        if self.spent[kind] > self.limit:
            raise Malformed(f"its {kind} claim more bytes than the file has; save it again")


@dataclass(frozen=True)
class Global:
    """An admitted name of the pickle, such as `torch.FloatStorage`: a label, nothing callable."""

    name: str


class DType:
    """The dtype of a NumPy array, which a pickle makes first and then tells its byte order."""

    def __init__(self, code: str) -> None:
        if code not in _NUMPY_CODES:  # objects, records, text
            raise Malformed(f"refuses an array of dtype {code[:20]!r}; arrays hold numbers only")
        self.numpy = np.dtype(f"<{code}")

    def set_state(self, state: Any, budget: Budget) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise Malformed("has a dtype of unknown form; save it again with a current NumPy")
        if state[1] == ">":
            self.numpy = self.numpy.newbyteorder(">")


class Array:
    """A NumPy array, which a pickle makes empty and then fills."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def set_state(self, state: Any, budget: Budget) -> None:
        # (version, shape, dtype, is Fortran order, content); the first NumPys had no version.
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise Malformed("has an array of unknown form; save it again with a current NumPy")
        shape, dtype, fortran, content = state[-4:]
        self.value = _array(shape, dtype, "F" if fortran else "C", content, budget)


@dataclass(frozen=True)
class Storage:
    """Where the content of tensors lies: entry `key` of the archive, `numel` items."""

    key: str
    dtype: str | None  # torch's name; None where only the tensors say it
    numel: int  # items of `dtype`, or bytes where that is None

    @property
    def nbytes(self) -> int:
        return self.numel * (TORCH_DTYPES[self.dtype].itemsize if self.dtype else 1)


@dataclass(frozen=True)
class Tensor:
    """A view of a storage. The geometry, in items, is known to lie inside of the storage."""

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


_NUMPY_CODES = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
# bfloat16, which NumPy lacks, as the bits of its upper half of a float32.
TORCH_DTYPES: dict[str, np.dtype] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}
_STORAGE_DTYPES: dict[str, str | None] = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.storage.UntypedStorage": None,
}
_MAX_DIMS = 32
_MAX_DIM = 1 << 40


def storage(pid: Any) -> Storage:
    """Read torch's persistent id: ("storage", type, key, device, number of items).

    Before PyTorch 1.6 there was one entry more, None for all storages that are no part of another.
    """
    if isinstance(pid, tuple) and len(pid) == 6 and pid[5] is None:
        pid = pid[:5]
    match pid:
        case ("storage", Global(name), str(key), str(), int(numel)) if name in _STORAGE_DTYPES:
            if numel >= 0:
                return Storage(key, _STORAGE_DTYPES[name], numel)
    raise Malformed("refers to something that is not a tensor's storage; save it again")


def _dims(value: Any, what: str) -> tuple[int, ...]:
    """Check a shape, stride or offset."""
    if not isinstance(value, (tuple, list)) or len(value) > _MAX_DIMS:
        raise Malformed(f"has {what} that is no list of up to {_MAX_DIMS} numbers; save it again")
    for dim in value:
        if type(dim) is not int or not 0 <= dim <= _MAX_DIM:
            raise Malformed(f"has {what} with an impossible number; save it again")
    return tuple(value)


def _shape(value: Any, what: str) -> tuple[int, ...]:
    """Check a shape, that of an array without items too, which NumPy does not make of any size."""
    shape = _dims(value, what)
    if prod(dim for dim in shape if dim) > _MAX_DIM:
        raise Malformed(f"has {what} with an impossible number; save it again")
    return shape


def _array(shape: Any, dtype: Any, order: Any, content: Any, budget: Budget) -> np.ndarray:
    if isinstance(content, str):  # a byte string of Python 2
        content = content.encode("latin-1")
    if not isinstance(dtype, DType) or not isinstance(content, (bytes, bytearray)):
        raise Malformed("has an array whose content is not bytes; save it again")
    shape = _shape(shape, "an array shape")
    if prod(shape) * dtype.numpy.itemsize != len(content):
        raise Malformed(f"has an array of shape {shape} with {len(content)} bytes; save it again")
    budget.claim("arrays", len(content))
    return np.ndarray(shape, dtype.numpy, buffer=content, order="F" if order == "F" else "C")


def _reconstruct(args: tuple, budget: Budget) -> Array:
    if not args or args[0] != Global("numpy.ndarray"):
        raise Malformed("has an array of a class other than numpy.ndarray; save it as plain arrays")
    return Array()


def _filled(value: np.ndarray) -> Array:
    array = Array()
    array.value = value
    return array


def _frombuffer(args: tuple, budget: Budget) -> Array:
    content, dtype, shape, order = args
    return _filled(_array(shape, dtype, order, content, budget))


def _scalar(args: tuple, budget: Budget) -> Array:
    dtype, content = args
    return _filled(_array((), dtype, "C", content, budget))


def _dtype(args: tuple, budget: Budget) -> DType:
    if not args or not isinstance(args[0], str):
        raise Malformed("has a dtype without a name; save it again with a current NumPy")
    return DType(args[0])


def _encode(args: tuple, budget: Budget) -> bytes:
    text, encoding = args
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Malformed("encodes text in other ways than latin-1; save it again")
    budget.claim("byte strings", len(text))
    return text.encode("latin-1")


def _mapping(args: tuple, budget: Budget) -> dict:
    """OrderedDict() filled later, OrderedDict(pairs) of Python 2, Counter(dict)."""
    content = args[0] if args else {}
    pairs = list(content.items()) if isinstance(content, dict) else content
    if not isinstance(pairs, list):
        raise Malformed("has a mapping of unknown form; save it again")
    budget.claim("containers", len(pairs))
    mapping: dict = {}
    for key, value in pairs:
        set_item(mapping, key, value)
    return mapping


def _defaultdict(args: tuple, budget: Budget) -> dict:
    return {}  # its factory would be called for missing keys only, and there is none to miss


def _sequence(args: tuple, budget: Budget) -> list:
    """A set, as a list (nobody here looks into one, and hashing what it holds is not safe)."""
    content = args[0] if args else []
    if not isinstance(content, list):
        raise Malformed("has a set of unknown form; save it again")
    budget.claim("containers", len(content))
    return list(content)


def _empty_bytes(args: tuple, budget: Budget) -> bytes:
    if args:
        raise Malformed("makes bytes from something else; save it again")
    return b""


def _size(args: tuple, budget: Budget) -> tuple[int, ...]:
    (size,) = args
    return _shape(size, "a tensor size")


def _tensor_v2(args: tuple, budget: Budget) -> Tensor:
    """`torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)`."""
    content, offset, size, stride = args[:4]
    dtype = content.dtype if isinstance(content, Storage) else None
    return _tensor(content, offset, size, stride, dtype, budget)


def _tensor_v3(args: tuple, budget: Budget) -> Tensor:
    """`torch._utils._rebuild_tensor_v3(storage, offset, size, stride, grad, hooks, dtype)`."""
    content, offset, size, stride, _, _, dtype = args[:7]
    name = dtype.name.removeprefix("torch.") if isinstance(dtype, Global) else None
    return _tensor(content, offset, size, stride, name, budget)


def _tensor(
    content: Any, offset: Any, size: Any, stride: Any, dtype: str | None, budget: Budget
) -> Tensor:
    if not isinstance(content, Storage) or dtype not in TORCH_DTYPES:
        raise Malformed("has a tensor without storage or of an unknown dtype; save it again")
    size, stride = _shape(size, "a tensor size"), _dims(stride, "a tensor stride")
    (offset,) = _dims((offset,), "a tensor offset")
    item = TORCH_DTYPES[dtype].itemsize
    nbytes = prod(size) * item
    if len(size) != len(stride) or any(n > 1 and s == 0 for n, s in zip(size, stride, strict=True)):
        raise Malformed("has a tensor that repeats its items (stride 0); save it as contiguous")
    end = offset
    if nbytes:
        end += 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if max(nbytes, end * item) > content.nbytes:
        raise Malformed(f"has a tensor of size {size} that reaches outside of its storage")
    tensor = Tensor(content, dtype, offset, size, stride)
    if tensor not in budget.tensors:  # tied parameters are one tensor under two names
        budget.tensors.add(tensor)
        budget.claim("tensors", nbytes)
    return tensor


def _parameter(args: tuple, budget: Budget) -> Tensor:
    if not args or not isinstance(args[0], Tensor):
        raise Malformed("has a parameter without a tensor; save it again")
    return args[0]


def set_item(mapping: Any, key: Any, value: Any) -> None:
    """Put an entry into a dictionary; keys are scalars, whose hash cannot run away."""
    if not isinstance(mapping, dict):
        raise Malformed(f"puts entries into a {type(mapping).__name__}; save it again")
    if not isinstance(key, (str, bytes, int, float, type(None))):
        raise Malformed(f"has a dictionary key of type {type(key).__name__}; save it again")
    mapping[key] = value


Constructor = Callable[[tuple, Budget], Any]

# Every name that a pickle may mention, with what stands in for it; None for mere labels.
CONSTRUCTORS: dict[str, Constructor | None] = {
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy._core.numeric._frombuffer": _frombuffer,
    "numpy.ndarray": None,
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "collections.defaultdict": _defaultdict,
    "builtins.set": _sequence,
    "builtins.frozenset": _sequence,
    "builtins.bytes": _empty_bytes,
    **{f"builtins.{name}": None for name in ("dict", "list", "tuple", "int", "float", "str")},
    "torch._utils._rebuild_tensor": _tensor_v2,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    **dict.fromkeys(_STORAGE_DTYPES),
    **{f"torch.{name}": None for name in TORCH_DTYPES},
}
