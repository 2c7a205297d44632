"""Trackers by the names that a configuration calls them by, which are Detectron2's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from yacs.config import CfgNode

from tfdetect.detections import Detections
from tfdetect.registry import Registry
from tfdetect.tracking.tracks import Tracks


class Tracker(Protocol):
    """What a tracker does: it is given a video's frames one after the other."""

    def update(self, detections: Detections) -> Tracks:
        """The next frame's detections with their identities."""
        ...


TRACKER_HEADS: Registry[Callable[[CfgNode], Tracker]] = Registry(
    "tracker",
    [
        "tfdetect.tracking.bbox_iou_tracker",
        "tfdetect.tracking.hungarian_tracker",
        "tfdetect.tracking.byte_track",
    ],
)
"""Called with (cfg): a `Tracker`."""


def build_tracker_head(cfg: CfgNode) -> Tracker:
    """The tracker that TRACKER_HEADS describes, for one video.

    Raises:
        InputError: there is no such tracker, a value cannot be used, or a package is missing.

    Detectron2: `build_tracker_head`.
    """
    tracker: Tracker = TRACKER_HEADS.build(cfg, "TRACKER_HEADS.TRACKER_NAME")
    return tracker
