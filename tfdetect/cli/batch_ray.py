"""`tfdetect batch --engine ray`: workers on a Ray cluster, fed by Ray Data."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfdetect.batch.parts import missing_ranges, written_ranges
from tfdetect.batch.run_file import model_digest
from tfdetect.batch.source import Block
from tfdetect.cli.imports import import_user_modules
from tfdetect.cli.model import load_predictor
from tfdetect.cli.ray_cluster import Plan, ray_cluster
from tfdetect.errors import InputError

_PATIENCE = 60.0
"""Seconds without a result after a machine was lost until what is missing is planned again."""
_TRIES = 3
"""Plans without any result in a row after which the run ends."""


class Worker:
    """What Ray Data calls, in a process with the model: predicts blocks and writes their parts.

    What goes wrong is in the results and not raised, since Ray would try again.

    Args:
        arguments: of the command, with what `run_on_ray` adds; JSON.
    """

    def __init__(self, arguments: str):
        self._failure = ""
        try:
            self._load(argparse.Namespace(**json.loads(arguments)))
        except InputError as error:
            self._failure = str(error)

    def _load(self, args: argparse.Namespace) -> None:
        if model_digest(args.model) != args.digest:
            raise InputError(f"{args.model}: is another model on the machine {os.uname().nodename}")
        import_user_modules(args.imports)
        predictor = load_predictor(args, args.float32_precision, args.threads)
        from tfdetect.batch.worker import BlockWorker

        self._worker = BlockWorker(predictor, Path(args.output), args.batch_size)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        results: dict[str, list[Any]] = {"images": [], "errors": [], "failure": []}
        for text in batch["block"]:
            block = Block.from_dict(json.loads(str(text)))
            errors = 0
            if not self._failure:
                try:
                    errors = self._worker.run(block)
                except InputError as error:
                    self._failure = str(error)
            results["images"].append(block.stop - block.start)
            results["errors"].append(errors)
            results["failure"].append(self._failure)
        return results


def run_on_ray(
    args: argparse.Namespace,
    float32_precision: str,
    digest: str,
    blocks: Sequence[Block],
    advance: Callable[[int], object],
) -> int:
    """Predict blocks on a Ray cluster.

    When a machine is lost, Ray has another one predict its blocks; if there is none to take its
    worker, what is missing at the end is planned again for those that are left.

    Args:
        args: of the command.
        float32_precision: of `check_configuration`.
        digest: of the model's files, which each worker compares with its own.
        blocks: what to predict.
        advance: is called with the number of images of each block when it is done.

    Returns:
        How many images have an error.

    Raises:
        InputError: there is no such cluster, or a worker cannot work.
    """
    arguments = vars(args) | {
        "model": os.path.abspath(args.model),
        "output": os.path.abspath(args.output),
        "imports": [os.path.abspath(n) if n.endswith(".py") else n for n in args.imports],
        "float32_precision": float32_precision,
        "digest": digest,
    }
    errors = idle = 0
    left = list(blocks)
    while left:
        done, reason = 0, ""
        # Leaving it ends the workers, also those that wait for a machine.
        with _ray_data(args.address):
            plan = Plan.of_cluster("--workers", args.workers, args.device, args.threads)
            for result in _run_plan(plan, arguments, left):
                reason = result["failure"]
                if result["images"] and reason:
                    raise InputError(reason)
                done += bool(result["images"])
                errors += int(result["errors"])
                advance(int(result["images"]))
        left = _unwritten(Path(args.output), left)
        idle = 0 if done else idle + 1
        if left and idle == _TRIES:
            raise InputError(
                f"Ray: no worker predicts the last {len(left)} blocks of images"
                f"{f' ({reason})' if reason else ''}; see ray status and the logs of the cluster"
            )
    return errors


def _unwritten(output: Path, blocks: Sequence[Block]) -> list[Block]:
    written = written_ranges(output)
    return [block for block in blocks if any(missing_ranges(block.start, block.stop, written))]


@contextlib.contextmanager
def _ray_data(address: str | None) -> Iterator[None]:
    """`ray_cluster`, and Ray Data without messages and without limits of time."""
    from ray.data import DataContext

    with ray_cluster(address):
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_options.verbose_progress = False
        # Blocks take as long as they take; a machine that is lost is noticed here.
        context.execution_no_progress_timeout_s = -1
        context.wait_for_min_actors_s = -1
        yield


def _run_plan(
    plan: Plan, arguments: dict[str, Any], blocks: Sequence[Block]
) -> Iterator[dict[str, Any]]:
    """Yield the result of each block; ends early where the rest waits for a machine that is lost,
    or after an error of Ray's, which is a result without images.

    Ray Data runs in a thread of its own, so that this one can look after the machines.
    """
    import ray
    from ray.data import ActorPoolStrategy

    items = [{"block": json.dumps(block.to_dict())} for block in blocks]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        Worker,
        fn_constructor_args=(json.dumps(arguments | {"threads": plan.threads}),),
        batch_size=1,
        compute=ActorPoolStrategy(
            size=min(plan.workers, len(items)), max_tasks_in_flight_per_actor=2
        ),
        **plan.resources,
    )
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def consume() -> None:
        try:
            for row in dataset.iter_rows():
                results.put(row)
            results.put(None)
        except BaseException as error:  # given to the other thread
            results.put(error)

    threading.Thread(target=consume, daemon=True).start()
    machines = _machines()
    slowest, last = 0.0, time.monotonic()
    while True:
        try:
            result = results.get(timeout=1.0)
        except queue.Empty:
            lost = not machines <= _machines()
            if lost and time.monotonic() - last > max(_PATIENCE, 3 * slowest):
                return
            continue
        if result is None:
            return
        if isinstance(result, BaseException):
            if not isinstance(result, ray.exceptions.RayError):
                raise result
            reason = str(result).strip().splitlines()[-1:]
            yield {"images": 0, "errors": 0, "failure": " ".join(reason)[:200]}
            return
        slowest, last = max(slowest, time.monotonic() - last), time.monotonic()
        yield result


def _machines() -> set[str]:
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
