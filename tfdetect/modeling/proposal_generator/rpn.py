"""Region Proposal Network (Faster R-CNN, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.conv import Conv2d
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.anchors import AnchorGenerator
from tfdetect.modeling.conventions import conventions
from tfdetect.modeling.features import Shapes, input_features
from tfdetect.modeling.losses import BoxRegressionLoss
from tfdetect.modeling.proposal_generator.sampling import label_and_sample_anchors
from tfdetect.modeling.proposal_generator.selection import best_of_levels, select_proposals
from tfdetect.modeling.registries import PROPOSAL_GENERATORS
from tfdetect.modeling.structures import Proposals, Targets
from tfdetect.ops.boxes import apply_deltas
from tfdetect.ops.empty_batch import with_nonempty_batch
from tfdetect.ops.shapes import lengths


class RPNHead(tf.Module):
    """3 x 3 convolutions shared by all levels, then objectness logits and anchor deltas."""

    def __init__(
        self,
        in_channels: int,
        anchors_per_location: int,
        conv_dims: Sequence[int],
        box_dim: int = 4,
    ):
        super().__init__()
        self._box_dim = box_dim
        convs = []
        for dim in conv_dims:
            out_channels = in_channels if dim == -1 else dim
            convs.append(Conv2d(in_channels, out_channels, 3, padding=1))
            in_channels = out_channels
        # Detectron2 names a lone convolution `conv`, several `conv.conv0`, `conv.conv1`, ...
        self.conv = (
            convs[0] if len(convs) == 1 else {f"conv{i}": conv for i, conv in enumerate(convs)}
        )
        self.objectness_logits = Conv2d(in_channels, anchors_per_location, 1)
        self.anchor_deltas = Conv2d(in_channels, anchors_per_location * box_dim, 1)

    def __call__(
        self, feature: tf.Tensor, valid_sizes: ValidSizes = WHOLE
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """[N, H, W, C] -> logits [N, H, W, A] and deltas [N, H, W, A * box_dim], float32."""
        for conv in self.convs():
            feature = conv(feature, valid_sizes, relu=True)
        logits = self.objectness_logits(feature, valid_sizes)
        deltas = self.anchor_deltas(feature, valid_sizes)
        return tf.cast(logits, tf.float32), tf.cast(deltas, tf.float32)

    def at(self, features: Sequence[tf.Tensor], locations: Sequence[tf.Tensor]) -> tf.Tensor:
        """The same at selected locations only, from their surroundings.

        A training step samples a few hundred of a hundred thousand locations; the gradient of all
        others is zero and is not computed.

        Args:
            features: of each level, [N, H, W, C].
            locations: int64 [S_l, 3] of each level, (image, row, column).

        Returns:
            float32 [S, A, 1 + box_dim], logits and deltas of the locations of all levels,
            concatenated.
        """
        reach = len(self.convs())  # each sees one location further
        around = [_around(*level, reach) for level in zip(features, locations, strict=True)]
        x, inside = (tf.concat(parts, 0) for parts in zip(*around, strict=True))
        for conv in self.convs():
            x = tf.nn.relu(tf.nn.bias_add(_valid_conv(x, conv.weight), tf.cast(conv.bias, x.dtype)))
            # The next convolution finds zeros beyond the map, not what this one makes of them.
            inside = inside[:, 1:-1, 1:-1]
            x = tf.where(inside, x, tf.zeros([], x.dtype))
        logits = self.objectness_logits(x)
        deltas = tf.reshape(self.anchor_deltas(x), [-1, logits.shape[-1], self._box_dim])
        logits = tf.reshape(logits, [-1, logits.shape[-1], 1])
        return tf.cast(tf.concat([logits, deltas], 2), tf.float32)

    def convs(self) -> list[Conv2d]:
        """The 3 x 3 convolutions, in order."""
        return list(self.conv.values()) if isinstance(self.conv, dict) else [self.conv]


def _valid_conv(x: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """The 3 x 3 convolution without padding of [S, R, R, C], R being a small number."""
    weight = tf.cast(weight, x.dtype)
    if x.shape[1] > 3:
        return with_nonempty_batch(lambda x: tf.nn.conv2d(x, weight, 1, "VALID"), x)
    # One product; TensorFlow's gradient of the convolution goes patch by patch.
    y = tf.matmul(tf.reshape(x, [-1, 9 * x.shape[3]]), tf.reshape(weight, [-1, weight.shape[3]]))
    return y[:, None, None]


def _around(feature: tf.Tensor, locations: tf.Tensor, reach: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Windows of radius `reach`, [S, R, R, C], zero outside the map, and a mask bool [S, R, R,
    1]."""
    size = tf.shape(feature, tf.int64)[1:3]
    steps = tf.range(-reach, reach + 1, dtype=tf.int64)
    offsets = tf.stack(tf.meshgrid(steps, steps, indexing="ij"), -1)
    places = locations[:, None, None, 1:] + offsets
    inside = tf.reduce_all((places >= 0) & (places < size), -1, keepdims=True)
    places = tf.clip_by_value(places, tf.zeros([], tf.int64), size - 1)
    images = tf.broadcast_to(locations[:, None, None, :1], tf.shape(inside))
    x = tf.gather_nd(feature, tf.concat([images, places], -1))
    x = tf.where(inside, x, tf.zeros([], x.dtype))
    side = 2 * reach + 1
    return tf.ensure_shape(x, [None, side, side, feature.shape[3]]), inside


