"""Reads Detectron2's files of precomputed proposals, without executing anything."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfdetect.checkpoint.formats.numpy_objects import Array
from tfdetect.checkpoint.formats.objects import Placeholder, type_name
from tfdetect.checkpoint.formats.unpickle import unpickle
from tfdetect.checkpoint.remote.addresses import local_file
from tfdetect.errors import InputError

# Detectron's names for the keys.
_RENAMED = {"indexes": "ids", "scores": "objectness_logits"}
_XYXY_ABS, _XYWH_ABS = 0, 1  # Detectron2's BoxMode


@dataclass(frozen=True)
class ProposalFile:
    """The proposals of many images.

    Attributes:
        source: the file's name, for errors.
        boxes: by the image's id, as text: float32 [P, 4], (x1, y1, x2, y2) in pixels of the
            original image, the best first.
    """

    source: str
    boxes: dict[str, np.ndarray]

    def find(self, names: Iterable[str]) -> np.ndarray:
        """The proposals of the image that has one of these names.

        Raises:
            InputError: the file has none of them.
        """
        names = list(names)
        for name in names:
            if name in self.boxes:
                return self.boxes[name]
        raise InputError(
            f"{self.source}: has no proposals of {' or '.join(names)}; "
            "give the file that was made from these images"
        )


def image_names(path: Path) -> list[str]:
    """What an image file may be called in a `ProposalFile`: its name, or COCO's number in it."""
    number = [str(int(path.stem))] if path.stem.isdecimal() and path.stem.isascii() else []
    return [path.name, path.stem, *number]


def read_proposals(path: str | os.PathLike[str]) -> ProposalFile:
    """Read a pickle of {"ids", "boxes", "objectness_logits", "bbox_mode"}.

    This is what Detectron2's `load_proposals_into_dataset` takes and its COCO evaluator writes for
    an RPN (`box_proposals.pkl`); Detectron's names of the keys are understood too. `path` may be an
    address (`tfdetect.checkpoint.remote.addresses.local_file`).

    Raises:
        InputError: the file cannot be read, is something else, or names anything but arrays and
            plain containers.
    """
    path = local_file(path)
    try:
        with path.open("rb") as file:
            root = unpickle(file, str(path), os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if not isinstance(root, dict):
        raise InputError(f"{path}: holds a {type(root).__name__}, not proposals")
    content = {_RENAMED.get(_text(key), _text(key)): value for key, value in root.items()}
    ids, boxes, logits = (
        _list(path, content, key) for key in ("ids", "boxes", "objectness_logits")
    )
    if not len(ids) == len(boxes) == len(logits):
        raise InputError(
            f"{path}: has {len(ids)} ids, {len(boxes)} boxes and {len(logits)} objectness_logits; "
            "one of each for every image is expected"
        )
    mode = content.get("bbox_mode", _XYXY_ABS)
    if isinstance(mode, Placeholder) and len(mode.args) == 1:  # the enumeration BoxMode
        (mode,) = mode.args
    if not isinstance(mode, int) or mode not in (_XYXY_ABS, _XYWH_ABS):
        shown = mode if isinstance(mode, (int, float)) else f"a {type_name(mode)}"
        raise InputError(f"{path}: bbox_mode is {shown}; 0 (XYXY) and 1 (XYWH) are supported")
    names = [_text(image) for image in ids]
    return ProposalFile(
        source=str(path),
        boxes={
            name: _sorted_boxes(f"{path}: image {name}", image_boxes, image_logits, mode)
            for name, image_boxes, image_logits in zip(names, boxes, logits, strict=True)
        },
    )


def proposals_version(path: str | os.PathLike[str]) -> tuple[int, int]:
    """A version of the file: modification time and size.

    Raises:
        InputError: there is no such file.
    """
    try:
        found = local_file(path).stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return found.st_mtime_ns, found.st_size


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value) if isinstance(value, (str, int)) else type_name(value)


def _list(path: Path, content: dict[str, Any], key: str) -> list[Any]:
    value = content.get(key)
    if isinstance(value, Array):
        value = None if value.value is None else value.value.tolist()
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{path}: has no list {key!r}; give a file of proposals of Detectron2")
    return list(value)


def _sorted_boxes(where: str, boxes: Any, logits: Any, mode: int) -> np.ndarray:
    """float32 [P, 4] XYXY by descending logit."""
    arrays = [value.value if isinstance(value, Array) else None for value in (boxes, logits)]
    if any(array is None for array in arrays):
        raise InputError(f"{where}: its boxes or logits are not arrays; write the file again")
    coordinates, scores = (np.asarray(array, np.float32) for array in arrays)
    if coordinates.ndim != 2 or coordinates.shape[1] != 4 or scores.shape != coordinates.shape[:1]:
        raise InputError(
            f"{where}: has boxes {list(coordinates.shape)} and logits {list(scores.shape)}; "
            "[P, 4] and [P] are expected"
        )
    # The very order in which Detectron2 has equal ones.
    coordinates = coordinates[scores.argsort()[::-1]]
    if mode == _XYWH_ABS:
        coordinates[:, 2:] += coordinates[:, :2]
    return coordinates
