"""From a record to the arrays that a model trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pycocotools.mask as coco_mask

from tfdetect.data.geometry import transform_boxes, transform_keypoints
from tfdetect.data.images import read_image
from tfdetect.data.panoptic import read_segment_ids
from tfdetect.data.rotated import transform_rotated_boxes
from tfdetect.data.sem_seg import LabelRange
from tfdetect.data.training.record import Annotation, Record
from tfdetect.data.training.transforms import ImageTransform, apply_image
from tfdetect.errors import InputError
from tfdetect.masks.polygons import polygon_boxes, rasterize_polygons
from tfdetect.ops.kernels.image_resize import ImageResize

_SMALLEST_SIDE = 1e-5
"""Of a box that is not empty, in pixels (Detectron2: `filter_empty_instances`)."""


@dataclass(frozen=True, eq=False)
class Example:
    """An augmented image and its objects, in pixels of the augmented image.

    Attributes:
        image: uint8 [H, W, 3].
        boxes: float32 [G, 4] XYXY; [G, 5] of rotated ones.
        classes: int32 [G].
        polygons: of each object, float64 [2 P] each; None without masks, or with bitmasks.
        bitmasks: bool [G, H, W]; None without masks, or with polygons.
        keypoints: float32 [G, N, 3] of x, y and visibility; None without keypoints.
        sem_seg: uint8 or int32 [H, W], the class of each pixel or the ignored value; None for a
            model that learns none.
        proposals: float32 [P, 4] XYXY, the best first; None for a record without.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    polygons: list[list[np.ndarray]] | None
    bitmasks: np.ndarray | None
    keypoints: np.ndarray | None
    sem_seg: np.ndarray | None = None
    proposals: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class TrainingMapper:
    """Reads a record's image, and applies transforms to it and to what is in it.

    Detectron2: `DatasetMapper` in training.

    Attributes:
        image_format: INPUT.FORMAT, "BGR" or "RGB".
        mask_format: INPUT.MASK_FORMAT, "polygon" or "bitmask"; None for a model without masks.
        recompute_boxes: whether boxes are drawn around what the transforms leave of the masks.
        keypoint_flip_indices: [N], of `geometry.keypoint_flip_indices`; None for a model without
            keypoints.
        labels: the classes of pixels that the model learns, or None.
        proposal_topk: DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN, how many proposals are kept.
        rotated: whether boxes are.
        resize: the native library's resize of images; None for Pillow's, which gives the same.
    """

    image_format: str
    mask_format: str | None
    recompute_boxes: bool
    keypoint_flip_indices: np.ndarray | None
    labels: LabelRange | None = None
    proposal_topk: int = 0
    rotated: bool = False
    resize: ImageResize | None = None

    def __call__(self, record: Record, transforms: Sequence[ImageTransform]) -> Example:
        """Make an example.

        Crowds are left out, and so is what the transforms leave nothing of.

        Raises:
            InputError: the image or its classes cannot be read, or are not of the record's size.
        """
        image = read_image(record.file_name, self.image_format)
        if image.shape[:2] != (record.height, record.width):
            raise InputError(
                f"{record.file_name}: has {image.shape[1]} x {image.shape[0]} pixels, its"
                f" annotations say {record.width} x {record.height}: correct them"
            )
        sem_seg = segment_ids = None
        if self.labels is not None and record.sem_seg is not None:
            sem_seg = self.labels.read(record.sem_seg, image.shape[:2])
        image = apply_image(image, transforms, self.resize)
        if sem_seg is not None:
            for transform in transforms:
                sem_seg = transform.apply_segmentation(sem_seg)
        if sem_seg is not None and self.labels is not None:
            sem_seg = self.labels.ignore_padding(sem_seg)
        size = image.shape[:2]
        objects = [a for a in record.annotations if not a.iscrowd]
        boxes = self._boxes(record, objects, transforms, size)
        kept = np.ones(len(objects), dtype=bool)
        polygons = bitmasks = keypoints = None
        if self.mask_format == "polygon":
            polygons = [_transform_polygons(a, transforms) for a in objects]
            kept &= np.array([bool(p) for p in polygons], dtype=bool)
            if self.recompute_boxes:
                # Clipped, unlike in Detectron2: what comes after a crop may move parts of an object
                # out of the image.
                height, width = size
                limits = np.array([width, height, width, height], np.float32)
                boxes = np.clip(polygon_boxes(polygons), 0, limits)
        elif self.mask_format == "bitmask":
            bitmasks = np.zeros((len(objects), *size), dtype=bool)
            if any(a.segment_id is not None for a in objects):
                assert record.sem_seg is not None  # which says where the segments are
                assert record.sem_seg.segments is not None
                segment_ids = read_segment_ids(record.sem_seg.segments)
            for mask, annotation in zip(bitmasks, objects, strict=True):
                mask[:] = _transform_mask(annotation, transforms, size, segment_ids)
            kept &= bitmasks.any(axis=(1, 2))
            if self.recompute_boxes:
                boxes = _bitmask_boxes(bitmasks)
        if self.keypoint_flip_indices is not None:
            keypoints = np.zeros((len(objects), len(self.keypoint_flip_indices), 3), np.float32)
            for row, annotation in zip(keypoints, objects, strict=True):
                if annotation.keypoints is not None:
                    row[:] = transform_keypoints(
                        annotation.keypoints, transforms, size, self.keypoint_flip_indices
                    )
        sides = boxes[:, 2:4] if self.rotated else boxes[:, 2:] - boxes[:, :2]
        kept &= (sides > _SMALLEST_SIDE).all(axis=1)
        classes = np.array([a.class_index for a in objects], np.int32)
        return Example(
            image=image,
            boxes=boxes[kept],
            classes=classes[kept],
            polygons=polygons and [p for p, keep in zip(polygons, kept, strict=True) if keep],
            bitmasks=None if bitmasks is None else bitmasks[kept],
            keypoints=None if keypoints is None else keypoints[kept],
            sem_seg=sem_seg,
            proposals=self._proposals(record, transforms, size),
        )

    def _boxes(
        self,
        record: Record,
        objects: Sequence[Annotation],
        transforms: Sequence[ImageTransform],
        size: tuple[int, int],
    ) -> np.ndarray:
        """float32 [N, 4], or [N, 5] of rotated ones, in pixels of the augmented image."""
        boxes = np.reshape([a.box for a in objects], (-1, 5 if self.rotated else 4))
        if self.rotated:
            before = (record.height, record.width)
            return transform_rotated_boxes(boxes, transforms, before, size)
        return transform_boxes(boxes, transforms, size).astype(np.float32)

    def _proposals(
        self, record: Record, transforms: Sequence[ImageTransform], size: tuple[int, int]
    ) -> np.ndarray | None:
        """Detectron2's `transform_proposals`: what is left in the image, the best of it."""
        if record.proposals is None:
            return None
        boxes = transform_boxes(record.proposals, transforms, size).astype(np.float32)
        return boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)][: self.proposal_topk]


