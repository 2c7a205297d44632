"""Small videos of moving rectangles, and a model that finds them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np

from tests.support.paths import DEMO
from tfdetect.data.video_writer import VideoWriter
from tfdetect.detections import Detections

# As the commands do, and before the first video is opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

SHAPE = (96, 128)
RED, GREEN = (0, 0, 255), (0, 255, 0)


def frame(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Grey, with a red rectangle that moves to the right and a green one that moves down."""
    image = np.full((*shape, 3), 90, np.uint8)
    cv2.rectangle(image, (8 + 2 * number, 10), (33 + 2 * number, 39), RED, -1)
    cv2.rectangle(image, (90, 20 + number), (109, 49 + number), GREEN, -1)
    return image


def write_video(path: Path, count: int, frames_per_second: float = 10.0) -> Path:
    """A video of `frame`s."""
    with VideoWriter(path, frames_per_second) as video:
        for number in range(count):
            video.write(frame(number))
        video.finish()
    return path


def write_folder(path: Path, count: int) -> Path:
    """A folder of them as PNG, 0.png and so on."""
    path.mkdir()
    for number in range(count):
        cv2.imwrite(str(path / f"{number}.png"), frame(number))
    return path


def write_truncated(path: Path, count: int) -> Path:
    """An AVI that ends in the middle."""
    content = write_video(path, count).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def model_description(folder: Path) -> Path:
    """A model directory without weights, for `FoundByColor`."""
    folder.mkdir()
    (folder / "config.yaml").write_text((DEMO / "joint_rcnn" / "config.yaml").read_text())
    names = {"class_names": ["red", "green", "square", "triangle"]}
    (folder / "metadata.json").write_text(json.dumps(names))
    return folder


class FoundByColor:
    """A predictor that finds the red and the green rectangle, with masks.

    Attributes:
        batches: the number of images of each call.
    """

    class_names = ("red", "green", "square", "triangle")
    stuff_class_names = ()
    stuff_colors = None
    keypoint_connections = ()
    keypoint_classes = None

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict_batch(self, images, proposals=None):
        self.batches.append(len(images))
        return [self._found(image) for image in images]

    def _found(self, image):
        boxes, scores, classes, masks = [], [], [], []
        for index, channel in enumerate((2, 1)):
            others = np.delete(image, channel, axis=2).max(2)
            mask = (image[:, :, channel] > 180) & (others < 100)
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if rows.size:
                boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
                scores.append(0.9 - 0.15 * index)
                classes.append(index)
                masks.append(mask)
        return Detections(
            *image.shape[:2],
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            scores=np.array(scores, np.float32),
            classes=np.array(classes, np.int64),
            masks=np.array(masks, bool).reshape(-1, *image.shape[:2]),
        )
