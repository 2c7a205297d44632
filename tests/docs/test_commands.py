"""Every command that the documentation prints.

A block of commands is run as it is printed, in a folder with small files under the names that it
uses. One that cannot be run here carries a comment such as `<!-- needs: download -->` before it,
which a rendered page does not show; its options are checked. So are those of the commands within
running text.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from benchmarks import seeded_weights
from tests.support.other_formats import write_yolo
from tests.support.pages import PAGES, Block, blocks, inline_commands
from tests.support.paths import DATA, DEMO, ROOT
from tests.support.videos import write_video
from tfdetect.checkpoint.formats.pickle_writer import pickle_arrays
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.cli.main import GROUP
from tfdetect.config import load_config
from tfdetect.data.training.augmentation import build_augmentation
from tfdetect.plugins import plugins

BLOCKS = list(blocks())
RUN = [block for block in BLOCKS if block.language in ("", "python") and not block.needs]
NEEDS = {"download", "Docker", "tf2onnx", "openvino", "a wheel", "two machines"}
NEEDS |= {"pyarrow", "Ray"}

MAINS = {
    "predict.py": "tfdetect.cli.predict",
    "train.py": "tfdetect.cli.train",
    "convert_d2.py": "convert_d2.command",
    "convert_d2.export": "convert_d2.export",
    "tfdetect.data.shapes": "tfdetect.data.shapes.__main__",
} | {f"tfdetect {name}": point.module for name, point in plugins(GROUP).items()}

# The file that the scripts are given, and two names in the zoo, before which a file goes.
CONVERTED = "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
BY_NAME = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"
TRAINED = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"
WEIGHTS = DEMO / "joint_rcnn" / "model_final.pkl"

# A training of hours is one step; images that are drawn are few.
ONE_STEP = ["SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()", "SOLVER.IMS_PER_BATCH", "2"]
ONE_STEP += ["INPUT.MIN_SIZE_TRAIN", "(64,)", "DATALOADER.NUM_WORKERS", "0"]
FEWER = {"1500": "3", "1000": "3", "100": "2"}

# What a block of Python takes for granted.
PRELUDE = """
import os
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import supervision
import tensorflow as tf
from PIL import Image
import numpy as np
image = np.asarray(Image.open("image.jpg"))
height, width = image.shape[:2]
"""

# By the name of the block's page and its first word that tells it apart: takes too long for
# `make test`.
LONG = (
    "tfdetect train",
    "tfdetect export",
    "tfdetect quantize",
    "tf.saved_model",
    "tf.load_op_library",
    "torchvision",
)
LONG += ("tracker.update",)


def images(path: Path) -> None:
    path.mkdir(parents=True)
    for image in json.loads((DEMO / "annotations.json").read_text())["images"][:2]:
        shutil.copy(DEMO / "images" / image["file_name"], path)


def annotations(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.loads((DEMO / "annotations.json").read_text())
    content["images"] = content["images"][:2]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    path.write_text(json.dumps(content))


def yolo(path: Path) -> None:
    write_yolo(path.parent)


def a_video(path: Path) -> None:
    write_video(path, 2)


def an_image(path: Path) -> None:
    shutil.copy(DEMO / "images" / "000001.jpg", path)


def checkpoint(path: Path) -> None:
    shutil.copy(WEIGHTS, path)


def small_configuration(path: Path) -> None:
    """The demo's model under the name of a large one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"_BASE_": str(DEMO / "joint_rcnn" / "config.yaml")}))


