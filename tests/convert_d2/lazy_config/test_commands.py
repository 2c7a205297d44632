"""LazyConfigs through the commands: converted, inspected, rejected in a line, and nothing run."""

from __future__ import annotations

# ruff: noqa: E501 - messages and pieces of YAML, a line each
import resource
import time

import pytest

import tfdetect.cli.train
from benchmarks import seeded_weights
from convert_d2 import inspection
from convert_d2.command import main as convert
from convert_d2.lazy_config.conversion import read_lazy_config
from tests.support.commands import fails
from tests.support.lazy_configs import FOLDER, NAMES, changed, mutate, text_of
from tfdetect.checkpoint.formats.pickle_writer import pickle_arrays
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.config import load_config
from tfdetect.config.checks import check_model
from tfdetect.errors import InputError
from tfdetect.modeling.build import build_model

MUTATIONS = 300
LONGEST = 5.0
"""Seconds for one file; each takes some hundredths."""


def narrow():
    """A recorded file of a model with fewer channels."""
    return changed(
        "mask_rcnn_R_50_FPN_100ep_LSJ",
        ("256", "32"),
        ("fc_dims: [1024]", "fc_dims: [64]"),
        ("channels: 1024, height: null", "channels: 64, height: null"),
        ("num_classes: 80", "num_classes: 5"),
        ("depth: 50, norm: SyncBN, stride_in_1x1: true", "depth: 18, norm: SyncBN"),
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of the narrow model, seeded."""
    from tfdetect.checkpoint.names import named_variables

    folder = tmp_path_factory.mktemp("lazy")
    (folder / "config.yaml").write_text(narrow())
    opts = [f"MODEL.ROI_{head}_HEAD.NORM" for head in ("BOX", "MASK")]
    opts = [opts[0], "naiveSyncBN_N", opts[1], "naiveSyncBN_N"]
    model = build_model(read_lazy_config(folder / "config.yaml").configuration(opts)[0])
    shapes = {named.name: list(named.foreign_shape) for named in named_variables(model)}
    path = folder / "model_final.pkl"
    path.write_bytes(pickle_arrays(seeded_weights.state_dict(shapes), "test"))
    return path


def test_convert(weights, tmp_path, capsys):
    config, model = tmp_path / "config.yaml", tmp_path / "model"
    config.write_text(narrow())
    command = ["--config-file", str(config), "--weights", str(weights), "--output", str(model)]
    assert convert(command) == 0
    out, err = capsys.readouterr()
    assert "5 classes" in out
    lines = [line for line in err.splitlines() if line.startswith("note:")]
    assert len(lines) == 3, err
    assert (
        lines[0]
        == f"note: {config}: train.ddp.fp16_compression: True has no counterpart in training"
    )
    for line, head in zip(lines[1:], ("box", "mask"), strict=True):
        assert line.startswith(f"note: {config}: model.roi_heads.{head}_head.conv_norm: a lambda")
        assert "naiveSyncBN_N" in line
    # The written configuration is one of yacs, which every command reads.
    cfg = load_config(model / "config.yaml")
    assert cfg == load_model(model)[0]
    assert cfg.MODEL.ROI_BOX_HEAD.NORM == "naiveSyncBN_N"
    assert (cfg.SOLVER.MAX_ITER, cfg.INPUT.LARGE_SCALE_JITTER.ENABLED) == (184375, True)


def test_opts_go_before_the_file(weights, tmp_path, capfd):
    config = tmp_path / "config.yaml"
    config.write_text(narrow())
    command = ["--config-file", config, "--weights", weights, "--output", tmp_path / "model"]
    line = fails_after_notes(capfd, *command, "--opts", "MODEL.ROI_HEADS.NUM_CLASSES", "7")
    assert "roi_heads.box_predictor.cls_score" in line
    assert not (tmp_path / "model").exists()


def fails_after_notes(capfd, *arguments):
    """The line of an error, after the notes on the file."""
    from tfdetect.cli.command import run_command

    capfd.readouterr()
    with pytest.raises(SystemExit) as raised:
        run_command(lambda: convert([str(argument) for argument in arguments]))
    lines = capfd.readouterr().err.splitlines()
    assert raised.value.code == 2
    assert all(line.startswith("note: ") for line in lines[:-1])
    assert lines[-1].startswith("error: ")
    return lines[-1]


@pytest.mark.parametrize("name", NAMES)
def test_inspect(name, capfd):
    path = FOLDER / f"{name}.yaml"
    assert inspection.main([str(path)]) == 0
    out = capfd.readouterr().out
    assert "(LazyConfig)" in out
    expected = {
        "retinanet_R_50_FPN_1x": "RetinaNet, ResNet-50-FPN\n",
        "mask_rcnn_R_50_C4_1x": "GeneralizedRCNN, ResNet-50, Res5ROIHeads, boxes, masks\n",
        "panoptic_fpn_R_50_1x": "PanopticFPN, ResNet-50-FPN, StandardROIHeads, boxes, masks\n",
        "mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ": "GeneralizedRCNN, RegNet-FPN, StandardROIHeads, ",
        "keypoint_rcnn_R_50_FPN_1x": "boxes, 17 keypoints\n",
    }
    assert expected.get(name, "") in out
    assert ("MODEL.ROI_BOX_HEAD.NORM will follow from the checkpoint" in out) == ("LSJ" in name)


@pytest.mark.parametrize(
    "name", ["apply_os_system", "partial_of_subprocess_call", "target_os_system"]
)
def test_malicious_files(name, tmp_path, monkeypatch, capfd):
    """Each makes a file when Detectron2 reads or builds it; here it is named and makes none."""
    monkeypatch.chdir(tmp_path)
    path = FOLDER / "malicious" / f"{name}.yaml"
    command = ["--config-file", path, "--weights", "none.pkl", "--output", "model"]
    expected = {
        "apply_os_system": "line 136: the tag !!python/object/apply:os.system is rejected",
        "partial_of_subprocess_call": "stages.norm: the norm functools.partial of subprocess.call is",
        "target_os_system": "model.backbone.bottom_up.stem: os.system is not one of the classes",
    }
    assert expected[name] in fails(capfd, convert, *command)
    assert expected[name] in fails(capfd, inspection.main, path)
    assert not list(tmp_path.iterdir())


def test_files_that_are_refused_by_name_or_size(tmp_path, capfd):
    rest = ["--weights", "none.pkl", "--output", tmp_path / "model"]
    pickled = tmp_path / "config.yaml.pkl"
    pickled.write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    python = tmp_path / "mask_rcnn.py"
    python.write_text("model = 5\n")
    large = tmp_path / "config.yaml"
    large.write_text(text_of("retinanet_R_50_FPN_1x") + "weights: [" + "0.123, " * 200_000 + "]\n")
    for path, expected in (
        (
            pickled,
            f"a pickle contains code and is never read as a configuration; give {tmp_path / 'config.yaml'}",
        ),
        (
            python,
            "would have to be run; give the config.yaml of its training, or write one where Detectron2",
        ),
        (large, "over 1 MiB: a LazyConfig that contains a module has its weights as text"),
    ):
        start = time.perf_counter()
        assert expected in fails(capfd, convert, "--config-file", path, *rest)
        assert expected in fails(capfd, inspection.main, path)
        assert expected in fails(capfd, tfdetect.cli.train.main, "--config-file", path)
        assert time.perf_counter() - start < 20
    assert not (tmp_path / "model").exists()


def test_train_says_what_to_do(capfd):
    path = FOLDER / "retinanet_R_50_FPN_1x.yaml"
    line = fails(capfd, tfdetect.cli.train.main, "--config-file", path)
    assert (
        f"{path}: is a LazyConfig; convert its model first (tfdetect convert --config-file" in line
    )


def test_of_another_library(tmp_path, capfd):
    line = fails(
        capfd, inspection.main, FOLDER.parent.parent.parent / "configs" / "Base-RCNN-C4.yaml"
    )
    assert "is a configuration and no checkpoint" in line


def outcome(path, check):
    """What becomes of a file: the message of its error, or what `check` makes of it."""
    try:
        lazy = read_lazy_config(path)
        if lazy is None:
            load_config(path)
            return "not a LazyConfig"
        assert not any("\n" in note for note in lazy.notes)
        cfg, _ = lazy.configuration()
        check_model(cfg)
        check(cfg)
    except InputError as error:
        return str(error)
    return None


def test_mutations(tmp_path, monkeypatch):
    """Whatever a file says, it is read or named in one line, in little time and memory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    messages = []
    for seed in range(MUTATIONS):
        path.write_bytes(mutate(text_of(NAMES[seed % len(NAMES)]), seed))
        start = time.process_time()
        messages.append(outcome(path, lambda cfg: None))
        assert time.process_time() - start < LONGEST, seed
    errors = [message for message in messages if message is not None]
    assert not [message for message in errors if "\n" in message or len(message) > 1000]
    assert 100 < len(errors) < MUTATIONS - 20
    assert len({message.partition(": ")[2][:40] for message in errors}) > 50
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@pytest.mark.full
def test_mutations_are_built(tmp_path):
    """What the reader accepts is built, or named in one line as well."""
    path = tmp_path / "config.yaml"
    messages = []
    for seed in range(MUTATIONS):
        path.write_bytes(mutate(narrow(), seed))
        messages.append(outcome(path, build_model))
    assert messages.count(None) > 20
    assert not any("\n" in message for message in messages if message)
