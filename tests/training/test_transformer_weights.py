"""ImageNet's Swin and MViTv2, by their own names, as the initial weights of detectors."""

from __future__ import annotations

# ruff: noqa: E501 - messages, a line each
import logging

import numpy as np
import pytest

from tests.support.pickle_writer import torch_file, torch_state
from tests.support.transformer_models import (
    imagenet_mvit,
    imagenet_swin,
    narrow_config,
)
from tfdetect.checkpoint.formats.pickle_writer import pickle_arrays
from tfdetect.checkpoint.names import named_variables
from tfdetect.errors import InputError
from tfdetect.modeling.build import build_model
from tfdetect.training.weights import load_initial_weights

PREFIX = "backbone.bottom_up."


def write_swin(path, arrays):
    """As microsoft/Swin-Transformer publishes them: torch's archive, under `model`."""
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    return torch_file(path / "swin.pth", {"model": torch_state(floats)}, floats)


def write_mvit(path, arrays):
    """As facebookresearch/mvit: `model_state` beside a training's state, and one frame's time."""
    arrays = {name: x[:, :, None] if x.ndim == 4 else x for name, x in arrays.items()}
    state = {"epoch": 299, "cfg": "MVIT: {}", "model_state": torch_state(arrays)}
    state["optimizer_state"] = {"state": {}, "param_groups": []}
    return torch_file(path / "MViTv2.pyth", state, arrays)


def load(caplog, kind, path, more=()):
    """A model with the file's weights, and the log."""
    cfg = narrow_config(kind, ["MODEL.WEIGHTS", str(path), *more])
    model = build_model(cfg)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="tfdetect.train"):
        load_initial_weights(cfg, model, seed=0)
    return model, caplog.text


@pytest.mark.parametrize(
    ("kind", "arrays_of", "write", "unused"),
    [
        ("swin", imagenet_swin, write_swin, "layers.1.blocks.1.attn_mask"),
        ("mvit", imagenet_mvit, write_mvit, "head.projection.weight"),
    ],
)
def test_names_of_imagenet(kind, arrays_of, write, unused, tmp_path, caplog):
    """All of the backbone but the norms of its outputs, bit for bit."""
    arrays = arrays_of(narrow_config(kind))
    model, log = load(caplog, kind, write(tmp_path, arrays))
    found = [named for named in named_variables(model) if named.name.startswith(PREFIX)]
    for named in found:
        name = named.name.removeprefix(PREFIX)
        if name in arrays:
            np.testing.assert_array_equal(named.variable, named.from_foreign(arrays[name]), name)
    missing = {named.name.removeprefix(PREFIX) for named in found} - set(arrays)
    assert missing
    assert all(".blocks." not in name and "norm" in name for name in missing)
    assert "has no backbone.fpn_lateral2.weight" in log
    assert unused in log.partition("not used: ")[2].partition("\n")[0].split(", ")
    assert "other shapes" not in log
    # MViT's container is not Detectron2's.
    assert ("the weights under 'model_state' are used" in log) == (kind == "mvit")


def test_a_norm_that_would_be_many(tmp_path, caplog):
    """The last norm of a file is not that of a whole pyramid, even if it is as wide."""
    path = write_swin(tmp_path, imagenet_swin(narrow_config("swin")))
    model, log = load(caplog, "swin", path, ["MODEL.FPN.OUT_CHANNELS", 64])
    norms = [v for v in named_variables(model) if v.name.endswith("lateral2.norm.weight")]
    assert [np.unique(named.variable).tolist() for named in norms] == [[1.0]]
    assert "norm.weight" in log.partition("not used: ")[2].partition("\n")[0].split(", ")


def test_other_windows_start_from_zeros(tmp_path, caplog):
    """As in Detectron2, a table of another size is left out, and the log names it."""
    path = write_swin(
        tmp_path, imagenet_swin(narrow_config("swin", ["MODEL.SWIN.WINDOW_SIZE", 12]))
    )
    _, log = load(caplog, "swin", path)
    table = f"{PREFIX}layers.0.blocks.0.attn.relative_position_bias_table"
    assert f"other shapes, initialised: {table} [529, 1] for [169, 1]" in log


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("vit", "MODEL.WEIGHTS has nothing of the configured model"),
        # A bias of 8 numbers fits.
        ("mvit", r"is of another model: .*\(backbone.bottom_up.patch_embed.proj.weight \[8, 3, 4, 4\]"),
    ],
)  # fmt: skip
def test_of_another_backbone(kind, expected, tmp_path, caplog):
    path = write_swin(tmp_path, imagenet_swin(narrow_config("swin")))
    with pytest.raises(InputError, match=expected) as caught:
        load(caplog, kind, path)
    assert "\n" not in str(caught.value)


def test_damaged(tmp_path, caplog):
    """Truncated, not finite, text in place of numbers: a line that names the file."""
    arrays = imagenet_swin(narrow_config("swin"))
    path = write_swin(tmp_path, arrays)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"swin\.pth: .*download"):
        load(caplog, "swin", path)
    table = "layers.0.blocks.0.attn.relative_position_bias_table"
    for value, expected in (
        (np.full_like(arrays[table], np.nan), f"NaN or infinity in {PREFIX}{table}; give another"),
        (np.full(arrays[table].shape, "0.5"), table),
    ):
        other = tmp_path / "x.pkl"
        other.write_bytes(pickle_arrays(arrays | {table: value}, "me"))
        with pytest.raises(InputError, match=expected) as caught:
            load(caplog, "swin", other)
        assert "\n" not in str(caught.value)
