"""Writes a servable as a SavedModel, atomically."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.checkpoint.model_dir import load_model
from tfdetect.errors import InputError
from tfdetect.export.servable import Servable
from tfdetect.export.warmup import write_warmup_requests
from tfdetect.files import new_folder
from tfdetect.interrupts import hold_interrupts
from tfdetect.modeling.keypoint_flip import keypoint_flip
from tfdetect.ops import kernels
from tfdetect.ops.backend import Backend
from tfdetect.ops.kernels.build import find_library
from tfdetect.ops.kernels.instruction_set import BASELINE

OP_LIBRARY = "tfdetect_ops.so"
"""The asset of a native SavedModel that has to be loaded before it."""
_PORTABLE = Backend()
# The least with which native convolutions are faster than TensorFlow's.
_INSTRUCTION_SET = "avx2"
_UNFINISHED = ".unfinished-"
_NAMES = ("class_names", "stuff_class_names", "keypoint_names")


@dataclass(frozen=True)
class Exported:
    """A SavedModel on disk.

    Attributes:
        path: its folder, SERVABLE/N.
        size: of all its files, in bytes.
        weights: of the variables' files, in bytes.
        signatures: their names.
        library: of the native operators, which has to be loaded first; None where they are
            portable.
    """

    path: Path
    size: int
    weights: int
    signatures: list[str]
    library: Path | None


def export_savedmodel(
    model_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    ops: str = "portable",
    device: str = "cpu",
    dtype: str = "float32",
    max_batch: int | None = None,
    opts: Sequence[Any] = (),
) -> Exported:
    """Write the SavedModel of a model directory to `output`/1, or the next number.

    Args:
        model_dir: what `tfdetect convert` wrote.
        output: folder of the versions, which TensorFlow Serving calls the base path; made where it
            is missing.
        ops, device, dtype: see `servable_backend`.
        max_batch: a larger batch is an error; None sets no limit.
        opts: [KEY, VALUE, ...], as of `Predictor`. With TEST.AUG.ENABLED, there or in the model's
            configuration, the SavedModel has the signature `tta` too.

    Raises:
        InputError: the model cannot be used, there are no native operators, or `output` cannot be
            written; nothing is left there then.
    """
    backend = servable_backend(ops, device, dtype)
    return _export(lambda: load_model(model_dir, opts), output, backend, max_batch)


def export_model(
    cfg: CfgNode,
    model: tf.Module,
    metadata: dict[str, Any],
    output: str | os.PathLike[str],
    backend: Backend = _PORTABLE,
    *,
    max_batch: int | None = None,
) -> Exported:
    """As `export_savedmodel`, of a model in memory, which stays as it is and may go on training.

    Args:
        cfg: what the model was built from.
        model: of `build_model`, with its weights.
        metadata: as in a model directory.
        output, max_batch: as `export_savedmodel`'s.
        backend: where the servable will run, and with which operators; see `servable_backend`.

    Raises:
        InputError: as `export_savedmodel`.
    """
    return _export(lambda: (cfg, model, metadata), output, backend, max_batch)


def servable_backend(ops: str = "portable", device: str = "cpu", dtype: str = "float32") -> Backend:
    """The backend of a servable, which does not depend on the machine that exports it.

    A native one for "cpu" has its convolutions for processors with AVX2, as any of the last ten
    years has it, and runs on others, slower; nothing of it runs on a GPU. One for "gpu" runs on
    both.

    Args:
        ops: "portable" or "native".
        device: where it will run, "cpu" or "gpu".
        dtype: of weights and features, "float32" or "bfloat16".

    Raises:
        InputError: a value is not one of these, or there are no native operators.
    """
    if ops == "native":
        kernels.require()
        if device == "gpu":
            kernels.announce_missing_cuda()
        if device == "cpu" and kernels.instruction_sets().compiled != BASELINE:
            return Backend(device, ops, dtype, instruction_set=_INSTRUCTION_SET)
    return Backend(device, ops, dtype)


def _export(
    load: Callable[[], tuple[CfgNode, tf.Module, dict[str, Any]]],
    output: str | os.PathLike[str],
    backend: Backend,
    max_batch: int | None,
) -> Exported:
    with new_version(Path(output)) as (folder, path):
        cfg, model, metadata = load()
        servable = Servable(cfg, model, backend, max_batch, keypoint_flip(metadata))
        write_saved_model(
            servable.root(), servable.signatures, metadata, folder, with_library=backend.native
        )
    sizes = {file: file.stat().st_size for file in path.rglob("*") if file.is_file()}
    return Exported(
        path=path,
        size=sum(sizes.values()),
        weights=sum(size for file, size in sizes.items() if file.parent.name == "variables"),
        signatures=list(servable.signatures),
        library=path / "assets" / OP_LIBRARY if backend.native else None,
    )


def write_saved_model(
    root: tf.Module,
    signatures: Mapping[str, Any],
    metadata: dict[str, Any],
    folder: Path,
    *,
    with_library: bool = False,
) -> None:
    """Write to `folder`, with names of classes and warm-up requests.

    Args:
        root: what is saved; it holds the variables.
        signatures: tf.functions by name.
        metadata: of the model directory.
        folder: of `new_version`.
        with_library: whether the native operators' library is among the assets.

    Raises:
        InputError: `folder` cannot be written.
    """
    with tempfile.TemporaryDirectory() as temporary:
        files = []
        for key in _NAMES:
            names = metadata.get(key) or []
            if names:
                file = Path(temporary, f"{key}.txt")
                # One to a line, so no line break within.
                lines = [" ".join(name.split()) + "\n" for name in names]
                file.write_text("".join(lines), encoding="utf-8")
                files.append(file)
        if with_library:
            source = find_library()
            assert source is not None  # `servable_backend` has loaded it
            files.append(Path(shutil.copy(source, Path(temporary, OP_LIBRARY))))
        root.assets = [tf.saved_model.Asset(str(file)) for file in files]
        try:
            # What is served has no gradients, and tracing them takes a fifth of the time.
            options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            tf.saved_model.save(root, str(folder), signatures, options)
            write_warmup_requests(folder, signatures)
        except (OSError, tf.errors.OpError) as error:
            raise _cannot_write(folder.parent, error) from error


@contextlib.contextmanager
def new_version(output: Path) -> Iterator[tuple[Path, Path]]:
    """A folder to write to, and what it is renamed to at the end; after an error it is gone."""
    with contextlib.ExitStack() as stack:
        with hold_interrupts():  # nothing is made that is not removed
            missing = [folder for folder in (output, *output.parents) if not folder.exists()]
            stack.callback(_remove_empty, missing)
            try:
                output.mkdir(parents=True, exist_ok=True)
                handle = os.open(output, os.O_RDONLY)
            except OSError as error:
                raise _cannot_write(output, error) from error
            stack.callback(os.close, handle)
        # Anyone who has the lock is alone, so that what else is unfinished was killed.
        fcntl.flock(handle, fcntl.LOCK_EX)
        for left in output.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        versions = [int(path.name) for path in output.iterdir() if path.name.isdecimal()]
        version = output / str(max(versions, default=0) + 1)
        try:
            folder = stack.enter_context(new_folder(version, _UNFINISHED))
        except OSError as error:
            raise _cannot_write(output, error) from error
        yield folder, version


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the innermost first, up to one that has something in it."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _cannot_write(output: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or getattr(error, "message", str(error))
    return InputError(f"{output}: cannot be written ({reason}), choose another place")
