"""Videos written with OpenCV, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import cv2
import numpy as np

from tfdetect.data.video import check_name, silent_opencv
from tfdetect.errors import InputError
from tfdetect.files import NewFile, check_writable_file

CODECS = {
    ".mp4": "mp4v",
    ".m4v": "mp4v",
    ".mov": "mp4v",
    ".mkv": "mp4v",
    ".avi": "MJPG",
}
"""By suffix, of those whose encoders OpenCV's wheel has: MPEG-4 part 2 and Motion JPEG."""

_MOST_SECOND_PARTS = 65535
"""MPEG-4 divides a second into no more parts."""


def check_video_output(path: str | os.PathLike[str]) -> None:
    """Fail early if a video cannot be written.

    Raises:
        InputError: its suffix is not in `CODECS`, OpenCV lacks the encoder, or the file cannot be
            written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in CODECS:
        raise InputError(f"{path}: videos are written as {', '.join(CODECS)}; choose one")
    check_name(path)
    check_writable_file(path)
    with tempfile.TemporaryDirectory() as folder:
        trial = _encoder(Path(folder) / f"trial{suffix}", 30.0, (64, 64))
        opened = trial.isOpened()
        trial.release()
    if not opened:
        raise InputError(
            f"{path}: this OpenCV has no encoder of {CODECS[suffix]}; choose another suffix, or "
            "install opencv-python-headless"
        )


class VideoWriter:
    """A video that grows frame by frame, and appears when it is finished.

    Used in a `with` statement, at whose end an unfinished one is removed (`NewFile`).

    Args:
        path: with a suffix of `CODECS`.
        frames_per_second: of the video, more than 0.
    """

    def __init__(self, path: str | os.PathLike[str], frames_per_second: float):
        self._path = Path(path)
        self._frames_per_second = frames_per_second
        self._file = NewFile(path, self._path.suffix.lower())
        self._encoder: cv2.VideoWriter | None = None
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def __enter__(self) -> VideoWriter:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._encoder is not None:
            self._encoder.release()
        self._file.__exit__(*error)

    def write(self, image: np.ndarray) -> None:
        """Add a frame; one of odd width or height is a pixel larger in the video, because of the
        codecs.

        Args:
            image: uint8 [height, width, 3] BGR.

        Raises:
            InputError: it has another size than the first, or the video cannot be written.
        """
        height, width = image.shape[:2]
        if self._encoder is None:
            size = (width + width % 2, height + height % 2)
            self._encoder = _encoder(self._file.temporary, self._frames_per_second, size)
            self._shape = image.shape
            if not self._encoder.isOpened():
                raise InputError(
                    f"{self._path}: OpenCV cannot write a video of {width} x {height} pixels at "
                    f"{self._frames_per_second:g} frames per second; choose another suffix"
                )
        if image.shape != self._shape:
            raise InputError(
                f"{self._path}: a frame has {width} x {height} pixels, the first "
                f"{self._shape[1]} x {self._shape[0]}; a video has frames of one size"
            )
        even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        self._encoder.write(even)
        self._count += 1

    def finish(self) -> None:
        """Give the video its name.

        Raises:
            InputError: it cannot be written whole.
        """
        if self._encoder is not None:
            self._encoder.release()
            self._check_written()
        self._file.finish()

    def _check_written(self) -> None:
        # OpenCV does not say that a disk is full.
        with silent_opencv():
            written = cv2.VideoCapture(os.path.abspath(self._file.temporary), cv2.CAP_FFMPEG)
            whole = written.isOpened() and written.get(cv2.CAP_PROP_FRAME_COUNT) >= self._count
            written.release()
        if not whole:
            raise InputError(
                f"{self._path}: OpenCV could not write all of it (is the disk full?); choose "
                "another place"
            )


def _encoder(path: Path, frames_per_second: float, size: tuple[int, int]) -> cv2.VideoWriter:
    """OpenCV's writer of a file of one of the suffixes; `size` is (width, height)."""
    code = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    # OpenCV writes three digits after the point.
    if frames_per_second * 1000 > _MOST_SECOND_PARTS:
        frames_per_second = round(frames_per_second, 2)
    with silent_opencv():
        return cv2.VideoWriter(os.path.abspath(path), cv2.CAP_FFMPEG, code, frames_per_second, size)
