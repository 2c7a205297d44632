"""What Detectron2's trackers share: identities, and which lost instances are kept."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from yacs.config import CfgNode

from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.tracking.tracks import Tracks, append_tracks, check_boxes


class BaseTracker(abc.ABC):
    """Gives the detections of a video's frames identities, by the boxes of consecutive frames.

    Classes are not compared: an id may pass from an object of one class to one of another.

    An instance without a match is kept, and so can be matched in the next frame, if its box is
    large enough, it has been found in more than `min_instance_period` frames, and it has been lost
    for fewer than `max_lost_frame_count` frames. Masks and keypoints are kept as they are;
    Detectron2's BBoxIOUTracker takes keypoints modulo 256, and its Hungarian trackers reject them.

    Args:
        video_height: of the video in pixels; 0 for that of its frames.
        video_width: the same.
        max_lost_frame_count: 0 keeps no lost instance.
        min_box_rel_dim: boxes less wide than this fraction of `video_width`, or less high than this
            fraction of `video_height`, are not kept.
        min_instance_period: in frames; it hides nothing, and is about keeping only.
        track_iou_threshold: the least IoU of boxes that are taken for the same object. The
            Hungarian trackers only prefer such pairs.

    Detectron2: `BaseTracker`.
    """

    def __init__(
        self,
        *,
        video_height: int = 0,
        video_width: int = 0,
        max_lost_frame_count: int = 0,
        min_box_rel_dim: float = 0.02,
        min_instance_period: int = 1,
        track_iou_threshold: float = 0.5,
    ):
        self._video_height = video_height
        self._video_width = video_width
        self._max_lost_frame_count = max_lost_frame_count
        self._min_instance_period = min_instance_period
        # Compared in float32, as PyTorch does.
        self._min_box_rel_dim = np.float32(min_box_rel_dim)
        self._track_iou_threshold = np.float32(track_iou_threshold)
        self._previous: Tracks | None = None
        self._id_count = 0

    @classmethod
    def from_config(cls, cfg: CfgNode) -> BaseTracker:
        """The tracker that TRACKER_HEADS describes; as in Detectron2, MAX_NUM_INSTANCES has no
        effect.

        Raises:
            InputError: a value cannot be used.
        """
        heads = cfg.TRACKER_HEADS
        for key in ("VIDEO_HEIGHT", "VIDEO_WIDTH"):
            if heads[key] < 0:
                raise InputError(f"TRACKER_HEADS.{key}: {heads[key]}; give pixels, or 0")
        for key in ("MIN_BOX_REL_DIM", "TRACK_IOU_THRESHOLD"):
            if math.isnan(heads[key]):
                raise InputError(f"TRACKER_HEADS.{key}: {heads[key]}; give a number")
        return cls(
            video_height=heads.VIDEO_HEIGHT,
            video_width=heads.VIDEO_WIDTH,
            max_lost_frame_count=heads.MAX_LOST_FRAME_COUNT,
            min_box_rel_dim=heads.MIN_BOX_REL_DIM,
            min_instance_period=heads.MIN_INSTANCE_PERIOD,
            track_iou_threshold=heads.TRACK_IOU_THRESHOLD,
        )

    @property
    def id_count(self) -> int:
        """How many ids have been given."""
        return self._id_count

    @abc.abstractmethod
    def match(self, boxes: np.ndarray, previous_boxes: np.ndarray) -> list[tuple[int, int]]:
        """Which boxes are of the same object.

        Args:
            boxes: float32 [N, 4] XYXY in pixels, of this frame.
            previous_boxes: float32 [M, 4], of the frame before, lost instances included.

        Returns:
            Pairs of an index into `boxes` and one into `previous_boxes`, each at most once.
        """

    def update(self, detections: Detections) -> Tracks:
        """Identify the next frame's detections.

        Raises:
            InputError: the boxes cannot be tracked (`check_boxes`), or the frame has another size
                than the one before.

        Detectron2: `update` of each tracker.
        """
        check_boxes(detections)
        previous, count = self._previous, len(detections)
        ids, periods = np.zeros(count, np.int64), np.ones(count, np.int64)
        matched, matched_before = set(), set()
        if previous is not None:
            _check_size(detections, previous.detections)
            for index, before in self.match(detections.boxes, previous.detections.boxes):
                ids[index] = previous.ids[before]
                periods[index] = previous.periods[before] + 1
                matched.add(index)
                matched_before.add(before)
        for index in difference(count, matched):
            ids[index] = self._id_count
            self._id_count += 1
        tracks = Tracks(detections, ids, periods, np.zeros(count, np.int64))
        if previous is not None:
            may_be_kept = self._may_be_kept(previous)
            order = self.unmatched(len(previous), matched_before)
            kept = previous.select(np.array([i for i in order if may_be_kept[i]], np.int64))
            lost = dataclasses.replace(kept, lost_frame_counts=kept.lost_frame_counts + 1)
            tracks = append_tracks(tracks, lost)
        self._previous = self._remembered(tracks)
        return tracks

    def unmatched(self, count: int, matched: set[int]) -> Sequence[int]:
        """The instances of the frame before that have no match, in the order in which they are
        kept.

        Args:
            count: of the instances.
            matched: their indices with a match.
        """
        return [index for index in range(count) if index not in matched]

    def _may_be_kept(self, tracks: Tracks) -> np.ndarray:
        """Bool [N]: the instances that are kept if they have no match in the next frame."""
        detections = tracks.detections
        width = self._video_width or detections.width
        height = self._video_height or detections.height
        sizes = detections.boxes[:, 2:] - detections.boxes[:, :2]
        fractions = sizes / np.array([width, height], np.float32)
        return (
            (fractions >= self._min_box_rel_dim).all(axis=1)
            & (tracks.lost_frame_counts < self._max_lost_frame_count)
            & (tracks.periods > self._min_instance_period)
        )

    def _remembered(self, tracks: Tracks) -> Tracks:
        """What the next frame needs of this one: its masks only if some of them may be kept."""
        detections = tracks.detections.replace(sem_seg=None, panoptic=None)
        if not self._may_be_kept(tracks).any():
            detections = detections.replace(masks=None, keypoints=None)
        return dataclasses.replace(tracks, detections=detections)


def difference(count: int, without: set[int]) -> list[int]:
    """range(count) without some, in the order in which Python iterates over the set of the others.

    New ids are given, and lost instances kept, in this order in Detectron2. It is not always
    ascending: in {1, 8}, for example, 8 comes first.
    """
    return list(set(range(count)).difference(without))


def pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of every box with every other, in float32 and in PyTorch's order of operations.

    Args:
        boxes: float32 [N, 4] XYXY.
        others: float32 [M, 4].

    Returns:
        float32 [N, M], exactly 1 for equal boxes and 0 for those without a common area.

    Detectron2: `pairwise_iou`.
    """
    areas = [np.prod(array[:, 2:] - array[:, :2], axis=1) for array in (boxes, others)]
    sides = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(
        boxes[:, None, :2], others[:, :2]
    )
    common = np.prod(np.maximum(sides, 0), axis=2)
    union = areas[0][:, None] + areas[1] - common
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def _check_size(detections: Detections, before: Detections) -> None:
    if (detections.height, detections.width) != (before.height, before.width):
        raise InputError(
            f"a frame has {detections.height} x {detections.width} pixels, the one before "
            f"{before.height} x {before.width}; give the frames of another video to another tracker"
        )
