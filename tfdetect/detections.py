"""A model's results for one image, as plain arrays."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from tfdetect.rle_masks import RLEMasks


@dataclass(frozen=True)
class Segment:
    """One segment of a panoptic segmentation, as in Detectron2's `segments_info`.

    Attributes:
        id: its value in the map, from 1.
        category_id: a class of the things, or of the stuff.
        isthing: which of the two.
        area: in pixels.
        score: of the detection that it comes from; None for stuff.
        instance_id: the index of that detection as the model gives them; None for stuff.
    """

    id: int
    category_id: int
    isthing: bool
    area: int
    score: float | None = None
    instance_id: int | None = None


@dataclass(frozen=True, eq=False, repr=False)
class PanopticSegmentation:
    """Every pixel of one image in at most one segment.

    Attributes:
        ids: int32 [height, width], the segment of each pixel, 0 where there is none.
        segments: by rising id: the things by descending score, then the stuff.
    """

    ids: np.ndarray
    segments: tuple[Segment, ...]

    def __repr__(self) -> str:
        height, width = self.ids.shape
        return f"PanopticSegmentation({len(self.segments)} segments in {height} x {width} pixels)"


class _Masks:
    """The attribute `masks`: kept as given, decoded when an array is asked for."""

    @overload
    def __get__(self, instance: None, owner: type) -> None: ...

    @overload
    def __get__(self, instance: Detections, owner: type) -> np.ndarray | None: ...

    def __get__(self, instance: Detections | None, owner: type) -> np.ndarray | None:
        if instance is None:
            return None  # the default of the dataclass's argument
        masks: np.ndarray | RLEMasks | None = vars(instance)["masks"]
        if isinstance(masks, RLEMasks):
            # From here on the array is what the masks are: the caller may write to it.
            masks = vars(instance)["masks"] = masks.decode()
        return masks

    def __set__(self, instance: Detections, value: np.ndarray | RLEMasks | None) -> None:
        vars(instance)["masks"] = value


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """The N detections of one image, best score first as the model gives them.

    A model of semantic segmentation alone gives none of them, only `sem_seg`.

    Every coordinate is in pixels of the original image (as read, before any resize), in
    continuous coordinates: the centre of the top left pixel is (0.5, 0.5).

    Attributes:
        height: of the original image, in pixels.
        width: of the original image, in pixels.
        boxes: float32 [N, 4], (x1, y1, x2, y2), clipped to the image; or of a model of rotated
            boxes [N, 5], (x centre, y centre, width, height, angle), in degrees counter-clockwise
            on the screen, from -180 to 180; only those within a degree of horizontal are clipped.
        scores: float32 [N], in [0, 1].
        classes: int64 [N], in [0, number of classes); the background is not among them.
        masks: bool [N, height, width], or None where the model has no mask head. The model's are
            kept run-length encoded, and decoded when this is first read: N * height * width bytes.
            `rle_masks` has the runs.
        keypoints: float32 [N, K, 3], (x, y, score), or None where the model has no keypoint head.
        box_extent: add it to x2 - x1 and y2 - y1 for the boxes' width and height: 1 for models of
            Detectron and maskrcnn-benchmark, where boxes include their last pixel.
        keypoint_offset: where in a pixel, on both axes, COCO's keypoints of that pixel are: 0 for
            models that were trained on them as they are.
        sem_seg: int32 [height, width], the stuff class of each pixel, or None where the model has
            no semantic head.
        panoptic: detections and `sem_seg` combined, or None where the model is not panoptic.

    Raises:
        ValueError: the arrays' shapes do not belong together.
    """

    height: int
    width: int
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: _Masks = _Masks()
    keypoints: np.ndarray | None = None
    box_extent: float = 0.0
    keypoint_offset: float = 0.5
    sem_seg: np.ndarray | None = None
    panoptic: PanopticSegmentation | None = None

    def __post_init__(self) -> None:
        count = len(self.scores)
        shapes: dict[str, tuple[int | None, ...]] = {
            "boxes": (count, 5 if self.rotated else 4),
            "scores": (count,),
            "classes": (count,),
            "masks": (count, self.height, self.width),
            "keypoints": (count, None, 3),
            "sem_seg": (self.height, self.width),
        }
        for name, expected in shapes.items():
            array = vars(self)[name]
            if array is None:
                continue
            matches = len(array.shape) == len(expected) and all(
                want in (None, got) for want, got in zip(expected, array.shape, strict=True)
            )
            if not matches:
                raise ValueError(f"{name} of shape {array.shape}, expected {expected}")

    def __repr__(self) -> str:
        """A one-line summary; the arrays are the attributes."""
        parts = [f"{len(self)} in {self.height} x {self.width} pixels"]
        if len(self):
            parts.append(f"scores {self.scores.min():.3g} to {self.scores.max():.3g}")
            classes = np.unique(self.classes)
            more = ", ..." if len(classes) > 10 else ""
            parts.append(f"classes {', '.join(map(str, classes[:10].tolist()))}{more}")
        optional = {
            "masks": vars(self)["masks"],
            "keypoints": self.keypoints,
            "sem_seg": self.sem_seg,
        }
        found = [name for name, value in optional.items() if value is not None]
        if self.panoptic is not None:
            found.append(f"panoptic of {len(self.panoptic.segments)} segments")
        return f"Detections({'; '.join(parts)}{'; with ' if found else ''}{', '.join(found)})"

    @property
    def rotated(self) -> bool:
        """Whether boxes have five numbers."""
        return self.boxes.shape[-1] == 5

    @property
    def has_masks(self) -> bool:
        """Whether there are masks; they stay encoded."""
        return vars(self)["masks"] is not None

    @property
    def rle_masks(self) -> RLEMasks | None:
        """The masks run-length encoded, or None where there are none.

        `rle_masks.to_coco()` is COCO's RLE of each, `rle_masks.part(index)` the part of the image
        where a mask is.
        """
        masks: np.ndarray | RLEMasks | None = vars(self)["masks"]
        return RLEMasks.encode(masks) if isinstance(masks, np.ndarray) else masks

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, keep: np.ndarray) -> Detections:
        """The detections that `keep` names, in its order; the segmentations stay as they are.

        Args:
            keep: bool [N], or int [M] of indices.
        """
        masks: np.ndarray | RLEMasks | None = vars(self)["masks"]
        if masks is not None:
            masks = masks.select(keep) if isinstance(masks, RLEMasks) else masks[keep]
        return self.replace(
            boxes=self.boxes[keep],
            scores=self.scores[keep],
            classes=self.classes[keep],
            masks=masks,
            keypoints=None if self.keypoints is None else self.keypoints[keep],
        )

    def replace(self, **changes: Any) -> Detections:
        """As `dataclasses.replace`, which would decode the masks."""
        return dataclasses.replace(self, **({"masks": vars(self)["masks"]} | changes))
