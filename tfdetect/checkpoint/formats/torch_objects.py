"""torch's storages and tensors in a pickle, made from checked data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from tfdetect.checkpoint.formats.numpy_objects import Array
from tfdetect.checkpoint.formats.objects import (
    Budget,
    Constructor,
    Global,
    Malformed,
    Placeholder,
    check_dims,
    check_shape,
)

# The dtypes that a weight may have.
TORCH_DTYPES: dict[str, np.dtype] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint64": np.dtype("<u8"),
    "uint32": np.dtype("<u4"),
    "uint16": np.dtype("<u2"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}
# Storages that a tensor cannot be read from, but whose place in the file has to be known.
_OTHER_ITEMSIZES = {"complex64": 8, "complex128": 16, "qint8": 1, "quint8": 1, "qint32": 4}
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
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.QInt8Storage": "qint8",
    "torch.QUInt8Storage": "quint8",
    "torch.QInt32Storage": "qint32",
    "torch.storage.UntypedStorage": None,
}


@dataclass(frozen=True)
class Storage:
    """Where the content of tensors lies: entry `key` of the archive, `numel` items."""

    key: str
    dtype: str | None  # torch's name; None where only the tensors say it
    numel: int  # items of `dtype`, or bytes where that is None

    @property
    def nbytes(self) -> int:
        if self.dtype in TORCH_DTYPES:
            return self.numel * TORCH_DTYPES[self.dtype].itemsize
        return self.numel * _OTHER_ITEMSIZES.get(self.dtype or "", 1)


@dataclass(frozen=True)
class Tensor:
    """A view of a storage. The geometry, in items, is known to lie inside of the storage."""

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of a copy: more than the storage has where items are repeated (stride 0)."""
        return prod(self.size) * TORCH_DTYPES[self.dtype].itemsize


def read_persistent_id(pid: Any) -> Storage | Global:
    """Read torch's persistent id: ("storage", type, key, device, number of items).

    Before PyTorch 1.6 there was one entry more, None for all storages that are not part of another;
    and a module that was saved whole had ("module", class, file, source code) for its class.

    Raises:
        Malformed: it is not one of these.
    """
    if isinstance(pid, tuple) and len(pid) == 6 and pid[5] is None:
        pid = pid[:5]
    match pid:
        case ("storage", Global(name), str(key), str(), int(numel)) if name in _STORAGE_DTYPES:
            if numel >= 0:
                return Storage(key, _STORAGE_DTYPES[name], numel)
        case ("module", Global() as label, _, _):
            return label
    raise Malformed("refers to something that is not a tensor's storage; save it again")


def _size(args: tuple, budget: Budget) -> tuple[int, ...]:
    (size,) = args
    return check_shape(size, "a tensor size")


def _tensor_v2(args: tuple, budget: Budget) -> Tensor:
    """`torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)`."""
    content, offset, size, stride = args[:4]
    if len(args) > 6 and isinstance(args[6], dict) and any(args[6].values()):
        raise Malformed("has a lazily negated or conjugated tensor; save its resolve_neg()")
    dtype = content.dtype if isinstance(content, Storage) else None
    return _tensor(content, offset, size, stride, dtype)


def _tensor_v3(args: tuple, budget: Budget) -> Tensor:
    """`torch._utils._rebuild_tensor_v3(storage, offset, size, stride, grad, hooks, dtype)`."""
    content, offset, size, stride, _, _, dtype = args[:7]
    name = dtype.name.removeprefix("torch.") if isinstance(dtype, Global) else None
    return _tensor(content, offset, size, stride, name)


def _tensor(content: Any, offset: Any, size: Any, stride: Any, dtype: str | None) -> Tensor:
    if isinstance(content, Placeholder) and content.name == "torch.storage._load_from_bytes":
        raise Malformed("has tensors written by pickle.dump; write the file with torch.save")
    if isinstance(content, Placeholder) and content.reason:
        raise Malformed(content.reason)
    if not isinstance(content, Storage) or dtype not in TORCH_DTYPES:
        raise Malformed(
            "has a tensor without storage or of an unknown dtype "
            f"({dtype if isinstance(content, Storage) else 'none'}); save it as float32"
        )
    size, stride = check_shape(size, "a tensor size"), check_dims(stride, "a tensor stride")
    (offset,) = check_dims((offset,), "a tensor offset")
    if len(size) != len(stride):
        raise Malformed(f"has a tensor of size {size} with {len(stride)} strides; save it again")
    end = offset
    if prod(size):
        end += 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if end * TORCH_DTYPES[dtype].itemsize > content.nbytes:
        raise Malformed(f"has a tensor of size {size} that reaches outside its storage")
    return Tensor(content, dtype, offset, size, stride)


def _parameter(args: tuple, budget: Budget) -> Tensor | Array:
    """A parameter, with whatever attributes: its tensor."""
    if args and isinstance(args[0], Placeholder) and args[0].reason:
        raise Malformed(args[0].reason)
    if not args or not isinstance(args[0], (Tensor, Array)):
        raise Malformed("has a parameter without a tensor; save it again")
    return args[0]


def _from_type(args: tuple, budget: Budget) -> Any:
    """`torch._tensor._rebuild_from_type_v2(function, type, args, state)`: of a tensor's subclass,
    or of a tensor with attributes, the tensor."""
    function, _, inner = args[:3]
    constructor = TORCH_CONSTRUCTORS.get(function.name) if isinstance(function, Global) else None
    if constructor in (None, _from_type) or not isinstance(inner, tuple):
        raise Malformed("has a tensor of an unknown class; save it as a plain tensor")
    return constructor(inner, budget)


def _from_numpy(args: tuple, budget: Budget) -> Array:
    """`torch._utils._rebuild_device_tensor_from_numpy(array, dtype, device, requires_grad)`."""
    if not args or not isinstance(args[0], Array):
        raise Malformed("has a tensor without content; save it from the CPU")
    return args[0]


def _refuse(what: str) -> Callable[[tuple, Budget], Any]:
    def constructor(args: tuple, budget: Budget) -> Any:
        raise Malformed(f"has {what}")

    return constructor


_NO_VALUES = "a tensor on the meta device, which has no values; save it after they are loaded"
_QUANTISED = "a quantised tensor; save the float model that it was made from"
_SPARSE = "a sparse tensor; save it dense (Tensor.to_dense())"

TORCH_CONSTRUCTORS: dict[str, Constructor] = {
    "torch._utils._rebuild_tensor": _tensor_v2,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type": _from_type,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch._utils._rebuild_device_tensor_from_numpy": _from_numpy,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _parameter,
    "torch._utils._rebuild_xla_tensor": _from_numpy,
    "torch._utils._rebuild_meta_tensor_no_storage": _refuse(_NO_VALUES),
    "torch._utils._rebuild_qtensor": _refuse(_QUANTISED),
    "torch._utils._rebuild_sparse_tensor": _refuse(_SPARSE),
    "torch._utils._rebuild_sparse_csr_tensor": _refuse(_SPARSE),
    "torch._utils._rebuild_nested_tensor": _refuse("a nested tensor; save its parts"),
    "torch._utils._rebuild_wrapper_subclass": _refuse(
        "a tensor that is spread over several processes or packed; save the whole as a plain tensor"
    ),
    "torch.Size": _size,
}
