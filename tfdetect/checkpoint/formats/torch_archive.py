"""Reads the `torch.save` format since PyTorch 1.6: a zip with a pickle and the storages."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from typing import Any

from tfdetect.checkpoint.formats.damage import damage_named
from tfdetect.checkpoint.formats.other_files import describe_zip
from tfdetect.checkpoint.formats.torch_objects import Storage
from tfdetect.checkpoint.formats.unpickle import unpickle
from tfdetect.errors import InputError

_RESAVE = "re-save it with PyTorch: torch.save(torch.load(FILE, weights_only=True), NEW_FILE)"


def read_torch_archive(
    source: str, archive: zipfile.ZipFile, size: int, progress: Callable[[int], Any]
) -> tuple[Any, Callable[[Storage], bytes]]:
    """Open torch's zip archive: FOLDER/data.pkl, with the storages in FOLDER/data/KEY.

    Args:
        source: the file's name, for errors.
        archive: opened.
        size: bytes of the file.
        progress: is called with the number of bytes read.

    Returns:
        What the pickle holds, and a function that reads the bytes of one storage, once.

    Raises:
        InputError: the zip is not torch's, or damaged.
    """
    entries = archive.infolist()
    names = {entry.filename for entry in entries}
    if other := describe_zip(names):
        raise InputError(f"{source}: {other}")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise InputError(
            f"{source}: is a compressed zip file, which torch does not write; {_RESAVE}"
        )
    if sum(entry.file_size for entry in entries) > size:
        raise InputError(f"{source}: its entries claim more bytes than the file has; {_RESAVE}")
    folders = [name.split("/")[0] for name in names if re.fullmatch("[^/]+/data.pkl", name)]
    if len(folders) != 1:
        raise InputError(
            f"{source}: is a zip file, but not a PyTorch checkpoint (no data.pkl in it)"
        )
    folder = folders[0]

    def read(entry: str) -> bytes:
        if entry not in names:
            raise InputError(f"{source}: lacks its entry {entry[:100]}; download or save it again")
        with damage_named(source):
            data = archive.read(entry)
        progress(len(data))
        return data

    if f"{folder}/byteorder" in names and read(f"{folder}/byteorder") != b"little":
        raise InputError(f"{source}: was written on a big-endian machine; re-save it on another")
    root = unpickle(io.BytesIO(read(f"{folder}/data.pkl")), source, size)
    storages: dict[str, bytes] = {}

    def read_storage(storage: Storage) -> bytes:
        if storage.key not in storages:
            storages[storage.key] = read(f"{folder}/data/{storage.key}")
        data = storages[storage.key]
        if len(data) != storage.nbytes:
            raise InputError(
                f"{source}: storage {storage.key[:40]} has {len(data)} bytes instead of "
                f"{storage.nbytes}; download or save it again"
            )
        return data

    return root, read_storage
