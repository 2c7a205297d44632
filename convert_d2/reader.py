"""A checkpoint file as arrays by name, without PyTorch and without executing anything."""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from convert_d2.legacy_torch import MAGIC_NUMBER, read_legacy_torch
from convert_d2.npz import is_npz, read_npz
from convert_d2.objects import TORCH_DTYPES, Array, Storage, Tensor
from convert_d2.unpickle import unpickle
from tfdetect.errors import InputError

_CHUNK = 1 << 22
_RESAVE = "re-save it with PyTorch: torch.save(torch.load(FILE, weights_only=True), NEW_FILE)"

ReadStorage = Callable[[Storage], bytes]


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a file.

    Attributes:
        arrays: name -> array, in the order and the (PyTorch) layout of the file; float16 and
            bfloat16 widened to float32, every other dtype as it is. They may be read-only.
        source: the file's name, without its folder.
        sha256: of the file, hexadecimal.
        author: what the file says of its origin, such as "Detectron2 Model Zoo".
        format: "pkl" (a pickle of NumPy arrays), "pth" (torch's, archive or older) or "npz".
        ignored: what lies beside the weights: "optimizer", "scheduler", "iteration", ...
    """

    arrays: dict[str, np.ndarray]
    source: str
    sha256: str
    author: str | None
    format: str
    ignored: tuple[str, ...]


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a `.pkl` of a model zoo, a `.pth` of `torch.save` or an `.npz`, by its content.

    A zoo file is {"model": arrays, "__author__": text}, written by Python 2 or 3 and any NumPy; a
    `.pth` has {"model": tensors} with the state of the training beside it. Both may also be the
    name -> array dictionary itself. A bar on stderr appears if it takes more than a second.

    Raises:
        InputError: the file cannot be read, is none of these, is damaged, or names anything but
            arrays and plain containers. Nothing in it is executed.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the checkpoint file in it")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no regular file; give a checkpoint file")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise InputError(f"{path}: is empty; download or save it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _read(path, file, content)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def _read(path: Path, file: BinaryIO, content: mmap.mmap) -> Checkpoint:
    source = str(path)
    size = len(content)
    # Every byte is hashed and then read.
    with tqdm(
        total=2 * size, desc=path.name, unit="B", unit_scale=True, delay=1, leave=False
    ) as bar:
        digest = hashlib.sha256()
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
        content.seek(0)
        read_storage: ReadStorage | None = None
        if content[:2] == b"PK":
            with _damage_named(source):
                archive = zipfile.ZipFile(file)
                npz = read_npz(archive, source, size, bar.update) if is_npz(archive) else None
            if npz is not None:
                return Checkpoint(npz, path.name, digest.hexdigest(), None, "npz", ())
            root, read_storage = _open_archive(source, archive, size, bar.update)
        elif content[:1] == b"\x80":
            root = unpickle(content, source, size)
            if root == MAGIC_NUMBER:
                root, read_storage = read_legacy_torch(content, source, bar.update)
        else:
            raise InputError(
                f"{source}: is neither a pickle (of protocol 2 or later) nor torch's zip archive; "
                "give a .pkl of the model zoo or a .pth"
            )
        weights, author, ignored = _find_weights(source, root)
        arrays = {
            name: _array(f"{source}: {name}", value, read_storage)
            for name, value in weights.items()
        }
    return Checkpoint(
        arrays=arrays,
        source=path.name,
        sha256=digest.hexdigest(),
        author=author,
        format="pth" if read_storage else "pkl",
        ignored=ignored,
    )


def _open_archive(
    source: str, archive: zipfile.ZipFile, size: int, progress: Callable[[int], Any]
) -> tuple[Any, ReadStorage]:
    """Open torch's zip archive: FOLDER/data.pkl, with the storages in FOLDER/data/KEY.

    Returns:
        What the pickle holds, and a function that reads the bytes of one storage, once.
    """
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise InputError(f"{source}: is a compressed zip, which torch does not write; {_RESAVE}")
    if sum(entry.file_size for entry in entries) > size:
        raise InputError(f"{source}: its entries claim more bytes than the file has; {_RESAVE}")
    names = {entry.filename for entry in entries}
    folders = [name.split("/")[0] for name in names if re.fullmatch("[^/]+/data.pkl", name)]
    if len(folders) != 1:
        raise InputError(f"{source}: is a zip, but no checkpoint of PyTorch (no data.pkl in it)")
    folder = folders[0]

    def read(entry: str) -> bytes:
        if entry not in names:
            raise InputError(f"{source}: lacks its entry {entry}; download or save it again")
        with _damage_named(source):
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
                f"{source}: storage {storage.key} has {len(data)} bytes and not {storage.nbytes}; "
                "download or save it again"
            )
        return data

    return root, read_storage


@contextmanager
def _damage_named(source: str) -> Iterator[None]:
    """Say of whatever zipfile stumbles over that the file is damaged."""
    try:
        yield
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, OSError, struct.error) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{source}: cut short or damaged ({reason}); download or save it again"
        ) from None


def _find_weights(
    source: str, root: Any
) -> tuple[dict[str, Array | Tensor], str | None, tuple[str, ...]]:
    """Find the weights: under "model", under "blobs" as Detectron has them, or the dictionary.

    Returns:
        The weights by name, the author, and the names of what else there is.
    """
    if not isinstance(root, dict):
        raise InputError(
            f"{source}: holds a {type(root).__name__}, no names with arrays; {_RESAVE}"
        )
    root = _names(source, root)
    author = root.pop("__author__", None)
    key = "model" if "model" in root else "blobs"
    model = root.get(key)
    if isinstance(model, dict):
        weights = _names(source, model)
        for name, value in weights.items():
            if not isinstance(value, (Array, Tensor)):
                raise InputError(
                    f"{source}: {key}.{name} is a {type(value).__name__} and not an array; "
                    "save the weights alone"
                )
        ignored = tuple(name for name in root if name != key)
    else:
        weights = {name: x for name, x in root.items() if isinstance(x, (Array, Tensor))}
        ignored = tuple(name for name in root if name not in weights)
    if not weights:
        found = ", ".join(list(root)[:5])[:100] or "nothing"
        raise InputError(
            f"{source}: holds no arrays, under 'model' or at the top (there is: {found}); "
            "give a checkpoint of Detectron2"
        )
    return weights, _text(author) if isinstance(author, (str, bytes)) else None, ignored


def _names(source: str, mapping: dict) -> dict[str, Any]:
    """Make the keys text: Python 2 wrote bytes."""
    for key in mapping:
        if not isinstance(key, (str, bytes)):
            raise InputError(f"{source}: has {type(key).__name__} keys instead of names; {_RESAVE}")
    return {_text(key): value for key, value in mapping.items()}


def _text(value: str | bytes) -> str:
    """Make one line of text that can be written as UTF-8."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def _array(where: str, value: Array | Tensor, read_storage: ReadStorage | None) -> np.ndarray:
    """Get the content of an array or tensor; `where` names it in messages."""
    if isinstance(value, Array):
        if value.value is None:
            raise InputError(f"{where}: an array without content; download or save the file again")
        array = value.value
        bfloat16 = False
    else:
        if read_storage is None:
            raise InputError(f"{where}: a tensor, but the file has no storages; {_RESAVE}")
        dtype = TORCH_DTYPES[value.dtype]
        array = np.ndarray(
            value.size,
            dtype,
            buffer=read_storage(value.storage),
            offset=value.offset * dtype.itemsize,
            strides=[stride * dtype.itemsize for stride in value.stride],
        )
        bfloat16 = value.dtype == "bfloat16"
    if bfloat16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    native = np.float32 if array.dtype == np.float16 else array.dtype.newbyteorder("=")
    return np.ascontiguousarray(array, native).reshape(array.shape)
