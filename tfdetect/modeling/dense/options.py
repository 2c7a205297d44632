"""What the sections MODEL.RETINANET and MODEL.FCOS have in common."""

from __future__ import annotations

from typing import Any, NamedTuple

from yacs.config import CfgNode

from tfdetect.modeling.features import Shapes, input_features


class DenseOptions(NamedTuple):
    """Arguments of a dense detector and its head.

    Attributes:
        in_features: the names of the features.
        in_channels: of each of them.
        strides: of each.
        num_classes: K.
        head: `num_classes`, `num_convs`, `norm` and `prior_probability`.
        selection: `score_threshold` and so on of `select_dense_detections`.
        focal: `alpha` and `gamma` of `sigmoid_focal_loss`.
    """

    in_features: list[str]
    in_channels: int
    strides: list[int]
    num_classes: int
    head: dict[str, Any]
    selection: dict[str, Any]
    focal: dict[str, float]

    @classmethod
    def from_config(cls, cfg: CfgNode, section: str, shapes: Shapes) -> DenseOptions:
        """From MODEL.`section`.

        Args:
            cfg: the whole configuration.
            section: "RETINANET" or "FCOS".
            shapes: of the backbone's features.

        Raises:
            InputError: the backbone does not have IN_FEATURES.
        """
        keys = cfg.MODEL[section]
        names = input_features(f"MODEL.{section}.IN_FEATURES", keys.IN_FEATURES, shapes)
        return cls(
            in_features=names,
            in_channels=shapes[names[0]][0],
            strides=[shapes[name][1] for name in names],
            num_classes=keys.NUM_CLASSES,
            head={
                "num_classes": keys.NUM_CLASSES,
                "num_convs": keys.NUM_CONVS,
                "norm": keys.NORM or "",
                "prior_probability": keys.PRIOR_PROB,
            },
            selection={
                "score_threshold": keys.SCORE_THRESH_TEST,
                "topk_candidates": keys.TOPK_CANDIDATES_TEST,
                "nms_threshold": keys.NMS_THRESH_TEST,
                "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
            },
            focal={"alpha": keys.FOCAL_LOSS_ALPHA, "gamma": keys.FOCAL_LOSS_GAMMA},
        )
