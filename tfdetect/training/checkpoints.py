"""Training checkpoints: model directories that also hold the training state."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.checkpoint.description import CONFIG
from tfdetect.checkpoint.model_dir import load_weights, save_model
from tfdetect.config import load_config
from tfdetect.errors import InputError
from tfdetect.files import REPLACED, new_folder, write_json

FINAL = "model_final"
BEST = "model_best"
BEST_RECORD = "best.json"
_PROGRESS = "training.json"
_STATE = "training"
_UNFINISHED = ".unfinished-"
# Keys of MODEL that no variable depends on.
_OF_NO_MODEL = ("MODEL.WEIGHTS", "MODEL.DEVICE", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD")
_LISTED = 3


@dataclass(frozen=True)
class Progress:
    """The progress of a training run.

    Attributes:
        iteration: number of completed iterations, which is the index of the next.
        seed: of all randomness in it.
        hooks: by its class's name, what a hook's `state_dict` gave.
    """

    iteration: int
    seed: int
    hooks: dict[str, dict[str, Any]] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints in OUTPUT_DIR.

    Each is a folder `model_0004999`, named by the last iteration in it as Detectron2 names its
    files, or `model_final`: a model directory (for `tfdetect predict`) with two more things:
    `training.json`, the `Progress`, and a TensorFlow checkpoint `training` of the optimizer. It is
    written under a temporary name and renamed when it is completely on disk, so that a folder with
    this name is always complete, even if the process is killed.
    """

    def __init__(
        self,
        folder: Path,
        cfg: CfgNode,
        model: tf.Module,
        metadata: dict[str, Any],
        state: tf.train.Checkpoint,
        *,
        writes: bool = True,
    ):
        """Nothing is read or written yet.

        Args:
            folder: OUTPUT_DIR.
            cfg: of the model; SOLVER.CHECKPOINTS_KEPT.
            model: whose variables are saved.
            metadata: of the model's directory.
            state: the variables of training, `Trainer.state`.
            writes: whether this process does: one of several workers.
        """
        self._folder = folder
        self._cfg = cfg
        self._model = model
        self._metadata = metadata
        self._state = state
        self._writes = writes
        self._final = -1  # the iterations in model_final

    def save(self, progress: Progress, final: bool = False) -> Path:
        """Write a checkpoint, and remove old ones beyond SOLVER.CHECKPOINTS_KEPT.

        Raises:
            InputError: the disk is full or cannot be written, or a variable is not finite. Earlier
                checkpoints are then unchanged.
        """
        target = self._folder / (FINAL if final else f"model_{progress.iteration - 1:07d}")
        content = {"iteration": progress.iteration, "seed": progress.seed}
        hooks = {"hooks": progress.hooks} if progress.hooks else {}
        self._write(target, progress.iteration - 1, {_PROGRESS: {**content, **hooks}}, state=True)
        if final:
            self._final = progress.iteration
        if self._writes:
            self._remove_old()
        return target

    def save_best(self, record: Mapping[str, Any]) -> Path:
        """Write the model alone to `model_best`, with `record` as `best.json`.

        Raises:
            InputError: as of `save`.
        """
        self._write(self._folder / BEST, None, {BEST_RECORD: record}, state=False)
        return self._folder / BEST

    def _write(
        self,
        target: Path,
        iteration: int | None,
        records: Mapping[str, Mapping[str, Any]],
        *,
        state: bool,
    ) -> None:
        if not self._writes:
            return
        after = "" if iteration is None else f" after iteration {iteration}"
        for variable in self._model.variables:
            if not np.isfinite(variable.numpy()).all():
                raise InputError(
                    f"{target}: is not written, the model has values that are not finite{after};"
                    f" {self.advice()}"
                )
        try:
            with new_folder(target, _UNFINISHED) as folder:
                save_model(folder, self._cfg, self._model, self._metadata)
                if state:
                    self._state.write(str(folder / _STATE))
                for name, record in records.items():
                    write_json(folder / name, record)
                _flush(folder)
            _flush(self._folder)
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "message", str(error))
            raise InputError(
                f"{target}: cannot be written ({reason}); make room and continue with --resume"
            ) from error

    def has_final(self, iteration: int) -> bool:
        """Whether `restore` found a `model_final` of so many iterations, or `save` wrote one."""
        return self._final == iteration

    def latest(self) -> Path | None:
        """The checkpoint with the most iterations."""
        found = saved(self._folder)
        return found[-1][1] if found else None

    def restore(self) -> Progress | None:
        """Set model and state to the latest checkpoint's; None if there is none.

        Partial files left by a killed process are removed.

        Raises:
            InputError: the checkpoint is damaged, or of another model, or one of both has averaged
                weights.
        """
        if self._writes:
            for replaced in self._folder.glob(f"{_UNFINISHED}*/{REPLACED}/{BEST_RECORD}"):
                # Killed between two renames: the one before is still the best.
                if not (self._folder / BEST).exists():
                    replaced.parent.rename(self._folder / BEST)
            for unfinished in self._folder.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(unfinished, ignore_errors=True)
        path = self.latest()
        if path is None:
            return None
        _check_state(path, self._cfg)
        load_trained(path, self._cfg, self._model)
        try:
            self._state.read(str(path / _STATE)).assert_consumed()
        except Exception as error:  # TensorFlow's reader raises almost anything
            changed = _changed_keys(path, self._cfg)
            if changed and _shapes(path / _STATE) is not None:
                raise _of_another_configuration(path, changed) from error
            reason = str(getattr(error, "message", error)).strip().splitlines()[0]
            raise InputError(
                f"{path / _STATE}.index: is damaged ({reason}); remove the folder to continue from "
                "the checkpoint before it"
            ) from error
        progress = _read_progress(path / _PROGRESS)
        if path.name == FINAL:
            self._final = progress.iteration
        return progress

    def advice(self) -> str:
        """Advice for a failed training."""
        latest = self.latest()
        where = f"the last checkpoint is {latest}" if latest else "there is no checkpoint yet"
        return f"{where}; try a lower SOLVER.BASE_LR or SOLVER.CLIP_GRADIENTS"

    def _remove_old(self) -> None:
        kept = self._cfg.SOLVER.CHECKPOINTS_KEPT
        numbered = [path for _, path in saved(self._folder) if path.name != FINAL]
        for path in numbered[: -kept if kept > 0 else 0]:
            # Renamed first, so that a partly removed checkpoint does not look complete.
            unfinished = path.with_name(f"{_UNFINISHED}{path.name}")
            path.rename(unfinished)
            shutil.rmtree(unfinished, ignore_errors=True)


