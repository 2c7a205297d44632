"""Records what Detectron2's augmentations draw and do: tests/arrays/ops/augmentations.npz.

    python -m tests.recorders.augmentations tests/arrays/ops/augmentations.npz

needs a Python with Detectron2, Pillow and OpenCV. Each case is an entry of INPUT.AUGMENTATIONS and
a seed for `np.random.seed`; what comes out is under its number: the image, the semantic labels, the
boxes, some points, and the polygons of one object, unless a crop cuts them. Last, what
`transform_proposals` makes of precomputed proposals.
"""

from __future__ import annotations

import json
import sys

import cv2
import detectron2.data.transforms as T
import numpy as np
from detectron2.data.detection_utils import transform_proposals
from detectron2.structures import BoxMode
from PIL import Image

HEIGHT, WIDTH = 30, 40
RESIZES = ("Resize", "RandomResize", "ResizeShortestEdge", "ResizeScale")
CASES = [
    *(["RandomRotation", {"angle": [-60, 60]}, seed] for seed in (0, 1)),
    *(["RandomRotation", {"angle": [-90.0, 90.0], "expand": False}, seed] for seed in (0, 1)),
    ["RandomRotation", {"angle": 33, "expand": False, "center": [[0.1, 0.2], [0.6, 0.9]]}, 3],
    ["RandomRotation", {"angle": [20, 20], "expand": False, "center": [0.25, 0.75]}, 4],
    ["RandomRotation", {"angle": [0, 90, 180, 270], "sample_style": "choice"}, 5],
    ["RandomRotation", {"angle": [90, 180, 270], "sample_style": "choice"}, 6],
    ["RandomRotation", {"angle": [360], "sample_style": "choice"}, 6],
    ["RandomRotation", {"angle": 45, "interp": "nearest"}, 7],
    ["RandomRotation", {"angle": 45, "interp": "bicubic"}, 7],
    *(["RandomContrast", {"intensity_min": 0.5, "intensity_max": 1.5}, seed] for seed in (0, 1, 2)),
    *(["RandomBrightness", {"intensity_min": 0.5, "intensity_max": 2}, seed] for seed in (0, 1, 2)),
    *(["RandomSaturation", {"intensity_min": 0, "intensity_max": 2}, seed] for seed in (0, 1, 2)),
    *(["RandomLighting", {"scale": scale}, 0] for scale in (0.1, 50.0, 500.0)),
    *(["RandomExtent", {"scale_range": [0.4, 1], "shift_range": [0.5, 1]}, s] for s in (0, 1)),
    *(["RandomExtent", {"scale_range": [1, 2.5], "shift_range": [0, 0.2]}, s] for s in (0, 1)),
    ["RandomExtent", {"scale_range": [1, 1], "shift_range": [0, 0]}, 0],
    *(["MinIoURandomCrop", {}, seed] for seed in range(6)),
    ["MinIoURandomCrop", {"min_ious": [0.2], "min_crop_size": 0.8, "crop_trials": 5}, 1],
    *(["FixedSizeCrop", {"crop_size": [20, 50]}, seed] for seed in (0, 1)),
    ["FixedSizeCrop", {"crop_size": [20, 25], "pad": False}, 2],
    ["FixedSizeCrop", {"crop_size": [50, 60], "pad_value": 7.0, "seg_pad_value": 3}, 2],
    ["RandomCrop", {"crop_type": "relative", "crop_size": [0.4, 0.7]}, 0],
    ["RandomCrop", {"crop_type": "relative_range", "crop_size": [0.4, 0.7]}, 0],
    ["RandomCrop", {"crop_type": "absolute", "crop_size": [12, 100]}, 1],
    ["RandomCrop", {"crop_type": "absolute_range", "crop_size": [12, 100]}, 1],
    *(
        [
            "RandomCrop_CategoryAreaConstraint",
            {
                "crop_type": "relative_range",
                "crop_size": [0.2, 0.2],
                "single_category_max_area": share,
                "ignored_category": ignored,
            },
            seed,
        ]
        for share, ignored in ((0.4, 255), (0.3, None), (1.0, 255))
        for seed in (0, 1)
    ),
    ["Resize", {"shape": 35}, 0],
    ["Resize", {"shape": [20, 70], "interp": "nearest"}, 0],
    ["RandomResize", {"shape_list": [[15, 20], [20, 30], [60, 80]]}, 1],
    ["ResizeShortestEdge", {"short_edge_length": [20, 60], "max_size": 70}, 3],
    ["ResizeShortestEdge", {"short_edge_length": [24, 48], "sample_style": "choice"}, 3],
    [
        "ResizeScale",
        {"min_scale": 0.5, "max_scale": 2.0, "target_height": 40, "target_width": 30},
        2,
    ],
    *(["RandomFlip", {}, seed] for seed in (0, 2)),
    *(["RandomFlip", {"prob": 0.9, "horizontal": False, "vertical": True}, s] for s in (0, 1, 2)),
    *(
        ["RandomApply", {"tfm_or_aug": ["RandomRotation", {"angle": [-9, 9]}], "prob": 0.6}, seed]
        for seed in (0, 1)
    ),
    ["RandomApply", {"tfm_or_aug": ["MinIoURandomCrop", {}], "prob": 1.0}, 1],
]  # fmt: skip