def _transform_polygons(
    annotation: Annotation, transforms: Sequence[ImageTransform]
) -> list[np.ndarray]:
    polygons = list(annotation.polygons or ())
    for transform in transforms:
        polygons = transform.apply_polygons(polygons)
    return polygons


def _transform_mask(
    annotation: Annotation,
    transforms: Sequence[ImageTransform],
    size: tuple[int, int],
    segment_ids: np.ndarray | None,
) -> np.ndarray:
    """bool [H, W] of the augmented image's `size`; `segment_ids` are of the image on disk."""
    if annotation.segment_id is not None:
        assert segment_ids is not None  # of the same PNG
        mask = (segment_ids == annotation.segment_id).astype(np.uint8)
    elif annotation.rle is not None:
        mask = coco_mask.decode(annotation.rle)
    else:
        # Polygons are drawn after the transforms, whose edges then are as sharp as can be.
        return rasterize_polygons(_transform_polygons(annotation, transforms), *size)
    for transform in transforms:
        mask = transform.apply_mask(mask)
    return mask.astype(bool)


def _bitmask_boxes(bitmasks: np.ndarray) -> np.ndarray:
    """float32 [N, 4] XYXY around bool [N, H, W] masks; zeros around an empty one."""
    boxes = np.zeros((len(bitmasks), 4), np.float32)
    for box, mask in zip(boxes, bitmasks, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes
