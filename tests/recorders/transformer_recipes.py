"""Records what the recipes of projects/ViTDet and projects/MViTv2 make of training images.

    python -m tests.recorders.transformer_recipes tests/arrays/vitdet/recipe_images.json.gz

needs a Python with Detectron2 and shapely. Each recipe's augmentations, in Detectron2's
DatasetMapper, on images of the demo, with `np.random.seed(seed)` before each: the size that comes
out, the mean of each channel, boxes and classes of what is left.
"""

from __future__ import annotations

import gzip
import json
import sys

import detectron2.data.transforms as T
import numpy as np
from detectron2.data import DatasetMapper
from detectron2.data.datasets import load_coco_json

IMAGES = (0, 2, 3, 7)
SEEDS = range(5)


def jitter(**crop):
    return [
        T.RandomFlip(horizontal=True),
        T.ResizeScale(min_scale=0.1, max_scale=2.0, target_height=1024, target_width=1024),
        T.FixedSizeCrop(crop_size=(1024, 1024), **crop),
    ]


def multi_scale():
    crop = [
        T.ResizeShortestEdge(short_edge_length=[400, 500, 600], sample_style="choice"),
        T.RandomCrop(crop_type="absolute_range", crop_size=(384, 600)),
    ]
    return [
        T.RandomApply(T.AugmentationList(crop), prob=0.5),
        T.ResizeShortestEdge(
            short_edge_length=tuple(range(480, 801, 32)), sample_style="choice", max_size=1333
        ),
        T.RandomFlip(horizontal=True),
    ]


# Augmentations, and whether boxes are recomputed.
RECIPES = {
    "vitdet": (lambda: jitter(pad=False), True),
    "mvitv2_lsj": (jitter, True),
    "mvitv2": (multi_scale, False),
}


def main() -> None:
    dicts = load_coco_json("demo/annotations.json", "demo/images", "recorded")
    found = {}
    for name, (augmentations, recompute) in RECIPES.items():
        mapper = DatasetMapper(
            is_train=True,
            augmentations=augmentations(),
            image_format="RGB",
            use_instance_mask=True,
            recompute_boxes=recompute,
        )
        found[name] = []
        for index in IMAGES:
            for seed in SEEDS:
                np.random.seed(seed)
                result = mapper(dicts[index])
                instances = result["instances"]
                found[name].append(
                    {
                        "image": index,
                        "seed": seed,
                        "size": list(result["image"].shape[1:]),
                        "mean": result["image"].double().mean((1, 2)).tolist(),
                        "boxes": instances.gt_boxes.tensor.tolist(),
                        "classes": instances.gt_classes.tolist(),
                    }
                )
    with gzip.open(sys.argv[1], "wt") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
