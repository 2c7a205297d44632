"""What several modules of tests need, made once in a run by whichever process needs it first."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

VARIABLE = "TFDETECT_TESTS_SHARED"
"""The environment variable with the folder of this run, for all of its processes (conftest.py)."""


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name`, after `make` has filled it in one of the processes."""
    root = Path(os.environ[VARIABLE])
    folder, made = root / name, root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            # Of a process that failed in the middle.
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            made.touch()
    return folder


def demo_model() -> Path:
    """The demo's model of boxes, masks and keypoints, converted; to be left as it is."""
    return made_once("joint", _convert)


def _convert(folder: Path) -> None:
    import convert_d2.command
    from tests.support.paths import DEMO

    command = ["--config-file", str(DEMO / "joint_rcnn" / "config.yaml"), "--output", str(folder)]
    command += ["--weights", str(DEMO / "joint_rcnn" / "model_final.pkl")]
    command += ["--metadata", str(DEMO / "annotations.json")]
    assert convert_d2.command.main(command) == 0
