"""A small data set for panoptic segmentation, in all its forms."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tfdetect.data.catalog import metadata
from tfdetect.data.panoptic import segment_colors

CATEGORIES = [
    {"id": 1, "name": "cat", "isthing": 1},
    {"id": 5, "name": "dog", "isthing": 1},
    {"id": 7, "name": "grass", "isthing": 0},
    {"id": 9, "name": "sky-other-merged", "isthing": 0},
]
STUFF = ["things", "grass", "sky"]


@dataclass(frozen=True)
class Toy:
    """Where the files are, and `labels`, the masks' content by the images' stem."""

    folder: Path
    labels: dict[str, np.ndarray]

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def masks(self) -> Path:
        return self.folder / "masks"

    @property
    def instances(self) -> Path:
        return self.folder / "instances.json"

    @property
    def panoptic(self) -> Path:
        return self.folder / "panoptic.json"


def write_toy(folder: Path, sizes=((48, 64), (64, 48), (56, 56), (40, 72)), seed=0) -> Toy:
    """Images of these (height, width): sky over grass, two things on it, one row unlabelled."""
    rng = np.random.default_rng(seed)
    toy = Toy(folder, {})
    for name in ("images", "masks", "panoptic"):
        (folder / name).mkdir(parents=True)
    images, objects, panoptic = [], [], []
    for number, (height, width) in enumerate(sizes, start=1):
        stem = f"{number:03d}"
        ids = np.full((height, width), 300)
        ids[: height // 2] = 2
        ids[height // 2] = 0
        segments = [(300, 7), (2, 9)]
        for k, category in enumerate((1, 5)):
            x, y = 4 + k * width // 2, int(rng.integers(4, height // 2))
            w, h = width // 3, height // 3
            ids[y : y + h, x : x + w] = 70_000 + k
            segments.append((70_000 + k, category))
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
        classes = {0: 255, 300: 1, 2: 2, 70_000: 0, 70_001: 0}
        labels = np.vectorize(classes.get)(ids).astype(np.uint8)
        toy.labels[stem] = labels
        pixels = rng.integers(0, 60, (height, width, 3)) + 60 * np.minimum(labels, 3)[..., None]
        Image.fromarray(pixels.astype(np.uint8)).save(toy.images / f"{stem}.jpg", quality=95)
        Image.fromarray(labels).save(toy.masks / f"{stem}.png")
        Image.fromarray(segment_colors(ids)).save(folder / "panoptic" / f"{stem}.png")
        images.append({"id": number, "file_name": f"{stem}.jpg", "height": height, "width": width})
        panoptic.append(
            {
                "image_id": number,
                "file_name": f"{stem}.png",
                "segments_info": [_segment(ids, *segment) for segment in segments],
            }
        )
    (toy.masks / "classes.txt").write_text("\n".join(STUFF))
    things = [category for category in CATEGORIES if category["isthing"]]
    content = {"images": images, "categories": things, "annotations": objects}
    toy.instances.write_text(json.dumps(content))
    content = {"images": images, "categories": CATEGORIES, "annotations": panoptic}
    toy.panoptic.write_text(json.dumps(content))
    return toy


def _segment(ids, index, category):
    rows, columns = np.nonzero(ids == index)
    x, y = int(columns.min()), int(rows.min())
    box = [x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y]
    return {
        "id": index,
        "category_id": category,
        "area": len(rows),
        "bbox": box,
        "iscrowd": 0,
    }


def write_cityscapes(folder: Path, sizes=((40, 60), (48, 64)), split="train") -> Path:
    """A split of Cityscapes with a car and a pedestrian on a road under a sky: polygons and PNGs.

    The panoptic JSON and its PNGs are what `createPanopticImgs` of cityscapesscripts makes.
    Returns the folder for DETECTRON2_DATASETS.
    """
    rng = np.random.default_rng(0)
    panoptic = []
    images = folder / "cityscapes" / "leftImg8bit" / split / "aachen"
    truth = folder / "cityscapes" / "gtFine" / split / "aachen"
    images.mkdir(parents=True)
    truth.mkdir(parents=True)
    colors = truth.parent.parent / f"cityscapes_panoptic_{split}"
    colors.mkdir()
    for number, (height, width) in enumerate(sizes):
        stem = f"aachen_{number:06d}_000019"
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(images / f"{stem}_leftImg8bit.png")
        objects, instances = [], np.zeros((height, width), np.int32)
        for label, index, (x1, y1, x2, y2) in (
            ("sky", 23, (0, 0, width, height // 2)),
            ("road", 7, (0, height // 2, width, height - 4)),
            ("car", 26000, (5, 10, 30, 30)),
            ("person", 24000, (35, 8, 50, 34)),
        ):
            polygon = [[x1, y1], [x2 - 1, y1], [x2 - 1, y2 - 1], [x1, y2 - 1]]
            objects.append({"label": label, "polygon": polygon})
            instances[y1:y2, x1:x2] = index
        content = {"imgHeight": height, "imgWidth": width, "objects": objects}
        (truth / f"{stem}_gtFine_polygons.json").write_text(json.dumps(content))
        ids = np.where(instances >= 1000, instances // 1000, instances).astype(np.uint8)
        Image.fromarray(ids).save(truth / f"{stem}_gtFine_labelIds.png")
        # 16 bits, as Cityscapes' own.
        Image.fromarray(instances.astype(np.uint16)).save(truth / f"{stem}_gtFine_instanceIds.png")
        Image.fromarray(segment_colors(instances)).save(colors / f"{stem}_gtFine_panoptic.png")
        segments = [(i, i // 1000 if i >= 1000 else i) for i in np.unique(instances).tolist() if i]
        panoptic.append(
            {
                "image_id": stem,
                "file_name": f"{stem}_gtFine_panoptic.png",
                "segments_info": [_segment(instances, *segment) for segment in segments],
            }
        )
    known = metadata("cityscapes_fine_sem_seg_train")
    classes = zip(known.stuff_category_ids, known.stuff_classes, strict=True)
    content = {
        "images": [
            {
                "id": annotation["image_id"],
                "file_name": f"{annotation['image_id']}_gtFine_leftImg8bit.png",
                "height": height,
                "width": width,
            }
            for annotation, (height, width) in zip(panoptic, sizes, strict=True)
        ],
        "categories": [
            {"id": index, "name": name, "isthing": int(index in known.category_ids)}
            for index, name in classes
        ],
        "annotations": panoptic,
    }
    Path(f"{colors}.json").write_text(json.dumps(content))
    return folder
