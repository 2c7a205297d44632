"""Run a full-size model with seeded weights and compare every stage with Detectron2's record."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from benchmarks.seeded_weights import seeded_model
from tests.support.comparison import Differences, compare
from tests.support.intermediates import call_with_intermediates
from tests.support.paths import DATA, ROOT
from tests.support.point_rend import assert_same_logits, assert_same_points
from tests.support.saturated_scores import select_in_recorded_order
from tests.support.whole_models import found_record, on_given_boxes, recorded_record
from tfdetect.config import load_config
from tfdetect.data.images import read_image
from tfdetect.inference.optimization import optimize
from tfdetect.modeling.dense.retinanet import RetinaNet
from tfdetect.modeling.postprocess import Postprocessor
from tfdetect.modeling.preprocess import Preprocessor
from tfdetect.modeling.semantic import enlarge_logits
from tfdetect.ops.backend import Backend
from tfdetect.ops.interpolate import bilinear_rows

# The configurations with a record in data/full.
FULL_SIZE_CONFIGS = sorted(
    path.stem.replace("__", "/") for path in (DATA / "full").glob("*__*.npz")
)


@dataclass
class FullSizeResult:
    """Largest difference of each stage, as a share of the stage's scale, and the detections.

    `pixels` is the share of equal pixels of each segmentation, by name.
    """

    intermediates: dict[str, float]
    detections: Differences
    pixels: dict[str, float]


def run_full_size(config: str) -> FullSizeResult:
    """Run `config` (such as "COCO-Detection/faster_rcnn_R_50_FPN_3x") on the recorded image."""
    with np.load(DATA / "full" / f"{config.replace('/', '__')}.npz") as arrays:
        recorded = dict(arrays)
    cfg = load_config(ROOT / "configs" / f"{config}.yaml")
    backend = Backend.for_device()
    model = optimize(seeded_model(cfg), backend)  # as `Predictor` has it
    image = read_image(DATA / "full" / "coffee.png")
    size = tf.constant([image.shape[:2]])
    preprocess = Preprocessor.from_config(cfg, model.size_divisibility)
    postprocess = Postprocessor.from_config(cfg)

    @tf.function(autograph=False)
    @backend.active()
    def run() -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        batch, sizes = preprocess(tf.constant(image)[None], size)
        outputs, intermediates = call_with_intermediates(model, batch, sizes)
        padded = tf.shape(batch)[1:3]
        if "given_boxes" in recorded:
            features = {name: intermediates[name] for name in cfg.MODEL.ROI_HEADS.IN_FEATURES}
            intermediates |= on_given_boxes(model.roi_heads, features, recorded)
        if outputs.sem_seg_logits is not None:
            enlarged = enlarge_logits(outputs.sem_seg_logits[0], padded, sizes[0])
            intermediates["sem_seg"] = bilinear_rows(enlarged, tf.range(size[0, 0]), size[0])[None]
        intermediates["resized_hw"], intermediates["padded_hw"] = sizes[0], padded
        return postprocess(outputs, padded[None], sizes, size), intermediates

    detections, intermediates = run()
    if isinstance(model, RetinaNet):
        chosen = select_in_recorded_order(model, intermediates, recorded)
        sizes = intermediates["resized_hw"][None]
        detections = postprocess(chosen, intermediates["padded_hw"][None], sizes, size)
    for name in ("resized_hw", "padded_hw"):
        np.testing.assert_array_equal(intermediates[name], recorded[name])
    _compare_points(intermediates, recorded)
    return FullSizeResult(
        _compare_intermediates(intermediates, recorded),
        compare(
            [found_record(detections, image.shape)],
            [recorded_record(recorded, image.shape)],
            iou=0.99,
            score=2e-3,
            # The scores of an RPN alone are logits, and all of its proposals count.
            least_score=0.051 if "pred_classes" in recorded else -np.inf,
        ),
        _compare_pixels(detections, recorded),
    )


def check_full_size(config: str) -> None:
    """Assert that `config` agrees with its record.

    The stages within 1e-3 of their scale: float32 through a hundred layers. (What was measured is
    in docs/parity.md.) At least 99 % of the detections are matched: with random weights a thousand
    proposals score nearly alike, and a borderline one may fall on the other side of NMS. And at
    least 99 % of the pixels of a segmentation. (RetinaNet: see saturated_scores.py.)
    """
    result = run_full_size(config)
    assert result.intermediates
    for name, difference in result.intermediates.items():
        assert difference < 1e-3, (name, difference)
    found = result.detections
    assert found.matched >= 0.99 * found.expected > 0
    assert found.extra <= 0.01 * found.expected
    for name, share in result.pixels.items():
        assert share >= 0.99, (name, share)
    if found.mask_ious:
        assert np.mean(found.mask_ious) > 0.999
    if found.keypoints:
        assert np.mean(np.array(found.keypoints) < 0.02) > 0.99


def _compare_points(intermediates, recorded) -> None:
    """The points that PointRend chooses, and their logits: see `tests.support.point_rend`."""
    for name in (name for name in recorded if name.endswith("_indices")):
        logits = name.replace("_indices", "_logits")
        indices = intermediates.pop(name).numpy()
        found = intermediates.pop(logits).numpy()
        assert_same_points(indices, recorded[name])
        assert_same_logits(indices, found, recorded[name], recorded[logits], atol=5e-4)
    # Single points that were or were not chosen differ by more.
    if "final_probabilities" in recorded:
        final = intermediates.pop("final_probabilities").numpy()
        difference = np.abs(final - recorded["final_probabilities"])
        assert np.quantile(difference, 0.999) < 1e-4


def _compare_intermediates(intermediates, recorded) -> dict[str, float]:
    """Every recorded stage, each subsampled as the record is (channels, rows, columns)."""
    differences = {}
    for name, expected in recorded.items():
        ours = name.removeprefix("feat_")
        if name.startswith(("box_logits", "box_deltas")):
            ours = f"given_{name}"
        if ours not in intermediates or expected.dtype != np.float32 or name.startswith("proposal"):
            continue
        result = intermediates[ours].numpy()
        if result.ndim == 4:
            result = np.transpose(result, [0, 3, 1, 2])
            steps = [
                -(-have // want) for have, want in zip(result.shape, expected.shape, strict=True)
            ]
            if f"{name}_step" in recorded:
                channel_step, step = recorded[f"{name}_step"]
                steps = [1, channel_step, step, step]
            if name == "mask_logits":
                steps[1] = int(recorded["mask_channel_step"])
            result = result[:: steps[0], :: steps[1], :: steps[2], :: steps[3]]
        assert result.shape == expected.shape, (name, result.shape, expected.shape)
        differences[name] = float(np.abs(result - expected).max() / np.abs(expected).max())
    return differences


def _compare_pixels(found, recorded) -> dict[str, float]:
    """The share of equal pixels; segments are told by class and score, not by their number.

    (A segment more shifts the numbers of all after it.)
    """
    shares = {}
    if "sem_seg" in found:
        shares["sem_seg"] = _share(found["sem_seg"][0].numpy(), recorded["sem_seg_argmax"])
    if "panoptic_seg" in found:
        count = int(found["num_segments"][0])
        names = ("category_ids", "isthing", "scores")
        columns = [found[f"segment_{name}"][0][:count].numpy() for name in names]
        ours = np.stack([np.concatenate([[-1], column]) for column in columns], -1)
        segments = json.loads(str(recorded["panoptic_segments"]))
        keys = [(s["category_id"], s["isthing"], s.get("score", 0.0)) for s in segments]
        theirs = np.array([(-1, -1, -1), *keys], np.float64)
        shares["panoptic"] = _share(
            ours[found["panoptic_seg"][0].numpy()], theirs[recorded["panoptic"]]
        )
    return shares


def _share(ours: np.ndarray, expected: np.ndarray) -> float:
    """Of [H, W] or [H, W, C] pixels, `expected` at every so many rows and columns only."""
    step = -(-len(ours) // len(expected))
    ours = ours[::step, ::step]
    assert ours.shape == expected.shape, (ours.shape, expected.shape)
    equal = np.abs(ours - expected) < 2e-3
    return float(equal.reshape(*equal.shape[:2], -1).all(-1).mean())