class _Predictions(NamedTuple):
    """Of the levels: anchors, logits [B, N_l], deltas [B, N_l, box_dim].

    The anchors are [N_l, box_dim], or [B, N_l, 4] where each image has its own.
    """

    anchors: list[tf.Tensor]
    logits: list[tf.Tensor]
    deltas: list[tf.Tensor]


def _least_size(cfg: CfgNode) -> float:
    """Minimum size of a proposal in pixels; if negative, proposals without area are kept."""
    least = conventions(cfg).least_proposal
    configured = float(cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE)
    return max(configured, least) if least > 0 else configured


@PROPOSAL_GENERATORS.register()
class RPN(tf.Module):
    """Proposals from features of equal channels.

    Attributes:
        anchor_generator: the class of the anchors that `from_config` takes.

    Args:
        in_features: the features' names.
        head: gives logits and deltas of every location.
        anchor_generator: of these features.
        box_weights: of the deltas, see `apply_deltas`.
        selection: options of `select_proposals` at inference.
        training_selection: in training.
        sampling: options of `label_and_sample_anchors`.
        box_loss: of the foreground's deltas.
        loss_weights: factors of `loss_rpn_cls` and `loss_rpn_loc`.
        conventions: of the model, see `Conventions`; only detectron2's are trained with.
    """

    anchor_generator: type[AnchorGenerator] = AnchorGenerator

    def __init__(
        self,
        in_features: Sequence[str],
        head: RPNHead,
        anchor_generator: AnchorGenerator,
        *,
        box_weights: Sequence[float],
        selection: Mapping[str, Any],
        training_selection: Mapping[str, Any],
        sampling: Mapping[str, Any],
        box_loss: BoxRegressionLoss,
        loss_weights: Mapping[str, float],
        conventions: str = "detectron2",
    ):
        super().__init__()
        self._in_features = list(in_features)
        self._strides = anchor_generator.strides
        self._anchors = anchor_generator
        self._weights = box_weights
        self._selection = dict(selection)
        self._training_selection = dict(training_selection)
        self._sampling = dict(sampling)
        self._box_loss = box_loss
        self._loss_weights = dict(loss_weights)
        self._conventions = conventions
        self.rpn_head = head

    @classmethod
    def from_config(cls, cfg: CfgNode, shapes: Shapes) -> RPN:
        """From MODEL.RPN and MODEL.ANCHOR_GENERATOR.

        Args:
            cfg: the whole configuration.
            shapes: (channels, stride) of the backbone's features by name.
        """
        rpn = cfg.MODEL.RPN
        names = input_features("MODEL.RPN.IN_FEATURES", rpn.IN_FEATURES, shapes)
        if rpn.HEAD_NAME != "StandardRPNHead":
            raise InputError(f"MODEL.RPN.HEAD_NAME: {rpn.HEAD_NAME!r} is not supported")
        anchors = cls.anchor_generator.from_config(cfg, [shapes[name][1] for name in names])
        weights = list(rpn.BBOX_REG_WEIGHTS)
        selection = {
            "nms_threshold": rpn.NMS_THRESH,
            "pre_nms_topk": rpn.PRE_NMS_TOPK_TEST,
            "post_nms_topk": rpn.POST_NMS_TOPK_TEST,
            "min_box_size": _least_size(cfg),
            "inclusive_boxes": conventions(cfg).inclusive_boxes,
        }
        training_selection = selection | {
            "pre_nms_topk": rpn.PRE_NMS_TOPK_TRAIN,
            "post_nms_topk": rpn.POST_NMS_TOPK_TRAIN,
        }
        sampling = {
            "thresholds": list(rpn.IOU_THRESHOLDS),
            "labels": list(rpn.IOU_LABELS),
            "batch_size_per_image": rpn.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": rpn.POSITIVE_FRACTION,
            "boundary_threshold": rpn.BOUNDARY_THRESH,
        }
        box_loss = BoxRegressionLoss(
            "MODEL.RPN", rpn.BBOX_REG_LOSS_TYPE, rpn.SMOOTH_L1_BETA, weights
        )
        loss_weights = {
            "loss_rpn_cls": rpn.LOSS_WEIGHT,
            "loss_rpn_loc": rpn.LOSS_WEIGHT * rpn.BBOX_REG_LOSS_WEIGHT,
        }
        channels = shapes[names[0]][0]
        return cls(
            names,
            RPNHead(channels, anchors.anchors_per_location, rpn.CONV_DIMS, anchors.box_dim),
            anchors,
            box_weights=weights,
            selection=selection,
            training_selection=training_selection,
            sampling=sampling,
            box_loss=box_loss,
            loss_weights=loss_weights,
            conventions=cfg.MODEL.CONVENTIONS,
        )

    def __call__(
        self,
        features: dict[str, tf.Tensor],
        image_sizes: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
    ) -> Proposals:
        """Propose boxes.

        Args:
            features: by name, [B, H, W, C].
            image_sizes: int32 [B, 2], (height, width) of each image without padding.
            valid_sizes: of the images; anchors outside them are ignored.

        Returns:
            P = POST_NMS_TOPK_TEST slots. Intermediates: `rpn_logits_i` [B, H, W, A] and
            `rpn_deltas_i` [B, H, W, A * box_dim] of each level, `proposals` and `proposal_logits`.
        """
        outputs = self._predict(features, valid_sizes)
        proposals = self._select(outputs, image_sizes, **self._selection)
        add_intermediates({"proposals": proposals.boxes, "proposal_logits": proposals.logits})
        return proposals

    def losses(
        self,
        features: dict[str, tf.Tensor],
        image_sizes: tf.Tensor,
        targets: Targets,
        seeds: tf.Tensor,
    ) -> tuple[Proposals, dict[str, tf.Tensor]]:
        """Proposals for training, and the losses.

        Args:
            features, image_sizes: as above.
            targets: the objects.
            seeds: int [B, 2], of the choice of each image's anchors.

        Returns:
            Proposals as above, with the limits of PRE_NMS_TOPK_TRAIN and
            POST_NMS_TOPK_TRAIN, without gradient; and `loss_rpn_cls` and `loss_rpn_loc`, divided
            by BATCH_SIZE_PER_IMAGE times the number of images (Detectron2: `RPN.losses`).

        Raises:
            InputError: MODEL.CONVENTIONS are not Detectron2's, which training requires.
        """
        if self._conventions != "detectron2":
            raise InputError(
                f"MODEL.CONVENTIONS: a model with those of {self._conventions} cannot be trained; "
                "set detectron2 to fine-tune its weights"
            )
        outputs = self._predict(features)
        anchors = tf.concat(outputs.anchors, 0)
        labels, matches = label_and_sample_anchors(
            anchors, image_sizes, targets, seeds, **self._sampling
        )
        sampled, logits, deltas = self._predict_sampled(features, outputs, labels)
        is_foreground = tf.gather_nd(labels, sampled) == 1
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(
            labels=tf.cast(is_foreground, tf.float32), logits=logits
        )
        foreground = tf.boolean_mask(sampled, is_foreground)
        matches = tf.gather_nd(tf.cast(matches, tf.int64), foreground)
        matched = tf.stack([foreground[:, 0], matches], 1)
        losses = {
            "loss_rpn_cls": tf.reduce_sum(entropy),
            "loss_rpn_loc": self._box_loss(
                tf.boolean_mask(deltas, is_foreground),
                tf.gather(anchors, foreground[:, 1]),
                tf.gather_nd(targets.gt_boxes, matched),
            ),
        }
        images = tf.cast(tf.maximum(tf.shape(labels)[0], 1), tf.float32)
        normalizer = self._sampling["batch_size_per_image"] * images
        losses = {
            name: loss * self._loss_weights[name] / normalizer for name, loss in losses.items()
        }

        fixed = _Predictions(
            outputs.anchors,
            [tf.stop_gradient(level) for level in outputs.logits],
            [tf.stop_gradient(level) for level in outputs.deltas],
        )
        proposals = self._select(fixed, image_sizes, **self._training_selection)
        return proposals, losses

    def _predict_sampled(
        self, features: dict[str, tf.Tensor], outputs: _Predictions, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The sampled anchors, int64 [S, 2] (image, anchor), and the predictions for them.

        Logits [S] and deltas [S, box_dim] are those of `outputs`, computed again, with their
        gradient.
        """
        inputs = [features[name] for name in self._in_features]
        per_location = self._anchors.anchors_per_location
        sampled, kinds, locations = [], [], []
        begin = 0
        for feature, anchors in zip(inputs, outputs.anchors, strict=True):
            count = tf.shape(anchors)[0]
            here = tf.where(labels[:, begin : begin + count] >= 0)
            location = here[:, 1] // per_location
            width = tf.shape(feature, tf.int64)[2]
            locations.append(tf.stack([here[:, 0], location // width, location % width], 1))
            kinds.append(here[:, 1] % per_location)
            sampled.append(here + tf.cast(tf.stack([0, begin]), tf.int64))
            begin += count
        predicted = tf.gather(
            self.rpn_head.at(inputs, locations), tf.concat(kinds, 0), batch_dims=1
        )
        return tf.concat(sampled, 0), predicted[:, 0], predicted[:, 1:]

    @profile_scope("rpn_head")
    def _predict(
        self, features: dict[str, tf.Tensor], valid_sizes: ValidSizes = WHOLE
    ) -> _Predictions:
        """The predictions at every location; outside the valid sizes `logits` are negative
        infinity."""
        inputs = [features[name] for name in self._in_features]
        logits, deltas = [], []
        for index, (feature, stride) in enumerate(zip(inputs, self._strides, strict=True)):
            here = valid_sizes.strided(stride)
            level_logits, level_deltas = self.rpn_head(feature, here)
            add_intermediates(
                {f"rpn_logits_{index}": level_logits, f"rpn_deltas_{index}": level_deltas}
            )
            # Of a batch of no images, no -1 could be inferred.
            batch, height, width, anchors = lengths(level_logits)
            count = height * width * anchors
            logits.append(tf.reshape(here.fill(level_logits, float("-inf")), [batch, count]))
            deltas.append(tf.reshape(level_deltas, [batch, count, self._anchors.box_dim]))
        return _Predictions(self._anchors(inputs, valid_sizes), logits, deltas)

    @profile_scope("proposals")
    def _select(
        self,
        outputs: _Predictions,
        image_sizes: tf.Tensor,
        *,
        pre_nms_topk: int,
        post_nms_topk: int,
        **options: Any,
    ) -> Proposals:
        """Detectron2's `RPN.predict_proposals`; only the best boxes of each level are computed."""
        best = best_of_levels(outputs.logits, pre_nms_topk)
        anchors, deltas = [], []
        for of_level, all_deltas, indices in zip(
            outputs.anchors, outputs.deltas, best.indices, strict=True
        ):
            deltas.append(tf.gather(all_deltas, indices, batch_dims=1))
            if len(of_level.shape) == 2:
                anchors.append(tf.gather(of_level, indices))
                continue
            shape = tf.concat([tf.shape(indices)[:1], tf.shape(of_level)[1:]], 0)
            own = tf.broadcast_to(of_level, shape)
            anchors.append(tf.gather(own, indices, batch_dims=1))
        return select_proposals(
            apply_deltas(tf.concat(deltas, 1), tf.concat(anchors, 1), self._weights),
            best.logits,
            best.levels,
            image_sizes,
            post_nms_topk=min(post_nms_topk, pre_nms_topk * len(best.indices)),
            **options,
        )
