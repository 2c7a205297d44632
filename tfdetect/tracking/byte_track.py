"""ByteTrack, as supervision's makers have it in their package `trackers`."""

from __future__ import annotations

from typing import Any

import numpy as np
from yacs.config import CfgNode

from tfdetect.data.video import FRAMES_PER_SECOND
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.tracking.registry import TRACKER_HEADS
from tfdetect.tracking.tracks import Tracks, check_boxes


class ByteTrack:
    """Follows detections of high scores first, then those of low ones, with a Kalman filter.

    A detection gets an id once it was found in MINIMUM_CONSECUTIVE_FRAMES frames; before that, and
    where it belongs to no track, `Tracks` does not have it. Lost instances are never among them.

    Args:
        tracker: a `trackers.ByteTrackTracker`, of one video.
    """

    def __init__(self, tracker: Any):
        self._tracker = tracker
        self._frame = 0
        # By id the number of frames that it was found in, and the last of them.
        self._periods: dict[int, tuple[int, int]] = {}

    def update(self, detections: Detections) -> Tracks:
        """Identify the next frame's detections.

        Raises:
            InputError: the boxes cannot be tracked (`check_boxes`).
        """
        import supervision as sv

        check_boxes(detections)
        found = self._tracker.update(
            sv.Detections(
                xyxy=detections.boxes,
                confidence=detections.scores,
                class_id=detections.classes,
                data={"index": np.arange(len(detections))},
            )
        )
        ids = np.asarray(found.tracker_id, np.int64).reshape(-1)
        # An empty result has no data.
        indices = np.asarray(found.data.get("index", []), np.int64).reshape(-1)
        order = np.argsort(indices)
        order = order[ids[order] >= 0]
        tracked = ids[order]
        periods = np.array([self._found(number) for number in tracked.tolist()], np.int64)
        self._frame += 1
        self._forget()
        selected = detections.select(indices[order])
        return Tracks(selected, tracked, periods, np.zeros(len(tracked), np.int64))

    def _found(self, number: int) -> int:
        period = self._periods.get(number, (0, 0))[0] + 1
        self._periods[number] = (period, self._frame)
        return period

    def _forget(self) -> None:
        """Forget the ids that cannot come again."""
        longest = self._tracker.maximum_frames_without_update + 2
        self._periods = {
            number: (period, last)
            for number, (period, last) in self._periods.items()
            if self._frame - last <= longest
        }


@TRACKER_HEADS.register("bytetrack")
def build_byte_track(cfg: CfgNode) -> ByteTrack:
    """ByteTrack with the settings TRACKER_HEADS.BYTETRACK.

    Raises:
        InputError: the package is not installed, or a value cannot be used.
    """
    try:
        from trackers import ByteTrackTracker
    except ImportError as error:
        raise InputError(
            f"TRACKER_HEADS.TRACKER_NAME: bytetrack needs the package trackers ({error}); install "
            "it with pip install 'tfdetect[bytetrack]'"
        ) from error
    settings = {name.lower(): value for name, value in cfg.TRACKER_HEADS.BYTETRACK.items()}
    settings["frame_rate"] = settings["frame_rate"] or FRAMES_PER_SECOND
    try:
        return ByteTrack(ByteTrackTracker(**settings))
    except (TypeError, ValueError) as error:
        raise InputError(f"TRACKER_HEADS.BYTETRACK: {error}; correct it") from error
