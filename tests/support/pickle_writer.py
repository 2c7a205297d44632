"""Write pickles instruction by instruction, and torch's zip archives, without PyTorch.

`pickle.dumps` writes only what can be imported. Here a pickle may name anything, call it with
anything, and claim what is not so.
"""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Global:
    """A name: "module name"."""

    name: str


@dataclass
class Call:
    """REDUCE: function(*args), then BUILD with `state` if there is one."""

    function: Any
    args: Any
    state: Any = None


@dataclass
class New:
    """NEWOBJ: cls.__new__(*args), then entries of a dictionary, then BUILD with `state`."""

    cls: Any
    args: Any = ()
    entries: Any = None
    state: Any = None


@dataclass
class Persistent:
    """BINPERSID."""

    pid: Any


@dataclass
class Raw:
    """Instructions as they are."""

    code: bytes


def encode(value: Any, python2: bool = False) -> bytes:
    """Write a value as instructions of protocol 2 (byte strings: 3, or of Python 2)."""

    def e(value: Any) -> bytes:
        return encode(value, python2)

    match value:
        case Raw(code):
            return code
        case Global(name):
            return b"c" + name.replace(" ", "\n").encode() + b"\n"
        case Call(function, args, state):
            build = b"" if state is None else e(state) + b"b"
            return e(function) + e(args) + b"R" + build
        case New(cls, args, entries, state):
            pairs = (e(key) + e(item) for key, item in (entries or {}).items())
            items = b"(" + b"".join(pairs) + b"u"
            return e(cls) + e(args) + b"\x81" + items + (b"" if state is None else e(state) + b"b")
        case Persistent(pid):
            return e(pid) + b"Q"
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(data)]) + data
        case float():
            return b"G" + struct.pack(">d", value)
        case str() if python2:
            return b"T" + struct.pack("<i", len(value)) + value.encode("latin-1")
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case bytes() if python2:
            return b"T" + struct.pack("<i", len(value)) + value
        case bytes():
            return b"B" + struct.pack("<I", len(value)) + value
        case tuple():
            return b"(" + b"".join(map(e, value)) + b"t"
        case list():
            return b"](" + b"".join(map(e, value)) + b"e"
        case dict():
            return b"}(" + b"".join(e(key) + e(item) for key, item in value.items()) + b"u"
        case np.ndarray():
            return e(numpy_array(value))
    raise TypeError(type(value))


def dumps(value: Any, python2: bool = False) -> bytes:
    """Write a whole pickle."""
    return b"\x80\x02" + encode(value, python2) + b"."


def numpy_array(array: np.ndarray, module: str = "numpy.core.multiarray", **claims: Any) -> Call:
    """NumPy's own form of an array; `claims` (shape, code, order, data, fortran) go before it."""
    code = claims.get("code", array.dtype.str[1:])
    order = claims.get("order", "|" if array.dtype.itemsize == 1 else array.dtype.str[0])
    dtype = Call(Global("numpy dtype"), (code, 0, 1), (3, order, None, None, None, -1, -1, 0))
    return Call(
        Global(f"{module} _reconstruct"),
        (Global("numpy ndarray"), (0,), b"b"),
        (
            1,
            claims.get("shape", array.shape),
            dtype,
            claims.get("fortran", False),
            claims.get("data", array.tobytes()),
        ),
    )


def torch_storage(key: str, numel: int, kind: str = "torch FloatStorage") -> Persistent:
    return Persistent(("storage", Global(kind), key, "cuda:0", numel))


def torch_tensor(
    storage: Any, size: Any, stride: Any, offset: Any = 0, rebuild: str = "_rebuild_tensor_v2"
) -> Call:
    hooks = Call(Global("collections OrderedDict"), ())
    extra = () if rebuild == "_rebuild_tensor" else (False, hooks)
    return Call(Global(f"torch._utils {rebuild}"), (storage, offset, size, stride, *extra))


def write_torch(
    path: Path, value: Any, storages: dict[str, bytes], folder: str = "archive", **options: Any
) -> Path:
    """Write torch's zip archive; options: `byteorder`, `compression`."""
    with zipfile.ZipFile(path, "w", options.get("compression", zipfile.ZIP_STORED)) as archive:
        archive.writestr(f"{folder}/data.pkl", dumps(value))
        archive.writestr(f"{folder}/.format_version", b"1")
        if options.get("byteorder", b"little"):
            archive.writestr(f"{folder}/byteorder", options.get("byteorder", b"little"))
        for key, data in storages.items():
            archive.writestr(f"{folder}/data/{key}", data)
        archive.writestr(f"{folder}/version", b"3\n")
        archive.writestr(f"{folder}/.data/serialization_id", b"0" * 40)
    return path


def torch_file(path: Path, value: Any, arrays: dict[str, np.ndarray], **options: Any) -> Path:
    """Write torch's zip archive with the arrays as storages 0, 1, ... (see `torch_state`)."""
    storages = {str(number): array.tobytes() for number, array in enumerate(arrays.values())}
    return write_torch(path, value, storages, **options)


def torch_state(arrays: dict[str, np.ndarray], prefix: str = "") -> dict[str, Call]:
    """A state dict whose storages are those that `torch_file` writes for the same arrays."""
    kinds = {"float32": "torch FloatStorage", "int64": "torch LongStorage"}
    return {
        prefix + name: torch_tensor(
            torch_storage(str(number), array.size, kinds[array.dtype.name]),
            array.shape,
            tuple(stride // array.itemsize for stride in array.strides),
        )
        for number, (name, array) in enumerate(arrays.items())
    }


def write_legacy_torch(
    path: Path,
    value: Any,
    storages: dict[str, np.ndarray],
    order: list[str] | None = None,
    little_endian: bool = True,
) -> Path:
    """Write torch.save's form of before 1.6; `storages` are arrays by key."""
    machine = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"int": 4}}
    keys = list(order or storages)
    parts = [0x1950A86A20F9469CFC6C, 1001, machine, value, keys]
    data = b"".join(map(dumps, parts))
    for key in keys:
        data += storages[key].size.to_bytes(8, "little") + storages[key].tobytes()
    path.write_bytes(data)
    return path


def legacy_storage(key: str, numel: int, kind: str = "torch FloatStorage") -> Persistent:
    return Persistent(("storage", Global(kind), key, "cuda:0", numel, None))
