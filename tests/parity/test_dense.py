"""RetinaNet and panoptic FPN at full size, with seeded weights, against Detectron2's records."""

from __future__ import annotations

import pytest

from tests.support.full_size import check_full_size


@pytest.mark.full
@pytest.mark.parametrize(
    "config",
    ["COCO-Detection/retinanet_R_50_FPN_3x", "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x"],
)
def test_stages_detections_and_pixels(config):
    check_full_size(config)
