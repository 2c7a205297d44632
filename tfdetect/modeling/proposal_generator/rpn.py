"""Region Proposal Network (Faster R-CNN, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.conv import Conv2d
from tfdetect.modeling.anchors import AnchorGenerator
from tfdetect.modeling.proposal_generator.selection import select_proposals
from tfdetect.ops.boxes import apply_deltas


class RPNHead(tf.Module):
    """3 x 3 convolutions shared by all levels, then objectness logits and anchor deltas."""

    def __init__(self, in_channels: int, anchors_per_cell: int, conv_dims: Sequence[int]):
        super().__init__()
        convs = []
        for dim in conv_dims:
            out_channels = in_channels if dim == -1 else dim
            convs.append(Conv2d(in_channels, out_channels, 3, padding=1))
            in_channels = out_channels
        # Detectron2 names a lone convolution `conv`, several `conv.conv0`, `conv.conv1`, ...
        self.conv = (
            convs[0] if len(convs) == 1 else {f"conv{i}": conv for i, conv in enumerate(convs)}
        )
        self.objectness_logits = Conv2d(in_channels, anchors_per_cell, 1)
        self.anchor_deltas = Conv2d(in_channels, anchors_per_cell * 4, 1)

    def __call__(self, feature: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """[N, H, W, C] -> logits [N, H, W, A] and deltas [N, H, W, A * 4], both float32."""
        convs = [self.conv] if isinstance(self.conv, Conv2d) else self.conv.values()
        for conv in convs:
            feature = tf.nn.relu(conv(feature))
        logits = self.objectness_logits(feature)
        deltas = self.anchor_deltas(feature)
        return tf.cast(logits, tf.float32), tf.cast(deltas, tf.float32)


class RPN(tf.Module):
    """Proposals from the features that MODEL.RPN.IN_FEATURES names.

    Args:
        cfg: the whole configuration.
        shapes: (channels, stride) of the backbone's features by name.
    """

    def __init__(self, cfg: CfgNode, shapes: dict[str, tuple[int, int]]):
        super().__init__()
        rpn = cfg.MODEL.RPN
        missing = [name for name in rpn.IN_FEATURES if name not in shapes]
        if missing:
            raise InputError(
                f"MODEL.RPN.IN_FEATURES: {missing[0]!r} is not a feature of the backbone "
                f"({', '.join(shapes)})"
            )
        if rpn.HEAD_NAME != "StandardRPNHead":
            raise InputError(f"MODEL.RPN.HEAD_NAME: {rpn.HEAD_NAME!r} is not supported")
        self._in_features = list(rpn.IN_FEATURES)
        self._anchors = AnchorGenerator(cfg, [shapes[name][1] for name in self._in_features])
        self._weights = list(rpn.BBOX_REG_WEIGHTS)
        self._selection = {
            "nms_threshold": rpn.NMS_THRESH,
            "pre_nms_topk": rpn.PRE_NMS_TOPK_TEST,
            "post_nms_topk": rpn.POST_NMS_TOPK_TEST,
            "min_box_size": float(cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE),
        }
        self.rpn_head = RPNHead(
            shapes[self._in_features[0]][0], self._anchors.anchors_per_cell, rpn.CONV_DIMS
        )

    def __call__(
        self, features: dict[str, tf.Tensor], image_sizes: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        """Propose boxes.

        Args:
            features: by name, [B, H, W, C].
            image_sizes: int32 [B, 2], (height, width) of each image without padding.

        Returns:
            Proposals float32 [B, P, 4] in pixels of the network's input, zeros where there are
            fewer; their number int32 [B]; and the stages `rpn_logits_i` [B, H, W, A],
            `rpn_deltas_i` [B, H, W, 4 A] per level, `proposals` and `proposal_logits` [B, P].
        """
        inputs = [features[name] for name in self._in_features]
        stages: dict[str, tf.Tensor] = {}
        boxes, logits = [], []
        for index, (feature, anchors) in enumerate(zip(inputs, self._anchors(inputs), strict=True)):
            level_logits, deltas = self.rpn_head(feature)
            stages[f"rpn_logits_{index}"] = level_logits
            stages[f"rpn_deltas_{index}"] = deltas
            batch = tf.shape(feature)[0]
            boxes.append(
                apply_deltas(tf.reshape(deltas, [batch, -1, 4]), anchors[None], self._weights)
            )
            logits.append(tf.reshape(level_logits, [batch, -1]))
        proposals, scores, counts = select_proposals(boxes, logits, image_sizes, **self._selection)
        stages["proposals"] = proposals
        stages["proposal_logits"] = scores
        return proposals, counts, stages
