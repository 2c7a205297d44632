"""`tfdetect batch --engine ray`: workers on a Ray cluster, fed by Ray Data."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import queue
import signal
import socket
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
from tfdetect.errors import InputError

_PATIENCE = 60.0
"""Seconds without a result after a machine was lost until what is missing is planned again."""
_ANSWER = 10.0
"""Seconds in which a cluster has to answer."""
_TRIES = 3
"""Plans without any result in a row after which the run ends."""


def require_ray() -> None:
    """Fail early where Ray is not installed.

    Raises:
        InputError: it is not.
    """
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--engine ray: needs Ray ({error}); install it with pip install 'tfdetect[ray]'"
        ) from error


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
        with _ray(args.address):
            for result in _run_plan(_Plan.of_cluster(args), arguments, left):
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


class _Plan:
    """How many workers there are, and what Ray reserves for each.

    Attributes:
        workers: how many.
        resources: of each, as Ray's arguments.
        threads: of each, on the CPU.
    """

    def __init__(self, workers: int, resources: dict[str, Any], threads: int | None):
        self.workers = workers
        self.resources = resources
        self.threads = threads

    @staticmethod
    def of_cluster(args: argparse.Namespace) -> _Plan:
        """For the machines that there are now.

        Raises:
            InputError: the cluster cannot do what is asked for.
        """
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cores = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        on_gpu = gpus > 0 and (args.device is None or args.device.startswith("gpu"))
        if args.device is not None and args.device.startswith("gpu") and not gpus:
            raise InputError("--device gpu: the Ray cluster has no GPU; leave it out")
        if not cores:
            raise InputError("Ray: the cluster has no CPU to work with; see ray status")
        if on_gpu:
            return _Plan(min(args.workers or gpus, gpus), {"num_cpus": 1, "num_gpus": 1}, None)
        workers = args.workers or len(cores)
        if workers > sum(cores):
            raise InputError(
                f"--workers {workers}: the Ray cluster has {sum(cores)} cores; give at most that"
            )
        # The same for each: as many workers as there are must fit the machines.
        each = max(n for n in range(1, min(cores) + 1) if n == 1 or _fit(cores, n) >= workers)
        return _Plan(workers, {"num_cpus": each}, args.threads or each)


def _fit(cores: Sequence[int], each: int) -> int:
    """How many workers of `each` cores fit machines of `cores`."""
    return sum(count // each for count in cores)


@contextlib.contextmanager
def _ray(address: str | None) -> Iterator[None]:
    """A connection to a cluster, or a cluster of this machine alone, without Ray's messages."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address not in (None, "auto"):
        _check_address(str(address))
    import ray
    from ray.data import DataContext

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(
            address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=None if address else False,
        )
    except (ConnectionError, ValueError, RuntimeError, OSError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        where = f"--address {address}" if address else "Ray"
        raise InputError(f"{where}: cannot be used ({reason}); see ray status") from error
    try:
        for number, handler in handlers.items():  # Ray has its own for SIGTERM
            signal.signal(number, handler)
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_options.verbose_progress = False
        # Blocks take as long as they take; a machine that is lost is noticed here.
        context.execution_no_progress_timeout_s = -1
        context.wait_for_min_actors_s = -1
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise InputError where nothing answers: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_ANSWER):
            return
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"--address {address}: no Ray cluster answers ({reason}); give auto or HOST:PORT, as "
            "ray start printed it"
        ) from error


def _run_plan(
    plan: _Plan, arguments: dict[str, Any], blocks: Sequence[Block]
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
