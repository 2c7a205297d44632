"""What a training says of itself: metrics.json, TensorBoard, the log, a bar on a terminal."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import math
import resource
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from tfdetect.errors import InputError
from tfdetect.files import write_text_atomically

METRICS = "metrics.json"
LOG = "log.txt"

Summary = tf.compat.v1.Summary

_logger = logging.getLogger("tfdetect.train")

Scalars = Mapping[str, float]


class Events:
    """Collects the numbers of each iteration and writes them every SOLVER.LOG_PERIOD iterations.

    Losses and times are then the medians over these iterations, as Detectron2's writers have them;
    the learning rate is the last one. In OUTPUT_DIR: `metrics.json` with a JSON object on each
    line, and TensorBoard's event files.
    """

    def __init__(self, folder: Path, *, start: int, max_iter: int, period: int):
        """Open the files. Lines of metrics.json from iteration `start` on are removed.

        Args:
            folder: OUTPUT_DIR.
            start: the first iteration of this run; not 0 for one that is resumed.
            max_iter: SOLVER.MAX_ITER.
            period: SOLVER.LOG_PERIOD.

        Raises:
            InputError: the folder cannot be written, or the period is not positive.
        """
        if period < 1:
            raise InputError(f"SOLVER.LOG_PERIOD: is {period}; give at least 1")
        self._path = folder / METRICS
        self._max_iter = max_iter
        self._period = period
        self._values: dict[str, list[float]] = defaultdict(list)
        self._rate = 0.0
        self._step_times: list[float] = []
        _keep_lines_before(self._path, start)
        with _named(folder):
            self._summaries = tf.summary.create_file_writer(str(folder))
        self._bar = tqdm(
            total=max_iter,
            initial=start,
            unit="it",
            disable=not sys.stderr.isatty(),
            desc="Training",
        )

    def add(
        self, iteration: int, losses: Scalars, *, rate: float, seconds: float, data_seconds: float
    ) -> None:
        """Take note of an iteration, and write if it is the last of a period.

        Args:
            iteration: from 0.
            losses: by name.
            rate: the learning rate.
            seconds: of the whole iteration.
            data_seconds: of these, waiting for data.
        """
        times = {"time": seconds, "data_time": data_seconds}
        numbers = {"total_loss": sum(losses.values()), **losses, **times}
        for name, value in numbers.items():
            self._values[name].append(value)
        self._rate = rate
        self._step_times.append(seconds)
        self._bar.update()
        if (iteration + 1) % self._period == 0 or iteration + 1 == self._max_iter:
            self.write(iteration)

    def write(self, iteration: int, more: Scalars | None = None) -> None:
        """Write a line: of the iterations noted since the last, or of `more` alone."""
        if more is None:
            medians = {name: statistics.median(v) for name, v in self._values.items()}
            self._log(iteration, medians)
            line = {**medians, "lr": self._rate, "eta_seconds": self._eta(iteration)}
            self._values.clear()
        else:
            line = dict(more)
        known = {name: None if math.isnan(value) else value for name, value in line.items()}
        with _named(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": iteration, **known}) + "\n")
        self._summarize(
            iteration,
            {name: {"simple_value": v} for name, v in known.items() if v is not None},
        )

    def add_image(self, iteration: int, name: str, image: np.ndarray) -> None:
        """Show a picture, uint8 [H, W, 3] BGR, in TensorBoard."""
        height, width, _ = image.shape
        _, encoded = cv2.imencode(".png", image)
        picture = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=encoded.tobytes()
        )
        self._summarize(iteration, {name: {"image": picture}})

    def _summarize(self, iteration: int, contents: Mapping[str, Mapping[str, Any]]) -> None:
        # tf.summary.scalar and image need the package tensorboard; these protocol buffers do not.
        values = [Summary.Value(tag=name, **fields) for name, fields in contents.items()]
        content = Summary(value=values).SerializeToString()
        with _named(self._path.parent), self._summaries.as_default():
            tf.summary.experimental.write_raw_pb(content, step=iteration)
            self._summaries.flush()

    def close(self) -> None:
        self._bar.close()
        with _named(self._path.parent):
            self._summaries.close()

    def _eta(self, iteration: int) -> float:
        """Seconds to go. The first step, which builds the graph, says nothing of the others."""
        times = self._step_times[1:][-1000:] or self._step_times
        return statistics.median(times) * (self._max_iter - 1 - iteration)

    def _log(self, iteration: int, medians: Scalars) -> None:
        eta = datetime.timedelta(seconds=int(self._eta(iteration)))
        losses = "  ".join(
            f"{name}: {value:.4g}" for name, value in medians.items() if "loss" in name
        )
        times = "  ".join(f"{name}: {medians[name]:.4f}" for name in ("time", "data_time"))
        _logger.info(
            "eta: %s  iter: %d  %s  %s  lr: %.5g  max_mem: %.0fM",
            *(eta, iteration, losses, times, self._rate, _peak_memory()),
        )


@contextlib.contextmanager
def logging_to(folder: Path | None) -> Iterator[None]:
    """Send the log to stderr, above the bar if there is one, and to `log.txt` in a folder."""
    logger = logging.getLogger("tfdetect")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if folder is not None:
        with _named(folder):
            folder.mkdir(parents=True, exist_ok=True)
            handlers.append(logging.FileHandler(folder / LOG, encoding="utf-8"))
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in handlers:
        handler.setFormatter(logging.Formatter("[%(asctime)s] %(message)s", "%m/%d %H:%M:%S"))
        logger.addHandler(handler)
    try:
        with logging_redirect_tqdm([logger]) if sys.stderr.isatty() else contextlib.nullcontext():
            yield
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def _keep_lines_before(path: Path, start: int) -> None:
    """Drop the lines of iterations that are about to be done again, and one cut off in the middle.

    Raises:
        InputError: the file cannot be read or written.
    """
    if not path.exists():
        return
    kept = []
    with _named(path):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                if json.loads(line)["iteration"] < start:
                    kept.append(line + "\n")
    write_text_atomically(path, "".join(kept))


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """A full disk, or a folder that cannot be written, as an InputError that names it."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", str(error))
        raise InputError(
            f"{path}: cannot be written ({reason}); make room and go on with --resume"
        ) from error


def _peak_memory() -> float:
    """MiB: of the GPU if there is one, else of this process."""
    if tf.config.list_logical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
