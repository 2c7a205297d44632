"""Predicts a large image slice by slice, with supervision's InferenceSlicer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tfdetect.config.capabilities import Capabilities
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.inference.merge_slices import merge_slices

_LEAST_SIZE = 64
_OVERLAPS = 0.05, 0.9


@dataclass(frozen=True)
class Slices:
    """How an image is sliced.

    Attributes:
        size: of a slice, height and width in pixels of the image; the network sees it resized as
            it would see an image of this size. 64 at least.
        overlap: of slices beside one another, as a part of their size, 0.05 to 0.9. Objects up to
            this size are in some slice as a whole.
        batch_size: slices that go through the network together.

    Raises:
        InputError: one of them is out of range.
    """

    size: int
    overlap: float = 0.2
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.size < _LEAST_SIZE:
            raise InputError(f"slice {self.size}: give at least {_LEAST_SIZE} pixels")
        if not _OVERLAPS[0] <= self.overlap <= _OVERLAPS[1]:
            low, high = _OVERLAPS
            raise InputError(f"overlap {self.overlap:g}: give a part of a slice, {low} to {high}")
        if self.batch_size < 1:
            raise InputError(f"batch_size {self.batch_size}: give at least 1")


def check_slices(able: Capabilities) -> None:
    """Reject models whose results cannot be put together from slices.

    Raises:
        InputError: the model segments whole images, has rotated boxes, or takes or gives proposals.
    """
    reason = ""
    if able.has_semantic:
        reason = "the model gives a class to every pixel"
    elif able.rotated:
        reason = "the model's boxes are rotated"
    elif able.takes_proposals or able.proposes:
        reason = "proposals are of whole images"
    if reason:
        raise InputError(f"slice: {reason}, which slices do not work with; leave it out")


def predict_slices(
    predict: Callable[[list[np.ndarray]], list[Detections]], image: np.ndarray, slices: Slices
) -> Detections:
    """The detections of an image from those of its slices.

    Args:
        predict: gives the detections of each of several images, uint8 [H, W, 3] BGR.
        image: of the same kind. One that fits into a slice is predicted as it is.
        slices: how to slice it.
    """
    height, width = image.shape[:2]
    if max(height, width) <= slices.size:
        return predict([image])[0]
    # It takes a second to import, which only slices need.
    import supervision as sv

    found: list[Detections] = []

    def run(images: list[np.ndarray]) -> list[sv.Detections]:
        """Keep what is found, and tell supervision of each slice only where it ends.

        It would compare whole detections to merge them (see `merge_slices`), one by one in Python.
        """
        first = len(found)
        found.extend(predict(images))
        frames = [np.array([[0, 0, one.shape[1], one.shape[0]]], np.float64) for one in images]
        return [
            sv.Detections(xyxy=frame, data={"slice": np.array([first + index])})
            for index, frame in enumerate(frames)
        ]

    slicer = sv.InferenceSlicer(
        run if slices.batch_size > 1 else lambda one: run([one])[0],
        slice_wh=slices.size,
        overlap_wh=round(slices.size * slices.overlap),
        overlap_filter=sv.OverlapFilter.NONE,
        thread_workers=1,
        batch_size=slices.batch_size,
    )
    moved = slicer(image)
    numbers = np.asarray(moved.data["slice"])
    frames = moved.xyxy.round().astype(int)
    return merge_slices([found[number] for number in numbers.tolist()], frames, height, width)
