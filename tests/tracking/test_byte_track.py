"""The adapter of ByteTrack; tests/cli/test_track.py tries the package, where it is installed."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import supervision as sv

from tfdetect.config import get_cfg
from tfdetect.config.ignored import ignored_in_tracking
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.tracking.registry import build_tracker_head


class Reversed:
    """Gives detections back in the opposite order: the first has no id yet, the others theirs."""

    maximum_frames_without_update = 2

    def __init__(self, **settings):
        if settings["lost_track_buffer"] < 0:
            raise ValueError("lost_track_buffer must not be negative")
        self.settings = settings

    def update(self, detections):
        if len(detections) == 0:
            found = sv.Detections.empty()
            found.tracker_id = np.array([], int)
            return found
        found = detections[np.arange(len(detections))[::-1]]
        found.tracker_id = np.arange(len(detections))[::-1] - 1
        return found


@pytest.fixture
def build(monkeypatch):
    package = types.SimpleNamespace(ByteTrackTracker=Reversed)
    monkeypatch.setitem(sys.modules, "trackers", package)

    def make(**settings):
        cfg = get_cfg()
        cfg.TRACKER_HEADS.TRACKER_NAME = "bytetrack"
        cfg.TRACKER_HEADS.BYTETRACK.update(settings)
        return build_tracker_head(cfg)

    return make


def detections(count):
    boxes = np.arange(4 * count, dtype=np.float32).reshape(count, 4)
    masks = np.arange(count)[:, None, None] == np.arange(3)[None, :, None] * np.ones((1, 1, 4))
    scores = np.linspace(0.9, 0.1, count, dtype=np.float32)
    return Detections(3, 4, boxes, scores, np.arange(count), masks=masks)


def test_the_order_is_that_of_the_frame(build):
    tracker, given = build(), detections(3)
    for period in (1, 2):
        tracks = tracker.update(given)
        assert tracks.ids.tolist() == [0, 1]
        assert tracks.periods.tolist() == [period, period]
        assert tracks.lost_frame_counts.tolist() == [0, 0]
        expected = given.select(np.array([1, 2]))
        for name in ("boxes", "scores", "classes", "masks"):
            np.testing.assert_array_equal(getattr(tracks.detections, name), getattr(expected, name))


def test_ids_that_cannot_come_again_are_forgotten(build):
    tracker = build()
    tracker.update(detections(3))
    for known in (2, 2, 2, 0):
        assert len(tracker.update(detections(0))) == 0
        assert len(tracker._periods) == known
    assert tracker.update(detections(2)).periods.tolist() == [1]


def test_settings(build):
    settings = build(MINIMUM_IOU_THRESHOLD=0.3)._tracker.settings
    assert settings["minimum_iou_threshold"] == 0.3
    assert settings["frame_rate"] == 30
    assert build(FRAME_RATE=12.5)._tracker.settings["frame_rate"] == 12.5
    with pytest.raises(InputError, match=r"^TRACKER_HEADS.BYTETRACK: lost_track_buffer must not"):
        build(LOST_TRACK_BUFFER=-1)


def test_settings_of_another_tracker_have_no_effect():
    cfg = get_cfg()
    cfg.TRACKER_HEADS.MAX_LOST_FRAME_COUNT = 3
    assert ignored_in_tracking(cfg) == []
    cfg.TRACKER_HEADS.BYTETRACK.LOST_TRACK_BUFFER = 3
    (line,) = ignored_in_tracking(cfg)
    assert line.startswith("TRACKER_HEADS.BYTETRACK: has no effect, BBoxIOUTracker")
    cfg.TRACKER_HEADS.TRACKER_NAME = "bytetrack"
    (line,) = ignored_in_tracking(cfg)
    assert line.startswith("TRACKER_HEADS.MAX_LOST_FRAME_COUNT: has no effect, bytetrack")
