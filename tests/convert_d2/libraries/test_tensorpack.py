"""tensorpack's models: written array for array as by its own `convert_d2`, and read back.

Everything is exact: the arrays are only moved. The records hold names, shapes and the CRC-32 of
each array's float32 bytes in C order.
"""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
import pytest

from benchmarks import seeded_weights
from convert_d2.libraries.recognition import recognize
from convert_d2.libraries.tensorpack import from_tensorpack, tensorpack_config, to_tensorpack
from tests.support.paths import DATA, ROOT
from tfdetect.config import load_config
from tfdetect.errors import InputError

CONFIGS = sorted(path.stem.replace("__", "/") for path in (DATA / "tensorpack").glob("*.json"))


@pytest.mark.parametrize("config", CONFIGS)
def test_written_as_tensorpacks_own_converter_does(config):
    with gzip.open(DATA / "zoo_state_dicts.json.gz", "rt") as file:
        arrays = seeded_weights.state_dict(json.load(file)[f"{config}.yaml"])
    record = json.loads((DATA / "tensorpack" / f"{config.replace('/', '__')}.json").read_text())
    cfg = load_config(ROOT / "configs" / f"{config}.yaml")
    assert dict(tensorpack_config(cfg)) == record["config"]
    assert [key for key, _ in tensorpack_config(cfg)] == list(record["config"])
    written = to_tensorpack(arrays, cfg, "seeded weights")
    assert recognize(written).library == "tensorpack"
    assert set(written) == set(record["arrays"])
    for name, (shape, checksum) in record["arrays"].items():
        assert written[name].dtype == np.float32
        assert list(written[name].shape) == shape, name
        assert zlib.crc32(np.ascontiguousarray(written[name])) == checksum, name
    again = from_tensorpack(written, cfg)
    assert set(again) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_group_normalisation_is_read():
    """The names of tensorpack's R50-FPN-GN (its zoo's COCO-MaskRCNN-R50FPN2xGN.npz)."""
    config = "Misc/mask_rcnn_R_50_FPN_3x_gn"
    cfg = load_config(ROOT / "configs" / f"{config}.yaml")
    with gzip.open(DATA / "zoo_state_dicts.json.gz", "rt") as file:
        shapes = json.load(file)[f"{config}.yaml"]
    given = {
        "conv0/gn/gamma": "backbone.bottom_up.stem.conv1.norm.weight",
        "group1/block2/conv3/gn/beta": "backbone.bottom_up.res3.2.conv3.norm.bias",
        "fpn/gn_c3/gamma": "backbone.fpn_lateral3.norm.weight",
        "fpn/gn_p5/beta": "backbone.fpn_output5.norm.bias",
        "fastrcnn/gn3/gamma": "roi_heads.box_head.conv4.norm.weight",
        "maskrcnn/gn0/beta": "roi_heads.mask_head.mask_fcn1.norm.bias",
        "fastrcnn/fc/b": "roi_heads.box_head.fc1.bias",
        "fastrcnn/conv0/W": "roi_heads.box_head.conv1.weight",
    }
    arrays = {
        theirs: seeded_weights.array(ours, shapes[ours]).transpose(
            [2, 3, 1, 0] if len(shapes[ours]) == 4 else None
        )
        for theirs, ours in given.items()
    }
    read = from_tensorpack(arrays, cfg)
    assert set(read) == set(given.values())
    for name, array in read.items():
        np.testing.assert_array_equal(array, seeded_weights.array(name, shapes[name]))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("COCO-Detection/retinanet_R_50_FPN_1x", r"MODEL\.META_ARCHITECTURE: tensorpack has no"),
        ("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x", r"MODEL\.KEYPOINT_ON"),
        ("COCO-Detection/faster_rcnn_R_50_DC5_1x", r"MODEL\.ROI_HEADS\.NAME"),
        ("COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x", r"MODEL\.RESNETS\.NUM_GROUPS"),
        ("Detectron1-Comparisons/faster_rcnn_R_50_FPN_noaug_1x", r"POOLER_TYPE"),
    ],
)
def test_models_that_tensorpack_does_not_have(config, message):
    with pytest.raises(InputError, match=message):
        tensorpack_config(load_config(ROOT / "configs" / f"{config}.yaml"))


def test_weights_of_another_model():
    cfg = load_config(ROOT / "configs" / "COCO-Detection" / "faster_rcnn_R_50_FPN_1x.yaml")
    with pytest.raises(InputError, match=r"has no backbone\.bottom_up\.stem\.conv1\.weight"):
        to_tensorpack({}, cfg, "x.pkl")
