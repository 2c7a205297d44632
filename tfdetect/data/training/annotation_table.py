"""The annotations of a data set in columns, of which objects are made when they are asked for.

COCO's 860,000 annotations, each with objects and arrays of its own, take twice the memory; and each
process that is forked to make batches gets a copy of every page on which it counts references.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from tfdetect.data.training.record import Annotation

_NONE = -1


class AnnotationTable:
    """Collects the annotations of images."""

    def __init__(self) -> None:
        self._images = array("q")
        self._classes = array("i")
        self._crowds = array("b")
        self._boxes = array("d")
        # Polygons of each annotation (_NONE where there are none to have), numbers of each polygon.
        self._polygons = array("i")
        self._lengths = array("i")
        self._coordinates = array("d")
        self._masks: dict[int, Mapping[str, Any]] = {}
        self._keypoints: dict[int, np.ndarray] = {}

    def append(self, image: int, annotation: Annotation) -> None:
        """Add an annotation of `image`, which is a number below 2^63; it has no `segment_id`."""
        index = len(self._images)
        self._images.append(image)
        self._classes.append(annotation.class_index)
        self._crowds.append(annotation.iscrowd)
        self._boxes.frombytes(annotation.box.tobytes())
        if annotation.polygons is None:
            self._polygons.append(_NONE)
        else:
            self._polygons.append(len(annotation.polygons))
            for polygon in annotation.polygons:
                self._lengths.append(len(polygon))
                self._coordinates.frombytes(polygon.tobytes())
        if annotation.rle is not None:
            self._masks[index] = annotation.rle
        if annotation.keypoints is not None:
            self._keypoints[index] = annotation.keypoints

    def by_image(self) -> dict[int, Sequence[Annotation]]:
        """The annotations of each image that has any, in the order of `append`."""
        if not self._images:
            return {}
        columns = _Columns(
            classes=np.frombuffer(self._classes, np.int32),
            crowds=np.frombuffer(self._crowds, np.bool_),
            boxes=_constant(self._boxes).reshape(len(self._images), -1),
            first_polygons=_starts(np.maximum(np.frombuffer(self._polygons, np.int32), 0)),
            has_polygons=np.frombuffer(self._polygons, np.int32) != _NONE,
            first_numbers=_starts(self._lengths),
            coordinates=_constant(self._coordinates),
            masks=self._masks,
            keypoints=self._keypoints,
            order=np.argsort(self._images, kind="stable"),
        )
        images, starts = np.unique(np.asarray(self._images)[columns.order], return_index=True)
        stops = [*starts[1:].tolist(), len(self._images)]
        return {
            image: _Rows(columns, start, stop)
            for image, start, stop in zip(images.tolist(), starts.tolist(), stops, strict=True)
        }


def _constant(values: array[float]) -> np.ndarray:
    """float64 [N] that shares the array's memory; nobody writes to what all epochs read."""
    constant = np.frombuffer(values, np.float64) if values else np.zeros(0)
    constant.flags.writeable = False
    return constant


def _starts(lengths: Any) -> np.ndarray:
    """int64 [N + 1], where each of N parts of these lengths starts, and the end."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


@dataclass(frozen=True, eq=False)
class _Columns:
    """Of N annotations; `order` has those of each image one after the other."""

    classes: np.ndarray
    crowds: np.ndarray
    boxes: np.ndarray
    first_polygons: np.ndarray
    has_polygons: np.ndarray
    first_numbers: np.ndarray
    coordinates: np.ndarray
    masks: Mapping[int, Mapping[str, Any]]
    keypoints: Mapping[int, np.ndarray]
    order: np.ndarray

    def annotation(self, position: int) -> Annotation:
        index = int(self.order[position])
        polygons = None
        if self.has_polygons[index]:
            first, end = self.first_polygons[index : index + 2].tolist()
            numbers = self.first_numbers[first : end + 1].tolist()
            polygons = tuple(
                self.coordinates[start:stop] for start, stop in itertools.pairwise(numbers)
            )
        return Annotation(
            box=self.boxes[index],
            class_index=int(self.classes[index]),
            iscrowd=bool(self.crowds[index]),
            polygons=polygons,
            rle=self.masks.get(index),
            keypoints=self.keypoints.get(index),
        )


class _Rows(Sequence[Annotation]):
    """The annotations of an image: positions [start, stop) of the columns' order."""

    __slots__ = ("_columns", "_start", "_stop")

    def __init__(self, columns: _Columns, start: int, stop: int):
        self._columns, self._start, self._stop = columns, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    @overload
    def __getitem__(self, index: int) -> Annotation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Annotation, ...]: ...
    def __getitem__(self, index: int | slice) -> Annotation | tuple[Annotation, ...]:
        found = range(self._start, self._stop)[index]
        if isinstance(found, range):
            return tuple(map(self._columns.annotation, found))
        return self._columns.annotation(found)
