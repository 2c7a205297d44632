"""Full-size models with seeded weights against Detectron2's stages and detections.

Those of the main path; the rest of the zoo's R-CNNs are in test_zoo_full_size.py.
"""

from __future__ import annotations

import pytest

from tests.support.full_size import check_full_size
from tests.support.native import IMPLEMENTATIONS

QUICK = ["COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"]
THOROUGH = [
    "COCO-Detection/faster_rcnn_R_50_FPN_3x",
    "COCO-Detection/faster_rcnn_R_101_FPN_3x",
    "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x",
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x",
    "COCO-Keypoints/keypoint_rcnn_R_101_FPN_3x",
    "Detectron1-Comparisons/faster_rcnn_R_50_FPN_noaug_1x",
    "Detectron1-Comparisons/keypoint_rcnn_R_50_FPN_1x",
    "Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x",
    "PointRend/InstanceSegmentation/pointrend_rcnn_R_50_FPN_3x_coco",
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
@pytest.mark.parametrize("config", QUICK)
def test_stages_and_detections(config, implementation):
    check_full_size(config)


@pytest.mark.full
@pytest.mark.parametrize("config", THOROUGH)
def test_stages_and_detections_of_the_others(config):
    check_full_size(config)
