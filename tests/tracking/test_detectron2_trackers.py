"""The three trackers against Detectron2's: every id, period, lost count and cost is equal."""

from __future__ import annotations

import weakref
from types import SimpleNamespace

import numpy as np
import pytest

import tfdetect
from tests.support.recorded_tracks import CONFIGS, SEQUENCES, TRACKERS, replay, tracker_config
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.tracking.base_tracker import difference, pairwise_iou
from tfdetect.tracking.registry import TRACKER_HEADS, build_tracker_head


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_recorded_sequences(sequence, name, config):
    """No tolerance: these are integers, and copies of the input."""
    frames = 0
    for wanted, found in replay(sequence, f"{name}/{config}"):
        assert found == wanted
        frames += 1
    assert frames == (20 if sequence == "masks_48x64" else 40)


def made(boxes, scores=None, shape=(100, 200), **more):
    count = len(boxes)
    return Detections(
        *shape,
        boxes=np.array(boxes, np.float32).reshape(count, 4),
        scores=np.full(count, 0.9, np.float32) if scores is None else np.array(scores, np.float32),
        classes=np.zeros(count, np.int64),
        **more,
    )


LEFT, RIGHT = [10, 10, 40, 60], [120, 20, 160, 70]


@pytest.mark.parametrize("name", TRACKERS)
def test_keypoints_are_kept_as_they_are(name):
    """Detectron2's BBoxIOUTracker has them modulo 256 and whole, and the others reject them."""
    keypoints = np.array([[[300.25, 20.5, 0.5]], [[1.5, 900.75, 0.25]]], np.float32)
    tracker = build_tracker_head(tracker_config(TRACKER_NAME=name, MAX_LOST_FRAME_COUNT=2))
    for _ in range(2):
        tracker.update(made([LEFT, RIGHT], keypoints=keypoints))
    tracks = tracker.update(made([RIGHT], keypoints=keypoints[1:]))
    assert tracks.ids.tolist() == [1, 0]
    assert tracks.lost_frame_counts.tolist() == [0, 1]
    np.testing.assert_array_equal(tracks.detections.keypoints, keypoints[::-1])
    assert tracks.found().ids.tolist() == [1]
    assert repr(tracks).startswith("Tracks(1 found, 1 lost; Detections(2 in 100 x 200")


def test_order_of_new_ids_is_that_of_a_python_set():
    """It is Detectron2's; crowded_720x1280 depends on it."""
    assert difference(4, set()) == [0, 1, 2, 3]
    others = set(range(10)) - {1, 8}
    assert difference(10, others) == list(set(range(10)).difference(others)) == [8, 1]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_iou_equal_to_the_threshold_is_a_match(threshold):
    """In float32, in which the IoU is computed; 0.7 is more than its nearest float32."""
    boxes = np.array([[0, 0, 10, 10]], np.float32)
    others = np.array([[0, 0, 10, 10 * threshold]], np.float32)
    assert pairwise_iou(boxes, others)[0, 0] == np.float32(threshold)
    for name in TRACKERS:
        tracker = build_tracker_head(
            tracker_config(TRACKER_NAME=name, TRACK_IOU_THRESHOLD=threshold)
        )
        tracker.update(made(others))
        assert tracker.update(made(boxes)).ids.tolist() == [0]


def test_iou_of_equal_boxes_is_one_and_of_empty_ones_zero():
    random = np.random.default_rng(0)
    corner = random.uniform(0, 500, [200, 2])
    boxes = np.concatenate([corner, corner + random.uniform(0.1, 300, [200, 2])], 1)
    assert (np.diag(pairwise_iou(*[boxes.astype(np.float32)] * 2)) == 1).all()
    empty = np.array([[5, 5, 5, 5], [7, 7, 3, 3]], np.float32)
    assert not pairwise_iou(empty, empty).any()
    assert pairwise_iou(empty[:0], empty).shape == (0, 2)


