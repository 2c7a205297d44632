"""The same global batch, however many devices and processes share it, through train.py."""

from __future__ import annotations

import contextlib
import json
import socket

import numpy as np
import pytest
import tensorflow as tf

from tests.support.train_runs import SMALL, lines, losses, train, training, words
from tfdetect.data.shapes import write_shapes

# Batch norms without statistics, which would be each replica's own, take pixels of the order of 1.
# Every proposal is kept and trained on. Else two scores, or an overlap and its threshold, that
# differ in the last digit alone may choose another one, and the losses then differ by 1e-4.
SHARED = {
    "MODEL.PIXEL_STD": "(60.0, 60.0, 60.0)",
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RPN.NMS_THRESH": 1.0,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 10000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 10000,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 10000,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 1.0,
}
STEPS = 3


@contextlib.contextmanager
def two_workers(folder, data, opts):
    """Two processes on this machine, as two machines would be."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        places = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    with contextlib.ExitStack() as stack:
        runs = []
        for index in range(2):
            task = {"cluster": {"worker": places}, "task": {"type": "worker", "index": index}}
            options = {"opts": opts, "name": f"worker{index}"}
            options["environment"] = {"TF_CONFIG": json.dumps(task)}
            runs.append(stack.enter_context(training(folder, data, **options)))
        yield runs


def assert_same_losses(found, expected):
    assert len(found) == len(expected) == STEPS
    for step, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.keys() == b.keys()
        for name in a:
            # Sums in another order; after the first step the weights differ by that too.
            assert a[name] == pytest.approx(b[name], rel=1e-5), (step, name)


@pytest.mark.full
def test_two_devices_and_two_processes_are_one_device(tmp_path):
    data = tmp_path / "data"
    write_shapes(data, 8, 3)
    opts = words({**SMALL, **SHARED, "SOLVER.IMS_PER_BATCH": 4, "SOLVER.MAX_ITER": STEPS})
    with (
        training(tmp_path / "one", data, opts=opts) as one,
        training(tmp_path / "devices", data, "--num-gpus", "2", opts=opts) as devices,
        two_workers(tmp_path / "workers", data, opts) as workers,
    ):
        for run in (one, devices, *workers):
            run.finish()
    expected = losses(tmp_path / "one")
    assert_same_losses(losses(tmp_path / "devices"), expected)
    assert_same_losses(losses(tmp_path / "workers"), expected)
    # The first worker alone writes.
    assert len(list((tmp_path / "workers").glob("events.out.tfevents.*"))) == 1


@pytest.mark.full
def test_two_processes_share_evaluation(tmp_path):
    data = tmp_path / "data"
    write_shapes(data, 7, 3)
    opts = words({"SOLVER.MAX_ITER": 2, "DATASETS.TEST": "('train',)", "VIS_PERIOD": 2})
    train(tmp_path / "one", data, opts=opts)
    with two_workers(tmp_path / "two", data, opts) as workers:
        for run in workers:
            run.finish()
    one, two = (
        json.loads((tmp_path / name / "inference/train/coco_instances_results.json").read_text())
        for name in ("one", "two")
    )
    assert [found["image_id"] for found in two] == [found["image_id"] for found in one]
    expected, found = (lines(tmp_path / name)[-1] for name in ("one", "two"))
    assert expected["bbox/AP"] > 10
    # After two steps the weights differ in their last digits, by which a score may change places.
    assert found == pytest.approx(expected, abs=1, nan_ok=True)
    again = train(tmp_path / "one", data, "--eval-only", "--resume", opts=opts)
    assert "keypoints" in again


@pytest.mark.full
def test_precise_statistics_are_those_of_one_device(tmp_path):
    data = tmp_path / "data"
    write_shapes(data, 8, 3)
    precise = {"TEST.PRECISE_BN.ENABLED": True, "TEST.PRECISE_BN.NUM_ITER": 2}
    opts = words({**SMALL, **precise, "MODEL.RESNETS.NORM": "SyncBN", "SOLVER.MAX_ITER": 1})
    train(tmp_path / "one", data, opts=opts)
    train(tmp_path / "devices", data, "--num-gpus", "2", opts=opts)
    with two_workers(tmp_path / "workers", data, opts) as workers:
        for run in workers:
            run.finish()
    one, *others = (
        tf.train.load_checkpoint(str(tmp_path / name / "model_final" / "model"))
        for name in ("one", "devices", "workers")
    )
    names = [name for name in one.get_variable_to_shape_map() if "running_" in name]
    assert len(names) > 20
    for other in others:
        for name in names:
            expected = one.get_tensor(name)
            scale = np.abs(expected).max()
            # float32 sums in another order, through twenty layers.
            np.testing.assert_allclose(other.get_tensor(name), expected, atol=1e-4 * scale)
