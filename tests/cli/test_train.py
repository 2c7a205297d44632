"""train.py: bad input, Detectron2's record through metrics.json, kill -9 at random moments."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest

import tfdetect.cli.train
from tests.support.commands import fails
from tests.support.paths import DATA, DEMO
from tests.support.train_runs import CONFIG, SMALL, command, lines, losses, train, training, words
from tfdetect.cli.train import _parse
from tfdetect.config import load_config
from tfdetect.data.shapes import write_shapes
from tfdetect.errors import InputError
from tfdetect.training.preparation import check_shares, scale_to_replicas

GIVEN = ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals", "MODEL.LOAD_PROPOSALS", "True")


@pytest.mark.parametrize(
    ("arguments", "opts", "message"),
    [
        ((), ("DATASETS.TRAIN", "('other',)"), "DATASETS.TRAIN: unknown data set 'other'"),
        ((), ("SOLVER.NOTHING", "1"), "unknown key SOLVER.NOTHING"),
        ((), ("MODEL.DEVICE", "tpu"), "MODEL.DEVICE: 'tpu'"),
        (("--num-gpus", "0"), (), "--num-gpus 0"),
        (("--eval-only",), (), "DATASETS.TEST: names no data set"),
        ((), ("MODEL.ROI_HEADS.NUM_CLASSES", "2"), "MODEL.ROI_HEADS.NUM_CLASSES: is 2"),
        ((), ("OUTPUT_DIR", CONFIG), "config.yaml is a file"),
        ((), ("SOLVER.REFERENCE_WORLD_SIZE", "4"), "SOLVER.REFERENCE_WORLD_SIZE"),
        ((), ("MODEL.NOTHING", "4"), "command line: unknown key MODEL.NOTHING"),
        ((), ("MODEL.WEIGHTS", "missing.pkl"), "MODEL.WEIGHTS: there is no missing.pkl"),
        ((), ("SOLVER.IMS_PER_BATCH", "0"), "SOLVER.IMS_PER_BATCH: is 0"),
        ((), ("OUTPUT_DIR", "''"), "OUTPUT_DIR: '' is not a local folder"),
        (
            (),
            ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"),
            "MODEL.LOAD_PROPOSALS: is False",
        ),
        ((), GIVEN, "DATASETS.PROPOSAL_FILES_TRAIN: names 0 files for the 1 data sets"),
        (
            (),
            (*GIVEN, "DATASETS.PROPOSAL_FILES_TRAIN", "('s3://x/y.pkl',)"),
            "DATASETS.PROPOSAL_FILES_TRAIN: s3://x/y.pkl: s3:// cannot be downloaded from",
        ),
        (
            (),
            (*GIVEN, "DATASETS.PROPOSAL_FILES_TRAIN", "('gone.pkl',)"),
            "DATASETS.PROPOSAL_FILES_TRAIN: there is no file gone.pkl",
        ),
        (
            ("--eval-only",),
            (*GIVEN, "DATASETS.TEST", "('train',)"),
            "DATASETS.PROPOSAL_FILES_TEST: names 0 files for the 1 data sets",
        ),
        ((), ("DATALOADER.SAMPLER_TRAIN", "Random"), "DATALOADER.SAMPLER_TRAIN: is Random; give"),
        (
            (),
            ("INPUT.AUGMENTATIONS", "[['RandomRotation', {'angel': 9}]]"),
            "INPUT.AUGMENTATIONS: RandomRotation: has no argument 'angel'",
        ),
    ],
)
def test_bad_input(tmp_path, capfd, arguments, opts, message):
    arguments = ["--config-file", CONFIG, *command(tmp_path / "run", DEMO, *arguments, opts=opts)]
    assert message in fails(capfd, tfdetect.cli.train.main, *arguments)
    assert not (tmp_path / "run").exists()


def test_batch_that_devices_cannot_share():
    cfg = load_config(CONFIG, ["SOLVER.IMS_PER_BATCH", 4, "SOLVER.ACCUMULATION_STEPS", 2])
    check_shares(cfg, 2)
    with pytest.raises(InputError, match=r"^SOLVER\.IMS_PER_BATCH: 4 .* 3 devices .* of 6$"):
        check_shares(cfg, 3)


def test_options_after_keys():
    """As docs/training.md prints the command of "From scratch"."""
    text = "--config-file demo/train.yaml SEED -1 OUTPUT_DIR out --register a b c --resume"
    args = _parse(text.split())
    assert args.opts == ["SEED", "-1", "OUTPUT_DIR", "out"]
    assert args.register == [["a", "b", "c"]]
    assert args.resume


@pytest.mark.parametrize("name", ["model_0000009", "model_best"])
def test_checkpoints_of_another_training_are_not_mixed_with(tmp_path, capfd, name):
    place = tmp_path / "run" / name
    place.mkdir(parents=True)
    if name != "model_best":
        (place / "training.json").write_text('{"iteration": 10, "seed": 1}')
    arguments = ["--config-file", str(CONFIG), *command(tmp_path / "run", DEMO)]
    line = fails(capfd, tfdetect.cli.train.main, *arguments)
    assert f"such as {place}; add --resume" in line


def test_a_training_does_not_go_on_with_other_classes(tmp_path, capfd):
    place = tmp_path / "run" / "model_0000009"
    place.mkdir(parents=True)
    (place / "training.json").write_text('{"iteration": 10, "seed": 1}')
    names = ["circle", "person", "square", "triangle"]
    (place / "metadata.json").write_text(json.dumps({"class_names": names}))
    arguments = ["--config-file", str(CONFIG), *command(tmp_path / "run", DEMO, "--resume")]
    line = fails(capfd, tfdetect.cli.train.main, *arguments)
    assert "DATASETS.TRAIN: has the classes person, circle, square, triangle, the training" in line


@pytest.mark.parametrize("case", ["area", "image", "classes"])
def test_test_data_is_checked_before_tensorflow_is_loaded(tmp_path, monkeypatch, capfd, case):
    def too_late():
        raise AssertionError("TensorFlow is loaded before the error is found")

    monkeypatch.setattr(tfdetect.cli.train, "import_tensorflow", too_late)
    content = json.loads((DEMO / "annotations.json").read_text())
    expected = "annotation"
    if case == "area":
        content["annotations"][-1]["area"] = None
    elif case == "image":
        content["images"][0]["file_name"] = "gone.jpg"
        expected = "1 of 60 images, such as gone.jpg"
    else:
        content["categories"][1]["name"] = "unicorn"
        expected = "has the classes unicorn"
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    test = ("--register", f"test_{case}", path, DEMO / "images")
    opts = ("DATASETS.TEST", f"('test_{case}',)")
    words = command(tmp_path / "run", DEMO, *test, opts=opts)
    assert expected in fails(capfd, tfdetect.cli.train.main, "--config-file", CONFIG, *words)
    assert not (tmp_path / "run").exists()


def test_the_schedule_for_more_replicas():
    """The example of Detectron2's `DefaultTrainer.auto_scale_workers`, and back."""
    keys = {
        "SOLVER.IMS_PER_BATCH": (16, 32),
        "SOLVER.BASE_LR": (0.1, 0.2),
        "SOLVER.MAX_ITER": (5000, 2500),
        "SOLVER.STEPS": ((4000,), (2000,)),
        "SOLVER.WARMUP_ITERS": (1000, 500),
        "SOLVER.CHECKPOINT_PERIOD": (1000, 500),
        "TEST.EVAL_PERIOD": (50, 25),
        "SOLVER.REFERENCE_WORLD_SIZE": (8, 16),
    }
    opts = [word for key, (value, _) in keys.items() for word in (key, value)]
    before = load_config(CONFIG, opts)
    assert scale_to_replicas(before, 8) is before
    after = scale_to_replicas(before, 16)
    for key, (_, value) in keys.items():
        section, _, name = key.partition(".")
        assert after[section][name] == value, key
    assert scale_to_replicas(after, 8) == before


