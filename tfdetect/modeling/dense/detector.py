"""Dense detectors: a prediction for every location of a feature map, without proposals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfdetect.layers.drop_path import drop_paths
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.norm import batch_statistics
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.anchors import AnchorGenerator
from tfdetect.modeling.dense.losses import LossNormalizer
from tfdetect.modeling.dense.selection import of_anchors, select_dense_detections
from tfdetect.modeling.detector import Detector
from tfdetect.modeling.replicas import image_seeds
from tfdetect.modeling.structures import Predictions, Targets


class DenseDetector(Detector):
    """A backbone, and a head on several of its levels.

    Args:
        backbone: see `ResNet` for what one has.
        head: of all levels; called with their features and valid sizes, gives lists of maps: class
            logits, deltas, and what else the detector has.
        anchor_generator: of the features.
        in_features: the features' names.
        num_classes: K.
        selection: options of `select_dense_detections`.
        loss_normalizer: what the number of positive anchors is taken to be at first.

    Detectron2: the class of this name.
    """

    outputs: tuple[str, ...] = ("cls_logits", "anchor_deltas")
    """What intermediates call the head's outputs."""

    def __init__(
        self,
        backbone: tf.Module,
        head: tf.Module,
        anchor_generator: AnchorGenerator,
        *,
        in_features: Sequence[str],
        num_classes: int,
        selection: Mapping[str, Any],
        loss_normalizer: float,
    ):
        super().__init__(backbone)
        self._in_features = list(in_features)
        self._strides = anchor_generator.strides
        self._num_classes = num_classes
        self.anchor_generator = anchor_generator
        self.selection = dict(selection)
        self.loss_normalizer = LossNormalizer(loss_normalizer)
        self.head = head

    @property
    def training_state(self) -> dict[str, tf.Variable]:
        """See `Detector`: `loss_normalizer`."""
        return {"loss_normalizer": self.loss_normalizer.value}

    def __call__(
        self, images: tf.Tensor, image_sizes: tf.Tensor, valid_sizes: ValidSizes = WHOLE
    ) -> Predictions:
        """Detect objects.

        Args:
            images: [B, H, W, 3], normalised, zero beyond each image's own size.
            image_sizes: int32 [B, 2], (height, width) of each image without padding; the
                detections do not depend on it: boxes are clipped in the original image only.
            valid_sizes: of the images; see `GeneralizedRCNN`.

        Returns:
            `instances`: see `select_dense_detections`. Intermediates: each of `outputs`, with `_i`
            of level i, such as `cls_logits_0` [B, H, W, A * K].
        """
        del image_sizes
        levels = [valid_sizes.strided(stride) for stride in self._strides]
        inputs, maps = self._predict(images, valid_sizes, levels)
        for name, found in zip(self.outputs, maps, strict=True):
            add_intermediates({f"{name}_{level}": values for level, values in enumerate(found)})
        ranks = [
            here.fill(level_ranks, float("-inf"))
            for here, level_ranks in zip(levels, self.ranks(*maps), strict=True)
        ]
        anchors = self.anchor_generator(inputs)
        return Predictions(select_dense_detections(ranks, maps[1], anchors, **self.selection))

    def losses(
        self, images: tf.Tensor, image_sizes: tf.Tensor, targets: Targets, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The training losses; a training step minimises their sum.

        As of `GeneralizedRCNN.losses`; but nothing is sampled, and losses are divided by
        `LossNormalizer`, which each call updates. Anchors over the padding are background, as in
        Detectron2.

        Returns:
            Scalars by Detectron2's names.
        """
        del image_sizes
        with batch_statistics(), drop_paths(image_seeds(seed, tf.shape(images)[0])):
            inputs, maps = self._predict(images, WHOLE, [WHOLE] * len(self._strides))
            anchors = self.anchor_generator(inputs)
            labels, matches = self.label_anchors(anchors, targets)
            positives = tf.where((labels >= 0) & (labels != self._num_classes))
            matched = tf.gather_nd(tf.cast(matches, tf.int64), positives)
            gt_boxes = tf.gather_nd(targets.gt_boxes, tf.stack([positives[:, 0], matched], 1))
            of_positives = tf.gather(tf.concat(anchors, 0), positives[:, 1])
            losses = self.sum_losses(
                _flatten(maps, self._num_classes), labels, positives, of_positives, gt_boxes
            )
            divisor = self.loss_normalizer(tf.shape(positives)[0])
            return {name: loss / divisor for name, loss in losses.items()}

    def _predict(
        self, images: tf.Tensor, valid_sizes: ValidSizes, levels: Sequence[ValidSizes]
    ) -> tuple[list[tf.Tensor], tuple[list[tf.Tensor], ...]]:
        """The features of the levels, and the head's maps of each."""
        features = self.backbone(images, valid_sizes)
        inputs = [features[name] for name in self._in_features]
        return inputs, self.head(inputs, levels)

    def ranks(self, *maps: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """From the head's maps of all levels what `select_dense_detections` orders by."""
        raise NotImplementedError

    def label_anchors(
        self, anchors: Sequence[tf.Tensor], targets: Targets
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What each anchor is to predict.

        Args:
            anchors: per level float32 [R_l, 4].
            targets: the objects.

        Returns:
            labels: int32 [B, R], in [0, K); K is background, -1 is ignored.
            matches: int32 [B, R], the object of each anchor, in [0, G); without meaning for those
                that have none.

        Detectron2: the method of this name.
        """
        raise NotImplementedError

    def sum_losses(
        self,
        outputs: Sequence[tf.Tensor],
        labels: tf.Tensor,
        positives: tf.Tensor,
        anchors: tf.Tensor,
        gt_boxes: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The losses, summed and not yet divided.

        Args:
            outputs: the head's, of all levels, float32 [B, R, ...].
            labels: of `label_anchors`.
            positives: int64 [P, 2], (image, anchor) of the anchors that have an object.
            anchors, gt_boxes: float32 [P, 4], those anchors and their objects.
        """
        raise NotImplementedError


def _flatten(maps: Sequence[Sequence[tf.Tensor]], num_classes: int) -> list[tf.Tensor]:
    """Of each output [B, H, W, A * C] of all levels [B, R, C]; C is the number of classes, 4, 1."""
    return [
        tf.concat([of_anchors(level, size) for level in levels], 1)
        for levels, size in zip(maps, (num_classes, 4, 1), strict=False)
    ]
