"""AdamW against PyTorch's, recorded, and the hyperparameters of each parameter."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.support import toy
from tests.support.paths import DATA
from tfdetect.checkpoint.names import named_variables
from tfdetect.errors import InputError
from tfdetect.layers.norm import BatchNorm, GroupNorm, LayerNorm, LevelBatchNorm, make_norm
from tfdetect.modeling.backbone.vit import ResBottleneckBlock
from tfdetect.training.adamw import AdamW
from tfdetect.training.optimizer import hyperparameters

ONE = {"betas": (0.9, 0.999), "weight_decays": [0.1], "learning_rate_factors": [1.0]}


def recorded():
    with np.load(DATA / "vitdet" / "adamw.npz") as arrays:
        return dict(arrays)


def test_steps_are_pytorchs():
    arrays = recorded()
    names = ("w", "z", "v")
    rates, decays = arrays["lr_weight_decay_w_z_v"].T
    parameters = [tf.Variable(arrays[f"{name}0"]) for name in names]
    optimizer = AdamW(
        parameters,
        betas=arrays["betas"].tolist(),
        weight_decays=decays.tolist(),
        learning_rate_factors=(rates / rates[0]).tolist(),
    )
    for step in range(10):
        gradients = [tf.constant(arrays[f"{name}_grad_{step}"]) for name in names]
        optimizer.apply_gradients(gradients, tf.constant(rates[0], tf.float64))
        for name, parameter in zip(names, parameters, strict=True):
            expected = arrays[f"{name}_after_{step}"]
            # A handful of float32 operations for each step.
            np.testing.assert_allclose(parameter, expected, rtol=2e-6, atol=2e-7, err_msg=name)
            before = arrays[f"{name}0"] if step == 0 else arrays[f"{name}_after_{step - 1}"]
            # And of what the step changes: the rounding of the parameters that are subtracted.
            change = np.abs(expected - before).max()
            assert np.abs(parameter.numpy() - expected).max() < 1e-3 * change


def test_gradients_near_epsilon():
    """Of 1e-9 each, a step is l / 11: epsilon stands beside the corrected root."""
    parameter = tf.Variable([0.0])
    optimizer = AdamW([parameter], **ONE)
    for step in range(1, 4):
        optimizer.apply_gradients([tf.constant([1e-9])], 1.0)
        # 1 - 0.999 of float32 numbers would be 2e-5 off.
        np.testing.assert_allclose(parameter, [-sum(0.9**k for k in range(step)) / 11], rtol=3e-6)


def test_what_is_left_alone():
    first, second = tf.Variable([1.0]), tf.Variable([1.0])
    both = {"betas": (0.9, 0.999), "weight_decays": [0.1] * 2, "learning_rate_factors": [1.0] * 2}
    optimizer = AdamW([first, second], **both)
    optimizer.apply_gradients([tf.constant([1.0]), tf.constant([1.0])], 0.1, tf.constant(False))
    optimizer.apply_gradients([tf.constant([1.0]), None], 0.1, tf.constant(True))
    # After a step that is not usable the next one is the first.
    np.testing.assert_allclose(first, [0.99 - 0.1], rtol=1e-6)
    np.testing.assert_array_equal(second, [1.0])
    assert optimizer.step_count.numpy() == 1


def test_a_checkpoint_brings_everything_back(tmp_path):
    def start():
        return toy.trainer(toy.config(OPTIMIZER="AdamW", BASE_LR=0.001))

    step, model = start()
    step(toy.batch(0), 0)
    saved = tf.train.Checkpoint(model=model, state=step.state)
    path = saved.write(str(tmp_path / "state"))
    step(toy.batch(1), 1)
    again, resumed = start()
    tf.train.Checkpoint(model=resumed, state=again.state).read(path).assert_consumed()
    again(toy.batch(1), 1)
    for a, b in zip(model.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("solver", [{}, {"ACCUMULATION_STEPS": 2}])
def test_losses_fall(solver):
    losses, _ = toy.train(toy.config(OPTIMIZER="AdamW", **solver), steps=30)
    first, last = (sum(sum(step.values()) for step in part) for part in (losses[:5], losses[-5:]))
    assert last < first


def test_float16_passes_over_steps_that_overflow():
    cfg = toy.config(OPTIMIZER="AdamW")
    cfg.SOLVER.AMP.ENABLED = True
    step, model = toy.trainer(cfg)
    step.state.loss_scale.scale.assign(1e38)
    before = [variable.numpy() for variable in model.variables]
    step(toy.batch(0), 0)
    for a, b in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not any(v.numpy().any() for v in tf.nest.flatten(step.optimizer.state))


class Backbone(tf.Module):
    """The names of a ViT's parameters in its pyramid, and their layers."""

    def __init__(self, names, num_layers):
        super().__init__()
        self.num_layers = num_layers
        for name in names:
            node = self
            *parts, last = name.split(".")[1:]
            for part in parts:
                if not hasattr(node, part):
                    setattr(node, part, GroupNorm(32) if part.startswith("norm") else tf.Module())
                node = getattr(node, part)
            setattr(node, last, tf.Variable(tf.zeros([32])))

    def layer_of(self, name):
        if ".pos_embed" in name or ".patch_embed" in name:
            return 0
        if ".blocks." in name and ".residual." not in name:
            return int(name.partition(".blocks.")[2].partition(".")[0]) + 1
        return self.num_layers + 1


