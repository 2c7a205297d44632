"""What TensorBoard is shown of a batch."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import tfdetect.training.pictures
from tests.support.paths import DEMO
from tfdetect.config import load_config
from tfdetect.data.registry import register_coco_dataset
from tfdetect.data.training.input import training_dataset
from tfdetect.detections import Detections
from tfdetect.training.pictures import Pictures, ground_truth


class NothingFound:
    class_names = ("person", "circle", "square", "triangle")
    keypoint_connections = ()
    keypoint_classes = None

    def predict_batch(self, images, proposals=None):
        (image,) = images
        self.seen = image
        height, width, _ = image.shape
        empty = np.zeros([0], np.float32)
        return [
            Detections(height, width, empty.reshape(0, 4), empty, empty.astype(int), None, None)
        ]


def batches(**keys):
    register_coco_dataset("pictures_demo", DEMO / "annotations.json", DEMO / "images")
    opts = {"DATASETS.TRAIN": "('pictures_demo',)", "SOLVER.IMS_PER_BATCH": 2} | keys
    opts["DATALOADER.NUM_WORKERS"] = 0
    cfg = load_config(
        DEMO / "joint_rcnn" / "config.yaml", [word for pair in opts.items() for word in pair]
    )
    return cfg, iter(training_dataset(cfg, seed=1))


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_ground_truth(mask_format):
    _, found = batches(**{"INPUT.MASK_FORMAT": mask_format})
    example = {name: value[0].numpy() for name, value in next(found).items()}
    truth = ground_truth(example)
    count = example["gt_valid"].sum()
    assert len(truth.boxes) == len(truth.masks) == len(truth.keypoints) == count > 0
    assert truth.masks.shape[1:] == tuple(example["image_size"]) == (truth.height, truth.width)
    for box, mask in zip(truth.boxes, truth.masks, strict=True):
        rows, columns = np.nonzero(mask)
        # A raster reaches over its outline by a pixel at most.
        assert (np.array([columns.min(), rows.min()]) >= box[:2] - 1).all()
        assert (np.array([columns.max(), rows.max()]) <= box[2:] + 1).all()


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_side_by_side(monkeypatch, order):
    model = NothingFound()
    monkeypatch.setattr(tfdetect.training.pictures.Predictor, "of_model", lambda *_: model)
    cfg, found = batches(**{"INPUT.FORMAT": order})
    batch = next(found)
    drawn = Pictures(cfg, None, {})(batch)
    height, width = batch["image_size"][0].numpy()
    image = batch["image"][0, :height, :width].numpy()
    np.testing.assert_array_equal(model.seen, image if order == "BGR" else image[..., ::-1])
    truth, predictions = np.split(drawn, 2, axis=1)
    # Enlarged by a whole number, and nothing is drawn where nothing is found.
    scale = predictions.shape[0] // height
    assert predictions.shape == (height * scale, width * scale, 3)
    enlarged = cv2.resize(model.seen, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(predictions, enlarged)
    assert (truth != predictions).any()
