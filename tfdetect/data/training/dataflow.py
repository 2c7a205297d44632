"""Batches as a tensorpack dataflow, made by worker processes in a deterministic order.

Batch n depends on the seed, on n and on the files, and on nothing else: each worker makes every
W-th batch, all by itself, and they are taken from the workers in turn.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np

from tfdetect.data.rotated import around_rotated
from tfdetect.data.training.augmentation import draw_transforms
from tfdetect.data.training.batching import Sample, collate, plan_batches
from tfdetect.data.training.mapper import Example, TrainingMapper
from tfdetect.data.training.record import Record, stopping
from tfdetect.data.training.sampler import Sampler, random_state
from tfdetect.data.training.tensorpack_dataflow import DataFlow, ImageAugmentor, MultiProcessRunner
from tfdetect.data.training.transforms import ImageTransform
from tfdetect.errors import InputError

_BATCHES_AHEAD = 2
"""That each worker has ready, at most."""
_JOIN_SECONDS = 5.0
"""In which a process whose pipe has ended is seen to have ended too."""

_REPLACEMENTS = 20
"""How many images in a row may turn out broken before skipping them makes no sense."""


@dataclass(frozen=True, eq=False)
class BatchSource:
    """All that batches are made from.

    Attributes:
        records: the images.
        sampler: which image comes when.
        groups: of each record; a batch has images of one group.
        augmentors: what happens to the images, in order.
        mapper: makes an example of a record.
        batch_size: images of a whole batch.
        seed: what random augmentation depends on, not negative.
        shard: (k, n): only the k-th of n equal parts of every batch is made. Its arrays are
            padded as for the whole batch, so that parts make up what the whole would be.
        skips: whether an image that cannot be used is replaced by another, or is an error.
    """

    records: Sequence[Record]
    sampler: Sampler
    groups: Sequence[int]
    augmentors: Sequence[ImageAugmentor]
    mapper: TrainingMapper
    batch_size: int
    seed: int
    shard: tuple[int, int]
    skips: bool

    def make(self, batch: Sequence[Sample]) -> Batch:
        """Make the arrays of a batch, or of the shard's part.

        Raises:
            InputError: an image cannot be used and is not to be skipped, or all of a long row of
                images cannot be used.
        """
        transforms = [self._draw(sample.record, sample.position) for sample in batch]
        sizes = np.array([found[-1].output_size for found in transforms])
        records = [self.records[sample.record] for sample in batch]
        proposals = max(len(() if r.proposals is None else r.proposals) for r in records)
        part, parts = self.shard
        mine = slice(len(batch) * part // parts, len(batch) * (part + 1) // parts)
        skipped: list[str] = []
        made = [
            self._example(sample, found, skipped)
            for sample, found in zip(batch[mine], transforms[mine], strict=True)
        ]
        arrays = collate(
            [example for example, _ in made],
            [record for _, record in made],
            (sizes[:, 0].max(), sizes[:, 1].max()),
            max(sum(not a.iscrowd for a in record.annotations) for record in records),
            num_proposals=min(proposals, self.mapper.proposal_topk),
            ignore_value=0 if self.mapper.labels is None else self.mapper.labels.ignore_value,
        )
        return Batch(arrays, skipped)

    def _draw(self, record: int, *entropy: int) -> list[ImageTransform]:
        image = self.records[record]
        objects = [a.box for a in image.annotations if not a.iscrowd]
        boxes = np.reshape(objects, (-1, 5 if self.mapper.rotated else 4))
        return draw_transforms(
            self.augmentors,
            (image.height, image.width),
            random_state(self.seed, *entropy),
            around_rotated(boxes) if self.mapper.rotated else boxes,
            None if image.sem_seg is None else partial(self._labels, image),
        )

    def _labels(self, image: Record) -> np.ndarray:
        """The classes of an image's pixels, for augmentors that look at them."""
        labels, size = self.mapper.labels, (image.height, image.width)
        assert labels is not None  # of the model, without which no such augmentor is made
        assert image.sem_seg is not None
        try:
            return labels.read(image.sem_seg, size)
        except InputError:  # the mapper, which reads them too, says so
            return np.full(size, labels.ignore_value, labels.dtype)

    def _example(
        self, sample: Sample, transforms: Sequence[ImageTransform], skipped: list[str]
    ) -> tuple[Example, int]:
        """An example and its record: the sample's, or what replaces it."""
        record = sample.record
        for attempt in range(1, _REPLACEMENTS + 1):
            try:
                return self.mapper(self.records[record], transforms), record
            except InputError as error:
                if not self.skips:
                    raise stopping(error) from error
                skipped.append(str(error))
            group = self.groups[sample.record]
            candidates = np.flatnonzero(np.array(self.groups) == group)
            record = int(random_state(self.seed, sample.position, attempt).choice(candidates))
            transforms = self._draw(record, sample.position, attempt)
        raise InputError(
            f"DATALOADER.ON_ERROR: {_REPLACEMENTS} images in a row cannot be used, the last one "
            f"because of {skipped[-1]}"
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """The arrays of a batch, and why images that should have been in it are not."""

    arrays: dict[str, np.ndarray]
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Failure:
    """The error that ended a worker: for the user if it is an `InputError`, else for the
    developer."""

    message: str
    is_input_error: bool


class BatchFlow(DataFlow):
    """Every `step`-th batch from batch `first` on, without end."""

    def __init__(self, source: BatchSource, first: int, step: int):
        self._source = source
        self._first = first
        self._step = step

    def __iter__(self) -> Iterator[Batch]:
        source = self._source
        plan = plan_batches(source.sampler, source.groups, source.batch_size)
        for number, batch in enumerate(plan):
            if number >= self._first and (number - self._first) % self._step == 0:
                yield source.make(batch)


class _InWorker(DataFlow):
    """A dataflow as a worker process runs it: its errors come as data, and it dies alone."""

    def __init__(self, flow: DataFlow):
        self._flow = flow
        self._parent = os.getpid()

    def reset_state(self) -> None:
        # Ctrl-C goes to all processes of a terminal; the parent ends the workers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # With several workers TensorFlow catches SIGTERM: who inherits that cannot be ended by it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # OpenCV's threads do not survive a fork, and the processes are parallel enough.
        cv2.setNumThreads(0)
        threading.Thread(target=self._end_with_parent, daemon=True).start()
        self._flow.reset_state()

    def _end_with_parent(self) -> None:
        # If the parent ends for any reason, including kill -9, its child gets another parent.
        # (Linux can
        # send a signal, but does so when the parent's thread ends that started the child.)
        while os.getppid() == self._parent:
            time.sleep(0.5)
        os._exit(1)

    def __iter__(self) -> Iterator[Batch | _Failure]:
        try:
            yield from self._flow
        except InputError as error:
            failure = _Failure(str(error), is_input_error=True)
        except Exception:
            failure = _Failure(traceback.format_exc(), is_input_error=False)
        while True:
            yield failure


class _Worker(MultiProcessRunner):
    """tensorpack's runner with one process, which keeps the order of what the process makes."""

    def __init__(self, flow: DataFlow):
        super().__init__(_InWorker(flow), num_prefetch=_BATCHES_AHEAD, num_proc=1)

    def reset_state(self) -> None:
        """Start the process."""
        super().reset_state()
        # Only the process can write now, so that if it is killed while it does, there is an end to
        # read and not the rest of a message to wait for.
        self.queue._writer.close()

    def next(self, stop: threading.Event) -> Batch | None:
        """Wait for the next batch, until `stop` is set; raises what ended the process."""
        while not stop.is_set():
            try:
                found = self.queue.get(timeout=0.2)
            except queue.Empty:
                if not self.procs[0].is_alive():
                    raise self._ended() from None
                continue
            except (EOFError, OSError):
                raise self._ended() from None
            if not isinstance(found, _Failure):
                return found
            if found.is_input_error:
                raise InputError(found.message)
            raise RuntimeError(f"in a worker process:\n{found.message}")
        return None

    def _ended(self) -> InputError:
        self.procs[0].join(_JOIN_SECONDS)
        return InputError(
            "DATALOADER.NUM_WORKERS: a worker process ended with code"
            f" {self.procs[0].exitcode}; if memory ran out, set it to less"
        )

    def close(self) -> None:
        for process in self.procs:
            if process.is_alive():
                process.terminate()
            process.join()
        self.queue.cancel_join_thread()
        self.queue.close()


def run_batches(source: BatchSource, first: int, num_workers: int) -> Generator[Batch, None, None]:
    """Batch `first`, `first` + 1, ..., made ahead of time by worker processes.

    The processes start with the first batch asked for, and end when the iterator is closed or
    garbage, or when this process ends, however it does.

    Args:
        source: what to make them from.
        first: where to begin; 0 for a run from its start.
        num_workers: how many processes; with 0, batches are made here when they are asked for.

    Raises:
        InputError: see `BatchSource.make`; or a worker process was killed.
    """
    if num_workers == 0:
        flow = BatchFlow(source, first, 1)
        flow.reset_state()
        yield from flow
        return
    ahead = _ReadAhead(source, first, num_workers)
    try:
        while True:
            yield ahead.next()
    finally:
        ahead.close()


class _ReadAhead:
    """Takes batches from worker processes in turn, in a thread: reading them takes time, too."""

    def __init__(self, source: BatchSource, first: int, num_workers: int):
        self._workers = []
        for index in range(num_workers):
            # One after the other: a process inherits the pipes of those that are made by then.
            self._workers.append(_Worker(BatchFlow(source, first + index, num_workers)))
            self._workers[-1].reset_state()
        self._ready: queue.Queue[Batch | BaseException] = queue.Queue(_BATCHES_AHEAD)
        self._stop = threading.Event()
        # A daemon, which nothing waits for when the interpreter ends.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def next(self) -> Batch:
        found = self._ready.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for worker in self._workers:
            worker.close()

    def _run(self) -> None:
        try:
            for worker in itertools.cycle(self._workers):
                batch = worker.next(self._stop)
                if batch is None:
                    return
                self._put(batch)
        except BaseException as error:
            self._put(error)

    def _put(self, found: Batch | BaseException) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(found, timeout=0.2)
                return
