"""Instances and stuff combined, against Detectron2's `combine_semantic_and_instance_outputs`."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.support.paths import DATA
from tfdetect.modeling.panoptic import combine_semantic_and_instance_outputs
from tfdetect.modeling.structures import Instances

HEIGHT, WIDTH = 90, 120
RECORD = np.load(DATA / "dense_training" / "combine_ops.npz")
CASES = sorted({name.split("/")[0] for name in RECORD.files})


@pytest.mark.parametrize("case", CASES)
def test_segments(case, implementation):
    """All of it is equal: ids pixel for pixel, classes, scores and which instance each is."""
    recorded = {name: RECORD[f"{case}/{name}"] for name in ("scores", "classes", "semantic")}
    masks = np.unpackbits(RECORD[f"{case}/masks"], axis=-1)[..., :WIDTH]
    count = len(recorded["scores"])
    # A mask on a square whose box it fills is pasted as it is.
    square = np.zeros([count, WIDTH, WIDTH], np.float32)
    square[:, :HEIGHT] = masks
    overlap, area, score = RECORD[f"{case}/thresholds"].tolist()
    semantic = recorded["semantic"].astype(np.int32)
    found = combine_semantic_and_instance_outputs(
        Instances(
            pred_boxes=tf.constant(np.tile(np.float32([0, 0, WIDTH, WIDTH]), [count, 1])),
            scores=tf.constant(recorded["scores"].astype(np.float32)),
            pred_classes=tf.constant(recorded["classes"].astype(np.int32)),
            num_detections=tf.constant(count),
            pred_masks=tf.constant(square),
        ),
        tf.constant(semantic),
        num_stuff_classes=int(semantic.max()) + 1,
        overlap_threshold=overlap,
        stuff_area_limit=int(area),
        instances_confidence_threshold=score,
    )
    np.testing.assert_array_equal(found["panoptic_seg"], RECORD[f"{case}/panoptic_seg"])
    expected = json.loads(str(RECORD[f"{case}/segments_info"]))
    assert int(found["num_segments"]) == len(expected)
    for index, segment in enumerate(expected):
        assert segment["id"] == index + 1
        assert int(found["segment_category_ids"][index]) == segment["category_id"]
        assert bool(found["segment_isthing"][index]) == segment["isthing"]
        if segment["isthing"]:
            assert float(found["segment_scores"][index]) == np.float32(segment["score"])
            assert int(found["segment_instance_ids"][index]) == segment["instance_id"]
        else:
            assert int(found["segment_areas"][index]) == segment["area"]