@pytest.mark.parametrize("name", TRACKERS)
def test_frames_without_detections(name):
    tracker = build_tracker_head(tracker_config(TRACKER_NAME=name, MAX_LOST_FRAME_COUNT=1))
    assert len(tracker.update(made([]))) == 0
    assert tracker.update(made([LEFT])).ids.tolist() == [0]
    assert tracker.update(made([LEFT])).periods.tolist() == [2]
    assert tracker.update(made([])).lost_frame_counts.tolist() == [1]
    assert len(tracker.update(made([]))) == 0
    assert tracker.update(made([LEFT])).ids.tolist() == [1]


def test_the_video_has_the_size_of_its_frames_unless_it_is_said():
    """A box of 30 x 50 pixels, in a video of 200 x 100 or of 2000 x 1000 pixels."""
    for settings, kept in (({}, 1), ({"VIDEO_WIDTH": 2000, "VIDEO_HEIGHT": 1000}, 0)):
        tracker = build_tracker_head(tracker_config(MAX_LOST_FRAME_COUNT=1, **settings))
        for _ in range(2):
            tracker.update(made([LEFT]))
        assert len(tracker.update(made([]))) == kept


@pytest.mark.parametrize(("lost", "most"), [(0, 0), (3, 1)])
def test_masks_of_earlier_frames_are_not_kept(lost, most):
    """Those of the frame before only if one of its instances may be kept."""
    tracker = build_tracker_head(tracker_config(MAX_LOST_FRAME_COUNT=lost))
    alive: list[weakref.ref] = []
    for _ in range(30):
        detections = made([LEFT, RIGHT], masks=np.zeros((2, 100, 200), bool))
        alive.append(weakref.ref(detections.masks))
        tracker.update(detections)
        del detections
        assert sum(mask() is not None for mask in alive) <= most


def test_what_a_tracker_rejects():
    tracker = build_tracker_head(tracker_config())
    with pytest.raises(InputError, match="boxes: not all are finite"):
        tracker.update(made([[0, 0, np.nan, 1]]))
    rotated = SimpleNamespace(boxes=np.zeros((1, 5), np.float32))
    with pytest.raises(InputError, match="boxes: rotated ones cannot be tracked"):
        tracker.update(rotated)
    tracker.update(made([LEFT]))
    with pytest.raises(InputError, match="50 x 60 pixels, the one before 100 x 200"):
        tracker.update(made([LEFT], shape=(50, 60)))
    tracker = build_tracker_head(tracker_config(MAX_LOST_FRAME_COUNT=1))
    for _ in range(2):
        tracker.update(made([LEFT], masks=np.zeros((1, 100, 200), bool)))
    with pytest.raises(InputError, match="masks: some frames have them"):
        tracker.update(made([]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TRACKER_NAME", "BBoxTracker"),
        ("TRACKER_NAME", ""),
        ("VIDEO_HEIGHT", -1),
        ("MIN_BOX_REL_DIM", float("nan")),
        ("TRACK_IOU_THRESHOLD", float("nan")),
    ],
)
def test_values_that_are_rejected(key, value):
    with pytest.raises(InputError, match=rf"^TRACKER_HEADS.{key}: "):
        build_tracker_head(tracker_config(**{key: value}))


def test_a_tracker_of_the_users_own():
    assert list(TRACKER_HEADS)[:3] == TRACKERS
    assert tfdetect.TRACKER_HEADS is TRACKER_HEADS

    class Nobody:
        """Gives every detection a new id."""

        def update(self, detections):
            count = np.arange(len(detections))
            return tfdetect.Tracks(detections, count, count * 0 + 1, count * 0)

    try:
        TRACKER_HEADS.add("Nobody", lambda cfg: Nobody())
        tracker = tfdetect.build_tracker_head(tracker_config(TRACKER_NAME="Nobody"))
        assert tracker.update(made([LEFT, RIGHT])).ids.tolist() == [0, 1]
    finally:
        del TRACKER_HEADS._entries["Nobody"]
