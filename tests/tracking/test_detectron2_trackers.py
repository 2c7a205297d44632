"""The three trackers against Detectron2's: every id, period, lost count and cost is equal."""

from __future__ import annotations

import functools
import gc
import json
import lzma
import weakref

import numpy as np
import pytest
from pycocotools import mask as mask_codec

import tfdetect
from tests.support.paths import DATA
from tfdetect.config import get_cfg
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.tracking.base_tracker import difference, pairwise_iou
from tfdetect.tracking.registry import TRACKER_HEADS, build_tracker_head

SEQUENCES = ["slow_480x640", "crowded_720x1280", "fast_480x640", "still_480x640", "masks_48x64"]
NAMES = [
    "BBoxIOUTracker",
    "VanillaHungarianBBoxIOUTracker",
    "IOUWeightedHungarianBBoxIOUTracker",
]
CONFIGS = ["default", "keep3", "keep5_loose", "strict"]


@functools.cache
def recorded(sequence):
    with lzma.open(DATA / "trackers" / f"{sequence}.json.xz", "rt") as file:
        return json.load(file)


def configuration(**settings):
    cfg = get_cfg()
    for key, value in settings.items():
        cfg.TRACKER_HEADS[key] = value
    return cfg


def detections_of(frame, sequence):
    count = len(frame["scores"])
    masks = None
    if sequence["masks"]:
        masks = np.zeros((count, sequence["video_height"], sequence["video_width"]), bool)
        for mask, rle in zip(masks, frame["masks"], strict=True):
            mask[:] = mask_codec.decode(rle)
    return Detections(
        height=sequence["video_height"],
        width=sequence["video_width"],
        boxes=np.array(frame["boxes"], np.float32).reshape(count, 4),
        scores=np.array(frame["scores"], np.float32),
        classes=np.array(frame["classes"], np.int64),
        masks=masks,
    )


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_recorded_sequences(sequence, name, config):
    """No tolerance: there are integers, and copies of the input."""
    given, expected = recorded(sequence)["sequence"], recorded(sequence)["outputs"]
    output = expected[f"{name}/{config}"]
    tracker = build_tracker_head(configuration(**output["config"]))
    before = None
    for frame, wanted in zip(given["frames"], output["frames"], strict=True):
        detections = detections_of(frame, given)
        if "cost_matrix" in wanted:
            costs = tracker.cost_matrix(detections.boxes, before.detections.boxes)
            assert costs.dtype == np.int64
            shape = len(detections), len(before)
            assert costs.tolist() == np.reshape(wanted["cost_matrix"], shape).tolist()
        tracks = before = tracker.update(detections)
        assert tracks.ids.tolist() == wanted["ID"]
        assert tracks.periods.tolist() == wanted["ID_period"]
        assert tracks.lost_frame_counts.tolist() == wanted["lost_frame_count"]
        assert tracker.id_count == wanted["id_count"]
        found = tracks.detections
        assert found.boxes.tolist() == np.reshape(wanted["pred_boxes"], (-1, 4)).tolist()
        np.testing.assert_array_equal(found.scores, np.array(wanted["scores"], np.float32))
        assert found.classes.tolist() == wanted["pred_classes"]
        if given["masks"]:
            assert found.masks.sum((1, 2)).tolist() == wanted["mask_areas"]
