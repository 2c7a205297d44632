"""What a model found in one image, as plain arrays."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Detections:
    """The N detections of one image, best score first as the model gives them.

    Every coordinate is in pixels of the original image (as read, before any resize), in
    continuous coordinates: the centre of the top left pixel is (0.5, 0.5).

    Attributes:
        height: of the original image, in pixels.
        width: of the original image, in pixels.
        boxes: float32 [N, 4], (x1, y1, x2, y2), clipped to the image.
        scores: float32 [N], in [0, 1].
        classes: int64 [N], in [0, number of classes); the background is not among them.
        masks: bool [N, height, width], or None where the model has no mask head.
        keypoints: float32 [N, K, 3], (x, y, score), or None where the model has no keypoint head.

    Raises:
        ValueError: the arrays' shapes do not belong together.
    """

    height: int
    width: int
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: np.ndarray | None = None
    keypoints: np.ndarray | None = None

    def __post_init__(self) -> None:
        count = len(self.scores)
        shapes: dict[str, tuple[int | None, ...]] = {
            "boxes": (count, 4),
            "scores": (count,),
            "classes": (count,),
            "masks": (count, self.height, self.width),
            "keypoints": (count, None, 3),
        }
        for name, expected in shapes.items():
            array = getattr(self, name)
            if array is None:
                continue
            matches = len(array.shape) == len(expected) and all(
                want in (None, got) for want, got in zip(expected, array.shape, strict=True)
            )
            if not matches:
                raise ValueError(f"{name} of shape {array.shape}, expected {expected}")

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, keep: np.ndarray) -> Detections:
        """The detections that `keep` names, in its order.

        Args:
            keep: bool [N], or int [M] of indices.
        """
        return dataclasses.replace(
            self,
            boxes=self.boxes[keep],
            scores=self.scores[keep],
            classes=self.classes[keep],
            masks=None if self.masks is None else self.masks[keep],
            keypoints=None if self.keypoints is None else self.keypoints[keep],
        )
