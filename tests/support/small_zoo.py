"""A zoo of one small model, the demo's under another's name, and a server that has its weights."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.support.file_server import FileServer
from tests.support.paths import DEMO
from tfdetect.config import zoo

NAME = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"
WEIGHTS = DEMO / "joint_rcnn" / "model_final.pkl"
# The demo's classes and COCO's, in the order of the models' outputs.
_CLASSES = {"person": "person", "circle": "bicycle", "square": "car", "triangle": "motorcycle"}


def use_caches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have caches of this test's own; gives the folder of the downloads."""
    monkeypatch.setenv("TFDETECT_CACHE", str(folder / "cache"))
    monkeypatch.setenv("FVCORE_CACHE", str(folder / "detectron2"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return folder / "cache" / "weights"


def use_small_zoo(
    folder: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch, ap: dict[str, float]
) -> str:
    """Have the zoo's configurations, published values and weights be the demo's.

    Gives the address of the weights.
    """
    content = WEIGHTS.read_bytes()
    file = f"model_final_{hashlib.md5(content).hexdigest()[:6]}.pkl"
    published = {NAME: {"model_id": "1", "file": file, "ap": ap}}
    config = folder / "configs" / f"{NAME}.yaml"
    config.parent.mkdir(parents=True)
    test = {"DATASETS": {"TEST": ["coco_2017_val"]}}
    config.write_text(yaml.safe_dump({"_BASE_": str(DEMO / "joint_rcnn" / "config.yaml"), **test}))
    monkeypatch.setattr(zoo, "CONFIGS", folder / "configs")
    monkeypatch.setattr(zoo, "_published", lambda: published)
    monkeypatch.setattr(zoo, "zoo_models", lambda: (NAME,))
    monkeypatch.setenv("TFDETECT_ZOO_URL", server.address)
    server.add(f"/detectron2/{NAME}/1/{file}", content)
    return f"detectron2://{NAME}/1/{file}"


def small_coco(folder: Path, images: int) -> Path:
    """A folder laid out as COCO with the demo's first images, and COCO's first classes."""
    content = json.loads((DEMO / "annotations.json").read_text())
    content["images"] = content["images"][:images]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    for category in content["categories"]:
        category["name"] = _CLASSES[category["name"]]
    for part in ("annotations", "val2017"):
        (folder / part).mkdir(parents=True)
    for image in content["images"]:
        shutil.copy(DEMO / "images" / image["file_name"], folder / "val2017")
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return folder
