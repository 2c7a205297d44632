"""Configurations by their name in the zoo."""

from __future__ import annotations

import pytest

from tests.support.paths import ROOT
from tfdetect.config import find_config, load_config, zoo_models
from tfdetect.config.zoo import CONFIGS
from tfdetect.errors import InputError

NAME = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"


def test_the_package_has_what_the_checkout_has():
    assert CONFIGS.resolve() == ROOT / "configs"
    assert len(zoo_models()) == 81 + 29
    assert NAME in zoo_models()


@pytest.mark.parametrize("name", [NAME, f"{NAME}.yaml"])
def test_name(name):
    assert find_config(name) == CONFIGS / f"{NAME}.yaml"
    assert load_config(name) == load_config(ROOT / "configs" / f"{NAME}.yaml")


def test_a_file_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "COCO-InstanceSegmentation").mkdir()
    (tmp_path / f"{NAME}.yaml").write_text("SEED: 7\n")
    assert load_config(f"{NAME}.yaml").SEED == 7
    assert load_config(NAME).SEED == -1


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("mask_rcnn_R_50_FPN_3x", NAME),
        ("COCO-InstanceSegmentation/mask_rcnn_R50_FPN_3x.yaml", NAME),
        (f"configs/{NAME}.yml", NAME),
        ("coco-detection/Retinanet_R_50_FPN_1x", "COCO-Detection/retinanet_R_50_FPN_1x"),
    ],
)
def test_nearest(given, nearest):
    with pytest.raises(InputError, match=f"^{given}: No such file, and no .*: {nearest}"):
        load_config(given)


@pytest.mark.parametrize("given", ["quux.yaml", "/no/such/file", "../configs/Base-RCNN-FPN"])
def test_nothing_is_near(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"and no such model in the zoo$"):
        load_config(given)
