"""Where the numbers and pictures of a training go: metrics.json and TensorBoard."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import tensorflow as tf

from tfdetect.errors import InputError
from tfdetect.files import write_text_atomically

METRICS = "metrics.json"

Summary = tf.compat.v1.Summary

Scalars = Mapping[str, float]


class Writer(Protocol):
    """Takes what training reports (Detectron2: `EventWriter`)."""

    def write(self, iteration: int, scalars: Scalars) -> None:
        """Write numbers by name, of which some may be NaN."""

    def add_image(self, iteration: int, name: str, image: np.ndarray) -> None:
        """Show a picture, uint8 [H, W, 3] BGR; those that cannot show any leave it."""

    def close(self) -> None:
        """Write what is left and close files."""


class JSONWriter:
    """`metrics.json` in OUTPUT_DIR: a JSON object on each line, null for NaN."""

    def __init__(self, folder: Path, start: int):
        """Lines of iterations from `start` on, which are about to be done again, are removed.

        Raises:
            InputError: the file cannot be read or written.
        """
        self._path = folder / METRICS
        _keep_lines_before(self._path, start)

    def write(self, iteration: int, scalars: Scalars) -> None:
        known = {name: None if math.isnan(v) else v for name, v in scalars.items()}
        with naming(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": iteration, **known}) + "\n")

    def add_image(self, iteration: int, name: str, image: np.ndarray) -> None:
        pass

    def close(self) -> None:
        pass


class TensorBoardWriter:
    """TensorBoard's event files in OUTPUT_DIR."""

    def __init__(self, folder: Path):
        """Open the file.

        Raises:
            InputError: the folder cannot be written.
        """
        self._folder = folder
        with naming(folder):
            self._summaries = tf.summary.create_file_writer(str(folder))

    def write(self, iteration: int, scalars: Scalars) -> None:
        known = {name: v for name, v in scalars.items() if not math.isnan(v)}
        self._summarize(iteration, {name: {"simple_value": v} for name, v in known.items()})

    def add_image(self, iteration: int, name: str, image: np.ndarray) -> None:
        height, width, _ = image.shape
        _, encoded = cv2.imencode(".png", image)
        picture = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=encoded.tobytes()
        )
        self._summarize(iteration, {name: {"image": picture}})

    def close(self) -> None:
        with naming(self._folder):
            self._summaries.close()

    def _summarize(self, iteration: int, contents: Mapping[str, Mapping[str, Any]]) -> None:
        # tf.summary.scalar and image need the package tensorboard; these protocol buffers do not.
        values = [Summary.Value(tag=name, **fields) for name, fields in contents.items()]
        content = Summary(value=values).SerializeToString()
        with naming(self._folder), self._summaries.as_default():
            tf.summary.experimental.write_raw_pb(content, step=iteration)
            self._summaries.flush()


def read_metric(folder: Path, start: int, metric: str) -> dict[int, float]:
    """By iteration, in rising order, a metric of the evaluations that metrics.json has.

    NaN where an evaluation of the metric's task has no such number.

    Args:
        folder: OUTPUT_DIR.
        start: the iteration before which lines count.
        metric: such as "bbox/AP".
    """
    found: dict[int, float] = {}
    task = metric.rpartition("/")[0]
    for _, content in _lines_before(folder / METRICS, start):
        if any(name.rpartition("/")[0] == task for name in content):
            with contextlib.suppress(ValueError, TypeError):
                value = content.get(metric)
                found[int(content["iteration"])] = math.nan if value is None else float(value)
    return dict(sorted(found.items()))


def _keep_lines_before(path: Path, start: int) -> None:
    """Drop the lines of iterations that are about to be done again, and one cut off in the middle.

    Raises:
        InputError: the file cannot be read or written.
    """
    if not path.exists():
        return
    kept = [line + "\n" for line, _ in _lines_before(path, start)]
    write_text_atomically(path, "".join(kept))


def _lines_before(path: Path, start: int) -> list[tuple[str, dict[str, Any]]]:
    """The lines of iterations before `start`, each with what it says; none if there is no file.

    Raises:
        InputError: the file cannot be read.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    if not path.exists():
        return found
    with naming(path):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            content = json.loads(line)
            if content["iteration"] < start:
                found.append((line, content))
    return found


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """A full disk, or a folder that cannot be written, as an InputError that names it."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", str(error))
        raise InputError(
            f"{path}: cannot be written ({reason}); make room and continue with --resume"
        ) from error
