"""The R-CNN detectors: GeneralizedRCNN, ProposalNetwork and FastRCNN."""

from __future__ import annotations

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.layers.drop_path import drop_paths
from tfdetect.layers.norm import batch_statistics
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.build import build_backbone, build_proposal_generator, build_roi_heads
from tfdetect.modeling.detector import Detector
from tfdetect.modeling.registries import META_ARCHITECTURES
from tfdetect.modeling.replicas import image_seeds
from tfdetect.modeling.structures import Instances, Predictions, Proposals, Targets


class GeneralizedRCNN(Detector):
    """Backbone, proposal generator and RoI heads."""

    def __init__(self, backbone: tf.Module, proposal_generator: tf.Module, roi_heads: tf.Module):
        super().__init__(backbone)
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads

    @classmethod
    def from_config(cls, cfg: CfgNode) -> GeneralizedRCNN:
        """From MODEL.BACKBONE, MODEL.PROPOSAL_GENERATOR and MODEL.ROI_HEADS."""
        backbone = build_backbone(cfg)
        shapes = backbone.output_shapes
        return cls(backbone, build_proposal_generator(cfg, shapes), build_roi_heads(cfg, shapes))

    def __call__(
        self, images: tf.Tensor, image_sizes: tf.Tensor, valid_sizes: ValidSizes = WHOLE
    ) -> Predictions:
        """Detect objects.

        Args:
            images: float32 [B, H, W, 3], normalised, zero beyond each image's own size. Features
                are computed in their type, so they may be bfloat16; boxes and scores stay float32.
            image_sizes: int32 [B, 2], (height, width) of each image without padding.
            valid_sizes: valid (height, width) of each image, including its own padding to a
                multiple of `size_divisibility`; each image then gets the result that it gets alone.
                With `WHOLE` the whole batch is valid for every image, as in Detectron2.

        Returns:
            `instances`.
        """
        features = self.backbone(images, valid_sizes)
        proposals = self.proposal_generator(features, image_sizes, valid_sizes)
        return Predictions(self.roi_heads(features, proposals, image_sizes, valid_sizes))

    def detect_boxes(self, features: dict[str, tf.Tensor], image_sizes: tf.Tensor) -> Instances:
        """The detections without masks and keypoints, from features of `backbone`.

        `roi_heads.forward_with_given_boxes` adds the rest. The whole batch is valid for every image
        (`WHOLE`).
        """
        proposals = self.proposal_generator(features, image_sizes)
        return self.roi_heads.detect_boxes(features, proposals, image_sizes)

    def losses(
        self,
        images: tf.Tensor,
        image_sizes: tf.Tensor,
        targets: Targets,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The training losses; a training step minimises their sum.

        Batch norms that are not frozen use, and store, the statistics of this batch. Under a
        strategy call it in replica context, with an equal share of the batch on each replica:
        losses are normalised by counts over the whole batch, so the mean over replicas equals the
        loss of one device with the whole batch. (In Detectron2, each worker normalises by its own
        counts of proposals, masks and keypoints, which is the same if these are equal.)

        Args:
            images, image_sizes: as above.
            targets: the objects, with masks and keypoints for a model that has them.
            seed: int32 or int64 [2], the seed for the random choices in the first image; the image
                at index i uses seed + [0, i]. It should be unique for each image of a run.

        Returns:
            Scalars by Detectron2's names, weighted as configured: `loss_rpn_cls`, `loss_rpn_loc`,
            and those of `StandardROIHeads.losses`.

        Raises:
            InputError: the configuration asks for a loss that is not supported.
        """
        seeds = image_seeds(seed, tf.shape(images)[0])
        with batch_statistics(), drop_paths(seeds):
            features = self.backbone(images)
            proposals, losses = self.proposal_generator.losses(
                features, image_sizes, targets, seeds
            )
            return losses | self.roi_heads.losses(features, proposals, image_sizes, targets, seeds)


class FastRCNN(Detector):
    """Backbone and RoI heads: Detectron2's GeneralizedRCNN with precomputed proposals."""

    def __init__(self, backbone: tf.Module, roi_heads: tf.Module):
        super().__init__(backbone)
        self.roi_heads = roi_heads

    @classmethod
    def from_config(cls, cfg: CfgNode) -> FastRCNN:
        """From MODEL.BACKBONE and MODEL.ROI_HEADS."""
        backbone = build_backbone(cfg)
        return cls(backbone, build_roi_heads(cfg, backbone.output_shapes))

    def __call__(
        self,
        images: tf.Tensor,
        image_sizes: tf.Tensor,
        proposals: Proposals,
        valid_sizes: ValidSizes = WHOLE,
    ) -> Predictions:
        """Detect objects.

        Args:
            images, image_sizes, valid_sizes: as `GeneralizedRCNN`'s.
            proposals: in pixels of `images` (see `transform_proposals`).

        Returns:
            As `GeneralizedRCNN`.
        """
        features = self.backbone(images, valid_sizes)
        return Predictions(self.roi_heads(features, proposals, image_sizes, valid_sizes))

    def losses(
        self,
        images: tf.Tensor,
        image_sizes: tf.Tensor,
        targets: Targets,
        seed: tf.Tensor,
        proposals: Proposals,
    ) -> dict[str, tf.Tensor]:
        """As `GeneralizedRCNN.losses`, without those of an RPN.

        Args:
            images, image_sizes, targets, seed: see there.
            proposals: in pixels of `images`.
        """
        seeds = image_seeds(seed, tf.shape(images)[0])
        with batch_statistics(), drop_paths(seeds):
            features = self.backbone(images)
            return self.roi_heads.losses(features, proposals, image_sizes, targets, seeds)


@META_ARCHITECTURES.register("GeneralizedRCNN")
def build_generalized_rcnn(cfg: CfgNode) -> GeneralizedRCNN | FastRCNN:
    """With an RPN, or with PrecomputedProposals: Detectron2 has one class for both."""
    return (FastRCNN if capabilities(cfg).takes_proposals else GeneralizedRCNN).from_config(cfg)


@META_ARCHITECTURES.register()
class ProposalNetwork(Detector):
    """Backbone and proposal generator only: Detectron2's ProposalNetwork (an RPN)."""

    def __init__(self, backbone: tf.Module, proposal_generator: tf.Module):
        super().__init__(backbone)
        self.proposal_generator = proposal_generator

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ProposalNetwork:
        """From MODEL.BACKBONE and MODEL.PROPOSAL_GENERATOR."""
        backbone = build_backbone(cfg)
        return cls(backbone, build_proposal_generator(cfg, backbone.output_shapes))

    def __call__(
        self, images: tf.Tensor, image_sizes: tf.Tensor, valid_sizes: ValidSizes = WHOLE
    ) -> Predictions:
        """Propose boxes.

        Args:
            images, image_sizes, valid_sizes: as `GeneralizedRCNN`'s.

        Returns:
            The proposals as `instances` of class 0, whose scores are objectness logits and so no
            probabilities.
        """
        features = self.backbone(images, valid_sizes)
        boxes, num_valid, logits = self.proposal_generator(features, image_sizes, valid_sizes)
        classes = tf.zeros_like(logits, tf.int32)
        return Predictions(Instances(boxes, logits, classes, num_valid))

    def losses(
        self,
        images: tf.Tensor,
        image_sizes: tf.Tensor,
        targets: Targets,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """As `GeneralizedRCNN.losses`: `loss_rpn_cls` and `loss_rpn_loc`."""
        seeds = image_seeds(seed, tf.shape(images)[0])
        with batch_statistics(), drop_paths(seeds):
            features = self.backbone(images)
            _, losses = self.proposal_generator.losses(features, image_sizes, targets, seeds)
        return losses
