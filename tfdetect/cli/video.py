"""Videos as the input of a command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tfdetect.data.video import Frame, Frames
from tfdetect.detections import Detections
from tfdetect.inference.batches import predict_in_batches

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor


def silence_ffmpeg() -> None:
    """Have FFmpeg print nothing about damaged files, unless the environment asks for it; a
    command's own line says what matters. OpenCV looks at this when it opens its first video."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET


def predict_frames(
    predictor: Predictor, frames: Frames, batch_size: int
) -> Iterator[tuple[Frame, Detections]]:
    """Yield each frame with what the model finds in it; `batch_size` of them are in memory."""
    for frame, _, detections in predict_in_batches(
        predictor, ((frame, frame.image) for frame in frames), batch_size=batch_size
    ):
        yield frame, detections


def frame_fields(frame: Frame) -> dict[str, Any]:
    """What --json says of a frame: its number from 0 and, in a video, its time in seconds."""
    fields: dict[str, Any] = {"frame": frame.number}
    if frame.seconds is not None:
        fields["seconds"] = frame.seconds
    return fields


def counted(number: int, noun: str) -> str:
    """Such as "1 frame", "2 frames"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def say_after(frames: Frames) -> bool:
    """Print what is worth a line after the last frame; whether frames are missing at the end."""
    for line in frames.notes():
        print(f"note: {line}", file=sys.stderr)
    missing = frames.incomplete()
    if missing is not None:
        print(f"error: {missing}", file=sys.stderr)
    return missing is not None
