"""Augmentations of augmentations: one that happens or not, several as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfdetect.data.training.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    Shaped,
    crops,
    draw_transforms,
    is_number,
    require,
)
from tfdetect.data.training.transforms import ImageTransform, NoOpTransform, TransformList


@AUGMENTATIONS.register()
class RandomApply(Augmentation):
    """Apply another augmentation at random (Detectron2's class of this name).

    Args:
        tfm_or_aug: the other one; in INPUT.AUGMENTATIONS, an entry as any there.
        prob: the probability.
    """

    augmentors = ("tfm_or_aug",)
    """Arguments that are augmentors."""

    def __init__(self, tfm_or_aug: Any, prob: float = 0.5):
        super().__init__()
        require(is_number(prob) and 0 <= prob <= 1, "prob", prob, "a number from 0 to 1")
        self.augmentor = tfm_or_aug
        self.prob = prob

    @property
    def cuts_objects(self) -> bool:  # type: ignore[override]
        return getattr(self.augmentor, "cuts_objects", False)

    @property
    def needs_sem_seg(self) -> bool:  # type: ignore[override]
        return getattr(self.augmentor, "needs_sem_seg", False)

    def get_transform(self, image: Shaped) -> ImageTransform:
        if self.rng.random_sample() >= self.prob:
            return NoOpTransform(*image.shape[:2])
        self.augmentor.rng = self.rng
        return self.augmentor.get_transform(image)


@AUGMENTATIONS.register()
class AugmentationList(Augmentation):
    """Apply several augmentations in order (Detectron2's class of this name).

    Args:
        augs: at least one; in INPUT.AUGMENTATIONS, entries as any there.
    """

    augmentor_lists = ("augs",)
    """Arguments that are lists of augmentors."""

    def __init__(self, augs: Sequence[Any]):
        super().__init__()
        require(len(augs) > 0, "augs", augs, "at least one augmentation")
        self.augmentors = list(augs)

    @property
    def cuts_objects(self) -> bool:  # type: ignore[override]
        return crops(self.augmentors)

    @property
    def needs_sem_seg(self) -> bool:  # type: ignore[override]
        return any(getattr(augmentor, "needs_sem_seg", False) for augmentor in self.augmentors)

    def get_transform(self, image: Shaped) -> ImageTransform:
        height, width = image.shape[:2]
        boxes, sem_seg = (getattr(image, name, None) for name in ("boxes", "sem_seg"))
        transforms = draw_transforms(self.augmentors, (height, width), self.rng, boxes, sem_seg)
        return TransformList(tuple(transforms))
