"""What is compared of the blocks and backbones of ViT, Swin and MViT."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import seeded_weights
from tfdetect.checkpoint.names import NamedVariable, named_variables
from tfdetect.layers.valid_sizes import ValidSizes

Arrays = Mapping[str, np.ndarray]


def part_of(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, without it."""
    return {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}


def thinned_channels(values: np.ndarray) -> np.ndarray:
    """What is recorded of outputs [..., C]: every fifth channel."""
    return values[..., ::5]


def thinned_gradient(values: np.ndarray) -> np.ndarray:
    """What is recorded of gradients of parameters: of long ones every fifth number, as [N]."""
    return values if values.size <= 100 else values.ravel()[::5]


def seed_variables(module: tf.Module, prefix: str) -> dict[str, NamedVariable]:
    """Give a module the parameters of the record: they follow from their names after `prefix`."""
    variables = {named.name: named for named in named_variables(module)}
    for name, named in variables.items():
        weights = seeded_weights.array(f"{prefix}{name}", named.foreign_shape)
        named.variable.assign(named.from_foreign(weights))
    return variables


def assert_close(found: Any, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Within `tolerance` of the largest magnitude of what is expected."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def assert_outputs_close(found: Any, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """The same of outputs, or gradients of inputs, of which every fifth channel is recorded."""
    assert_close(thinned_channels(np.asarray(found)), expected, tolerance)


def gradient_of(named: NamedVariable, gradient: tf.Tensor) -> np.ndarray:
    """What is recorded of a parameter's gradient: in PyTorch's layout, thinned."""
    return thinned_gradient(dataclasses.replace(named, variable=gradient).to_foreign())


def check_block(module: tf.Module, recorded: Arrays, name: str, unseen: Collection[str] = ()):
    """A recorded block, eagerly and in a graph of unknown sizes, and all its gradients.

    Args:
        module: of x [B, H, W, C].
        recorded: x, y, dy and dx, and gradients of the parameters with d_ before their names, each
            with the block's name before it.
        name: of the block.
        unseen: names of biases that the result does not depend on: rounding, here and there.
    """
    arrays = part_of(recorded, f"{name}.")
    x, y, dy, dx = (arrays[key] for key in ("x", "y", "dy", "dx"))
    slopes = part_of(arrays, "d_")
    variables = seed_variables(module, f"{name}.")
    assert set(slopes) == set(variables)

    signature = [tf.TensorSpec([None, None, None, x.shape[3]])]

    @tf.function(input_signature=signature, autograph=False)
    def compute(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = module(x)
        inputs = [x, *(named.variable for named in variables.values())]
        return result, [tf.convert_to_tensor(g) for g in tape.gradient(result, inputs, dy)]

    result, (of_x, *found) = compute(x)
    assert_outputs_close(result, y)
    # The last image is 100 times smaller: a wrong epsilon shows there.
    assert_outputs_close(result[-1], y[-1])
    assert_outputs_close(of_x, dx, 2e-5)
    assert_outputs_close(module(tf.constant(x)), y)
    for (key, named), gradient in zip(variables.items(), found, strict=True):
        if key in unseen:
            least = 1e-4 * np.abs(slopes[key.replace("bias", "weight")]).max()
            assert max(np.abs(gradient).max(), np.abs(slopes[key]).max()) < least
            continue
        assert_close(gradient_of(named, gradient), slopes[key], 2e-5)


def randomized(model: tf.Module) -> tf.Module:
    """A model with weights of the order of 0.3, so that everything shows."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(variable + 0.3 * rng.normal(size=variable.shape))
    return model


def check_each_image_of_a_batch(
    model: tf.Module, valid_sizes: Callable[[tf.Tensor], ValidSizes] = ValidSizes
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Beside an image that is larger in one axis, or both, an image gets what it gets alone: 1e-4
    of features of the order of 1.

    Args:
        model: a backbone.
        valid_sizes: gives those of images of int32 [B, 2] sizes.

    Returns:
        The features of the batch, and those of a batch of no images.
    """
    sizes = np.array([[61, 90], [75, 41], [17, 122]], np.int32)
    images = np.random.default_rng(1).normal(size=[3, 75, 122, 3]).astype(np.float32)
    for image, (height, width) in zip(images, sizes, strict=True):
        image[height:], image[:, width:] = 0, 0

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, 2], tf.int32)],
        autograph=False,
    )
    def run(images, sizes):
        return model(images, valid_sizes(sizes))

    together = run(images, sizes)
    for index, (height, width) in enumerate(sizes):
        alone = model(tf.constant(images[index : index + 1, :height, :width]))
        assert set(alone) == set(together)
        for name, expected in alone.items():
            rows, columns = expected.shape[1:3]
            found = together[name][index, :rows, :columns]
            np.testing.assert_allclose(found, expected[0], rtol=0, atol=1e-4, err_msg=name)
    # Without valid sizes: a batch that has them is one of images (layers/conv.py).
    return together, model(tf.constant(images[:0]))
