"""Files of the library `safetensors`, and of models that are spread over several files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfdetect.checkpoint.formats.torch_objects import TORCH_DTYPES
from tfdetect.errors import InputError

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
_LARGEST_HEADER = 100_000_000  # bytes; the library's own limit


def is_safetensors(content: Any, size: int) -> bool:
    """Whether a file begins with the size of a header, and the header with a brace."""
    length = int.from_bytes(content[:8], "little")
    return content[8:9] == b"{" and 2 <= length <= min(size - 8, _LARGEST_HEADER)


def read_safetensors(content: Any, source: str) -> dict[str, np.ndarray]:
    """The arrays by name, in the dtypes of the file; they may be read-only.

    The library checks the header: shapes, dtypes and that the arrays fill the file without gaps.

    Args:
        content: the whole file, of which `is_safetensors` holds.
        source: its name, for errors.

    Raises:
        InputError: it is damaged, or an array's dtype is none that weights have.
    """
    from safetensors import SafetensorError, deserialize

    try:
        entries: list[tuple[str, Mapping[str, Any]]] = deserialize(content[:])
    except SafetensorError as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{source}: truncated or damaged ({reason}); download or save it again"
        ) from None
    arrays = {}
    for name, entry in entries:
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise InputError(
                f"{source}: {name[:100]} is of dtype {entry['dtype']}; save it as float32 "
            )
        array = np.frombuffer(entry["data"], TORCH_DTYPES[dtype])
        arrays[name] = array.reshape(entry["shape"])
    return arrays
