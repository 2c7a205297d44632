"""Frames of videos, and of folders of images that are frames."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from tfdetect.data.images import find_images, read_image
from tfdetect.errors import InputError

# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
))
# fmt: on
"""Suffixes that count as videos in a folder; a file given by name may have any suffix."""

FRAMES_PER_SECOND = 30.0
"""Of folders, and of videos that do not say it."""

_MOST_FRAMES_PER_SECOND = 1000.0
"""A video that says more does not know: recorders write their clock's rate."""

_UNEVEN = 1.5
"""Frames at a constant rate are less than this many times as far apart as the average; containers
round times to milliseconds."""

_COUNTING = frozenset((".3gp", ".avi", ".m4v", ".mov", ".mp4"))
"""Suffixes of containers that say how many frames there are."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        file_name: of the video, or of the frame's image.
        number: from 0. Images that cannot be read have one, too.
        seconds: when the frame is shown, from the beginning of the video; None for an image.
        image: uint8 [height, width, 3] BGR.
    """

    file_name: str
    number: int
    seconds: float | None
    image: np.ndarray


class Frames(Protocol):
    """The frames of a video or folder, which can be iterated over once.

    Attributes:
        path: of the video or folder.
        count: the number of frames, as far as it is known before they are read; else None.
        frames_per_second: of the video.
    """

    path: Path
    count: int | None
    frames_per_second: float

    def __iter__(self) -> Iterator[Frame]: ...

    def notes(self) -> list[str]:
        """What is worth a line, after the last frame."""
        ...

    def incomplete(self) -> str | None:
        """What to say, after the last frame, if frames are missing at the end."""
        ...


class VideoFrames:
    """The frames of a video, read one after the other.

    The first one is read at once, so that a file that cannot be read is reported at the start.
    OpenCV scales later frames to the size of the first, if theirs differs.

    Args:
        path: a video file that OpenCV's FFmpeg can decode.

    Attributes:
        as of `Frames`.

    Raises:
        InputError: it is not a file, or no frame can be decoded.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._capture = _open(self.path)
        with silent_opencv():
            readable, self._first = self._capture.read()
        if not readable or self._first is None:
            raise InputError(
                f"{path}: no frame can be decoded (not a video, empty, damaged, or in a codec that "
                "OpenCV lacks); convert it with ffmpeg, or give a folder of images"
            )
        declared = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(declared) if 0 < declared < math.inf else None
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self._knows_rate = 0 < rate <= _MOST_FRAMES_PER_SECOND
        self.frames_per_second = rate if self._knows_rate else FRAMES_PER_SECOND
        self._read = 0
        self._longest = 0.0
        self._last = 0.0

    def __iter__(self) -> Iterator[Frame]:
        image: np.ndarray | None = self._first
        del self._first
        # That of the first frame is not 0 in every container.
        start = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        while image is not None:
            seconds = (self._capture.get(cv2.CAP_PROP_POS_MSEC) - start) / 1000
            if self._read:
                self._longest = max(self._longest, seconds - self._last)
            frame = Frame(self.path.name, self._read, seconds, image)
            self._read += 1
            self._last = seconds
            yield frame
            with silent_opencv():
                readable, image = self._capture.read()
            image = image if readable else None
        self.close()

    def close(self) -> None:
        """Stop reading."""
        self._capture.release()

    def incomplete(self) -> str | None:
        """See `Frames.incomplete`."""
        if self._read >= (self.count or 0):
            return None
        end = (self.count or 0) / self.frames_per_second
        # Containers that do not count frames have their number estimated from a duration, which
        # may be that of the sound.
        counted = self.path.suffix.lower() in _COUNTING
        tolerance = 0.5 / self.frames_per_second if counted else 0.1 + 0.01 * end
        if end - self._last - self._longest <= tolerance:
            return None
        return (
            f"{self.path}: {self._read} frames can be read, {self._last:.2f} of {end:.2f} seconds; "
            "the file is truncated or damaged, and the results are of these frames"
        )

    def notes(self) -> list[str]:
        """See `Frames.notes`."""
        if not self._knows_rate:
            return [f"{self.path}: does not say its frames per second; {FRAMES_PER_SECOND:g} taken"]
        if self._longest * self.frames_per_second > _UNEVEN:
            return [
                f"{self.path}: its frames are up to {self._longest:.3f} seconds apart; a video of "
                f"the results has them at {self.frames_per_second:.4g} per second"
            ]
        return []


class FolderFrames:
    """Images of a folder as the frames of a video, in the order of their names.

    Numbers in names are compared as numbers: 2.jpg comes before 10.jpg.

    Args:
        folder: what `find_images` makes of a folder.
        skip: gets the error of an image that cannot be read; it may raise it.

    Attributes:
        as of `Frames`.

    Raises:
        InputError: there are no images in the folder.
    """

    def __init__(self, folder: str | os.PathLike[str], skip: Callable[[InputError], None]):
        self.path = Path(folder)
        self._files = sorted(find_images([os.fspath(folder)]), key=_in_order)
        self._skip = skip
        self.count: int | None = len(self._files)
        self.frames_per_second = FRAMES_PER_SECOND

    def __iter__(self) -> Iterator[Frame]:
        for number, path in enumerate(self._files):
            try:
                image = read_image(path)
            except InputError as error:
                self._skip(error)
                continue
            yield Frame(path.name, number, None, image)

    def notes(self) -> list[str]:
        """See `Frames.notes`."""
        return []

    def incomplete(self) -> str | None:
        """See `Frames.incomplete`."""
        return None


@contextlib.contextmanager
def silent_opencv() -> Iterator[None]:
    """OpenCV prints nothing about damaged files within this."""
    verbosity = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(verbosity)


def check_name(path: str | os.PathLike[str]) -> None:
    """Raise InputError if a name is not UTF-8, with which OpenCV crashes the process."""
    try:
        os.path.abspath(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path}: OpenCV opens videos only by names in UTF-8; rename it"
        ) from error


def is_video(path: Path) -> bool:
    """Whether a file is a video by its suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def _open(path: Path) -> cv2.VideoCapture:
    check_name(path)
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file or folder, check the name")
    if not os.path.isfile(path):
        raise InputError(f"{path}: not a regular file; give a video")
    try:
        open(path, "rb").close()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    with silent_opencv():
        # An absolute path is not taken for an address. Only FFmpeg: another of OpenCV's readers
        # takes x1.jpg for the first of a sequence.
        return cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)


def _in_order(path: Path) -> list[tuple[int, str]]:
    """A key that sorts 2 before 10."""
    parts = re.split(r"([0-9]+)", path.name)
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)]
