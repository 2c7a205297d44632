"""Whole transformer models against Detectron2's records, from the pixels of one image.

Limits: 2e-4 of a stage's standard deviation, 3e-4 of the heads' on given boxes; every proposal and
detection within 0.01 pixels and the same of its score, masks within 20 pixels. Detectron2 in
float32 is up to 5e-5 from itself in float64, its boxes 6.4e-4 pixels, scores 6e-5, masks 3 pixels;
with weights disturbed by 1e-6 up to 1e-4, 3.5e-3, 6e-5 and 13.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tests.support.comparison import Differences, compare
from tests.support.intermediates import call_with_intermediates
from tests.support.paths import DATA
from tests.support.transformer_configs import model_options, transformer_config
from tests.support.whole_models import found_record, on_given_boxes, recorded_record
from tfdetect.data.images import read_image
from tfdetect.inference.optimization import optimize
from tfdetect.layers.valid_sizes import WHOLE
from tfdetect.modeling.postprocess import Postprocessor
from tfdetect.modeling.preprocess import Preprocessor, padded_sizes
from tfdetect.ops.backend import Backend
from tfdetect.ops.resize import resize_bilinear_uint8

Arrays = Mapping[str, np.ndarray]

RECORDS = DATA / "vitdet"
IMAGE = DATA / "full" / "coffee.png"
BACKBONE = "swin_backbone_odd"
"""The record of a backbone alone, of odd sizes at every merging."""
DETECTORS = sorted({path.stem for path in (RECORDS / "narrow").glob("*.npz")} - {BACKBONE})
"""Records of narrow models."""
FULL = sorted(path.stem.replace("__", "/") for path in (RECORDS / "full").glob("*.npz"))
"""Names of the published models with a record."""

HEADS = ("box_", "mask_logits")
"""What names of the heads' outputs begin with."""
_STAGES = ("stage_", "feat_", "rpn_", *HEADS)


def read_record(kind: str, name: str) -> dict[str, np.ndarray]:
    """As Detectron2's is, with less of each stage; `kind` is "narrow" or "full"."""
    with np.load(RECORDS / kind / f"{name.replace('/', '__')}.npz") as arrays:
        recorded = dict(arrays)
    for stage, layout in json.loads(str(recorded.pop("layout"))).items():
        recorded |= {f"{stage}_{key}": np.array(value) for key, value in layout.items()}
    return recorded


def narrow_config(recorded: Arrays, **options: Any) -> CfgNode:
    """Of a detector; `options` by key."""
    edges = {
        "INPUT.MIN_SIZE_TEST": int(recorded["short_edge"]),
        "INPUT.MAX_SIZE_TEST": int(recorded["longest_edge"]),
    }
    return transformer_config(model_options(json.loads(str(recorded["settings"]))), edges, options)


@dataclass
class Result:
    """What was compared.

    Attributes:
        stages: the largest difference of each stage, and of its mean, deviation and largest
            magnitude, in standard deviations.
        proposals: with logits in place of scores.
        detections: of the image alone.
        batch: of a batch of it and a part of it, padded as in Detectron2.
        alone: of either of these beside the other, each with its own padding, and alone.
    """

    stages: dict[str, float]
    proposals: Differences
    detections: Differences
    batch: list[Differences] = field(default_factory=list)
    alone: list[Differences] = field(default_factory=list)

    def check(self) -> None:
        """Assert that all is within the limits."""
        beyond = {
            name: difference
            for name, difference in self.stages.items()
            if not difference < (3e-4 if name.startswith(HEADS) else 2e-4)
        }
        assert self.stages
        assert not beyond
        for found in (self.proposals, self.detections, *self.batch, *self.alone):
            check_detections(found)


def check_detections(found: Differences) -> None:
    """Assert that these are the same ones."""
    assert found.matched == found.expected > 0, found.unmatched
    assert found.extra == 0
    assert found.box < 0.01
    assert found.mask_pixels <= 20


def compare_stages(
    found: Mapping[str, Any], recorded: Arrays, stages: tuple[str, ...] = _STAGES
) -> dict[str, float]:
    """See `Result.stages`; of all that are recorded with such a prefix."""
    differences = {}
    for name, expected in recorded.items():
        if not name.startswith(stages) or name.endswith(("_step", "_shape", "_moments")):
            continue
        ours = name.removeprefix("batch_").removeprefix("stage_").removeprefix("feat_")
        if ours.startswith(("box_logits", "box_deltas")):
            ours = f"given_{ours}"
        result = np.asarray(found[ours])
        if result.ndim == 4:
            result = np.transpose(result, [0, 3, 1, 2])
        if f"{name}_shape" in recorded:
            np.testing.assert_array_equal(result.shape, recorded[f"{name}_shape"], name)
        moments = recorded.get(f"{name}_moments", moments_of(expected))
        apart = np.abs(moments_of(result) - moments).max()
        if f"{name}_step" in recorded:
            channels, *side = recorded[f"{name}_step"]
            steps = [1, channels, *side * 2]
            result = result[tuple(slice(None, None, step) for step in steps)]
        apart = max(apart, np.abs(result - expected).max())
        differences[name] = float(apart / moments[1])
    return differences


