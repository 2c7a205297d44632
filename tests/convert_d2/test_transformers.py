"""ViT, Swin and MViT through the commands: converted by name, exported back, refused in a line."""

from __future__ import annotations

# ruff: noqa: E501 - messages, a line each
import numpy as np
import pytest
import tensorflow as tf

from convert_d2.command import main as convert
from convert_d2.export import export_arrays
from convert_d2.export import main as export
from tests.convert_d2.test_export import assert_same_bits
from tests.support.commands import fails
from tests.support.transformer_models import (
    ZOO,
    imagenet_swin,
    narrow_config,
    narrow_options,
    narrow_state_dict,
)
from tfdetect.checkpoint.formats.pickle_writer import pickle_arrays
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.checkpoint.model_dir import load_model

INDEX = "backbone.bottom_up.layers.1.blocks.1.attn.relative_position_index"


def arguments(kind, weights, output, more=()):
    """By the name of a model in the zoo."""
    options = [str(option) for option in (*narrow_options(kind), *more)]
    files = ["--weights", str(weights), "--output", str(output)]
    return ["--config-file", ZOO[kind], *files, "--opts", *options]


def write(path, arrays):
    path.write_bytes(pickle_arrays(arrays, "Detectron2 Model Zoo"))
    return path


@pytest.mark.parametrize("kind", ZOO)
def test_there_and_back(kind, tmp_path, capsys):
    """Bit for bit, with Detectron2's buffers and the counters of its BatchNorm."""
    arrays = narrow_state_dict(narrow_config(kind))
    assert (INDEX in arrays) == (kind == "swin")
    counters = sum(name.endswith("num_batches_tracked") for name in arrays)
    assert counters == (16 if kind == "mvit" else 0)
    weights, model = write(tmp_path / "model_final.pkl", arrays), tmp_path / "model"
    assert convert(arguments(kind, weights, model)) == 0
    out, err = capsys.readouterr()
    assert "3 classes" in out
    assert err == ""
    exported = tmp_path / "back.pkl"
    assert export(["--model", str(model), "--output", str(exported)]) == 0
    assert_same_bits(read_checkpoint(exported).arrays, arrays)
    name = narrow_config(kind).MODEL.BACKBONE.NAME
    said = capsys.readouterr().err
    assert said.startswith(f"note: Detectron2's YAML cannot express MODEL.BACKBONE.NAME {name}; ")
    assert len(said.splitlines()) == 1


@pytest.mark.full
def test_buffers_may_be_left_out(tmp_path):
    """As older checkpoints do, and a file of another library's Swin."""
    arrays = narrow_state_dict(narrow_config("swin"))
    left = {name: x for name, x in arrays.items() if "position_index" not in name}
    model = tmp_path / "model"
    assert convert(arguments("swin", write(tmp_path / "x.pkl", left), model)) == 0
    assert_same_bits(export_arrays(*load_model(model)[:2]), arrays)


def test_of_another_order(tmp_path, capfd):
    """A table that is indexed in another way would be silently wrong."""
    arrays = narrow_state_dict(narrow_config("swin"))
    weights = write(tmp_path / "x.pkl", arrays | {INDEX: arrays[INDEX].T.copy()})
    line = fails(capfd, convert, *arguments("swin", weights, tmp_path / "model"))
    assert f"{INDEX} has other values than are computed here" in line
    assert not (tmp_path / "model").exists()


