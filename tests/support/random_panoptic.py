"""A small random panoptic data set in COCO's form, with predictions, for a recorded comparison."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tfdetect.data.panoptic import segment_colors
from tfdetect.detections import PanopticSegmentation, Segment

CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 3, "name": "car", "isthing": 1},
    {"id": 92, "name": "banner", "isthing": 0},
    {"id": 184, "name": "tree-merged", "isthing": 0},
    {"id": 187, "name": "sky-other-merged", "isthing": 0},
]
THINGS, STUFF = [1, 3], [0, 92, 184, 187]


def make(folder: Path, seed: int) -> list[PanopticSegmentation]:
    """Write annotations (panoptic.json, panoptic/*.png); return each image's prediction.

    Of the 12 images some segments are crowds, some pixels are not labelled, and the predictions
    are the ground truth with other borders, some classes changed, and segments that are not there.
    """
    rng = np.random.default_rng(seed)
    images, annotations, predictions = [], [], []
    (folder / "panoptic").mkdir(parents=True)
    for image in range(1, 13):
        height, width = (int(x) for x in rng.integers(40, 70, 2))
        ids, found = np.zeros((2, height, width), np.int64)
        segments, converted = [], []
        names = (rng.permutation(200_000)[:12] + 1).tolist()
        for index, name in enumerate(names):
            category = CATEGORIES[rng.integers(len(CATEGORIES))]
            if not category["isthing"] and any(
                s["category_id"] == category["id"] for s in segments
            ):
                continue
            region = _region(rng, height, width)
            ids[region] = name
            crowd = int(category["isthing"] and rng.random() < 0.3)
            segments.append({"id": name, "category_id": category["id"], "iscrowd": crowd})
            moved = np.roll(region, rng.integers(-3, 4, 2), axis=(0, 1))
            if rng.random() < 0.8:
                found[moved] = index + 1
                other = CATEGORIES[rng.integers(len(CATEGORIES))]
                chosen = category if rng.random() < 0.8 else other
                classes = THINGS if chosen["isthing"] else STUFF
                label = classes.index(chosen["id"])
                converted.append((index + 1, label, bool(chosen["isthing"])))
        for segment in segments:
            segment["area"] = int((ids == segment["id"]).sum())
        name = f"{image:012d}"
        Image.fromarray(segment_colors(ids)).save(folder / "panoptic" / f"{name}.png")
        annotations.append(
            {
                "image_id": image,
                "file_name": f"{name}.png",
                "segments_info": [segment for segment in segments if segment["area"]],
            }
        )
        images.append({"id": image, "file_name": f"{name}.jpg", "height": height, "width": width})
        shapes = tuple(Segment(*shape, int((found == shape[0]).sum())) for shape in converted)
        predictions.append(PanopticSegmentation(found.astype(np.int32), shapes))
    root = {"images": images, "categories": CATEGORIES, "annotations": annotations}
    (folder / "panoptic.json").write_text(json.dumps(root))
    return predictions


def _region(rng, height, width):
    y, x = np.mgrid[:height, :width]
    centre, radius = rng.random(2) * (height, width), rng.uniform(5, 25, 2)
    return ((y - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2 < 1
