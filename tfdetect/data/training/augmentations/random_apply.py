"""An augmentation that happens or not."""

from __future__ import annotations

from typing import Any

from tfdetect.data.training.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    Shaped,
    is_number,
    require,
)
from tfdetect.data.training.transforms import ImageTransform, NoOpTransform


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
