"""What a tracker gives for a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.rle_masks import concatenate


@dataclass(frozen=True, eq=False, repr=False)
class Tracks:
    """The N instances of one frame of a video, with their identities.

    Detectron2: the `Instances` that a tracker's `update` returns, with its fields ID, ID_period and
    lost_frame_count.

    Attributes:
        detections: those of the frame in their order, then the lost instances of earlier frames
            that are kept, as they were last seen.
        ids: int64 [N], from 0, all different; an object keeps its id from frame to frame.
        periods: int64 [N], the number of frames in which the instance was found.
        lost_frame_counts: int64 [N], the number of frames since it was last found; 0 for the
            detections of this frame.
    """

    detections: Detections
    ids: np.ndarray
    periods: np.ndarray
    lost_frame_counts: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        lost = int(np.count_nonzero(self.lost_frame_counts))
        return f"Tracks({len(self) - lost} found, {lost} lost; {self.detections!r})"

    def select(self, keep: np.ndarray) -> Tracks:
        """The instances that `keep` names, in its order.

        Args:
            keep: bool [N], or int [M] of indices.
        """
        return Tracks(
            self.detections.select(keep),
            self.ids[keep],
            self.periods[keep],
            self.lost_frame_counts[keep],
        )

    def found(self) -> Tracks:
        """The instances of this frame, without the lost ones of earlier frames."""
        return self.select(self.lost_frame_counts == 0)


def check_boxes(detections: Detections) -> None:
    """Reject boxes that cannot be tracked.

    Raises:
        InputError: they are rotated, or not finite.
    """
    if detections.boxes.shape[1] != 4:
        raise InputError("boxes: rotated ones cannot be tracked; use a model of upright boxes")
    if not np.isfinite(detections.boxes).all():
        raise InputError("boxes: not all are finite; give a tracker finite boxes")


def append_tracks(first: Tracks, second: Tracks) -> Tracks:
    """The instances of both; `first` as it is if `second` has none.

    Raises:
        InputError: only one of them has masks, or keypoints.
    """
    if len(second) == 0:
        return first
    fields: dict[str, Any] = {}
    for name in ("boxes", "scores", "classes", "rle_masks", "keypoints"):
        one, other = [getattr(tracks.detections, name) for tracks in (first, second)]
        short = name.removeprefix("rle_")
        if one is None and other is None:
            continue
        if one is None or other is None:
            raise InputError(f"{short}: some frames have them and others do not; give all or none")
        join = concatenate if name == "rle_masks" else np.concatenate
        fields[short] = join([one, other])
    return Tracks(
        first.detections.replace(**fields),
        np.concatenate([first.ids, second.ids]),
        np.concatenate([first.periods, second.periods]),
        np.concatenate([first.lost_frame_counts, second.lost_frame_counts]),
    )