MISFITS = [
    ("vit", "swin", (), "MODEL.BACKBONE.NAME is build_vit_simple_feature_pyramid_backbone, its arrays are of build_swin_fpn_backbone"),
    ("swin", "mvit", (), "MODEL.BACKBONE.NAME is build_swin_fpn_backbone, its arrays are of build_mvit_fpn_backbone"),
    ("swin", "swin", ("MODEL.SWIN.WINDOW_SIZE", 12), "MODEL.SWIN.WINDOW_SIZE is 7, its arrays are of 12"),
    ("vit", "vit", ("MODEL.VIT.IMG_SIZE", 128), "MODEL.VIT.IMG_SIZE is 64, its arrays are of 128"),
    ("vit", "vit", ("MODEL.VIT.WINDOW_SIZE", 2), "MODEL.VIT.WINDOW_SIZE is 3, its arrays are of 2"),
    ("mvit", "mvit", ("MODEL.MVIT.IMG_SIZE", 512), "MODEL.MVIT.IMG_SIZE is 224, its arrays are of 512"),
]  # fmt: skip


QUICK = (0, 2, 5)


@pytest.mark.parametrize(
    ("kind", "given", "options", "expected"),
    [
        row if index in QUICK else pytest.param(*row, marks=pytest.mark.full)
        for index, row in enumerate(MISFITS)
    ],
    ids=range(len(MISFITS)),
)
def test_of_another_configuration(kind, given, options, expected, tmp_path, capfd):
    """What of the configuration the checkpoint has otherwise is said."""
    weights = write(tmp_path / "x.pkl", narrow_state_dict(narrow_config(given, options)))
    line = fails(capfd, convert, *arguments(kind, weights, tmp_path / "model"))
    assert "x.pkl does not fit the model of the configuration" in line
    assert line.endswith(f". {expected}")
    assert len(line) < 1500
    assert not (tmp_path / "model").exists()


def test_files_that_cannot_be_read(tmp_path, capfd):
    """Truncated, text in place of numbers, not finite, and a backbone alone: said before a model
    is built, or naming the array."""
    arrays = narrow_state_dict(narrow_config("vit"))
    table = "backbone.net.blocks.1.attn.rel_pos_h"
    whole = write(tmp_path / "whole.pkl", arrays).read_bytes()
    (tmp_path / "cut.pkl").write_bytes(whole[: len(whole) // 2])
    write(tmp_path / "text.pkl", arrays | {table: np.full(arrays[table].shape, "0.5")})
    write(tmp_path / "nan.pkl", arrays | {table: np.full_like(arrays[table], np.inf)})
    write(tmp_path / "swin.pkl", imagenet_swin(narrow_config("swin")))
    for name, expected in (
        ("cut.pkl", "cut.pkl: "),
        ("text.pkl", table),
        ("nan.pkl", f"NaN or infinity in {table}"),
        ("swin.pkl", "is not a detector: a Swin Transformer (a backbone); give a whole model"),
    ):
        line = fails(capfd, convert, *arguments("vit", tmp_path / name, tmp_path / "model"))
        assert expected in line
        assert name in line
        assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("size", [10**12 + 2, 2**62])
def test_sizes_that_no_memory_has(size, tmp_path, capfd):
    tf.zeros([])  # what TensorFlow says of a machine, it says at first
    weights = write(tmp_path / "x.pkl", {"backbone.net.pos_embed": np.ones(3, np.float32)})
    options = ["MODEL.VIT.EMBED_DIM", size, "MODEL.VIT.NUM_HEADS", 2]
    line = fails(capfd, convert, *arguments("vit", weights, tmp_path / "model", options))
    assert f"MODEL: memory is too small for a variable of shape [1,197,{size}]; correct" in line


@pytest.mark.parametrize("scheme", ["detectron2://", "https://dl.fbaipublicfiles.com/detectron2/"])
def test_addresses_of_the_zoo(scheme, tmp_path, capfd, monkeypatch):
    """They come from the mirror, where nothing answers."""
    monkeypatch.setenv("TFDETECT_CACHE", str(tmp_path / "cache"))
    address = f"{scheme}ViTDet/COCO/mask_rcnn_vitdet_b/f325346929/model_final_61ccd1.pkl"
    line = fails(capfd, convert, *arguments("vit", address, tmp_path / "model"))
    assert f"error: --weights: {address}: " in line
    assert "refused" in line