def moments_of(values: np.ndarray) -> np.ndarray:
    """Mean, standard deviation (as PyTorch's: that of a sample), largest magnitude."""
    values = np.asarray(values, np.float64)
    return np.array([values.mean(), values.std(ddof=1), np.abs(values).max()])


def network_input(
    cfg: CfgNode, size_divisibility: int, recorded: Arrays
) -> tuple[tf.Tensor, tf.Tensor, np.ndarray]:
    """The batch of the recorded image, its size within it, and that of the original."""
    image = read_image(IMAGE)
    size = np.array([image.shape[:2]], np.int32)
    batch, resized = Preprocessor.from_config(cfg, size_divisibility)(image[None], size)
    np.testing.assert_array_equal(resized[0], recorded["resized_hw"])
    np.testing.assert_array_equal(batch.shape[1:3], recorded["padded_hw"])
    pixels = resize_bilinear_uint8(image, resized[0]).numpy()[..., ::-1]
    assert zlib.crc32(np.ascontiguousarray(pixels)) == recorded["resized_crc32"]
    return batch, resized, size


def compare_model(cfg: CfgNode, model: tf.Module, ops: str, recorded: Arrays) -> Result:
    """Run a detector as `Predictor` has it, in one graph for all batches.

    A model that does not pad to squares is run in batches of two as well, if that is recorded.

    Args:
        cfg: of the model.
        model: with the seeded weights.
        ops: "native" or "portable".
        recorded: complete, or thinned by `tests.recorders.transformer_models`.
    """
    backend = Backend.for_device("cpu", ops=ops)
    batch, resized, size = network_input(cfg, model.size_divisibility, recorded)
    optimized = optimize(model, backend)
    postprocess = Postprocessor.from_config(cfg)
    square = cfg.MODEL.BACKBONE.SQUARE_PAD or None
    of_sizes = tf.TensorSpec([None, 2], tf.int32)

    @tf.function(
        input_signature=[tf.TensorSpec([None, square, square, 3]), *[of_sizes] * 3], autograph=False
    )
    @backend.active()
    def run(batch, resized, padded, sizes):
        valid_sizes = WHOLE if square else optimized.valid_sizes(padded)
        outputs, found = call_with_intermediates(optimized, batch, resized, valid_sizes)
        features = {name: found[name] for name in cfg.MODEL.ROI_HEADS.IN_FEATURES}
        found |= on_given_boxes(optimized.roi_heads, features, recorded)
        return postprocess(outputs, padded, resized, sizes), found

    whole = np.array([batch.shape[1:3]], np.int32)
    detections, found = run(batch, resized, whole, size)
    result = Result(
        compare_stages(found, recorded),
        _compare_proposals(found, recorded),
        compare_detections(found_record(detections, size[0]), recorded_record(recorded, size[0])),
    )
    if "batch_padded_hw" not in recorded:
        return result
    height, width = resized[0].numpy()
    own = np.array([[height, width], [height * 3 // 4, width * 2 // 3]], np.int32)
    part = np.zeros_like(batch)
    part[:, : own[1, 0], : own[1, 1]] = batch[:, : own[1, 0], : own[1, 1]]
    both = tf.concat([batch, part], 0)
    # The part's are recorded in its own pixels.
    sizes = np.stack([size[0], own[1]])
    detections, found = run(both, own, np.repeat(whole, 2, 0), sizes)
    result.stages |= compare_stages(found, recorded, ("batch_feat_",))
    for index, of in enumerate(sizes):
        theirs = recorded_record(recorded, of, "batch_", f"_{index}")
        ours = found_record(detections, of, index, masks=False)
        result.batch.append(compare_detections(ours, theirs))
    padded = padded_sizes(own, model.size_divisibility)
    together, _ = run(both, own, padded, sizes)
    for index, of in enumerate(sizes):
        given = (values[index : index + 1] for values in (own, padded, sizes))
        image = both[index : index + 1, : padded[index, 0], : padded[index, 1]]
        alone, _ = run(image, *given)
        pair = (found_record(*of_image) for of_image in ((together, of, index), (alone, of)))
        result.alone.append(compare_detections(*pair))
    return result


def compare_detections(found: Mapping[str, Any], expected: Mapping[str, Any]) -> Differences:
    """Of one image, as records of predict.py --json."""
    return compare([found], [expected], iou=0.9, score=2e-4, least_score=0.0)


def _compare_proposals(found: Mapping[str, tf.Tensor], recorded: Arrays) -> Differences:
    """In the resized image."""
    scale = max(recorded[f"rpn_logits_{level}_moments"][1] for level in range(5))
    boxes, logits = (found[name][0].numpy() for name in ("proposals", "proposal_logits"))
    filled = boxes.any(1)  # a slot without a proposal holds zeros
    record = {"file_name": "", "height": 0, "width": 0}
    pair = [
        record | {"pred_boxes": boxes, "scores": logits, "pred_classes": np.zeros(len(boxes))}
        for boxes, logits in (
            (boxes[filled], logits[filled]),
            (recorded["proposals"], recorded["proposal_logits"]),
        )
    ]
    result = compare(pair[:1], pair[1:], iou=0.9, score=2e-4 * scale, least_score=-np.inf)
    # Of those recorded some are kept.
    count = recorded.get("proposals_shape", recorded["proposals"].shape)[0]
    result.extra = len(pair[0]["scores"]) - int(count)
    return result
