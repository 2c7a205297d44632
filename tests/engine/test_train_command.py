"""train.py: bad input, Detectron2's record through metrics.json, kill -9 at random moments."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import DATA, DEMO, ROOT

import tfdetect.engine.command
from tfdetect.data.shapes import write_shapes
from tfdetect.errors import run_command

CONFIG = DEMO / "joint_rcnn" / "config.yaml"
WEIGHTS = DEMO / "joint_rcnn" / "model_final.pkl"


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


def train(folder, data, *arguments, config=CONFIG, opts=()):
    words = command(folder, data, *arguments, opts=opts)
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "--config-file", str(config), *words],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def finish(process):
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return err


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


@pytest.mark.parametrize(
    ("arguments", "opts", "message"),
    [
        ((), ("DATASETS.TRAIN", "('other',)"), "DATASETS.TRAIN: no data set 'other'"),
        ((), ("SOLVER.NOTHING", "1"), "unknown key SOLVER.NOTHING"),
        ((), ("MODEL.DEVICE", "tpu"), "MODEL.DEVICE: 'tpu'"),
        (("--num-gpus", "0"), (), "--num-gpus 0"),
        (("--eval-only",), (), "DATASETS.TEST: names no data set"),
        ((), ("MODEL.ROI_HEADS.NUM_CLASSES", "2"), "MODEL.ROI_HEADS.NUM_CLASSES: is 2"),
        ((), ("OUTPUT_DIR", CONFIG), "config.yaml is a file"),
        ((), ("SOLVER.REFERENCE_WORLD_SIZE", "4"), "SOLVER.REFERENCE_WORLD_SIZE"),
    ],
)
def test_bad_input(tmp_path, capfd, arguments, opts, message):
    words = command(tmp_path / "run", DEMO, *arguments, opts=opts)
    with pytest.raises(SystemExit) as raised:
        run_command(lambda: tfdetect.engine.command.main(["--config-file", str(CONFIG), *words]))
    assert raised.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "run").exists()


def test_checkpoints_of_another_training_are_not_mixed_with(tmp_path, capfd):
    place = tmp_path / "run" / "model_0000009"
    place.mkdir(parents=True)
    (place / "training.json").write_text('{"iteration": 10, "seed": 1}')
    words = command(tmp_path / "run", DEMO)
    with pytest.raises(SystemExit):
        run_command(lambda: tfdetect.engine.command.main(["--config-file", str(CONFIG), *words]))
    assert "add --resume" in capfd.readouterr().err


def test_first_steps_are_detectron2s(tmp_path):
    """The record of twenty steps (tests/parity/test_training_steps.py), through all of train.py."""
    record = json.loads((DATA / "tiny" / "training_steps.json").read_text())
    content = json.loads((DEMO / "annotations.json").read_text())
    names = {name.rpartition("/")[2] for name in record["image_files"]}
    content["images"] = [i for i in content["images"] if i["file_name"].rpartition("/")[2] in names]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    data = tmp_path / "data"
    data.mkdir()
    (data / "annotations.json").write_text(json.dumps(content))
    (data / "images").symlink_to(DEMO / "images")
    opts = {
        "INPUT.MIN_SIZE_TRAIN": f"({record['short_edge']},)",
        "INPUT.RANDOM_FLIP": "none",
        "DATALOADER.ASPECT_RATIO_GROUPING": "False",
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.MAX_ITER": 5,
    }
    words = [word for pair in opts.items() for word in pair]
    process = train(
        tmp_path / "run", data, config=DATA / "tiny" / "training_config.yaml", opts=words
    )
    finish(process)
    # As in the parity test: 1e-4 in the first step, 1e-3 in the first five.
    for line, expected in zip(lines(tmp_path / "run"), record["losses"], strict=False):
        tolerance = 1e-4 if line["iteration"] == 0 else 1e-3
        for name, value in expected.items():
            assert line[name] == pytest.approx(value, rel=tolerance), (line["iteration"], name)
        assert line["data_time"] <= line["time"]


@pytest.mark.full
def test_killed_at_random_moments(tmp_path):
    write_shapes(tmp_path / "data", 8, 3)
    opts = ("SOLVER.MAX_ITER", 12, "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.CHECKPOINTS_KEPT", 2)
    finish(train(tmp_path / "whole", tmp_path / "data", opts=opts))
    moments = random.Random(1)
    for _ in range(5):
        process = train(tmp_path / "cut", tmp_path / "data", "--resume", opts=opts)
        metrics, before = tmp_path / "cut" / "metrics.json", time.monotonic()
        have = metrics.read_bytes() if metrics.exists() else b""
        while (metrics.read_bytes() if metrics.exists() else b"") == have:
            assert process.poll() is None or process.returncode == 0, process.stderr.read()
            if process.poll() is not None or time.monotonic() - before > 120:
                break
            time.sleep(0.05)
        time.sleep(2 * moments.random())
        process.kill()
        process.communicate()
    finish(train(tmp_path / "cut", tmp_path / "data", "--resume", opts=opts))
    for name in ("model", "training"):
        file = f"model_final/{name}.data-00000-of-00001"
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    numbers = [[line["total_loss"] for line in lines(tmp_path / n)] for n in ("cut", "whole")]
    assert numbers[0] == numbers[1]
    assert not list((tmp_path / "cut").glob(".unfinished-*"))


@pytest.mark.full
def test_two_devices_two_workers_and_evaluation(tmp_path):
    write_shapes(tmp_path / "data", 8, 3)
    data = tmp_path / "data"
    opts = ("SOLVER.MAX_ITER", 3, "DATASETS.TEST", "('train',)", "VIS_PERIOD", 3)
    finish(train(tmp_path / "one", data, opts=opts))
    finish(train(tmp_path / "two", data, "--num-gpus", "2", opts=opts))
    expected, found = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert [line["iteration"] for line in expected] == [0, 1, 2, 2]
    for a, b in zip(expected[:3], found[:3], strict=True):
        for name in (name for name in a if "loss" in name):
            # Sums in another order; after the first step the weights differ by that too.
            assert b[name] == pytest.approx(a[name], rel=1e-5), name
    assert expected[3]["bbox/AP"] > 10
    assert found[3]["bbox/AP"] == pytest.approx(expected[3]["bbox/AP"], abs=1)
    shutil.rmtree(tmp_path / "one" / "inference")
    again = finish(train(tmp_path / "one", data, "--eval-only", "--resume", opts=opts))
    assert "bbox" in again
    assert (tmp_path / "one" / "inference" / "train" / "coco_instances_results.json").is_file()
    assert np.isfinite(expected[3]["keypoints/AP"])