def augmentation(name, arguments):
    arguments = dict(arguments)
    if "tfm_or_aug" in arguments:
        arguments["tfm_or_aug"] = augmentation(*arguments["tfm_or_aug"])
    if "interp" in arguments:
        known = {"nearest": cv2.INTER_NEAREST, "bicubic": cv2.INTER_CUBIC}
        kind = arguments["interp"]
        arguments["interp"] = (
            known[kind] if name == "RandomRotation" else Image.Resampling[kind.upper()]
        )
    return getattr(T, name)(**arguments)


def main(path):
    random = np.random.RandomState(0)
    coarse = random.randint(0, 256, (8, 10, 3)).astype(np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    sem_seg = np.kron(random.randint(0, 4, (6, 8)), np.ones((5, 5))).astype(np.uint8)
    sem_seg[:10, :10] = 255
    boxes = np.array([[2, 3, 20, 18], [10, 9, 38, 29], [25, 1, 33, 8.5]], np.float32)
    points = random.uniform(-5, 45, (7, 2))
    polygons = [
        np.array([[3, 3], [19, 4], [11, 17.5]]),
        np.array([[30.0, 20], [39, 20], [39, 29], [30, 28]]),
    ]
    found = {
        "cases": json.dumps(CASES),
        "image": image,
        "sem_seg": sem_seg,
        "boxes": boxes,
        "points": points,
        "polygon_0": polygons[0].reshape(-1),
        "polygon_1": polygons[1].reshape(-1),
    }
    for number, (name, arguments, seed) in enumerate(CASES):
        np.random.seed(seed)
        given = T.AugInput(image.copy(), boxes=boxes.copy(), sem_seg=sem_seg.copy())
        transform = augmentation(name, arguments)(given)
        found[f"{number}_image"] = given.image
        found[f"{number}_boxes"] = given.boxes
        found[f"{number}_sem_seg"] = given.sem_seg
        found[f"{number}_points"] = transform.apply_coords(points.copy())
        if "Crop" not in str((name, arguments)):
            after = transform.apply_polygons([polygon.copy() for polygon in polygons])
            for index, polygon in enumerate(after):
                found[f"{number}_polygon_{index}"] = polygon.reshape(-1)
    found |= proposals_of(image)
    np.savez_compressed(path, **found)


def proposals_of(image):
    """`transform_proposals` of the best 12 of 40, some of which the crop leaves nothing of."""
    random = np.random.RandomState(1)
    low = random.uniform(-8, 40, (40, 2))
    boxes = np.concatenate([low, low + random.uniform(0, 15, (40, 2))], 1).astype(np.float32)
    transforms = T.TransformList(
        [
            T.ResizeTransform(HEIGHT, WIDTH, 47, 66),
            T.HFlipTransform(66),
            T.CropTransform(9, 5, 50, 40),
        ]
    )
    record = {
        "proposal_boxes": boxes,
        "proposal_bbox_mode": BoxMode.XYXY_ABS,
        "proposal_objectness_logits": np.arange(40)[::-1],
    }
    transform_proposals(record, (40, 50), transforms, proposal_topk=12)
    after = record["proposals"].proposal_boxes.tensor.numpy()
    return {"proposals_in": boxes, "proposals_out": after}


if __name__ == "__main__":
    main(sys.argv[1])