def torchvision_checkpoint(path: Path) -> None:
    """A narrow model of torchvision's under its names, with seeded weights."""
    with gzip.open(DATA / "torchvision" / "state_dicts.json.gz", "rt") as file:
        shapes = json.load(file)["fasterrcnn_resnet50_fpn"]
    narrow = {k: [d // 8 if d % 64 == 0 else d for d in shape] for k, shape in shapes.items()}
    path.write_bytes(pickle_arrays(seeded_weights.state_dict(narrow), "torchvision"))


def configuration_without_keypoints(path: Path) -> None:
    """For the checkpoint below; tensorpack has no keypoints."""
    base = str(DEMO / "joint_rcnn" / "config.yaml")
    path.write_text(yaml.safe_dump({"_BASE_": base, "MODEL": {"KEYPOINT_ON": False}}))


def checkpoint_without_keypoints(path: Path) -> None:
    arrays = read_checkpoint(WEIGHTS).arrays
    kept = {name: array for name, array in arrays.items() if "keypoint" not in name}
    path.write_bytes(pickle_arrays(kept, "Detectron2"))


def model(path: Path, model_dir: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(model_dir)


def servable(path: Path, model_dir: Path) -> None:
    from tfdetect.export.saved_model import export_savedmodel

    export_savedmodel(model_dir, path.parent)


def native_servable(path: Path, model_dir: Path) -> None:
    from tfdetect.export.saved_model import export_savedmodel

    export_savedmodel(model_dir, path.parents[2], ops="native")


MADE: dict[str, Callable] = {
    "photos": images,
    "images": images,
    "shapes/train/images": images,
    "shapes/val/images": images,
    "annotations.json": annotations,
    "shapes/train/annotations.json": annotations,
    "shapes/val/annotations.json": annotations,
    "yolo/data.yaml": yolo,
    "street.jpg": an_image,
    "street.mp4": a_video,
    "FILE": checkpoint,
    "R-50.pkl": checkpoint,
    "model_final_f10217.pkl": checkpoint,
    "model_final.pkl": checkpoint_without_keypoints,
    "YAML": configuration_without_keypoints,
    "fasterrcnn_resnet50_fpn_coco.pth": torchvision_checkpoint,
    TRAINED: small_configuration,
    CONVERTED: small_configuration,
    BY_NAME: small_configuration,
    "models/mask_rcnn": model,
    "models/mine": model,
    "output/demo/model": model,
    "servable/1": servable,
    "servable/1/assets/tfdetect_ops.so": native_servable,
}
"""What makes the files that the pages name, in a block that does not write them itself."""
OF_THE_MODEL = (model, servable, native_servable)


def named(block: Block) -> set[str]:
    """The names of MADE that are in the block, and that it does not write itself."""
    words = re.findall(r"[\w./-]+", block.text)
    outputs = set()
    for command in block.commands() if not block.language else ():
        options = itertools.pairwise(command)
        outputs |= {value for option, value in options if option in ("--output", "OUTPUT_DIR")}
        if "tfdetect.data.shapes" in command:
            folder = command[command.index("tfdetect.data.shapes") + 1]
            outputs |= {f"{folder}/annotations.json", f"{folder}/images"}
    found = {word.rstrip("/") for word in words}
    found = found & set(MADE) - outputs
    # A file brings the folder that it is in.
    return {name for name in found if not any(other.startswith(f"{name}/") for other in found)}


@pytest.fixture
def place(tmp_path, model_dir, monkeypatch):
    """A folder with the files that a block names, which becomes the current one."""

    def fill(block: Block) -> Path:
        (tmp_path / "demo").symlink_to(DEMO)
        shutil.copy(DEMO / "images" / "000002.jpg", tmp_path / "image.jpg")
        for name in sorted(named(block)):
            make, path = MADE[name], tmp_path / name
            make(path, model_dir) if make in OF_THE_MODEL else make(path)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return fill


def arguments_of(words: list[str]) -> tuple[str, list[str]]:
    """The script, module or command of `python ...` and `tfdetect ...`, and its arguments."""
    while "=" in words[0]:
        words = words[1:]
    words = words[1:] if words[0] == "python" else words
    words = words[1:] if words[0] == "-m" else words
    if words[0] == "tfdetect" and len(words) > 1 and not words[1].startswith("-"):
        words = [f"tfdetect {words[1]}", *words[2:]]
    return words[0], words[1:]


def is_long(block: Block) -> bool:
    return any(word in block.text for word in LONG)


@pytest.mark.usefixtures("shared_predictors")
@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=block.name, marks=pytest.mark.full if is_long(block) else ())
        for block in RUN
    ],
)
def test_run(block, place):
    folder = place(block)
    if block.language == "python":
        (folder / "block.py").write_text(PRELUDE + block.text)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "block.py"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return
    before = {path for path in folder.rglob("*") if path.is_file()}
    for words in block.commands():
        program, arguments = arguments_of(words)
        if program == "tfdetect.data.shapes":
            arguments = [FEWER.get(word, word) for word in arguments]
        if program == "tfdetect train":
            arguments = [*arguments, *ONE_STEP]
        assert importlib.import_module(MAINS[program]).main(arguments) in (0, None)
    if "inspect" not in block.text:
        assert {path for path in folder.rglob("*") if path.is_file()} > before


