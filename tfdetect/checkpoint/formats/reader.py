"""A checkpoint file as arrays by name, without PyTorch and without executing anything."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from tfdetect.checkpoint.formats.damage import damage_named
from tfdetect.checkpoint.formats.find_weights import RESAVE, find_weights, text
from tfdetect.checkpoint.formats.legacy_torch import MAGIC_NUMBER, read_legacy_torch
from tfdetect.checkpoint.formats.npz import is_npz, read_npz
from tfdetect.checkpoint.formats.numpy_objects import Array
from tfdetect.checkpoint.formats.objects import Budget, TooLarge
from tfdetect.checkpoint.formats.other_files import describe_file, describe_folder
from tfdetect.checkpoint.formats.safetensors_file import is_safetensors, read_safetensors
from tfdetect.checkpoint.formats.torch_archive import read_torch_archive
from tfdetect.checkpoint.formats.torch_objects import TORCH_DTYPES, Storage, Tensor
from tfdetect.checkpoint.formats.unpickle import unpickle
from tfdetect.errors import InputError

_CHUNK = 1 << 22
# What tensors may take that repeat the items of their storage (stride 0), in files of any size.
_REPEATED = 1 << 26

ReadStorage = Callable[[Storage], bytes]


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a file.

    Attributes:
        arrays: name -> array, in the order and the (PyTorch) layout of the file; float16,
            bfloat16 and float8 widened to float32, every other dtype as it is. They may be
            read-only.
        source: the file's name, without its folder.
        sha256: of the file, hexadecimal.
        author: the origin according to the file, such as "Detectron2 Model Zoo".
        format: "pkl" (a pickle of NumPy arrays), "pth" (torch's, archive or older), "npz",
            "safetensors" or "index.json" (of several files).
        ignored: what else the file holds: "optimizer", "scheduler", "iteration", ...
        container: where the weights were, such as "model" or "state_dict"; "" for the top.
        others: further places that hold weights, such as "model_ema", and were not used.
    """

    arrays: dict[str, np.ndarray]
    source: str
    sha256: str
    author: str | None
    format: str
    ignored: tuple[str, ...] = ()
    container: str = ""
    others: tuple[str, ...] = ()


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a `.pkl` of a model zoo, a `.pth` of `torch.save`, a `.safetensors`, an `.npz`, by its
    content, or the `.index.json` of a model in several files.

    A zoo file is {"model": arrays, "__author__": text}, written by Python 2 or 3 and any NumPy; a
    `.pth` has {"model": tensors} together with the training state. Both may also be the
    name -> array dictionary itself, have it under another name (`find_weights`), or be a module
    of torch that was saved whole. A bar on stderr appears if it takes more than a second.

    Raises:
        InputError: the file cannot be read, is not one of these or is damaged, or there is
            something else where a weight should be. Nothing in it is executed.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: {describe_folder(path)}")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a regular file; give a checkpoint file")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise InputError(f"{path}: is empty; download or save it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if path.name.endswith(".index.json"):
                    return _read_several(path, content[:])
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
            with damage_named(source):
                archive = zipfile.ZipFile(file)
                npz = read_npz(archive, source, size, bar.update) if is_npz(archive) else None
            if npz is not None:
                return _of_arrays(path, digest.hexdigest(), "npz", npz)
            root, read_storage = read_torch_archive(source, archive, size, bar.update)
        elif is_safetensors(content, size):
            arrays = read_safetensors(content, source)
            return _of_arrays(path, digest.hexdigest(), "safetensors", arrays)
        elif content[:1] == b"\x80":
            root = unpickle(content, source, size)
            if root == MAGIC_NUMBER:
                root, read_storage = read_legacy_torch(content, source, bar.update)
        else:
            raise InputError(f"{source}: {describe_file(path, content[:1024], content[-8:])}")
        weights = find_weights(source, root)
        arrays = _read_arrays(source, weights.values, read_storage, size)
    return Checkpoint(
        arrays=arrays,
        source=path.name,
        sha256=digest.hexdigest(),
        author=weights.author,
        format="pth" if read_storage else "pkl",
        ignored=weights.ignored,
        container=weights.container,
        others=weights.others,
    )


def _of_arrays(path: Path, sha256: str, kind: str, arrays: dict[str, np.ndarray]) -> Checkpoint:
    """A checkpoint of a file that holds arrays and nothing else."""
    if not arrays:
        raise InputError(f"{path}: holds no arrays; download or save it again")
    arrays = {text(name): _widened(array) for name, array in arrays.items()}
    return Checkpoint(arrays, path.name, sha256, None, kind)


def _read_several(path: Path, content: bytes) -> Checkpoint:
    """Read the files that an index names: {"weight_map": {array: file next to the index}}."""
    try:
        index = json.loads(content)
        files = list(dict.fromkeys(index["weight_map"].values()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(
            f"{path}: is not the index of a sharded model (no weight_map); give the .pth or "
            ".safetensors itself"
        ) from None
    arrays: dict[str, np.ndarray] = {}
    for name in files:
        if not isinstance(name, str) or Path(name).name != name or name.endswith(".index.json"):
            raise InputError(f"{path}: names a file that is not next to it; download it again")
        arrays |= read_checkpoint(path.parent / name).arrays
    if missing := set(index["weight_map"]) - set(arrays):
        raise InputError(f"{path}: none of its files has {min(missing)[:100]}; download them again")
    return _of_arrays(path, hashlib.sha256(content).hexdigest(), "index.json", arrays)


def _read_arrays(
    source: str,
    values: dict[str, Array | Tensor],
    read_storage: ReadStorage | None,
    size: int,
) -> dict[str, np.ndarray]:
    """The content of arrays and tensors, which together may not be larger than the file."""
    tensors, repeated = Budget(size), Budget(max(size, _REPEATED))
    tied: dict[Tensor, np.ndarray] = {}  # one tensor under two names
    arrays = {}
    for name, value in values.items():
        if isinstance(value, Array):
            if value.value is None:
                raise InputError(
                    f"{source}: {name}: an array without content; download or save the file again"
                )
            arrays[name] = _widened(value.value)
            continue
        if value not in tied:
            try:
                if value.nbytes > value.storage.nbytes:
                    repeated.claim("tensors with repeated items", value.nbytes)
                else:
                    tensors.claim("tensors", value.nbytes)
            except TooLarge as error:
                raise InputError(f"{source}: {error}") from None
            tied[value] = _content(f"{source}: {name}", value, read_storage)
        arrays[name] = tied[value]
    return arrays


def _content(where: str, tensor: Tensor, read_storage: ReadStorage | None) -> np.ndarray:
    """The content of a tensor; `where` names it in messages."""
    if read_storage is None:
        raise InputError(f"{where}: a tensor, but the file has no storages; {RESAVE}")
    dtype = TORCH_DTYPES[tensor.dtype]
    array: np.ndarray = np.ndarray(
        tensor.size,
        dtype,
        buffer=read_storage(tensor.storage),
        offset=tensor.offset * dtype.itemsize,
        strides=[stride * dtype.itemsize for stride in tensor.stride],
    )
    return _widened(array)


def _widened(array: np.ndarray) -> np.ndarray:
    """In order and in this machine's byte order; the short forms of floats as float32."""
    # (Those that NumPy has not are of kind "V" or "f" with another type number.)
    short = array.dtype.itemsize <= 2 and array.dtype.kind not in "iub"
    dtype = np.dtype(np.float32) if short else array.dtype.newbyteorder("=")
    return np.ascontiguousarray(array, dtype).reshape(array.shape)
