"""Profiles inference: a trace from TensorFlow's profiler, and a table of scopes."""

from __future__ import annotations

import os
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from tfdetect.errors import InputError
from tfdetect.layers.profile_scope import PROFILE_SCOPES

OTHER = "(between operations)"
"""The scope of time not covered by any operation in a scope or by a `python_scope`."""
_BATCH = "tfdetect batch"
_PYTHON = "tfdetect python "
# An operation's event: the name of its node, and its type.
_OPERATION = re.compile(r"([^:\s]+):\w+")


class _Interval(NamedTuple):
    """In nanoseconds; where two of a line overlap, the later one is within the other."""

    start: float
    end: float
    scope: str


class _Trace(NamedTuple):
    batches: list[_Interval]
    python: list[_Interval]
    operations: list[list[_Interval]]
    """Of each thread."""


@contextmanager
def python_scope(name: str) -> Iterator[None]:
    """A context for work outside TensorFlow, which the profile attributes to the scope `name`."""
    with tf.profiler.experimental.Trace(_PYTHON + name):
        yield


def profile(folder: Path, run: Callable[[int], None], count: int) -> dict[str, list[float]]:
    """Run something several times under TensorFlow's profiler.

    Args:
        folder: the trace goes below it, to plugins/profile, where TensorBoard looks for it.
        run: called with 0, 1, .. `count` - 1; it should have run before, so that nothing is traced
            or compiled any more.
        count: how many times.

    Returns:
        Milliseconds of each call by scope, ordered by the midpoint of their time. The scopes of a
        call add up to its duration: while operations run concurrently on several threads, each gets
        an equal share of the time.

    Raises:
        InputError: the trace cannot be written, or another profiler is running.
    """
    before = set(_trace_files(folder))
    options = tf.profiler.experimental.ProfilerOptions(
        host_tracer_level=3,  # all operations, not the expensive ones alone
        python_tracer_level=0,
        device_tracer_level=1,
    )
    try:
        tf.profiler.experimental.start(os.fsencode(folder), options)
        try:
            for index in range(count):
                with tf.profiler.experimental.Trace(_BATCH, step_num=index, _r=1):
                    run(index)
        finally:
            tf.profiler.experimental.stop()
    except tf.errors.OpError as error:
        raise InputError(f"--profile {folder}: {error.message}; choose another folder") from error
    written = sorted(set(_trace_files(folder)) - before)
    if not written:
        raise InputError(f"--profile {folder}: no trace was written; choose another folder")
    return _times(_read(written[-1]))


def format_table(times: dict[str, list[float]], images: int) -> str:
    """The table of stages that `tfdetect predict --profile` prints.

    Args:
        times: of `profile`.
        images: in a batch.
    """
    medians = {name: statistics.median(values) for name, values in times.items()}
    total = sum(medians.values())
    wall = [sum(values) for values in zip(*times.values(), strict=True)]
    width = max(map(len, medians))
    lines = [f"{'scope':{width}}  {'ms':>9}  share"]
    lines += [f"{name:{width}}  {ms:9.2f}  {ms / total:5.1%}" for name, ms in medians.items()]
    batch = "an image" if images == 1 else f"a batch of {images}"
    lines.append(
        f"{batch}: {statistics.median(wall):.2f} ms, median of {len(wall)} "
        f"({min(wall):.2f} to {max(wall):.2f})"
    )
    return "\n".join(lines)


def _trace_files(folder: Path) -> list[Path]:
    return list(folder.glob("plugins/profile/*/*.xplane.pb"))


def _read(path: Path) -> _Trace:
    # TensorFlow ships the format of its traces here; the version is pinned.
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(path.read_bytes())
    trace = _Trace([], [], [])
    for plane in space.planes:
        if not plane.name.startswith("/host:CPU"):
            continue
        names = {key: metadata.name for key, metadata in plane.event_metadata.items()}
        for line in plane.lines:
            operations = []
            for event in line.events:
                name = names[event.metadata_id]
                start = line.timestamp_ns + event.offset_ps / 1000
                interval = _Interval(start, start + event.duration_ps / 1000, "")
                if name == _BATCH:
                    trace.batches.append(interval)
                elif name.startswith(_PYTHON):
                    trace.python.append(interval._replace(scope=name[len(_PYTHON) :]))
                elif (matched := _OPERATION.fullmatch(name)) and (path_ := stage_of(matched[1])):
                    operations.append(interval._replace(scope=path_))
            trace.operations.append(operations)
    return trace


def stage_of(name: str) -> str:
    """The scope of the node with this name, such as "mask_head/pooler"; "" if it has none."""
    found: list[str] = []
    for part in name.split("/"):
        part = re.sub(r"_\d+$", "", part)  # of the second scope of a name
        # The nodes of a function that was inlined begin with the name of its call.
        if part in PROFILE_SCOPES and part not in found:
            found.append(part)
    return "/".join(found)


def _times(trace: _Trace) -> dict[str, list[float]]:
    disjoint = [piece for line in trace.operations for piece in _innermost(line)]
    batches = sorted(trace.batches)
    times: dict[str, list[float]] = {}
    middles: dict[str, list[float]] = {}
    for index, batch in enumerate(batches):
        moments: dict[str, float] = {}
        for piece in _share_out(batch, disjoint, trace.python):
            values = times.setdefault(piece.scope, [0.0] * len(batches))
            values[index] += piece.duration / 1e6
            moment = piece.duration / 1e6 * (piece.start - batch.start)
            moments[piece.scope] = moments.get(piece.scope, 0.0) + moment
        for name, moment in moments.items():
            middles.setdefault(name, []).append(moment / times[name][index])

    def place(name: str) -> tuple[bool, float]:
        return name == OTHER, statistics.median(middles[name])

    return {name: times[name] for name in sorted(times, key=place)}


def _innermost(intervals: Sequence[_Interval]) -> list[_Interval]:
    """Makes nested intervals disjoint: time in an inner interval is not counted in the outer
    one."""
    result: list[_Interval] = []
    stack: list[_Interval] = []
    position = 0.0

    def advance(to: float) -> None:
        nonlocal position
        if stack and to > position:
            result.append(_Interval(position, to, stack[-1].scope))
        position = max(position, to)

    for interval in sorted(intervals, key=lambda i: (i.start, -i.end)):
        while stack and stack[-1].end <= interval.start:
            advance(stack[-1].end)
            stack.pop()
        advance(interval.start)
        stack.append(interval)
    while stack:
        advance(stack[-1].end)
        stack.pop()
    return result


class _Share(NamedTuple):
    start: float
    duration: float
    scope: str


def _share_out(
    batch: _Interval, operations: Sequence[_Interval], python: Sequence[_Interval]
) -> Iterator[_Share]:
    """The time of `batch` in pieces, each divided among the operations that run in it.

    If none runs, the time goes to the Python scope.
    """
    changes: list[tuple[float, int, int, str]] = []
    for kind, intervals in enumerate((operations, python)):
        for interval in intervals:
            start, end = max(interval.start, batch.start), min(interval.end, batch.end)
            if start < end:
                changes += [(start, 1, kind, interval.scope), (end, -1, kind, interval.scope)]
    changes.append((batch.end, 0, 0, ""))
    active: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    position = batch.start
    for time, change, kind, name in sorted(changes):
        running = +active[0] or +active[1] or Counter([OTHER])
        if time > position:
            for scope, number in running.items():
                yield _Share(position, (time - position) * number / running.total(), scope)
            position = time
        active[kind][name] += change
