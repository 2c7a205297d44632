"""What training reports: to its writers, to the log, and on a terminal with a bar."""

from __future__ import annotations

import contextlib
import datetime
import logging
import resource
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from tfdetect.errors import InputError
from tfdetect.training.writers import Scalars, Writer, naming

LOG = "log.txt"

_logger = logging.getLogger("tfdetect.train")


class Events:
    """Collects the numbers of each iteration and writes them every SOLVER.LOG_PERIOD iterations.

    Losses and times are then the medians over these iterations, as Detectron2's writers have them;
    the learning rate is the last one.
    """

    def __init__(
        self,
        writers: Sequence[Writer],
        *,
        start: int,
        max_iter: int,
        period: int,
        shows: bool = True,
    ):
        """Show the bar if stderr is a terminal.

        Args:
            writers: that get numbers and pictures; closed with this.
            start: the first iteration of this run; not 0 for one that is resumed.
            max_iter: SOLVER.MAX_ITER.
            period: SOLVER.LOG_PERIOD.
            shows: log and bar; not for one of several workers that is not the first.

        Raises:
            InputError: the period is not positive.
        """
        if period < 1:
            raise InputError(f"SOLVER.LOG_PERIOD: is {period}; give at least 1")
        self._writers = list(writers)
        self._max_iter = max_iter
        self._period = period
        self._shows = shows
        self._values: dict[str, list[float]] = defaultdict(list)
        self._rate = 0.0
        self._step_times: list[float] = []
        self._bar = tqdm(
            total=max_iter,
            initial=start,
            unit="it",
            disable=not (shows and sys.stderr.isatty()),
            desc="Training",
        )

    def add(self, iteration: int, metrics: Scalars) -> None:
        """Record an iteration, and write if it is the last of a period.

        Args:
            iteration: from 0.
            metrics: `total_loss` and the losses by name; `lr`; `time` and `data_time`, the seconds
                of the whole iteration and, of these, waiting for data.
        """
        for name, value in metrics.items():
            if name != "lr":
                self._values[name].append(value)
        self._rate = metrics["lr"]
        self._step_times.append(metrics["time"])
        self._bar.update()
        if (iteration + 1) % self._period == 0 or iteration + 1 == self._max_iter:
            self._write_medians(iteration)

    def flush(self, iteration: int) -> None:
        """Write what was noted since the last line, if anything was."""
        if self._values:
            self._write_medians(iteration)

    def write(self, iteration: int, scalars: Scalars) -> None:
        """Write numbers by name, apart from those of iterations."""
        for writer in self._writers:
            writer.write(iteration, scalars)

    def add_image(self, iteration: int, name: str, image: np.ndarray) -> None:
        """Show a picture, uint8 [H, W, 3] BGR."""
        for writer in self._writers:
            writer.add_image(iteration, name, image)

    def close(self) -> None:
        self._bar.close()
        for writer in self._writers:
            writer.close()

    def _write_medians(self, iteration: int) -> None:
        medians = {name: statistics.median(v) for name, v in self._values.items()}
        if self._shows:
            self._log(iteration, medians)
        line = {**medians, "lr": self._rate, "eta_seconds": self._eta(iteration)}
        self._values.clear()
        self.write(iteration, line)

    def _eta(self, iteration: int) -> float:
        """Estimated seconds left. The first step is ignored because it builds the graph."""
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
        with naming(folder):
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


def _peak_memory() -> float:
    """MiB: of the GPU if there is one, else of this process."""
    if tf.config.list_logical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
