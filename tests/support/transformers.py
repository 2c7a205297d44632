"""What is compared of the blocks and backbones of ViT, Swin and MViT."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfdetect.checkpoint.names import NamedVariable, named_variables
from tfdetect.layers.valid_sizes import ValidSizes

Arrays = Mapping[str, np.ndarray]


def part_of(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, without it."""
    return {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}


def set_variables(module: tf.Module, arrays: Arrays) -> dict[str, NamedVariable]:
    """Give a module the recorded parameters, of which none may be left."""
    variables = {named.name: named for named in named_variables(module)}
    assert set(variables) == set(arrays)
    for name, named in variables.items():
        named.variable.assign(named.from_foreign(arrays[name]))
    return variables


def assert_close(found: Any, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Within `tolerance` of the largest magnitude of what is expected."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def check_block(module: tf.Module, arrays: dict[str, np.ndarray], unseen: Collection[str] = ()):
    """A recorded block, eagerly and in a graph of unknown sizes, and all its gradients.

    Args:
        module: of x [B, H, W, C].
        arrays: x, y, dy, dx, the parameters by their names, and d_ before these.
        unseen: names of biases that the result does not depend on: rounding, here and there.
    """
    x, y, dy, dx = (arrays.pop(key) for key in ("x", "y", "dy", "dx"))
    slopes = {key[2:]: arrays.pop(key) for key in list(arrays) if key.startswith("d_")}
    variables = set_variables(module, arrays)
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
    assert_close(result, y)
    # The last image is 100 times smaller: a wrong epsilon shows there.
    assert_close(result[-1], y[-1])
    assert_close(of_x, dx, 2e-5)
    assert_close(module(tf.constant(x)), y)
    for (key, named), gradient in zip(variables.items(), found, strict=True):
        if key in unseen:
            least = 1e-4 * np.abs(slopes[key.replace("bias", "weight")]).max()
            assert max(np.abs(gradient).max(), np.abs(slopes[key]).max()) < least
            continue
        assert_close(gradient, named.from_foreign(slopes[key]), 2e-5)


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
    return together, run(images[:0], sizes[:0])
