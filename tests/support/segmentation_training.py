"""Detectron2's records of twenty steps of semantic and panoptic FPN, and of what they predict."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

from benchmarks.seeded_weights import state_dict
from tests.support.paths import DATA, DEMO
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.modeling.build import build_model

FOLDER = DATA / "dense_training"
NAMES = ("semantic", "panoptic")


@cache
def record(name):
    """`steps_NAME.json.gz` or `inference_NAME.json.gz`."""
    with gzip.open(FOLDER / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)


def initial_weights(name):
    """The seeded weights by Detectron2's names, in PyTorch's layout."""
    model = build_model(load_config(FOLDER / f"{name}.yaml"))
    return state_dict({named.name: named.foreign_shape for named in named_variables(model)})


def write_data(folder: Path, names) -> tuple[Path, Path, Path]:
    """Annotations, masks and images of some of the demo's images alone."""
    content = json.loads((DEMO / "annotations.json").read_text())
    content["images"] = [image for image in content["images"] if image["file_name"] in names]
    numbers = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in numbers]
    annotations, masks, images = (folder / name for name in ("one.json", "masks", "images"))
    annotations.write_text(json.dumps(content))
    masks.mkdir()
    images.mkdir()
    for name in names:
        stem = Path(name).stem
        (masks / f"{stem}.png").write_bytes((FOLDER / f"semantic_{stem}.png").read_bytes())
        (images / name).write_bytes((DEMO / "images" / name).read_bytes())
    return annotations, masks, images
