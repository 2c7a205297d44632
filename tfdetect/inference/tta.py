"""Test-time augmentation: the detections of one image, merged from those of several sizes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.config.tta import check_tta
from tfdetect.errors import InputError
from tfdetect.inference.augmentations import AugmentedImages, augmented_sizes
from tfdetect.inference.augmented_passes import AugmentedPasses, Kept, array_of
from tfdetect.inference.merge import merge_detections
from tfdetect.inference.pipeline import PADDINGS
from tfdetect.modeling.postprocess import rescale_detections
from tfdetect.modeling.preprocess import (
    MOST_PIXELS,
    Preprocessor,
    ReadImage,
    images_of_batch,
    images_of_pixels,
    padded_sizes,
)
from tfdetect.modeling.structures import Instances
from tfdetect.ops.backend import Backend
from tfdetect.ops.keypoints import decode_keypoints
from tfdetect.ops.resize import shortest_edge_size

_DETECTRON2_BATCH = 3
"""Augmented images that Detectron2 puts through the network together."""
_N = "num_detections"

_IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8)
_PIXELS = tf.TensorSpec([None, 3], tf.uint8)
_SIZES = tf.TensorSpec([None, 2], tf.int32)


class TTAPipeline(tf.Module):
    """`Pipeline` with test-time augmentation (TEST.AUG): Detectron2's `GeneralizedRCNNWithTTA`.

    1. Each image is resized to TEST.AUG.MIN_SIZES, and each of these flipped (`AugmentedImages`).
    2. Boxes are detected in every augmented image, with the thresholds and limits of the
       configuration.
    3. All of them, mapped back to the image, go through NMS per class together, and the best
       TEST.DETECTIONS_PER_IMAGE are the result, with the scores that they have.
    4. A model with masks is asked for those of the resulting boxes in every augmented image; their
       probabilities are averaged. Boxes without area are dropped.

    Beyond Detectron2, which rejects them:

    - Keypoints: the heatmaps (logits) of the resulting boxes in every augmented image are averaged,
      those of a flipped one being mirrored, with left and right keypoints swapped; they are decoded
      in the network's input, as without augmentation.
    - Dense models (RetinaNet, FCOS): their boxes are merged in the same way.

    Images go through it one after the other, and so do the augmented images of one, so that memory
    is bounded whatever their number; with `padding` "detectron2" three augmented images go
    together, in Detectron2's order, and see each other's padding.

    Attributes:
        detect, detect_pixels: as of `Pipeline`, for B of at least 1.
        groups: as of `Pipeline`, whose check is of the augmented images here.

    Args:
        cfg: the whole configuration.
        model, backend, padding: as of `Pipeline`.
        keypoint_flip: the index of the keypoint that takes each one's place in a mirror image; for
            a model with keypoints and TEST.AUG.FLIP.

    Raises:
        InputError: there is no test-time augmentation of this model, a value of TEST.AUG cannot be
            used, `keypoint_flip` is missing, or there is no such padding.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: tf.Module,
        backend: Backend,
        padding: str = "own",
        keypoint_flip: Sequence[int] | None = None,
    ):
        super().__init__()
        if padding not in PADDINGS:
            raise InputError(f"padding {padding!r}: it is {' or '.join(PADDINGS)}")
        check_tta(cfg)
        able, aug = capabilities(cfg), cfg.TEST.AUG
        if able.has_keypoints and aug.FLIP and keypoint_flip is None:
            raise InputError(
                "TEST.AUG.FLIP: the model's metadata does not say which keypoints change places in "
                "a mirror image; convert it with its data set's --metadata, or set it to False"
            )
        self._two_passes = able.has_masks or able.has_keypoints
        if self._two_passes and not _has_two_parts(model):
            raise InputError(
                f"TEST.AUG.ENABLED: {cfg.MODEL.META_ARCHITECTURE} with MODEL.ROI_HEADS.NAME "
                f"{cfg.MODEL.ROI_HEADS.NAME} lacks detect_boxes or forward_with_given_boxes; add "
                "them, or set it to False"
            )
        self.model = model
        self._input_edges = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
        self._min_sizes, self._max_size = list(aug.MIN_SIZES), aug.MAX_SIZE
        self._flip = aug.FLIP
        section = able.classes_key.split(".")[1]
        self._nms_threshold = cfg.MODEL[section].NMS_THRESH_TEST
        self._max_detections = cfg.TEST.DETECTIONS_PER_IMAGE
        preprocess = Preprocessor(
            min(self._min_sizes),
            self._max_size,
            pixel_mean=cfg.MODEL.PIXEL_MEAN,
            pixel_std=cfg.MODEL.PIXEL_STD,
            size_divisibility=model.size_divisibility,
            image_format=cfg.INPUT.FORMAT,
        )
        self._outputs = {
            "pred_boxes": tf.TensorSpec([None, 4]),
            "scores": tf.TensorSpec([None]),
            "pred_classes": tf.TensorSpec([None], tf.int32),
        }
        if able.has_masks:
            self._outputs["pred_masks"] = tf.TensorSpec([None, None, None])
        if able.has_keypoints:
            self._outputs["pred_keypoints"] = tf.TensorSpec([None, able.num_keypoints, 3])

        def function(method: Callable, *specs: tf.TensorSpec) -> Any:
            return tf.function(backend.active()(method), input_signature=specs, autograph=False)

        self._passes = AugmentedPasses(
            model,
            backend,
            preprocess,
            batch_size=1 if padding == "own" else _DETECTRON2_BATCH,
            of_boxes=[name for name in ("pred_masks", "pred_keypoints") if name in self._outputs],
            flip=aug.FLIP,
            keypoint_flip=keypoint_flip,
        )
        self.detect = function(self._detect, _IMAGES, _SIZES)
        self.detect_pixels = function(self._detect_pixels, _PIXELS, _SIZES)

    def groups(self, sizes: np.ndarray) -> list[list[int]]:
        """All images, of int32 [B, 2] sizes, together: the graph takes them one after the other.

        Raises:
            InputError: an augmented image is too large for the network.
        """
        inputs = shortest_edge_size(tf.constant(sizes), *self._input_edges)
        resized = augmented_sizes(inputs, self._min_sizes, self._max_size)
        padded = padded_sizes(resized, self.model.size_divisibility)
        if self._input_edges[0] > 0:
            padded = tf.concat([padded, inputs[None]], 0)
        areas = padded.numpy().astype(np.int64).prod(-1)
        if areas.size and areas.max() > MOST_PIXELS:
            which, image = np.unravel_index(areas.argmax(), areas.shape)
            height, width = sizes[image].tolist()
            raise InputError(
                f"image {image}: {height} x {width} pixels become {areas[which, image]} in an "
                f"augmented image, more than {MOST_PIXELS}; give smaller images, or set "
                "TEST.AUG.MIN_SIZES and MAX_SIZE (or INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST) to less"
            )
        return [list(range(len(sizes)))]

    def _detect(self, images: tf.Tensor, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._of_each(*images_of_batch(images, sizes))

    def _detect_pixels(self, pixels: tf.Tensor, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._of_each(*images_of_pixels(pixels, sizes))

    def _of_each(self, read: ReadImage, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        """The images one after the other; `read` gives that of an index."""
        count = tf.shape(sizes)[0]

        def detect(index: tf.Tensor, arrays: dict[str, tf.TensorArray]) -> tuple:
            found = self._detect_one(read(index))
            return index + 1, {
                name: array.write(index, found[name]) for name, array in arrays.items()
            }

        specs = self._outputs | {_N: tf.TensorSpec([1], tf.int32)}
        _, arrays = tf.while_loop(
            lambda index, _: index < count,
            detect,
            [tf.constant(0), {name: array_of(spec, count) for name, spec in specs.items()}],
            parallel_iterations=1,
        )
        num_detections = arrays[_N].concat()
        slots = self._max_detections
        if slots < 0:
            slots = tf.reduce_max(num_detections)
        used = tf.where(tf.range(slots) < num_detections[:, None])
        result = {_N: num_detections}
        for name, spec in self._outputs.items():
            values = arrays[name].concat()
            shape = tf.concat([[count, slots], tf.shape(values)[1:]], 0)
            placed = tf.scatter_nd(used, values, tf.cast(shape, tf.int64))
            known = None if self._max_detections < 0 else self._max_detections
            result[name] = tf.ensure_shape(placed, [None, known, *spec.shape[1:]])
        return result

    def _detect_one(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """The detections in uint8 [H, W, 3] BGR: N of each output, and int32 [1], N."""
        if self._input_edges[0] > 0:
            image = self._require_small_input(image)
        augmented = AugmentedImages(
            image,
            input_edges=self._input_edges,
            min_sizes=self._min_sizes,
            max_size=self._max_size,
            flip=self._flip,
        )
        found, kept = self._passes.detect_boxes(augmented)
        detections = merge_detections(
            augmented,
            found,
            nms_threshold=self._nms_threshold,
            max_detections=self._max_detections,
        )
        if self._two_passes:
            detections = self._predict_on_boxes(augmented, detections, kept)
        num_detections = detections.num_detections
        values = detections.as_dict()
        outputs = {name: values[name][0, : num_detections[0]] for name in self._outputs}
        return outputs | {_N: num_detections}

    def _require_small_input(self, image: tf.Tensor) -> tf.Tensor:
        """The image, if INPUT.MIN_SIZE_TEST does not make too large a one of it."""
        size = shortest_edge_size(tf.shape(image)[:2], *self._input_edges)
        fits = tf.reduce_prod(tf.cast(size, tf.int64)) <= MOST_PIXELS
        complaint = f"the resized image is more than {MOST_PIXELS} pixels; send a smaller one"
        with tf.control_dependencies([tf.debugging.Assert(fits, [complaint, size])]):
            return tf.identity(image)

    def _predict_on_boxes(
        self, augmented: AugmentedImages, detections: Instances, kept: Kept
    ) -> Instances:
        """The detections with masks and keypoints."""
        mean = self._passes.predict_on_boxes(augmented, detections, kept)
        if "pred_keypoints" in mean:
            # How many keypoints there are has to be known where there are no boxes.
            count = self._outputs["pred_keypoints"].shape[1]
            heatmaps = tf.ensure_shape(mean["pred_keypoints"], [None, None, None, count])
            in_input = augmented.to_input(detections.pred_boxes[0])
            keypoints = decode_keypoints(heatmaps, in_input)
            keypoints = tf.gather(keypoints, [0, 1, 3], axis=2)
            mean["pred_keypoints"] = augmented.keypoints_to_original(keypoints)
        detections = detections._replace(**{name: values[None] for name, values in mean.items()})
        return rescale_detections(detections, augmented.size[None], augmented.size[None])


def _has_two_parts(model: tf.Module) -> bool:
    heads = getattr(model, "roi_heads", None)
    return all(
        callable(getattr(module, name, None))
        for module, name in (
            (model, "detect_boxes"),
            (heads, "detect_boxes"),
            (heads, "forward_with_given_boxes"),
        )
    )
