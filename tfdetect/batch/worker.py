"""Predicts a block of images and writes its part."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdetect.batch.parts import error_row, schema_of, to_row, write_part
from tfdetect.batch.source import Block, GivenImage
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.inference.batches import predict_each
from tfdetect.interrupts import hold_interrupts

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor

_FATAL_DEATHS = 2


class BlockWorker:
    """Predicts blocks of images, and writes a part for each.

    An image that cannot be read or predicted gets a row with an error. So does one whose
    prediction ended the process, such as by the system's out-of-memory killer, when it has done so
    twice alone: which images are being predicted stands in a small hidden file beside the parts.

    Args:
        predictor: the model.
        output: the folder of the parts.
        batch_size: images that go through the network together.
    """

    def __init__(self, predictor: Predictor, output: Path, batch_size: int):
        self._predictor = predictor
        self._output = output
        self._batch_size = batch_size
        self._schema = schema_of(predictor)

    def run(self, block: Block, done: Callable[[], object] = lambda: None) -> int:
        """Predict a block. After an interrupt the part has the images until then.

        Args:
            block: the images.
            done: is called after each of them.

        Returns:
            How many rows have an error.

        Raises:
            InputError: the part cannot be written.
        """
        rows: list[dict[str, Any]] = []
        journal = _Journal(self._output, block)
        try:
            try:
                for row in self._rows(block, journal):
                    rows.append(row)
                    done()
            except KeyboardInterrupt:
                if rows:
                    self._write(block.start, rows)
                raise
            self._write(block.start, rows)
        finally:
            journal.remove()
        return sum("error" in row for row in rows)

    def _write(self, start: int, rows: list[dict[str, Any]]) -> None:
        with hold_interrupts():
            write_part(self._output, self._schema, start, rows)

    def _rows(self, block: Block, journal: _Journal) -> Iterator[dict[str, Any]]:
        """The rows of a block in order."""
        ahead = 0 if journal.deaths else 2 * self._batch_size
        rest = _read_ahead(enumerate(block.images(), block.start), ahead)
        index = block.start
        with contextlib.closing(rest):
            while True:
                size = 1 if journal.is_suspect(index) else self._batch_size
                batch = list(itertools.islice(rest, size))
                if not batch:
                    return
                yield from self._predict(batch, journal)
                index += len(batch)

    def _predict(self, batch: list[_Read], journal: _Journal) -> Iterator[dict[str, Any]]:
        found: dict[int, Detections | str] = {}
        readable: dict[int, np.ndarray] = {}
        for index, _, image in batch:
            if isinstance(image, str):
                found[index] = image
            elif journal.deaths.get(index, 0) >= _FATAL_DEATHS:
                found[index] = (
                    f"the process that predicted this image ended {journal.deaths[index]} times "
                    "(out of memory?); predict it alone, on a machine with more memory"
                )
            else:
                readable[index] = image
        if readable:
            journal.begin(batch[0][0], len(batch))
            results = predict_each(self._predictor, list(readable.values()))
            found |= {
                index: f"{type(one).__name__}: {one}" if isinstance(one, Exception) else one
                for index, one in zip(readable, results, strict=True)
            }
        for index, name, _ in batch:
            result = found[index]
            if isinstance(result, str):
                yield error_row(index, name, result)
            else:
                yield to_row(index, name, result)


class _Journal:
    """What is being predicted of a block, in a file that a process that is killed leaves behind.

    Attributes:
        deaths: how many processes ended while they predicted the image of an index, alone.
    """

    def __init__(self, output: Path, block: Block):
        self._path = output / f".running-{block.start:010}-{block.stop:010}.json"
        self.deaths: dict[int, int] = {}
        self._suspects: set[int] = set()
        try:
            before = json.loads(self._path.read_bytes())
            start, count = before["begun"]
            self.deaths = {int(index): number for index, number in before["deaths"].items()}
            self._suspects = set(self.deaths) | set(range(start, start + count))
            self.deaths[start] = self.deaths.get(start, 0) + (count == 1)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # there is none, or the process was killed while it wrote it

    def is_suspect(self, index: int) -> bool:
        """Whether a process ended while it predicted this image, alone or with others."""
        return index in self._suspects

    def begin(self, start: int, count: int) -> None:
        """Say what is predicted next. A folder that cannot be written is said by the part."""
        with contextlib.suppress(OSError):
            content = {"begun": [start, count], "deaths": self.deaths}
            self._path.write_text(json.dumps(content))

    def remove(self) -> None:
        """The block is done."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


_Read = tuple[int, str, "np.ndarray | str"]
"""Index and name of an image, and its pixels or why there are none."""


def _read_ahead(
    images: Iterable[tuple[int, GivenImage]], ahead: int
) -> Generator[_Read, None, None]:
    """Read images in a thread, at most `ahead` before they are asked for."""
    rest = iter(images)
    waiting: deque[Future[_Read]] = deque()
    with ThreadPoolExecutor(1) as reader:
        try:
            while True:
                for index, image in itertools.islice(rest, ahead + 1 - len(waiting)):
                    waiting.append(reader.submit(_read, index, image))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _read(index: int, image: GivenImage) -> _Read:
    try:
        return index, image.name, image.read()
    except InputError as error:
        return index, image.name, str(error)
    except MemoryError:
        return index, image.name, f"{image.name}: too large for this machine's memory"
