"""RoI heads without anything to look at: losses of 0, gradients of zeros, and on with training.

`make test` runs this with and without TensorFlow's oneDNN kernels.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from tests.support.comparison import transposed_types
from tests.support.small_training import (
    C4,
    C4_OPTIONS,
    CASCADE,
    HEIGHT,
    MASK_RCNN,
    WIDTH,
    batch,
    small_model,
)
from tfdetect.layers.norm import BatchNorm, batch_statistics
from tfdetect.modeling.structures import Proposals, Targets

KEYPOINTS = {"MODEL.KEYPOINT_ON": True}
AGNOSTIC = {
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True,
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": True,
}
# Norms and convolutions in every head that has them; boxes that were predicted.
NORMS = {
    "MODEL.ROI_BOX_HEAD.NORM": "SyncBN",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 2,
    "MODEL.ROI_MASK_HEAD.NORM": "BN",
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": True,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "giou",
}
GROUPS = {
    "MODEL.ROI_BOX_HEAD.NORM": "GN",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 1,
    "MODEL.ROI_MASK_HEAD.NORM": "GN",
    "MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": False,
}
MODELS = {
    "fpn": (MASK_RCNN, KEYPOINTS),
    "cascade": (CASCADE, KEYPOINTS),
    "c4": (C4, {**C4_OPTIONS, "MODEL.RESNETS.NORM": "BN"}),
    "agnostic": (MASK_RCNN, AGNOSTIC),
    "norms": (MASK_RCNN, NORMS),
    "groups": (MASK_RCNN, {**KEYPOINTS, **GROUPS}),
}


class Situation(NamedTuple):
    """What the heads are given.

    Attributes:
        objects: of each of two images.
        proposals: of each; they lie where the objects do.
        away: whether the proposals lie where no object is.
        visible: whether keypoints are labelled.
        nothing_for: the heads that get no region.
    """

    objects: tuple[int, int]
    proposals: tuple[int, int] = (30, 30)
    away: bool = False
    visible: bool = True
    nothing_for: tuple[str, ...] = ()


FOREGROUND = ("box_reg", "mask", "keypoint")
SITUATIONS = {
    "no ground truth": Situation((0, 0), nothing_for=FOREGROUND),
    "ground truth in one image": Situation((3, 0)),
    "proposals in one image": Situation((3, 2), (30, 0)),
    "ground truth in one image, proposals in the other": Situation(
        (3, 0), (0, 30), nothing_for=FOREGROUND
    ),
    "no foreground": Situation((3, 2), away=True, nothing_for=FOREGROUND),
    "no proposals": Situation((3, 2), (0, 0), nothing_for=("cls", *FOREGROUND)),
    "nothing": Situation((0, 0), (0, 0), nothing_for=("cls", *FOREGROUND)),
    "no visible keypoint": Situation((3, 2), visible=False, nothing_for=("keypoint",)),
}


class Heads:
    """The RoI heads of a model, and their losses and gradients, eagerly and traced once."""

    def __init__(self, name: str):
        config, options = MODELS[name]
        # Ground truth is not among the proposals, so that there may be none.
        options = {**options, "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": False}
        cfg, model, named = small_model(config, options)
        self._heads = model.roi_heads
        self._shapes = {
            name: model.backbone.output_shapes[name] for name in cfg.MODEL.ROI_HEADS.IN_FEATURES
        }
        self.named = [n for n in named if n.name.startswith("roi_heads")]
        self.norms = [
            module
            for module in model.roi_heads.submodules
            if isinstance(module, BatchNorm) and module.weight.trainable
        ]
        any_size = {
            "gt_boxes": tf.TensorSpec([None, None, 4]),
            "gt_classes": tf.TensorSpec([None, None], tf.int32),
            "gt_valid": tf.TensorSpec([None, None], tf.bool),
            "gt_polygons": tf.TensorSpec([None, None, 4], tf.float64),
            "gt_keypoints": tf.TensorSpec([None, None, 3, 3]),
            "gt_sem_seg": tf.TensorSpec([None, None, None], tf.uint8),
        }
        features = {name: [None, None, None, c] for name, (c, _) in self._shapes.items()}
        self._graph = tf.function(
            lambda features, boxes, num_valid, sizes, targets: self.losses(
                features, Proposals(boxes, num_valid), sizes, Targets(**targets)
            ),
            input_signature=[
                {name: tf.TensorSpec(shape) for name, shape in features.items()},
                tf.TensorSpec([None, None, 4]),
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([None, 2], tf.int32),
                any_size,
            ],
            autograph=False,
        )

    def traced(self, features, proposals, sizes, targets):
        there = {name: value for name, value in targets._asdict().items() if value is not None}
        return self._graph(features, proposals.boxes, proposals.num_valid, sizes, there)

    def losses(self, features, proposals, sizes, targets):
        seeds = tf.zeros([tf.shape(sizes)[0], 2], tf.int32)
        variables = [n.variable for n in self.named]
        with tf.GradientTape() as tape, batch_statistics():
            tape.watch(features)
            losses = self._heads.losses(features, proposals, sizes, targets, seeds)
            total = tf.add_n(list(losses.values()))
        return losses, tape.gradient(total, [*features.values(), *variables])

    def arguments(self, situation: Situation):
        random = np.random.default_rng(0)
        _, sizes, targets = batch(situation.objects)
        features = {
            name: tf.constant(random.normal(size=[2, HEIGHT // s, WIDTH // s, c]), tf.float32)
            for name, (c, s) in self._shapes.items()
        }
        most = max(situation.proposals)
        low = [[84, 0], [92, 60]] if situation.away else [[0, 0], [WIDTH - 40, HEIGHT - 20]]
        corners = random.uniform(*low, (2, most, 2))
        sides = random.uniform(1, 4 if situation.away else 40, (2, most, 2))
        proposals = np.concatenate([corners, corners + sides], -1).astype(np.float32)
        if not situation.away:  # the objects themselves are the first
            given = np.asarray(targets.gt_boxes)[:, :most]
            proposals[:, : given.shape[1]] = given
        if not situation.visible:
            targets = targets._replace(gt_keypoints=targets.gt_keypoints * [1.0, 1.0, 0.0])
        return (
            features,
            Proposals(tf.constant(proposals), tf.constant(situation.proposals, tf.int32)),
            sizes,
            targets,
        )


@functools.cache
def heads(name: str) -> Heads:
    return Heads(name)


def check(name: str, situation: Situation, *, traced: bool):
    model = heads(name)
    run = model.traced if traced else model.losses
    before = [(norm.running_mean.numpy(), norm.running_var.numpy()) for norm in model.norms]
    losses, gradients = run(*model.arguments(situation))
    nothing = {f"loss_{head}" for head in situation.nothing_for}
    for key, loss in losses.items():
        assert np.isfinite(loss), key
        if key.split("_stage")[0] in nothing:
            assert loss == 0, key
        elif "_stage" not in key or key.endswith("_stage0"):  # what follows depends on the first
            assert loss > 0, key
    for gradient in gradients:
        if gradient is not None:
            assert np.isfinite(tf.convert_to_tensor(gradient)).all()
    if all(loss == 0 for loss in losses.values()):
        for gradient in gradients:
            assert gradient is None or not np.any(tf.convert_to_tensor(gradient))
    for norm, statistics in zip(model.norms, before, strict=True):
        assert np.isfinite(norm.running_mean).all()
        assert np.isfinite(norm.running_var).all()
        if len(nothing) == 4:
            np.testing.assert_array_equal([norm.running_mean, norm.running_var], statistics)


# What "fpn" has is part of "cascade" and "groups".
NAMES = [pytest.param(name, marks=[pytest.mark.full] * (name == "fpn")) for name in MODELS]


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_traced(name, situation):
    check(name, SITUATIONS[situation], traced=True)


@pytest.mark.parametrize("situation", ["no ground truth", "nothing"])
@pytest.mark.parametrize("name", NAMES)
def test_eager(name, situation):
    check(name, SITUATIONS[situation], traced=False)


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_of_the_heads_has_a_gradient(name):
    """Zeros, not None, even when there is nothing: weight decay and momentum go on."""
    model = heads(name)
    _, gradients = model.traced(*model.arguments(SITUATIONS["nothing"]))
    for named, gradient in zip(model.named, gradients[-len(model.named) :], strict=True):
        assert gradient is not None, named.name


def test_only_floats_are_transposed():
    """For others TensorFlow's oneDNN says on stderr that it needs AVX-512."""
    _, model, _ = small_model(MASK_RCNN, KEYPOINTS)
    data = batch()

    def losses():
        with tf.GradientTape() as tape:
            total = tf.add_n(list(model.losses(*data, tf.constant((0, 0))).values()))
        return tape.gradient(total, model.trainable_variables, unconnected_gradients="zero")

    assert transposed_types(tf.function(losses, autograph=False).get_concrete_function().graph) == {
        tf.float32
    }
