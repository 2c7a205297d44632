"""A small random data set in Pascal VOC's form, with detections, for a recorded comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfdetect.detections import Detections

CLASSES = ("aeroplane", "bicycle", "bird", "boat")


def make(folder: Path, seed: int, year: int) -> dict[str, Detections]:
    """Write the folder; return each image's detections. The 20 images are the set `test`."""
    rng = np.random.default_rng(seed)
    for name in ("ImageSets/Main", "Annotations"):
        (folder / name).mkdir(parents=True)
    detections = {}
    # All different: Detectron2's order of equal scores depends on the machine.
    scores = iter(rng.permutation(1000) / 1000)
    for image in range(20):
        name = f"{image:06d}"
        objects = rng.integers(0, len(CLASSES), rng.integers(1, 7))
        boxes = _boxes(rng, len(objects))
        lines = [
            f"<annotation><folder>VOC{year}</folder>",
            "<size><width>500</width><height>375</height><depth>3</depth></size>",
        ]
        for index, box in zip(objects, boxes, strict=True):
            x1, y1, x2, y2 = box
            lines.append(
                f"<object><name>{CLASSES[index]}</name><pose>Left</pose><truncated>0</truncated>"
                f"<difficult>{int(rng.random() < 0.2)}</difficult><bndbox><xmin>{x1}</xmin>"
                f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            )
        lines.append("</annotation>")
        (folder / "Annotations" / f"{name}.xml").write_text("\n".join(lines))
        copies = np.repeat(np.arange(len(objects)), rng.integers(0, 4, len(objects)))
        found = np.concatenate(
            [boxes[copies] + rng.normal(0, 8, (len(copies), 4)) - (1, 1, 0, 0), _boxes(rng, 4)]
        )
        detections[name] = Detections(
            height=375,
            width=500,
            boxes=found.astype(np.float32),
            scores=np.array([next(scores) for _ in found], np.float32),
            classes=np.concatenate([objects[copies], rng.integers(0, len(CLASSES), 4)]),
        )
    (folder / "ImageSets" / "Main" / "test.txt").write_text("\n".join(detections) + "\n")
    return detections


def _boxes(rng, count):
    corner = rng.integers(1, (350, 250), (count, 2))
    return np.concatenate([corner, corner + rng.integers(20, (150, 125), (count, 2))], axis=1)
