"""Reads the `torch.save` format from before PyTorch 1.6: five pickles, followed by the storages."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from typing import Any

from tfdetect.checkpoint.formats.torch_objects import Storage
from tfdetect.checkpoint.formats.unpickle import unpickle
from tfdetect.errors import InputError

# What the first two pickles hold.
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001


def read_legacy_torch(
    content: mmap.mmap, source: str, progress: Callable[[int], Any]
) -> tuple[Any, Callable[[Storage], bytes]]:
    """Read the rest of the file, after the magic number.

    Args:
        content: the file, at the second pickle.
        source: its name, for errors.
        progress: is called with the number of bytes read.

    Returns:
        What was saved, and a function that reads the bytes of one storage, once.

    Raises:
        InputError: the file is damaged, of another version or another machine's.
    """
    size = len(content)
    version = unpickle(content, source, size)
    machine = unpickle(content, source, size)
    if version != _PROTOCOL_VERSION or not isinstance(machine, dict):
        raise InputError(f"{source}: is in an unknown torch format; save it with a newer version")
    if machine.get("little_endian") is not True:
        raise InputError(f"{source}: was written on a big-endian machine; re-save it on another")
    known: dict[str, Storage] = {}
    root = unpickle(content, source, size, known)
    keys = unpickle(content, source, size)
    starts: dict[str, int] = {}
    position = content.tell()
    for key in keys if isinstance(keys, list) else []:
        # An item's size stands with the tensors; a storage of an unknown kind ends the search.
        if not isinstance(key, str) or key not in known or position + 8 > size:
            break
        (items,) = struct.unpack_from("<q", content, position)
        if items != known[key].numel:
            raise InputError(f"{source}: its storage {key[:40]} is damaged; download it again")
        starts[key] = position + 8
        position += 8 + known[key].nbytes

    read: dict[str, bytes] = {}

    def read_storage(storage: Storage) -> bytes:
        if storage.key not in read:
            start = starts.get(storage.key, size)
            data = content[start : start + storage.nbytes]
            progress(len(data))
            read[storage.key] = data
        if len(read[storage.key]) != storage.nbytes:
            raise InputError(
                f"{source}: truncated or damaged (storage {storage.key[:40]}); download or save it "
                "again"
            )
        return read[storage.key]

    return root, read_storage
