"""Augmentations that cut a part out of an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from yacs.config import CfgNode

from tfdetect.data.training.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    Shaped,
    as_pair,
    is_number,
    is_range,
    is_size,
    jitter_size,
    of_keys,
    require,
)
from tfdetect.data.training.transforms import (
    CropTransform,
    ImageTransform,
    NoOpTransform,
    PadTransform,
    TransformList,
)
from tfdetect.errors import InputError

_TYPES = ("relative", "relative_range", "absolute", "absolute_range")
_TRIALS = 10
"""Crops that RandomCrop_CategoryAreaConstraint draws until it is content."""


@AUGMENTATIONS.register()
class RandomCrop(Augmentation):
    """Cut a rectangle out at random (Detectron2's class of this name).

    Args:
        crop_type: "relative", the rectangle has `crop_size` (height, width) of the image's;
            "relative_range", each between `crop_size` and 1; "absolute", `crop_size` in pixels or
            the image's if that is less; "absolute_range", height and width each between the two
            numbers of pixels in `crop_size`, as far as the image goes.
        crop_size: see above.
    """

    cuts_objects = True

    def __init__(self, crop_type: str, crop_size: Sequence[float]):
        super().__init__()
        require(crop_type in _TYPES, "crop_type", crop_type, f"one of {_TYPES}")
        valid = isinstance(crop_size, (list, tuple)) and len(crop_size) == 2
        valid = valid and all(is_number(side) and side > 0 for side in crop_size)
        if crop_type.startswith("relative"):
            valid = valid and max(crop_size) <= 1
        require(valid, "crop_size", crop_size, "two sizes, of (0, 1] if relative")
        if crop_type == "absolute_range":
            expected = "the least and the largest value, in this order"
            require(is_range(crop_size), "crop_size", crop_size, expected)
        self.crop_type = crop_type
        self.crop_size = tuple(crop_size)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RandomCrop:
        """Of INPUT.CROP."""
        return of_keys(cls, cfg, crop_type="INPUT.CROP.TYPE", crop_size="INPUT.CROP.SIZE")

    def get_transform(self, image: Shaped) -> ImageTransform:
        height, width = image.shape[:2]
        crop_height, crop_width = self._draw_size(height, width)
        y0 = int(self.rng.randint(height - crop_height + 1))
        x0 = int(self.rng.randint(width - crop_width + 1))
        return CropTransform(x0, y0, crop_height, crop_width, height, width)

    def _draw_size(self, height: int, width: int) -> tuple[int, int]:
        first, second = self.crop_size
        if self.crop_type == "absolute":
            return min(int(first), height), min(int(second), width)
        if self.crop_type == "absolute_range":
            sides = [
                int(self.rng.randint(min(side, int(first)), min(side, int(second)) + 1))
                for side in (height, width)
            ]
            return sides[0], sides[1]
        share = np.array(self.crop_size, np.float32 if self.crop_type == "relative_range" else None)
        if self.crop_type == "relative_range":
            share = share + self.rng.random_sample(2) * (1 - share)
        # At least a pixel: of a share that rounds to none, Detectron2 makes an empty image.
        return max(int(height * share[0] + 0.5), 1), max(int(width * share[1] + 0.5), 1)


@AUGMENTATIONS.register()
class RandomCrop_CategoryAreaConstraint(Augmentation):
    """Cut a rectangle out in which no class takes up too much, if one is found in ten attempts.

    Args:
        crop_type, crop_size: see `RandomCrop`.
        single_category_max_area: the share of a rectangle's labelled pixels that one class may
            have; with 1 the labels are not read.
        ignored_category: a label that does not count.

    Detectron2's class of this name.
    """

    cuts_objects = True

    def __init__(
        self,
        crop_type: str,
        crop_size: Sequence[float],
        single_category_max_area: float = 1.0,
        ignored_category: int | None = None,
    ):
        super().__init__()
        share = single_category_max_area
        valid = is_number(share) and share > 0
        require(valid, "single_category_max_area", share, "a number above 0")
        valid = ignored_category is None or type(ignored_category) is int
        require(valid, "ignored_category", ignored_category, "a label")
        self._crop = RandomCrop(crop_type, crop_size)
        self.single_category_max_area = share
        self.ignored_category = ignored_category

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RandomCrop_CategoryAreaConstraint:
        """Of INPUT.CROP and MODEL.SEM_SEG_HEAD.IGNORE_VALUE."""
        return of_keys(
            cls,
            cfg,
            crop_type="INPUT.CROP.TYPE",
            crop_size="INPUT.CROP.SIZE",
            single_category_max_area="INPUT.CROP.SINGLE_CATEGORY_MAX_AREA",
            ignored_category="MODEL.SEM_SEG_HEAD.IGNORE_VALUE",
        )

    @property
    def needs_sem_seg(self) -> bool:  # type: ignore[override]
        return self.single_category_max_area < 1

    def get_transform(self, image: Shaped) -> ImageTransform:
        self._crop.rng = self.rng
        if not self.needs_sem_seg:
            return self._crop.get_transform(image)
        read_labels = getattr(image, "sem_seg", None)
        if read_labels is None:
            raise InputError(
                "INPUT.AUGMENTATIONS: RandomCrop_CategoryAreaConstraint: needs semantic labels, "
                "which the data has not; set single_category_max_area to 1"
            )
        labels = read_labels()
        for _ in range(_TRIALS):
            transform = self._crop.get_transform(image)
            found, counts = np.unique(transform.apply_segmentation(labels), return_counts=True)
            counts = counts[found != self.ignored_category]
            most = counts.sum() * self.single_category_max_area
            if len(counts) > 1 and counts.max() < most:
                break
        return transform


@AUGMENTATIONS.register()
class FixedSizeCrop(Augmentation):
    """Cut a rectangle out of what is larger than it, somewhere along the diagonal.

    Both offsets come from one random number, as in Detectron2's class of this name.

    Args:
        crop_size: height and width in pixels; one number for both.
        pad: whether what is smaller is padded, at the right and the bottom.
        pad_value: the grey level of the padding.
        seg_pad_value: the semantic label of the padding.
    """

    cuts_objects = True

    def __init__(
        self,
        crop_size: int | Sequence[int],
        pad: bool = True,
        pad_value: float = 128.0,
        seg_pad_value: int = 255,
    ):
        super().__init__()
        size = as_pair(crop_size)
        require(is_size(size), "crop_size", crop_size, "a height and a width in pixels")
        require(type(pad) is bool, "pad", pad, "True or False")
        for name, value in (("pad_value", pad_value), ("seg_pad_value", seg_pad_value)):
            valid = is_number(value) and 0 <= value <= 255
            require(valid, name, value, "a number from 0 to 255")
        self.crop_size = tuple(size)
        self.pad = pad
        self.pad_value = pad_value
        self.seg_pad_value = seg_pad_value

    @classmethod
    def from_config(cls, cfg: CfgNode) -> FixedSizeCrop:
        """Of INPUT.LARGE_SCALE_JITTER."""
        return cls(jitter_size(cfg))

    def get_transform(self, image: Shaped) -> ImageTransform:
        height, width = image.shape[:2]
        new_height, new_width = self.crop_size
        share = self.rng.uniform(0.0, 1.0)
        y0 = round(max(height - new_height, 0) * share)
        x0 = round(max(width - new_width, 0) * share)
        crop = CropTransform(x0, y0, new_height, new_width, height, width)
        if not self.pad:
            return crop
        pad = PadTransform(new_height, new_width, self.pad_value, self.seg_pad_value)
        return TransformList((crop, pad))


@AUGMENTATIONS.register()
class MinIoURandomCrop(Augmentation):
    """Cut out a rectangle that overlaps every object by a random least IoU (SSD, section 2.2).

    The centre of at least one object is inside, and the image may stay as it is.

    Args:
        min_ious: the least IoUs, one of which, 0 or 1 (the whole image) is chosen.
        min_crop_size: the least height and width, as a share of the image's.
        mode_trials: how many least IoUs are tried; if none of them succeeds, the image stays as it
            is. (Detectron2 fails.)
        crop_trials: how many rectangles are tried for each.

    Detectron2's class of this name. (Its own mapper does not say where the objects are, so that
    this changes nothing there.)
    """

    cuts_objects = True

    def __init__(
        self,
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        mode_trials: int = 1000,
        crop_trials: int = 50,
    ):
        super().__init__()
        valid = isinstance(min_ious, (list, tuple)) and all(
            is_number(iou) and 0 <= iou <= 1 for iou in min_ious
        )
        require(valid, "min_ious", min_ious, "numbers from 0 to 1")
        valid = is_number(min_crop_size) and 0 < min_crop_size <= 1
        require(valid, "min_crop_size", min_crop_size, "a number above 0, up to 1")
        for name, value in (("mode_trials", mode_trials), ("crop_trials", crop_trials)):
            require(type(value) is int and value > 0, name, value, "1 or more")
        self.sample_mode = (1, *min_ious, 0)
        self.min_crop_size = min_crop_size
        self.mode_trials = mode_trials
        self.crop_trials = crop_trials

    def get_transform(self, image: Shaped) -> ImageTransform:
        height, width = image.shape[:2]
        boxes = getattr(image, "boxes", None)
        if boxes is None:
            return NoOpTransform(height, width)
        boxes = boxes.astype(np.float32)
        for _ in range(self.mode_trials):
            least_iou = self.rng.choice(self.sample_mode)
            if least_iou == 1:
                break
            for _ in range(self.crop_trials):
                new_width = self.rng.uniform(self.min_crop_size * width, width)
                new_height = self.rng.uniform(self.min_crop_size * height, height)
                if not 0.5 <= new_height / new_width <= 2:
                    continue
                left = self.rng.uniform(width - new_width)
                top = self.rng.uniform(height - new_height)
                patch = np.array(
                    [int(left), int(top), int(left + new_width), int(top + new_height)]
                )
                if _fits(patch, boxes, least_iou):
                    return CropTransform(
                        int(left), int(top), int(new_height), int(new_width), height, width
                    )
        return NoOpTransform(height, width)


def _fits(patch: np.ndarray, boxes: np.ndarray, least_iou: float) -> bool:
    """Whether a rectangle [4] is not empty, and as `MinIoURandomCrop` wants it for boxes [N, 4]."""
    if patch[0] == patch[2] or patch[1] == patch[3]:
        return False
    if len(boxes) == 0:
        return True
    if _ious(patch.astype(np.float32), boxes).min() < np.float32(least_iou):
        return False
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return bool(((centers > patch[:2]) & (centers < patch[2:])).all(axis=1).any())


def _ious(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """float32 [N], of one box [4] with each of boxes [N, 4]; 0 without overlap."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    overlap = np.maximum(sides, 0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + areas - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=overlap > 0)
