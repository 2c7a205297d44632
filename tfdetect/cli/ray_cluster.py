"""Ray for a command: a cluster of this machine alone or one that is there, and its resources."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from tfdetect.cli.model import positive
from tfdetect.errors import InputError

_ANSWER = 10.0
"""Seconds in which a cluster has to answer."""
_START = 120.0
"""Seconds in which Ray has to start."""
_CONNECT = 60.0
"""Seconds in which it has to connect to a cluster."""
_STOP = 30.0
"""Seconds in which it has to end."""


def require_ray(user: str, *modules: str) -> None:
    """Fail early where Ray, or what belongs to it, is not installed.

    Args:
        user: what needs it, which a message begins with.
        modules: of the extra `ray`.

    Raises:
        InputError: one of them is not.
    """
    # Ray reads it when it is imported: no call of it starts a cluster by itself.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    try:
        for module in modules:
            import_module(module)
    except ImportError as error:
        raise InputError(
            f"{user}: needs Ray ({error}); install it with pip install 'tfdetect[ray]'"
        ) from error


def add_cluster_arguments(group: argparse._ArgumentGroup) -> None:
    """The options --address and --threads."""
    group.add_argument(
        "--address",
        metavar="ADDRESS",
        help="of a running Ray cluster, as ray.init takes it: auto, or HOST:PORT (default: Ray is "
        "started on this machine alone)",
    )
    group.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="of each process on the CPU (default: one for each core that it has)",
    )


class Plan:
    """How many processes have the model, and what Ray reserves for each.

    Attributes:
        workers: how many.
        resources: of each, as Ray's arguments.
        threads: of each, on the CPU; None leaves it to TensorFlow.
    """

    def __init__(self, workers: int, resources: dict[str, Any], threads: int | None):
        self.workers = workers
        self.resources = resources
        self.threads = threads

    @staticmethod
    def of_cluster(
        option: str,
        wanted: int | None,
        device: str | None,
        threads: int | None,
        *,
        free: bool = False,
    ) -> Plan:
        """For the machines that there are now.

        Args:
            option: of the command, which says how many processes.
            wanted: its value; None for one on each GPU, or on each machine if there is none.
            device: of the command.
            threads: of the command.
            free: whether only what is free now counts, for work that cannot wait for the rest.

        Raises:
            InputError: the cluster cannot do what is asked for.
        """
        import ray
        from ray._private.state import available_resources_per_node

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if free:
            nodes = list(available_resources_per_node().values())
        kind = "free " if free else ""
        cores = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        on_gpu = gpus > 0 and (device is None or device.startswith("gpu"))
        if device is not None and device.startswith("gpu") and not gpus:
            raise InputError(f"--device gpu: the Ray cluster has no {kind}GPU; leave it out")
        if not cores:
            raise InputError(f"Ray: the cluster has no {kind}CPU to work with; see ray status")
        if on_gpu:
            return Plan(min(wanted or gpus, gpus), {"num_cpus": 1, "num_gpus": 1}, None)
        workers = wanted or len(cores)
        if workers > sum(cores):
            raise InputError(
                f"{option} {workers}: the Ray cluster has {sum(cores)} {kind}cores; give at most "
                "that"
            )
        # The same for each: as many workers as there are must fit the machines.
        each = max(n for n in range(1, min(cores) + 1) if n == 1 or _fit(cores, n) >= workers)
        return Plan(workers, {"num_cpus": each}, threads or each)


def _fit(cores: list[int], each: int) -> int:
    """How many workers of `each` cores fit machines of `cores`."""
    return sum(count // each for count in cores)


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """A connection to a cluster, or a cluster of this machine alone, without Ray's messages.

    A cluster of its own takes no orders from anybody else: Ray listens on all of the machine's
    addresses, and runs what it is sent, so it gets a token that only its processes have.

    Args:
        address: of a running cluster, as `ray.init` takes it; None starts one, also where the
            environment names another.

    Raises:
        InputError: there is none at the address, or Ray does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is None:
        # Ray's processes otherwise give way to all others of the machine.
        os.environ.setdefault("RAY_worker_niceness", "0")
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    elif address != "auto":
        _check_address(address)
    import ray

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    where = f"--address {address}" if address else "Ray"
    try:
        seconds = _CONNECT if address else _START
        with _at_most(seconds, f"{where}: does not answer within {seconds:.0f} seconds"):
            ray.init(
                address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=None if address else False,
            )
    except (ConnectionError, ValueError, RuntimeError, OSError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{where}: cannot be used ({reason}); see ray status") from error
    try:
        for number, handler in handlers.items():  # Ray has its own for SIGTERM
            signal.signal(number, handler)
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        yield
    finally:
        with _at_most(_STOP, f"{where}: has not ended within {_STOP:.0f} seconds"):
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


@contextlib.contextmanager
def _at_most(seconds: float, message: str) -> Iterator[None]:
    """End the process where something takes longer: Ray waits in C++, which no signal ends."""

    def end() -> None:
        print(f"error: {message}; see ray status", file=sys.stderr, flush=True)
        os._exit(2)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
