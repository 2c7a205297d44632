"""A model with its signatures, as a SavedModel has them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.export.decode import decode_images
from tfdetect.export.od_api import to_od_api
from tfdetect.inference.optimization import optimize
from tfdetect.inference.pipeline import Pipeline
from tfdetect.inference.tta import TTAPipeline
from tfdetect.modeling.conventions import conventions
from tfdetect.modeling.postprocess import empty_unused_slots
from tfdetect.ops.backend import Backend
from tfdetect.ops.paste_masks import paste_masks

_IMAGE_BYTES = tf.TensorSpec([None], tf.string, name="image_bytes")
_IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
_SIZES = tf.TensorSpec([None, 2], tf.int32, name="image_sizes")
_PROPOSALS = (
    tf.TensorSpec([None, None, 4], tf.float32, name="proposals"),
    tf.TensorSpec([None], tf.int32, name="num_proposals"),
)
MOST_BYTES = 2**32
"""Limit for an output in pixels of the input images, such as full masks; a response cannot be
split."""
_INPUT_TENSOR = tf.TensorSpec([None, None, None, 3], tf.uint8, name="input_tensor")


class Servable:
    """From encoded images, or pixels, to what `Predictor` gives; everything is in the graph.

    Args:
        cfg: the model's configuration.
        model: of `build_model`, with its weights; it stays as it is.
        backend: where the servable will run and with which operators.
        max_batch: a larger batch is an InvalidArgumentError; None sets no limit.
        keypoint_flip: see `TTAPipeline`.

    Attributes:
        pipeline: images of any sizes in, detections out.
        signatures: the functions by name; docs/serving.md has what each takes and gives.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: tf.Module,
        backend: Backend,
        max_batch: int | None = None,
        keypoint_flip: Sequence[int] | None = None,
    ):
        self.pipeline = Pipeline(cfg, optimize(model, backend), backend)
        self._max_batch = max_batch
        self._paste = functools.partial(paste_masks, as_images=conventions(cfg).masks_as_images)
        able = capabilities(cfg)
        proposals = _PROPOSALS if able.takes_proposals else ()

        def signature(function: Callable, *specs: tf.TensorSpec) -> Any:
            return tf.function(backend.active()(function), input_signature=specs, autograph=False)

        self.signatures: dict[str, Any] = {
            "serving_default": signature(self._serving_default, _IMAGE_BYTES, *proposals),
            "image_tensor": signature(self._image_tensor, _IMAGES, _SIZES, *proposals),
        }
        self._segments = able.has_semantic
        if able.has_masks:
            self.signatures["full_masks"] = signature(self._full_masks, _IMAGE_BYTES, *proposals)
        # The API wants probabilities, which proposals does not, has no proposals to give, and
        # horizontal boxes.
        if able.has_boxes and not proposals and not able.rotated:
            self.signatures["od_api"] = signature(self._od_api, _INPUT_TENSOR)
        if cfg.TEST.AUG.ENABLED:
            self._tta_pipeline = TTAPipeline(
                cfg, self.pipeline.model, backend, keypoint_flip=keypoint_flip
            )
            self.signatures["tta"] = signature(self._tta, _IMAGE_BYTES)

    def root(self) -> tf.Module:
        """What is saved as the SavedModel's root.

        Once loaded it may be called like the signature `od_api`, where there is one, which is how
        clients of the TF Object Detection API call a model.
        """
        root = tf.Module()
        root.model = self.pipeline.model
        if "od_api" in self.signatures:
            root.__call__ = self.signatures["od_api"]
        return root

    def _serving_default(self, image_bytes: tf.Tensor, *proposals: tf.Tensor) -> dict:
        return self._of_bytes(self.pipeline.detect_pixels, image_bytes, *proposals)

    def _tta(self, image_bytes: tf.Tensor) -> dict:
        return self._of_bytes(self._tta_pipeline.detect_pixels, image_bytes)

    def _of_bytes(self, detect: Callable, image_bytes: tf.Tensor, *proposals: tf.Tensor) -> dict:
        with tf.control_dependencies(self._check_batch(image_bytes)):
            image_bytes = tf.identity(image_bytes)
        pixels, sizes = decode_images(image_bytes)
        found = self._detect(detect, pixels, sizes, *proposals)
        return found | {"image_sizes": sizes}

    def _image_tensor(
        self, images: tf.Tensor, image_sizes: tf.Tensor, *proposals: tf.Tensor
    ) -> dict:
        with tf.control_dependencies(
            [*self._check_batch(images), *_check_sizes(images, image_sizes)]
        ):
            images, sizes = tf.reverse(images, [3]), tf.identity(image_sizes)
        return self._detect(self.pipeline.detect, images, sizes, *proposals)

    def _full_masks(self, image_bytes: tf.Tensor, *proposals: tf.Tensor) -> dict:
        found = self._serving_default(image_bytes, *proposals)
        boxes, num_valid, sizes = found["pred_boxes"], found["num_detections"], found["image_sizes"]
        canvas, most = tf.reduce_max(sizes, 0), tf.reduce_max(num_valid)
        with tf.control_dependencies([_check_answer("pred_masks", sizes, most)]):
            canvas = tf.identity(canvas)

        def paste(arguments: tuple[tf.Tensor, ...]) -> tf.Tensor:
            masks, boxes, count, size = arguments
            pasted = self._paste(masks[:count], boxes[:count], size)
            beyond = canvas - size
            return tf.pad(pasted, [[0, most - count], [0, beyond[0]], [0, beyond[1]]])

        arguments = (found["pred_masks"], boxes, num_valid, sizes)
        masks = tf.map_fn(paste, arguments, fn_output_signature=tf.TensorSpec([None] * 3, tf.bool))
        return found | {"pred_masks": masks}

    def _od_api(self, input_tensor: tf.Tensor) -> dict:
        shape = tf.shape(input_tensor)
        sizes = tf.repeat(shape[None, 1:3], shape[0], axis=0)
        return to_od_api(self._image_tensor(input_tensor, sizes), shape[1:3])

    def _detect(
        self, detect: Callable, images: tf.Tensor, sizes: tf.Tensor, *proposals: tf.Tensor
    ) -> dict:
        """As `detect` of `Pipeline`, with zeros in every slot beyond the number of detections."""
        checks = _check_proposals(sizes, *proposals) if proposals else []
        if self._segments:
            checks += [_check_answer("sem_seg", sizes, 4)]
        with tf.control_dependencies(checks):
            sizes = tf.identity(sizes)
        return empty_unused_slots(detect(images, sizes, *proposals))

    def _check_batch(self, images: tf.Tensor) -> list[tf.Operation]:
        count = tf.shape(images)[0]
        checks = [tf.debugging.Assert(count > 0, ["a batch of no images; send at least one"])]
        if self._max_batch is not None:
            complaint = f"images in the batch, more than the {self._max_batch} of --max-batch"
            checks.append(tf.debugging.Assert(count <= self._max_batch, [count, complaint]))
        return checks


