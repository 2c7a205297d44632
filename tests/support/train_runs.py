"""Runs of train.py on a few small images, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.paths import DEMO, ROOT

CONFIG = DEMO / "joint_rcnn" / "config.yaml"
WEIGHTS = DEMO / "joint_rcnn" / "model_final.pkl"

# A ResNet-18 from scratch on images of 64 pixels: what costs time is building the graphs.
SMALL = {
    "INPUT.MIN_SIZE_TRAIN": "(64,)",
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 64,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": "(16,)",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "MODEL.WEIGHTS": "''",
}


def words(options):
    """KEY VALUE ... of a dictionary."""
    return [word for pair in options.items() for word in pair]


def command(folder, data, *arguments, opts=()):
    """The arguments of a small training on `data`, which has annotations.json and images."""
    keys = {
        "DATASETS.TRAIN": "('train',)",
        "DATASETS.TEST": "()",
        "DATALOADER.NUM_WORKERS": 0,
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": WEIGHTS,
        "SEED": 1,
        "SOLVER.BASE_LR": 0.0005,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.LOG_PERIOD": 1,
        "SOLVER.STEPS": "()",
        "OUTPUT_DIR": folder,
        **dict(zip(opts[::2], opts[1::2], strict=True)),
    }
    register = ("--register", "train", data / "annotations.json", data / "images")
    words = [*register, *arguments, *(word for pair in keys.items() for word in pair)]
    return [str(word) for word in words]


class Run:
    """A process of train.py; what it says goes to the file `said`."""

    def __init__(
        self, words: list[str], said: Path, environment: Mapping[str, str], enter: Sequence[str]
    ):
        self.said = said
        with said.open("wb") as file:
            # Of a session of its own, so that its worker processes can be ended with it.
            self.process = subprocess.Popen(
                [*enter, sys.executable, str(ROOT / "train.py"), *words],
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def finish(self, timeout: float = 240) -> str:
        """Wait for its end, which must be a good one; what it has said."""
        status = self.process.wait(timeout)
        said = self.said.read_text(errors="replace")
        assert status == 0, said
        return said

    def kill(self) -> None:
        """kill -9, workers and all."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def training(
    folder, data, *arguments, config=CONFIG, opts=(), name=None, environment=(), enter=()
) -> Iterator[Run]:
    """Start train.py with OUTPUT_DIR `folder`; whatever is left of it at the end is killed.

    `name` tells apart what several processes with one folder say; `enter` are words before the
    command.
    """
    words = ["--config-file", str(config), *command(folder, data, *arguments, opts=opts)]
    run = Run(words, folder.with_name(f"{name or folder.name}.txt"), dict(environment), enter)
    try:
        yield run
    finally:
        run.kill()


def train(folder, data, *arguments, **options) -> str:
    """Run train.py to its end; what it has said."""
    with training(folder, data, *arguments, **options) as run:
        return run.finish()


def lines(folder):
    """What metrics.json has."""
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def losses(folder):
    """The losses of each iteration by name, of a run that logs each."""
    found = [line for line in lines(folder) if "total_loss" in line]
    return [{name: value for name, value in line.items() if "loss" in name} for line in found]
