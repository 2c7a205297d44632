"""The R-CNN detector: Detectron2's GeneralizedRCNN."""

from __future__ import annotations

import tensorflow as tf


class GeneralizedRCNN(tf.Module):
    """Backbone, proposal generator and RoI heads.

    The path of every variable is its key in Detectron2's state dict.
    """

    def __init__(self, backbone: tf.Module, proposal_generator: tf.Module, roi_heads: tf.Module):
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads

    @property
    def size_divisibility(self) -> int:
        """Height and width of the padded image batch are multiples of this."""
        return self.backbone.size_divisibility

    def __call__(
        self, images: tf.Tensor, image_sizes: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Detect objects.

        Args:
            images: float32 [B, H, W, 3], normalised, zero beyond each image's own size.
            image_sizes: int32 [B, 2], (height, width) of each image without padding.

        Returns:
            The detections in pixels of `images` (see `StandardROIHeads`), and the stages by name:
            the backbone's features, those of `RPN` and those of `StandardROIHeads`.
        """
        features, stages = self.backbone(images)
        proposals, counts, proposal_stages = self.proposal_generator(features, image_sizes)
        detections, head_stages = self.roi_heads(features, proposals, counts, image_sizes)
        return detections, {**stages, **features, **proposal_stages, **head_stages}