def _check_sizes(images: tf.Tensor, sizes: tf.Tensor) -> list[tf.Operation]:
    shape = tf.shape(images)
    same_count = tf.equal(tf.shape(sizes)[0], shape[0])
    inside = tf.reduce_all((sizes >= 1) & (sizes <= shape[1:3]))
    return [
        tf.debugging.Assert(same_count, ["image_sizes: one (height, width) for each of images"]),
        tf.debugging.Assert(inside, ["image_sizes: between 1 and the height and width of images"]),
    ]


def _check_answer(name: str, sizes: tf.Tensor, bytes_per_pixel: tf.Tensor | int) -> tf.Operation:
    """Checks that an output [N, H, W] for images of int32 [N, 2] sizes is not too large."""
    canvas = tf.cast(tf.reduce_max(sizes, 0), tf.int64)
    pixels = tf.shape(sizes, tf.int64)[0] * canvas[0] * canvas[1]
    size = pixels * tf.cast(bytes_per_pixel, tf.int64)
    complaint = f"bytes of {name}, more than {MOST_BYTES}; send fewer images, or smaller ones"
    return tf.debugging.Assert(size <= MOST_BYTES, [size, complaint])


def _check_proposals(
    sizes: tf.Tensor, proposals: tf.Tensor, num_valid: tf.Tensor
) -> list[tf.Operation]:
    images, (given, most, _) = tf.shape(sizes)[0], tf.unstack(tf.shape(proposals))
    same_count = tf.equal(given, images) & tf.equal(tf.shape(num_valid)[0], images)
    return [
        tf.debugging.Assert(
            same_count, ["proposals and num_proposals: one of each for each image"]
        ),
        tf.debugging.Assert(
            tf.reduce_all((num_valid >= 0) & (num_valid <= most)),
            ["num_proposals: between 0 and the number of proposals given"],
        ),
    ]