def _check_state(path: Path, cfg: CfgNode) -> None:
    """Raise InputError if the checkpoint's state is of other variables than the training's."""
    try:
        before = load_config(path / CONFIG)
    except InputError:
        return  # said by who reads the rest
    for key, old, new in (
        ("TRAIN.EMA.ENABLED", before.TRAIN.EMA.ENABLED, cfg.TRAIN.EMA.ENABLED),
        ("SOLVER.OPTIMIZER", before.SOLVER.OPTIMIZER, cfg.SOLVER.OPTIMIZER),
    ):
        if old != new:
            raise InputError(
                f"--resume: {path} is of a training run with {key} {old} instead of {new}; set the "
                "same to continue it, or another OUTPUT_DIR with its folder as MODEL.WEIGHTS"
            )


def load_trained(path: Path, cfg: CfgNode, model: tf.Module) -> None:
    """`load_weights` from a training checkpoint, to resume or to evaluate it.

    Args:
        path: the checkpoint.
        cfg: what `model` was built from.

    Raises:
        InputError: the checkpoint is damaged, or its training had another model; then the message
            names the keys that differ.
    """
    try:
        load_weights(path, model)
    except InputError as error:
        changed = _changed_keys(path, cfg)
        if changed and _shapes(path / "model") not in (None, _shapes_of(model)):
            raise _of_another_configuration(path, changed) from error
        raise


def _shapes(prefix: Path) -> list[list[int]] | None:
    """The shapes of the variables in a TensorFlow checkpoint; None if it cannot be read."""
    try:
        found = tf.train.load_checkpoint(str(prefix)).get_variable_to_shape_map()
    except Exception:  # TensorFlow's reader raises almost anything
        return None
    return sorted(shape for name, shape in found.items() if not name.startswith("_CHECKPOINT"))


def _shapes_of(model: tf.Module) -> list[list[int]]:
    return sorted(variable.shape.as_list() for variable in model.variables)


def _of_another_configuration(path: Path, changed: Sequence[str]) -> InputError:
    more = f" and {len(changed) - _LISTED} more" if len(changed) > _LISTED else ""
    return InputError(
        f"--resume: {path} is of a training run with {', '.join(changed[:_LISTED])}{more}; set the "
        "same to continue it, or another OUTPUT_DIR with its folder as MODEL.WEIGHTS"
    )


def _changed_keys(path: Path, cfg: CfgNode) -> list[str]:
    """Such as "MODEL.ROI_HEADS.NUM_CLASSES 4 instead of 5": there, and in `cfg`."""
    try:
        before = load_config(path / CONFIG)
    except InputError:
        return []
    found = []

    def compare(old: CfgNode, new: CfgNode, prefix: str) -> None:
        for name, value in old.items():
            key = f"{prefix}.{name}"
            if isinstance(value, CfgNode):
                compare(value, new[name], key)
            elif value != new[name] and key not in _OF_NO_MODEL:
                found.append(f"{key} {value} instead of {new[name]}")

    compare(before.MODEL, cfg.MODEL, "MODEL")
    return found


def what_is_kept(folder: Path) -> str:
    """How an interrupted training in this folder goes on."""
    found = saved(folder)
    if not found:
        return f"there is no checkpoint in {folder} yet (SOLVER.CHECKPOINT_PERIOD)"
    return f"--resume continues from {found[-1][1]}"


def saved(folder: Path) -> list[tuple[Progress, Path]]:
    """The checkpoints in OUTPUT_DIR, the latest last.

    Raises:
        InputError: the progress of one cannot be read.
    """
    paths = folder.glob("model_*") if folder.is_dir() else []
    named = [path for path in paths if re.fullmatch(rf"model_\d+|{FINAL}", path.name)]
    found = [
        (_read_progress(path / _PROGRESS), path) for path in named if (path / _PROGRESS).exists()
    ]
    return sorted(found, key=lambda checkpoint: (checkpoint[0].iteration, checkpoint[1]))


def _read_progress(path: Path) -> Progress:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        progress = Progress(content["iteration"], content["seed"], content.get("hooks", {}))
        numbers = progress.iteration, progress.seed
        if not all(type(value) is int and value >= 0 for value in numbers):
            raise ValueError("iteration and seed are not numbers from 0 on")
        if not isinstance(progress.hooks, dict):
            raise ValueError("hooks is not an object")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is not a training's progress ({error}); remove its folder to continue from "
            "the checkpoint before it"
        ) from error
    return progress


def _flush(folder: Path) -> None:
    """Flush a folder and its files to disk, to survive a power failure."""
    for path in (*(entry for entry in folder.iterdir() if entry.is_file()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