@pytest.mark.full
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
    config = DATA / "tiny" / "training_config.yaml"
    train(tmp_path / "run", data, config=config, opts=words(opts))
    # As in the parity test: 1e-4 in the first step, 1e-3 in the first five.
    for line, expected in zip(lines(tmp_path / "run"), record["losses"], strict=False):
        tolerance = 1e-4 if line["iteration"] == 0 else 1e-3
        for name, value in expected.items():
            assert line[name] == pytest.approx(value, rel=tolerance), (line["iteration"], name)
        assert line["data_time"] <= line["time"]


@pytest.mark.full
def test_killed_at_random_moments(tmp_path):
    data = tmp_path / "data"
    write_shapes(data, 8, 3)
    steps = {"SOLVER.MAX_ITER": 40, "SOLVER.CHECKPOINT_PERIOD": 4, "SOLVER.CHECKPOINTS_KEPT": 2}
    opts = words({**SMALL, **steps, "DATALOADER.NUM_WORKERS": 1})
    train(tmp_path / "whole", data, opts=opts)
    moments = random.Random(1)
    for _ in range(5):
        with training(tmp_path / "cut", data, "--resume", opts=opts) as run:
            iterations, deadline = moments.randint(1, 10), time.monotonic() + 120
            while run.said.read_text().count("  iter: ") < iterations:
                assert run.process.poll() is None, run.said.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.3 * moments.random())
            run.kill()
    assert "from iteration 0," not in train(tmp_path / "cut", data, "--resume", opts=opts)
    for name in ("model", "training"):
        file = f"model_final/{name}.data-00000-of-00001"
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert not list((tmp_path / "cut").glob(".unfinished-*"))


@pytest.mark.full
def test_ctrl_c_keeps_the_checkpoints(tmp_path):
    """Status 130 and one line that says what a resumed training continues from."""
    data = tmp_path / "data"
    write_shapes(data, 8, 3)
    steps = {"SOLVER.MAX_ITER": 400, "SOLVER.CHECKPOINT_PERIOD": 2, "SOLVER.CHECKPOINTS_KEPT": 2}
    opts = words({**SMALL, **steps, "DATALOADER.NUM_WORKERS": 1})
    with training(tmp_path / "run", data, opts=opts) as run:
        deadline = time.monotonic() + 200
        while run.said.read_text().count("saved ") < 2:
            assert run.process.poll() is None, run.said.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: the workers too
        assert run.process.wait(60) == 130
        said = run.said.read_text()
    assert "Traceback" not in said
    kept = sorted(path.name for path in (tmp_path / "run").glob("model_*"))
    assert said.splitlines()[-1] == (
        f"interrupted: --resume continues from {tmp_path / 'run' / kept[-1]}"
    )
    assert not list((tmp_path / "run").glob(".unfinished-*"))
