"""Small data sets of YOLO, Pascal VOC and labelme, written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tfdetect.data.images import write_image

# Height and width of each image.
SIZES = {"a": (40, 100), "b": (50, 60), "c": (30, 30)}

YOLO = {
    "a": "1 0.5 0.25 0.2 0.3\n0 0.1 0.1 0.5 0.1 0.5 0.9\n",
    "b": "0 0.5 0.5 1 1 0.87\n",  # with a score
}
# XYXY, of the lines above.
YOLO_BOXES = {"a": [(40, 4, 60, 16), (10, 4, 50, 36)], "b": [(0, 0, 60, 50)]}

VOC_OBJECT = (
    "<object><name>{0}</name><difficult>{5}</difficult><bndbox><xmin>{1}</xmin><ymin>{2}</ymin>"
    "<xmax>{3}</xmax><ymax>{4}</ymax></bndbox></object>"
)


def write_images(folder: Path, names: dict[str, tuple[int, int]] = SIZES) -> Path:
    """Images of these sizes."""
    for name, size in names.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.full((*size, 3), 127, np.uint8))
    return folder


def write_yolo(root: Path, labels: dict[str, str] = YOLO, names: str | None = "[cat, dog]") -> Path:
    """Images and labels laid out as Ultralytics does it; gives the folder of the labels."""
    write_images(root / "images" / "train")
    folder = root / "labels" / "train"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in labels.items():
        (folder / f"{name}.txt").write_text(text)
    if names is not None:
        (root / "data.yaml").write_text(
            f"path: .\ntrain: images/train\nval: images/train\nnames: {names}\n"
        )
    return folder


def voc_xml(name: str, objects: list[tuple], size: tuple[int, int] | None = None) -> str:
    """The XML of an image; objects are (class, xmin, ymin, xmax, ymax, difficult)."""
    height, width = size or SIZES[name]
    return (
        f"<annotation><folder>VOC2007</folder><filename>{name}.png</filename><size>"
        f"<width>{width}</width><height>{height}</height><depth>3</depth></size>"
        + "".join(VOC_OBJECT.format(*entry) for entry in objects)
        + "</annotation>"
    )


def write_voc(root: Path, objects: dict[str, list[tuple]]) -> Path:
    """Images and XML files; gives the folder of these."""
    write_images(root / "images")
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    for name, entries in objects.items():
        (folder / f"{name}.xml").write_text(voc_xml(name, entries))
    return folder


def shape(label: str, points: list, kind: str = "polygon", **more) -> dict:
    """A shape of labelme's."""
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def write_labelme(root: Path, shapes: dict[str, list], /, **more) -> Path:
    """Images and JSON files in one folder, as labelme writes them."""
    write_images(root)
    for name, entries in shapes.items():
        height, width = SIZES[name]
        content = {"version": "5.4", "shapes": entries, "imagePath": f"{name}.png"}
        content |= {"imageHeight": height, "imageWidth": width, "imageData": None, **more}
        (root / f"{name}.json").write_text(json.dumps(content))
    return root
