"""What is compared of ViT, Swin and MViT: their blocks, and models from pixels to detections."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tests.support.comparison import compare
from tests.support.intermediates import call_with_intermediates
from tests.support.paths import DATA
from tfdetect.checkpoint.names import NamedVariable, named_variables
from tfdetect.data.images import read_image
from tfdetect.inference.optimization import optimize
from tfdetect.layers.valid_sizes import ValidSizes
from tfdetect.masks.rle import encode_mask
from tfdetect.modeling.postprocess import Postprocessor
from tfdetect.modeling.preprocess import Preprocessor
from tfdetect.ops.backend import Backend
from tfdetect.ops.paste_masks import paste_masks

Arrays = Mapping[str, np.ndarray]


def part_of(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, without it."""
    return {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}


def recorded_json(array: np.ndarray) -> Any:
    """Of an array of a string, or of its bytes."""
    return json.loads(str(array) if array.dtype.kind == "U" else array.tobytes())


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
    model: tf.Module,
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Beside an image that is larger in one axis, or both, an image gets what it gets alone: 1e-4
    of features of the order of 1.

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
        return model(images, ValidSizes(sizes))

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


def check_stages(found: Mapping[str, tf.Tensor], recorded: Arrays, prefix: str) -> None:
    """Within 2e-4 of the standard deviation of each recorded stage whose name begins so."""
    names = [key for key in recorded if key.startswith(prefix) and f"{key}_step" in recorded]
    assert names
    for name in names:
        result = np.transpose(found[name.removeprefix(prefix)], [0, 3, 1, 2])
        np.testing.assert_array_equal(result.shape, recorded[f"{name}_shape"])
        channels, step = recorded[f"{name}_step"]
        difference = np.abs(result[:, ::channels, ::step, ::step] - recorded[name]).max()
        assert difference < 2e-4 * recorded[f"{name}_moments"][1], (name, difference)


def check_detections(
    found: Mapping[str, tf.Tensor],
    index: int,
    recorded: Arrays,
    before: str = "",
    after: str = "",
    masks: bool = True,
) -> None:
    """Of image `index`; they are recorded as pred_X, or with this before and after X."""
    count = int(found["num_detections"][index])
    names = ("pred_boxes", "scores", "pred_classes", "pred_masks")
    own = {name: found[name][index, :count] for name in names}
    same = {"file_name": "coffee.png", "height": 400, "width": 600}
    ours = same | {name: own[name].numpy() for name in names[:3]}
    theirs = same | {
        name: recorded[f"pred_{before}{name.removeprefix('pred_')}{after}"] for name in names[:3]
    }
    if masks:
        pasted = paste_masks(own["pred_masks"], own["pred_boxes"], tf.constant([400, 600]))
        ours["pred_masks"] = [encode_mask(mask) for mask in pasted.numpy()]
        counts = recorded_json(recorded["pred_masks_rle"])
        theirs["pred_masks"] = [{"size": [400, 600], "counts": text} for text in counts]
    result = compare([ours], [theirs], iou=0.9, score=2e-4, least_score=0.0)
    assert result.matched == result.expected == len(theirs["pred_boxes"]) > 0, result.unmatched
    assert result.extra == 0
    assert result.box < 0.01
    assert result.mask_pixels <= 20


def network_input(
    cfg: CfgNode, size_divisibility: int, recorded: Arrays
) -> tuple[tf.Tensor, tf.Tensor, np.ndarray]:
    """The batch of the recorded image, its size within it, and that of the original."""
    image = read_image(DATA / "full" / "coffee.png")
    size = np.array([image.shape[:2]], np.int32)
    batch, resized = Preprocessor.from_config(cfg, size_divisibility)(image[None], size)
    np.testing.assert_array_equal(resized[0], recorded["resized_hw"])
    return batch, resized, size


def check_model(
    cfg: CfgNode, model: tf.Module, ops: str, recorded: Arrays, *, batch_of_two: bool
) -> None:
    """Stages and detections: alone, at a size that is known if it is square; and, where that is
    recorded, in a batch of two as Detectron2 pads it."""
    batch, resized, size = network_input(cfg, model.size_divisibility, recorded)
    np.testing.assert_array_equal(batch.shape[1:3], recorded["padded_hw"])
    backend = Backend.for_device("cpu", ops=ops)
    optimized = optimize(model, backend)
    postprocess = Postprocessor.from_config(cfg)
    shape = batch.shape if cfg.MODEL.BACKBONE.SQUARE_PAD else [None, None, None, 3]

    @tf.function(
        input_signature=[tf.TensorSpec(shape), *[tf.TensorSpec([None, 2], tf.int32)] * 2],
        autograph=False,
    )
    @backend.active()
    def run(batch, resized, sizes):
        outputs, found = call_with_intermediates(optimized, batch, resized)
        padded = tf.repeat(tf.shape(batch)[None, 1:3], tf.shape(batch)[0], axis=0)
        return postprocess(outputs, padded, resized, sizes), found

    detections, found = run(batch, resized, size)
    check_stages(found, recorded, "stage_")
    check_stages(found, recorded, "feat_")
    check_detections(detections, 0, recorded)
    if not batch_of_two:
        return
    height, width = resized[0].numpy()
    own = np.array([[height, width], [height * 3 // 4, width * 2 // 3]], np.int32)
    part = np.zeros_like(batch)
    part[:, : own[1, 0], : own[1, 1]] = batch[:, : own[1, 0], : own[1, 1]]
    # The part's are recorded in its own pixels.
    sizes = np.array([[400, 600], own[1]], np.int32)
    detections, found = run(tf.concat([batch, part], 0), own, sizes)
    check_stages(found, recorded, "batch_feat_")
    for index in range(2):
        check_detections(detections, index, recorded, "batch_", f"_{index}", masks=False)
