"""MOTChallenge's text format."""

from __future__ import annotations

import os

from tfdetect.files import NewFile
from tfdetect.tracking.tracks import Tracks


class MotFile:
    """The found instances of a video's frames as lines of text, as MOTChallenge has results.

    A line is `frame, id, bb_left, bb_top, bb_width, bb_height, conf, x, y, z`: frames and ids count
    from 1 (those of `Tracks` from 0), the box is in pixels, conf is the score, and x, y, z, which
    are for 3D tracking, are -1. Coordinates are the model's, whose top left corner is (0, 0). Lost
    instances have no line.

    Used in a `with` statement: the file appears when it is finished, and an unfinished one is
    removed at the end of the statement.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._file = NewFile(path)

    def __enter__(self) -> MotFile:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def add(self, frame: int, tracks: Tracks) -> None:
        """Add a frame's lines.

        Args:
            frame: its number, from 0.
            tracks: of the frame.

        Raises:
            InputError: the file cannot be written.
        """
        self._file.write("".join(mot_lines(frame, tracks)).encode("ascii"))

    def finish(self) -> None:
        """Give the file its name.

        Raises:
            InputError: it cannot be written.
        """
        self._file.finish()


def mot_lines(frame: int, tracks: Tracks) -> list[str]:
    """The lines of a frame; see `MotFile`."""
    found = tracks.found()
    lines = []
    for number, box, score in zip(
        found.ids.tolist(),
        found.detections.boxes.tolist(),
        found.detections.scores.tolist(),
        strict=True,
    ):
        left, top, right, bottom = box
        sides = f"{left:.3f},{top:.3f},{right - left:.3f},{bottom - top:.3f}"
        lines.append(f"{frame + 1},{number + 1},{sides},{score:.6f},-1,-1,-1\n")
    return lines
