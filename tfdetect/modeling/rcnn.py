"""The R-CNN detectors: GeneralizedRCNN, and its first and its second half alone."""

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
            images: float32 [B, H, W, 3], normalised, zero beyond each image's own size. Features
                are computed in their type, so they may be bfloat16; boxes and scores stay float32.
            image_sizes: int32 [B, 2], (height, width) of each image without padding.

        Returns:
            The detections in pixels of `images` (see `StandardROIHeads`), and the stages by name:
            the backbone's features, those of `RPN` and those of `StandardROIHeads`.
        """
        features, stages = self.backbone(images)
        proposals, counts, proposal_stages = self.proposal_generator(features, image_sizes)
        detections, head_stages = self.roi_heads(features, proposals, counts, image_sizes)
        return detections, {**stages, **features, **proposal_stages, **head_stages}


class FastRCNN(tf.Module):
    """Backbone and RoI heads: Detectron2's GeneralizedRCNN with precomputed proposals."""

    def __init__(self, backbone: tf.Module, roi_heads: tf.Module):
        super().__init__()
        self.backbone = backbone
        self.roi_heads = roi_heads

    @property
    def size_divisibility(self) -> int:
        """Height and width of the padded image batch are multiples of this."""
        return self.backbone.size_divisibility

    def __call__(
        self, images: tf.Tensor, image_sizes: tf.Tensor, proposals: tf.Tensor, counts: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Detect objects.

        Args:
            images, image_sizes: as `GeneralizedRCNN`'s.
            proposals: float32 [B, P, 4] in pixels of `images` (see `transform_proposals`).
            counts: int32 [B], how many of each image's proposals are meant.

        Returns:
            As `GeneralizedRCNN`.
        """
        features, stages = self.backbone(images)
        detections, head_stages = self.roi_heads(features, proposals, counts, image_sizes)
        return detections, {**stages, **features, **head_stages}


class ProposalNetwork(tf.Module):
    """Backbone and proposal generator alone: Detectron2's ProposalNetwork (an RPN)."""

    def __init__(self, backbone: tf.Module, proposal_generator: tf.Module):
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator

    @property
    def size_divisibility(self) -> int:
        """Height and width of the padded image batch are multiples of this."""
        return self.backbone.size_divisibility

    def __call__(
        self, images: tf.Tensor, image_sizes: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Propose boxes.

        Args:
            images, image_sizes: as `GeneralizedRCNN`'s.

        Returns:
            The proposals in the form of detections: `pred_boxes` float32 [B, P, 4] in pixels of
            `images`, `scores` float32 [B, P], which are objectness logits and so no probabilities,
            `pred_classes` int32 [B, P], all 0, and `num_detections` int32 [B]; and the stages.
        """
        features, stages = self.backbone(images)
        boxes, counts, proposal_stages = self.proposal_generator(features, image_sizes)
        logits = proposal_stages["proposal_logits"]
        detections = {
            "pred_boxes": boxes,
            "scores": logits,
            "pred_classes": tf.zeros_like(logits, tf.int32),
            "num_detections": counts,
        }
        return detections, {**stages, **features, **proposal_stages}
