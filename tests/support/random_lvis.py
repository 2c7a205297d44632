"""A small random data set in LVIS's form, with results: the input of the recorded comparison."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as mask_codec


def make(seed: int) -> tuple[dict, list[dict]]:
    """The annotations' JSON, and results with boxes and masks.

    Scores are rounded, so that some are equal, and one image has more than 300 detections. Some
    objects have no area, some categories no object, some no detection.
    """
    rng = np.random.default_rng(seed)
    categories = [
        {"id": index + 1, "name": f"c{index}", "frequency": "rcf"[index % 3]} for index in range(12)
    ]
    images, annotations, results = [], [], []
    for image in range(1, 16):
        present = rng.choice(np.arange(1, 12), 4, replace=False).tolist()
        others = sorted({*range(1, 13)} - set(present))
        height, width = (int(x) for x in rng.integers(150, 400, 2))
        images.append(
            {
                "id": image * 7,
                "coco_url": f"http://images.cocodataset.org/val2017/{image:012d}.jpg",
                "height": height,
                "width": width,
                "neg_category_ids": others[:3],
                "not_exhaustive_category_ids": present[:1],
            }
        )
        for category in present:
            for _ in range(rng.integers(1, 5)):
                box = _box(rng, height, width)
                polygon = _polygon(box)
                rle = mask_codec.merge(mask_codec.frPyObjects([polygon], height, width))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image * 7,
                        "category_id": category,
                        "bbox": box,
                        "area": 0.0 if rng.random() < 0.05 else float(mask_codec.area(rle)),
                        "segmentation": [polygon],
                    }
                )
                for _ in range(rng.integers(0, 4)):
                    moved = (np.array(box) + rng.normal(0, 6, 4)).tolist()
                    results.append(_result(rng, image * 7, category, moved, height, width))
        for _ in range(320 if image == 3 else 15):
            category = int(rng.integers(1, 13))
            box = _box(rng, height, width)
            results.append(_result(rng, image * 7, category, box, height, width))
    return {"images": images, "categories": categories, "annotations": annotations}, results


def _box(rng, height, width):
    x, y = rng.random(2) * (width - 20, height - 20)
    size = np.exp(rng.uniform(2, 5.5, 2))
    return [float(x), float(y), *np.minimum(size, (width - x, height - y)).tolist()]


def _polygon(box):
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x + w / 3, y + h]


def _result(rng, image, category, box, height, width):
    box[2:] = [max(2.0, value) for value in box[2:]]
    rle = mask_codec.merge(mask_codec.frPyObjects([_polygon(box)], height, width))
    return {
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "score": round(float(rng.random()), 2),
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
    }