class Model(tf.Module):
    def __init__(self, names, num_layers):
        super().__init__()
        of_backbone = [name for name in names if name.startswith("backbone.")]
        self.backbone = Backbone(of_backbone, num_layers)
        self.head = tf.Module()
        self.head.bias = tf.Variable(tf.zeros([3]))


def found_for(names, num_layers=12, **solver):
    model = Model(names, num_layers)
    by_id = hyperparameters(toy.config(**solver), model)
    return {named.name: by_id[id(named.variable)] for named in named_variables(model)}


@pytest.mark.parametrize("rate", ["0.7_12", "0.8_24", "0.9_32"])
def test_layer_decay_is_detectron2s(rate):
    with gzip.open(DATA / "vitdet" / "recipe.json.gz") as file:
        expected = json.load(file)["lr_decay"][rate]
    decay, layers = rate.split("_")
    found = found_for(list(expected), int(layers), LAYER_DECAY=float(decay))
    expected = {name: value for name, value in expected.items() if name.startswith("backbone.")}
    expected["head.bias"] = 1.0
    factors = {name: found[name].learning_rate_factor for name in expected}
    assert factors == pytest.approx(expected, rel=1e-12)


BLOCK = "backbone.net.blocks.0."
NAMES = ("backbone.net.pos_embed", *(BLOCK + n for n in ("norm1.weight", "norm1.bias", "fc.bias")))


def test_precedence():
    """In Detectron2 an override replaces what the norm and the layer gave."""
    solver = {"WEIGHT_DECAY": 0.1, "WEIGHT_DECAY_NORM": 0.0, "LAYER_DECAY": 0.5}
    solver["WEIGHT_DECAY_OVERRIDES"] = [["pos_embed", 0.0]]
    expected = {
        "backbone.net.pos_embed": (0.0, 0.25),
        BLOCK + "norm1.weight": (0.0, 0.5),
        BLOCK + "norm1.bias": (0.0, 0.5),
        BLOCK + "fc.bias": (0.1, 0.5),
        "head.bias": (0.1, 1.0),
    }
    assert found_for(NAMES, 1, **solver) == expected
    expected |= {BLOCK + "norm1.weight": (0.1, 0.5), BLOCK + "norm1.bias": (0.1, 0.5)}
    assert found_for(NAMES, 1, **(solver | {"WEIGHT_DECAY_NORM": None})) == expected
    solver |= {"WEIGHT_DECAY_BIAS": 0.3, "BIAS_LR_FACTOR": 2.0}
    biases = (BLOCK + "norm1.bias", BLOCK + "fc.bias", "head.bias")
    expected |= {BLOCK + "norm1.weight": (0.0, 0.5)} | dict.fromkeys(biases, (0.3, 2.0))
    assert found_for(NAMES, 1, **solver) == expected


@pytest.mark.parametrize(
    ("layer", "decay"),
    [
        (GroupNorm(32), 0.0),
        (BatchNorm(4, "naiveSyncBN"), 0.0),
        (LayerNorm(4, 1e-6), 0.0),
        (make_norm("LN", 4), 0.1),  # a class of Detectron2's own
        (LevelBatchNorm(4, "BN", 2), 0.1),
        (ResBottleneckBlock(8, 4).norm1, 0.1),
    ],
)
def test_which_norms_decay(layer, decay):
    found = hyperparameters(toy.config(WEIGHT_DECAY=0.1, WEIGHT_DECAY_NORM=0.0), layer)
    assert found[id(layer.weight)].weight_decay == decay
    assert found[id(layer.bias)].weight_decay == decay


def test_layer_decay_of_a_backbone_without_layers():
    with pytest.raises(InputError, match=r"SOLVER\.LAYER_DECAY: is 0\.5, .*layer_of"):
        toy.trainer(toy.config(LAYER_DECAY=0.5))
