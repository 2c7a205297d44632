"""`tfdetect serve`: replicas of the model on Ray Serve, which gathers requests to batches."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tfdetect.batch.run_file import model_digest
from tfdetect.cli.imports import import_user_modules
from tfdetect.cli.model import load_predictor
from tfdetect.cli.ray_cluster import Plan, ray_cluster
from tfdetect.errors import InputError
from tfdetect.inference.slices import Slices
from tfdetect.serving.answers import Answer, Rejected, error_body

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

_LOADING = 600.0
"""Seconds in which the replicas have to load the model."""
_ANSWER = 60.0
"""Seconds in which a replica that has loaded the model has to describe it."""
_SILENCE = 30.0
"""Seconds without an answer after which a cluster has ended."""
_PERIOD = 2.0
"""Seconds between looks at replicas that are running, by this process and by Ray Serve."""
_LOOK = 0.2
_DECODERS = 2
"""Images that a replica decodes at the same time, beside the batch that it predicts."""
_QUIET = {"log_level": "ERROR", "enable_access_log": False}


class Replica:
    """What Ray Serve runs, in a process with the model.

    What is wrong with the model is said by `describe` and not raised, since Ray would try again.

    Args:
        arguments: of the command, with what `serving` adds; JSON.
    """

    def __init__(self, arguments: str):
        from ray import serve

        self._failure = ""
        args = argparse.Namespace(**json.loads(arguments))
        try:
            self._load(args)
        except InputError as error:
            self._failure = str(error)
        batched = serve.batch(
            max_batch_size=args.batch_size, batch_wait_timeout_s=args.batch_wait / 1000
        )
        self._predict = batched(self._predict_together)
        self._free = asyncio.Event()
        self._free.set()
        # Few threads, always the same: malloc keeps memory for each of them.
        self._decoding = ThreadPoolExecutor(_DECODERS)
        self._predicting = ThreadPoolExecutor(1)

    def _load(self, args: argparse.Namespace) -> None:
        if model_digest(args.model) != args.digest:
            raise InputError(f"{args.model}: is another model on the machine {os.uname().nodename}")
        import_user_modules(args.imports)
        if args.slices is not None:
            args.slices = Slices(**args.slices)
        predictor = load_predictor(args, args.float32_precision, args.threads)
        # Pillow rejects what has more than twice as many.
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, args.max_pixels)
        from tfdetect.serving.model import ServedModel

        self._model = ServedModel(predictor, args.max_pixels)
        self._model.warm_up(args.batch_size)

    async def describe(self) -> dict[str, Any]:
        """The model, or why there is none as `failure`."""
        return {"failure": self._failure} if self._failure else self._model.describe()

    async def detect(self, content: bytes, file_name: str, alone: bool) -> Answer:
        """The answer to an image file.

        Args:
            content: of the file.
            file_name: for its record.
            alone: whether it goes through the network without others.
        """
        if self._failure:
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, error_body(self._failure))
        try:
            loop = asyncio.get_running_loop()
            image = await loop.run_in_executor(self._decoding, self._model.decode, content)
        except Rejected as rejected:
            return Answer(rejected.status, error_body(str(rejected)))
        if alone:
            return (await self._predict_together([(file_name, image)]))[0]
        # Ray Serve closes a batch when its time is over, although another one is being predicted:
        # images that arrive meanwhile would go one by one.
        await self._free.wait()
        return await self._predict((file_name, image))

    async def _predict_together(self, images: list[tuple[str, np.ndarray]]) -> list[Answer]:
        self._free.clear()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._predicting, self._model.predict, images)
        finally:
            self._free.set()


class Replicas:
    """The replicas of a model, on a cluster.

    Args:
        name: of Ray Serve's application.
        handle: of its deployment.

    Attributes:
        model: what they say of it.
    """

    def __init__(self, name: str, handle: DeploymentHandle):
        self._name = name
        self._handle = handle
        self.model: dict[str, Any] = {}

    async def detect(self, content: bytes, file_name: str) -> Answer:
        """The answer to an image file.

        An image whose replica ends is predicted once more, alone: it may be another one's fault.

        Raises:
            Rejected: there is no replica that predicts it.
        """
        from ray.exceptions import RayActorError, RayError

        for alone in (False, True):
            response = self._handle.detect.remote(content, file_name, alone)
            try:
                return await response
            except RayActorError:
                continue
            except RayError as error:
                reason = " ".join(str(error).strip().splitlines()[-1:])[:200]
                raise Rejected(HTTPStatus.INTERNAL_SERVER_ERROR, reason) from error
            except asyncio.CancelledError:
                response.cancel()
                raise
        raise Rejected(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "the process that predicted this image ended twice (out of memory?); try again",
        )

    def wait(self, count: int) -> None:
        """Return when all have loaded the model.

        Raises:
            InputError: they cannot.
        """
        end = time.monotonic() + _LOADING
        while self.running() < count:
            status = self._status()
            if status.status == "DEPLOY_FAILED" or time.monotonic() > end:
                reason = " ".join(status.message.split())[-300:] or status.status
                raise InputError(f"Ray Serve: the model is not loaded ({reason}); see ray status")
            time.sleep(_LOOK)
        self.model = self._handle.describe.remote().result(timeout_s=_ANSWER)
        if "failure" in self.model:
            raise InputError(self.model["failure"])

    def states(self) -> Generator[str, None, None]:
        """Yields what /health says, every now and then.

        Raises:
            InputError: the cluster does not answer any more.
        """
        seen: queue.SimpleQueue[int] = queue.SimpleQueue()
        ended = threading.Event()

        def look() -> None:
            # A cluster whose processes have ended keeps who asks waiting for ever.
            with contextlib.suppress(Exception):  # whatever Ray raises: it is silent then
                while not ended.is_set():
                    seen.put(self.running())
                    ended.wait(_PERIOD)

        thread = threading.Thread(target=look, name="replicas", daemon=True)
        thread.start()
        # Counted, not timed: a machine that slept is no reason.
        silent = 0
        try:
            while silent * _LOOK < _SILENCE:
                try:
                    running = seen.get(timeout=_LOOK)
                except queue.Empty:
                    silent += 1
                else:
                    silent = 0
                    yield "ready" if running else "the model is being loaded again"
        finally:
            ended.set()
            thread.join(_LOOK)
        raise InputError(
            f"Ray: the cluster has not answered for {_SILENCE:.0f} seconds; start again"
        )

    def running(self) -> int:
        """How many of them there are now."""
        deployments = self._status().deployments.values()
        return sum(one.replica_states.get("RUNNING", 0) for one in deployments)

    def _status(self) -> Any:
        from ray import serve

        return serve.status().applications[self._name]


@contextlib.contextmanager
def replicas(args: argparse.Namespace, float32_precision: str) -> Iterator[Replicas]:
    """Replicas of the model until the end of the statement, on the cluster that `args` says.

    Args:
        args: of the command.
        float32_precision: of `check_configuration`.

    Raises:
        InputError: there is no such cluster, or the model cannot be loaded there.
    """
    with ray_cluster(args.address):
        from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
        # A cluster of this command's own is as free as it gets, but it says so a little later.
        plan = Plan.of_cluster(
            "--replicas", args.replicas, args.device, args.threads, free=args.address is not None
        )
        name = f"tfdetect-{os.uname().nodename}-{os.getpid()}"
        others = _serve_runs()
        serve.start(proxy_location="Disabled", logging_config=_QUIET)
        logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
        try:
            found = Replicas(name, _deploy(name, plan, _arguments(args, float32_precision, plan)))
            found.wait(plan.workers)
            yield found
        finally:
            if args.address is not None:
                # What a cluster of this command's own has ends with it.
                serve.delete(name) if others else serve.shutdown()


def _serve_runs() -> bool:
    """Whether the cluster has Ray Serve already, which may have other applications."""
    import ray

    actors = ray.util.list_named_actors(all_namespaces=True)
    return any(actor["name"] == "SERVE_CONTROLLER_ACTOR" for actor in actors)


def _deploy(name: str, plan: Plan, arguments: str) -> DeploymentHandle:
    """Have Ray Serve start the replicas; does not wait for them."""
    from ray import serve

    args = json.loads(arguments)
    # OpenCV reads what Pillow does not know, and has no limit but this, when it is loaded.
    environment = {"OPENCV_IO_MAX_IMAGE_PIXELS": str(args["max_pixels"])}
    deployment = serve.deployment(
        name="Replica",
        num_replicas=plan.workers,
        ray_actor_options={**plan.resources, "runtime_env": {"env_vars": environment}},
        # While a batch is predicted, the next one is decoded.
        max_ongoing_requests=2 * args["batch_size"],
        graceful_shutdown_timeout_s=1,
        health_check_period_s=_PERIOD,
        logging_config=_QUIET,
    )(Replica)
    target = serve.RunTarget(deployment.bind(arguments), name=name, route_prefix=None)
    return serve.run_many([target], wait_for_applications_running=False)[0]


def _arguments(args: argparse.Namespace, float32_precision: str, plan: Plan) -> str:
    """Of `Replica`."""
    return json.dumps(
        vars(args)
        | {
            "model": os.path.abspath(args.model),
            "imports": [os.path.abspath(n) if n.endswith(".py") else n for n in args.imports],
            "slices": None if args.slices is None else dataclasses.asdict(args.slices),
            "float32_precision": float32_precision,
            "digest": model_digest(args.model),
            "threads": plan.threads,
        }
    )
