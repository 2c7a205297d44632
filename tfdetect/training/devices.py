"""Devices and workers of a training run."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdetect.errors import InputError


@dataclass(frozen=True)
class Workers:
    """This process among those that train together.

    Attributes:
        strategy: of tf.distribute; the default one for a single device.
        index: of this worker, from 0; worker 0 writes the files.
        count: of workers.
        replicas: of this worker.
    """

    strategy: tf.distribute.Strategy
    index: int
    count: int
    replicas: int

    def gather(self, lines: Sequence[str]) -> list[str]:
        """The lines of text of all workers, those of worker 0 first; every worker calls it."""
        if self.count == 1:
            return list(lines)
        # Collective operations support numbers, but not text or bytes.
        content = "".join(line + "\n" for line in lines).encode("utf-8")
        mine = tf.constant(np.frombuffer(content, np.uint8).astype(np.int32))

        def value(context: tf.distribute.InputContext) -> tf.Tensor:
            first = int(context.replica_id_in_sync_group) % self.replicas == 0
            return mine if first else mine[:0]

        values = self.strategy.experimental_distribute_values_from_function(value)
        everything = self.strategy.gather(values, axis=0).numpy().astype(np.uint8)
        return everything.tobytes().decode("utf-8").splitlines()

    def wait(self) -> None:
        """Wait for all workers (a barrier)."""
        self.gather(["here"])


@contextlib.contextmanager
def lost_workers(workers: Workers, advice: Callable[[], str]) -> Iterator[None]:
    """Within it, what TensorFlow says of a worker that was lost is an InputError.

    Args:
        workers: that train together.
        advice: how to go on.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if workers.count == 1:
            raise
        # Workers stop one after the other: the one that TensorFlow names may not be the first.
        raise InputError(
            f"TF_CONFIG: one of the {workers.count} workers is lost, and the others cannot go on; "
            f"{advice()}"
        ) from error


def set_up_devices(num_gpus: int | None, device: str) -> Workers:
    """Choose the devices; call it before anything else is done with TensorFlow.

    With TF_CONFIG in the environment, workers on several machines share the work
    (MultiWorkerMirroredStrategy); on one machine, several GPUs do (MirroredStrategy).

    Args:
        num_gpus: how many GPUs of this machine; None for one, or the CPU where there is none. With
            `device` cpu, into how many devices the CPU is divided: for tests.
        device: MODEL.DEVICE, "cuda" or "cpu".

    Raises:
        InputError: there are fewer GPUs, or TF_CONFIG is not understood.
    """
    if num_gpus is not None and num_gpus < 1:
        raise InputError(f"--num-gpus {num_gpus}: give at least 1, or set MODEL.DEVICE cpu")
    if device not in ("cpu", "cuda"):
        raise InputError(f"MODEL.DEVICE: {device!r} is not supported; use cuda or cpu")
    gpus = [] if device == "cpu" else tf.config.list_physical_devices("GPU")
    count = num_gpus or 1
    if device == "cuda" and num_gpus is not None and count > max(len(gpus), 1):
        raise InputError(f"--num-gpus {count}: TensorFlow sees {len(gpus)} GPUs; give no more")
    if tf.config.get_visible_devices("GPU") != gpus[:count]:
        try:
            tf.config.set_visible_devices(gpus[:count], "GPU")
        except RuntimeError as error:
            raise InputError(
                f"MODEL.DEVICE: {device} with {len(gpus[:count])} GPUs are not available after"
                " TensorFlow has started; train in a new process"
            ) from error
    for gpu in gpus[:count]:
        # In a program that has used the GPU before, its choice stays.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    cluster = _read_cluster()
    if not gpus and count > 1:
        if cluster is not None:
            raise InputError("--num-gpus: TF_CONFIG's workers have one CPU each; give 1")
        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
        tf.config.set_logical_device_configuration(cpu, parts)
    if cluster is not None:
        index, workers = cluster
        return Workers(tf.distribute.MultiWorkerMirroredStrategy(), index, workers, count)
    if count > 1:
        kind = "GPU" if gpus else "CPU"
        names = [f"{kind}:{number}" for number in range(count)]
        return Workers(tf.distribute.MirroredStrategy(names), 0, 1, count)
    return Workers(tf.distribute.get_strategy(), 0, 1, 1)


def _read_cluster() -> tuple[int, int] | None:
    """(this worker's index, their number) of TF_CONFIG; None without several workers."""
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return None
    try:
        config = json.loads(text)
        cluster = config.get("cluster", {})
        kinds = [(kind, len(cluster[kind])) for kind in ("chief", "worker") if kind in cluster]
        if not kinds:
            return None
        places = [(kind, number) for kind, count in kinds for number in range(count)]
        task = config["task"]
        index = places.index((task["type"], int(task["index"])))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"TF_CONFIG: is invalid ({error}); give "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        ) from None
    return (index, len(places)) if len(places) > 1 else None
