"""The other R-CNNs of the zoo at full size with seeded weights, against Detectron2's records."""

from __future__ import annotations

import pytest

from tests.support.full_size import check_full_size

CONFIGS = [
    "COCO-Detection/rpn_R_50_FPN_1x",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_3x",
    "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x",
    "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
    "Misc/cascade_mask_rcnn_R_50_FPN_3x",
    "Misc/mask_rcnn_R_50_FPN_1x_cls_agnostic",
    "Misc/mask_rcnn_R_50_FPN_3x_dconv_c3-c5",
    "Misc/mask_rcnn_R_50_FPN_3x_gn",
]


@pytest.mark.full
@pytest.mark.parametrize("config", CONFIGS)
def test_stages_and_detections(config):
    check_full_size(config)
