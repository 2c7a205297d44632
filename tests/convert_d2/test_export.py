"""Back to Detectron2: what is exported is, bit for bit, what was converted."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import seeded_weights
from convert_d2.command import main as convert
from convert_d2.export import export_arrays
from convert_d2.export import main as export
from tests.support.paths import DATA, DEMO, ROOT
from tfdetect.checkpoint.formats.pickle_writer import pickle_arrays
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.checkpoint.model_dir import load_model, save_model
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.errors import InputError
from tfdetect.modeling.build import build_model

NARROW = [
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 8),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", 32),
    *("MODEL.FPN.OUT_CHANNELS", 32),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 32),
    *("MODEL.ROI_BOX_HEAD.CONV_DIM", 32),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 32),
    *("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [16] * 8),
]


def assert_same_bits(read: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(read) == set(expected)
    for name, array in expected.items():
        assert read[name].dtype == array.dtype, name
        assert read[name].shape == array.shape, name
        assert read[name].tobytes() == array.tobytes(), name


def test_round_trip_of_a_trained_model(tmp_path, capsys):
    weights = DEMO / "joint_rcnn" / "model_final.pkl"
    config = str(DEMO / "joint_rcnn" / "config.yaml")
    model, exported = tmp_path / "model", tmp_path / "new" / "model.pkl"
    convert(["--config-file", config, "--weights", str(weights), "--output", str(model)])
    export(["--model", str(model), "--output", str(exported)])
    # The configuration is the one that Detectron2 wrote.
    given = yaml.safe_load(Path(config).read_text())
    assert yaml.safe_load(exported.with_suffix(".yaml").read_text()) == given
    original = read_checkpoint(weights)
    again = read_checkpoint(exported)
    assert "317 arrays" in capsys.readouterr().out
    assert again.author == "tfdetect"
    assert_same_bits(again.arrays, original.arrays)
    # As Detectron2 loads it (fvcore's Checkpointer).
    loaded = pickle.loads(exported.read_bytes(), encoding="latin1")  # noqa: S301 (our own)
    assert set(loaded) == {"model", "__author__"}
    assert_same_bits(loaded["model"], original.arrays)
    assert all(array.flags.writeable for array in loaded["model"].values())


@pytest.mark.parametrize(
    "config",
    [
        "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x",
        "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x",
        "COCO-Detection/retinanet_R_50_FPN_1x",
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x",
        "Misc/mask_rcnn_R_50_FPN_3x_syncbn",
        "Misc/mask_rcnn_R_50_FPN_3x_dconv_c3-c5",
        "Misc/scratch_mask_rcnn_R_50_FPN_9x_syncbn",
    ],
)
def test_narrow_architectures_of_the_zoo(config, tmp_path):
    cfg = load_config(ROOT / "configs" / f"{config}.yaml", [str(option) for option in NARROW])
    model = build_model(cfg)
    # Every element its own number, so that a wrong layout cannot pass.
    given = {}
    for number, named in enumerate(named_variables(model)):
        size = int(np.prod(named.foreign_shape, dtype=np.int64))
        values = np.arange(size, dtype=np.float32).reshape(named.foreign_shape) + number / 1024
        given[named.name] = values
        named.variable.assign(named.from_foreign(values))
    save_model(tmp_path / "model", cfg, model, {"class_names": [str(k) for k in range(100)]})
    exported = export_arrays(*load_model(tmp_path / "model")[:2])
    counters = {name for name in exported if name.endswith("num_batches_tracked")}
    assert_same_bits({k: v for k, v in exported.items() if k not in counters}, given)
    with gzip.open(DATA / "zoo_state_dicts.json.gz", "rt") as file:
        assert set(exported) == set(json.load(file)[f"{config}.yaml"])
    assert all(exported[name] == 0 for name in counters)


def test_every_dtype_and_shape_as_numpy_reads_it():
    arrays = {
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 4), np.float32),
        "big-endian": np.arange(5, dtype=">f4"),
        "flags": np.array([True, False]),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "not ASCII: é": seeded_weights.array("x", (3, 3)),
    }
    loaded = pickle.loads(pickle_arrays(arrays, "someone"))  # noqa: S301 (our own)
    assert loaded["__author__"] == "someone"
    assert list(loaded["model"]) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded["model"][name], array)
        assert loaded["model"][name].shape == array.shape


def test_refusals(tmp_path):
    with pytest.raises(InputError, match=r"use \.pkl"):
        export(["--model", str(tmp_path), "--output", str(tmp_path / "model.pth")])
    with pytest.raises(InputError, match=r"has no config\.yaml"):
        export(["--model", str(tmp_path), "--output", str(tmp_path / "model.pkl")])
