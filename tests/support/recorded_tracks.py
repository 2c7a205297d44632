"""Detectron2's trackers, as tests/arrays/trackers has them, and ours on the same detections."""

from __future__ import annotations

import functools
import json
import lzma
from collections.abc import Iterator
from typing import Any

import numpy as np
from pycocotools import mask as mask_codec
from yacs.config import CfgNode

from tests.support.paths import DATA
from tfdetect.config import get_cfg
from tfdetect.detections import Detections
from tfdetect.tracking.registry import build_tracker_head

SEQUENCES = ["slow_480x640", "crowded_720x1280", "fast_480x640", "still_480x640", "masks_48x64"]
TRACKERS = [
    "BBoxIOUTracker",
    "VanillaHungarianBBoxIOUTracker",
    "IOUWeightedHungarianBBoxIOUTracker",
]
CONFIGS = ["default", "keep3", "keep5_loose", "strict"]


@functools.cache
def recorded(sequence: str) -> dict[str, Any]:
    """A sequence and what the trackers gave of it."""
    with lzma.open(DATA / "trackers" / f"{sequence}.json.xz", "rt") as file:
        return json.load(file)


def tracker_config(**settings: Any) -> CfgNode:
    """The defaults with other keys of TRACKER_HEADS."""
    cfg = get_cfg()
    for key, value in settings.items():
        cfg.TRACKER_HEADS[key] = value
    return cfg


def replay(sequence: str, output: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Run a tracker again; `output` is TRACKER/CONFIG.

    Yields:
        For each frame what Detectron2 gave and what we give, in the same form.
    """
    given, expected = recorded(sequence)["sequence"], recorded(sequence)["outputs"][output]
    tracker = build_tracker_head(tracker_config(**expected["config"]))
    before = None
    for frame, wanted in zip(given["frames"], expected["frames"], strict=True):
        detections = _detections(frame, given)
        found = {}
        if "cost_matrix" in wanted:
            costs = tracker.cost_matrix(detections.boxes, before.detections.boxes)
            assert costs.dtype == np.int64
            found["cost_matrix"] = costs.tolist()
        tracks = before = tracker.update(detections)
        found |= {
            "ID": tracks.ids.tolist(),
            "ID_period": tracks.periods.tolist(),
            "lost_frame_count": tracks.lost_frame_counts.tolist(),
            "pred_boxes": tracks.detections.boxes.tolist(),
            "scores": tracks.detections.scores.tolist(),
            "pred_classes": tracks.detections.classes.tolist(),
            "id_count": tracker.id_count,
        }
        if given["masks"]:
            found["mask_areas"] = tracks.detections.masks.sum((1, 2)).tolist()
        yield wanted, found


def _detections(frame: dict[str, Any], sequence: dict[str, Any]) -> Detections:
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
