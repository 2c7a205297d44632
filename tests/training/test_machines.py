"""Four machines that train together, one of which is lost; network namespaces stand for them."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from tests.support.machines import machines, why_not
from tests.support.train_runs import SMALL, losses, train, training, words
from tests.training.test_train_shared import SHARED
from tfdetect.data.shapes import write_shapes

STEPS, PERIOD, KILLED_AFTER = 10, 3, 7


@contextlib.contextmanager
def workers(places, folder, data, *arguments, opts):
    """A process of train.py on each of the machines."""
    addresses = [f"{place.address}:2222" for place in places]
    with contextlib.ExitStack() as stack:
        runs = []
        for index, place in enumerate(places):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            options = {"name": f"{folder.name}-{len(places)}-{index}", "enter": place.enter}
            options["environment"] = {"TF_CONFIG": json.dumps(task)}
            runs.append(
                stack.enter_context(training(folder, data, *arguments, opts=opts, **options))
            )
        yield runs


def wait_for(iterations, folder, runs, seconds=240):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (folder / "metrics.json").exists() and len(losses(folder)) >= iterations:
            return
        for run in runs:
            assert run.process.poll() is None, run.said.read_text(errors="replace")
        time.sleep(0.05)
    raise AssertionError(f"no {iterations} iterations in {seconds} s")


@pytest.mark.full
def test_a_machine_is_lost(tmp_path):
    """The others stop, and say what to do; two machines continue with the same global batches."""
    if reason := why_not():
        pytest.skip(reason)
    data, folder = tmp_path / "data", tmp_path / "run"
    write_shapes(data, 8, 3)
    opts = {**SMALL, **SHARED, "SOLVER.IMS_PER_BATCH": 4, "SOLVER.MAX_ITER": STEPS}
    opts = words({**opts, "SOLVER.CHECKPOINT_PERIOD": PERIOD})
    with machines(4) as places:
        with workers(places, folder, data, opts=opts) as runs:
            wait_for(KILLED_AFTER, folder, runs)
            runs[2].kill()
            for index in (0, 1, 3):
                status = runs[index].process.wait(180)
                said = runs[index].said.read_text(errors="replace")
                (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
                assert "TF_CONFIG: one of the 4 workers is lost" in line
                assert (
                    f"--resume continues from {folder / 'model_0000005'}, with any number" in line
                )
                assert "Traceback" not in said
                assert status == 2, said
        assert (folder / "model_0000005" / "training.json").exists()
        with workers(places[:2], folder, data, "--resume", opts=opts) as runs:
            for run in runs:
                run.finish()
    train(tmp_path / "one", data, opts=opts)
    expected = losses(tmp_path / "one")
    found = losses(folder)
    assert len(expected) == len(found) == STEPS
    for step, (a, b) in enumerate(zip(found, expected, strict=True)):
        for name in b:
            # Sums in another order, and weights that differ by that more from step to step.
            assert a[name] == pytest.approx(b[name], rel=1e-4), (step, name)
