"""What semantic and panoptic FPN predict against Detectron2, narrow, with seeded weights.

Each image alone, and both in one batch, in which each gets the same. Detectron2 with its weights
disturbed by a relative 1e-6 loses no detection, and moves boxes by 2e-4 pixels and a mask by one.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.comparison import compare
from tests.support.segmentation_training import IMAGES, MAPS, predict, record
from tfdetect.data.prediction_record import prediction_to_dict


def test_semantic():
    alone, together = predict("semantic")
    for index, (one, batched) in enumerate(zip(alone, together, strict=True)):
        for found in (one, batched):
            np.testing.assert_array_equal(found.sem_seg, MAPS[f"semantic/{index}/sem_seg_argmax"])


@pytest.mark.full
def test_panoptic(implementation):
    alone, together = predict("panoptic")
    recorded = record("inference_panoptic")["images"]
    for found in (alone, together):
        records = [prediction_to_dict(name, one) for name, one in zip(IMAGES, found, strict=True)]
        # 0.9 as one of the boxes is 0.001 pixels high, of which rounding is a share.
        differences = compare(records, recorded, iou=0.9, score=1e-4)
        assert (differences.extra, differences.unmatched) == (0, [])
        assert differences.matched > 150
        assert differences.box <= 5e-3
        for index, one in enumerate(found):
            expected = MAPS[f"panoptic/{index}/sem_seg_argmax"]
            np.testing.assert_array_equal(one.sem_seg, expected)
            segments = recorded[index]["segments_info"]
            assert len(one.panoptic.segments) == len(segments)
            # A pixel on the border of a mask may fall the other way.
            pixels = one.panoptic.ids != MAPS[f"panoptic/{index}/panoptic_seg"]
            assert pixels.sum() <= 4
            for segment, other in zip(one.panoptic.segments, segments, strict=True):
                assert (segment.id, segment.isthing) == (other["id"], other["isthing"])
                assert segment.category_id == other["category_id"]
