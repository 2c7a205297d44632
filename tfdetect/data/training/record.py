"""What training knows of an annotated image, and what it does about data that is broken."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfdetect.data.sem_seg import SemSegFile
from tfdetect.errors import InputError

_logger = logging.getLogger("tfdetect.data")


@dataclass(frozen=True, eq=False, slots=True)
class Annotation:
    """One object, in pixels of the image as it is on disk.

    Attributes:
        box: float64 [4] XYXY; [5] for a model of rotated boxes.
        class_index: 0..K-1.
        iscrowd: whether it is a group of objects that are not annotated individually. Training
            skips those.
        polygons: the outlines, each float64 [2 P] of x0, y0, x1, y1, ...; or None.
        rle: the mask as pycocotools' compressed RLE; or None. An object of a model with masks
            that is not a crowd has polygons or RLE.
        keypoints: float64 [N, 3] of x, y in continuous coordinates and visibility (0, 1, 2), for
            a model with keypoints; else None.
        segment_id: of the mask in the record's panoptic PNG; None where the mask is not there.
    """

    box: np.ndarray
    class_index: int
    iscrowd: bool
    polygons: tuple[np.ndarray, ...] | None
    rle: Mapping[str, Any] | None
    keypoints: np.ndarray | None
    segment_id: int | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Record:
    """One image, and what is in it.

    Attributes:
        file_name: its path.
        height, width: in pixels.
        image_id: in the data set.
        annotations: its objects, which may be made again each time they are asked for.
        dataset: the name of the data set, as in DATASETS.TRAIN.
        proposals: float32 [P, 4] XYXY in pixels of the image as it is on disk, the best first;
            None for a model that generates its own.
        sem_seg: where the classes of its pixels are; None where nothing says them.
    """

    file_name: str
    height: int
    width: int
    image_id: int | str
    annotations: Sequence[Annotation]
    dataset: str = ""
    proposals: np.ndarray | None = None
    sem_seg: SemSegFile | None = None


Report = Callable[[InputError], None]
"""Gets the errors of unusable data: a `BrokenData`, or what only collects them."""


class BrokenData:
    """Handling of unusable data: DATALOADER.ON_ERROR.

    Called with an error, it raises it for "stop"; for "skip" it logs and counts it.

    Attributes:
        count: the errors so far.
    """

    def __init__(self, on_error: str):
        if on_error not in ("stop", "skip"):
            raise InputError(f"DATALOADER.ON_ERROR: {on_error!r} is neither stop nor skip")
        self.skips = on_error == "skip"
        self.count = 0

    def __call__(self, error: InputError) -> None:
        if not self.skips:
            raise stopping(error) from error
        self.count += 1
        _logger.warning("skipped (%d so far): %s", self.count, error)


def stopping(error: InputError) -> InputError:
    """The error that stops training, with advice on how to skip the broken data."""
    return InputError(f"{error} (or set DATALOADER.ON_ERROR skip)")