class Parsed(BaseException):
    """The arguments are accepted; the command does not go on."""


@pytest.fixture
def parse(monkeypatch):
    """Let a command parse its arguments and do nothing; gives the options that it knows."""
    options: list[str] = []

    def stop(method):
        def parse_and_stop(self, *arguments, **keywords):
            options[:] = self._option_string_actions
            method(self, *arguments, **keywords)
            raise Parsed

        return parse_and_stop

    for name in ("parse_args", "parse_intermixed_args"):
        method = getattr(argparse.ArgumentParser, name)
        monkeypatch.setattr(argparse.ArgumentParser, name, stop(method))

    def parse(program, arguments):
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        with pytest.raises((Parsed, SystemExit)) as raised:
            importlib.import_module(MAINS[program]).main()
        return raised.type is Parsed, list(options)

    return parse


@pytest.mark.parametrize("block", [pytest.param(b, id=b.name) for b in BLOCKS if not b.language])
def test_options_of_blocks(block, parse):
    for words in block.commands():
        program, arguments = arguments_of(words)
        if program in MAINS:
            # "tfdetect train ..." stands for any options.
            assert arguments == ["..."] or parse(program, arguments)[0], words
        else:
            check_other_program(program, arguments)


@pytest.mark.parametrize("words", [pytest.param(w, id=f"{p}: {w}") for p, w in inline_commands()])
def test_commands_in_running_text(words, parse):
    if words == ["python"]:
        return
    program, arguments = arguments_of(words)
    if program in MAINS:
        _, known = parse(program, arguments)
        named = [word for word in arguments if word.startswith("--")]
        assert set(named) <= set(known)
    else:
        check_other_program(program, arguments)


def check_other_program(program: str, arguments: list[str]) -> None:
    """What can be known of a program that is not run: its files, options and targets are there."""
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert {word for word in arguments if "=" not in word} <= set(targets)
    elif program == "docker":
        files = [file for option, file in itertools.pairwise(arguments) if option == "-f"]
        assert all((ROOT / file).is_file() for file in files)
    elif program == "pip":
        for extra in re.findall(r"tfdetect\[(\w+)\]", " ".join(arguments)):
            assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.M)
    elif program == "tfdetect":
        assert set(arguments) <= {"--help", "--version"}
    elif program == "curl":
        path = urlsplit(arguments[-1]).path
        assert f'Route("{path}"' in (ROOT / "tfdetect" / "serving" / "app.py").read_text()
    elif program == "tensorboard":
        assert arguments[0] == "--logdir"
    else:
        source = "".join(path.read_text() for path in (ROOT / program).parent.glob("*.py"))
        assert (ROOT / program).is_file()
        for word in arguments:
            assert not word.startswith("--") or f'"{word}"' in source, word


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=str)
def test_configurations_are_read(block, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(block.text)
    assert build_augmentation(load_config(path))


def test_blocks_are_marked_and_their_files_are_there():
    assert {block.needs for block in BLOCKS} - {""} == NEEDS
    assert {block.language for block in BLOCKS} == {"", "python", "text", "yaml"}
    assert all(name in "".join(block.text for block in RUN) for name in MADE)
    # Stand-ins have the names of files that there are.
    for text in (path.read_text() for path in PAGES):
        for name in re.findall(r"(?:configs|demo|docs|tests|benchmarks)/[\w./-]+\.\w+", text):
            assert "NAME" in name or (ROOT / name).exists(), name
