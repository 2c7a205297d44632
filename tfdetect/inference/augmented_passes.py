"""Both passes of the network through the augmented images of one image, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tfdetect.inference.augmentations import AugmentedImages
from tfdetect.inference.merge import Found
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.modeling.preprocess import Preprocessor, padded_sizes
from tfdetect.modeling.structures import Instances
from tfdetect.ops.backend import Backend

_KEPT_PIXELS = 2**24
"""Of the augmented images whose features stay in memory from the first pass to the second: about
1.4 GB of a ResNet-FPN's. Those of the rest are computed twice."""


class Kept(NamedTuple):
    """Features that the second pass need not compute.

    Attributes:
        batches: bool, of each batch of augmented images, whether its features are here.
        features: those of each batch, by name.
    """

    batches: tf.Tensor
    features: dict[str, tf.TensorArray]


class AugmentedPasses(tf.Module):
    """Boxes in every augmented image, and then masks and keypoints of boxes in all of them.

    Args:
        model: the detector.
        backend: where it runs.
        preprocess: makes the network's input.
        batch_size: how many augmented images go through the network together, and see each other's
            padding.
        of_boxes: what `predict_on_boxes` gives: of "pred_masks" and "pred_keypoints". Empty where
            there is no second pass.
        flip: whether some of the augmented images are mirrored.
        keypoint_flip: the index of the keypoint that takes each one's place in a mirror image; None
            without `flip` or without keypoints.
    """

    def __init__(
        self,
        model: tf.Module,
        backend: Backend,
        preprocess: Preprocessor,
        *,
        batch_size: int,
        of_boxes: Sequence[str],
        flip: bool,
        keypoint_flip: Sequence[int] | None,
    ):
        super().__init__()
        self.model = model
        self._preprocess = preprocess
        self._batch_size = batch_size
        self._of_boxes = tuple(of_boxes)
        self._flip = flip
        self._keypoint_flip = keypoint_flip
        self._dtype = tf.dtypes.as_dtype(backend.dtype)
        if self._of_boxes:
            network_input = tf.TensorSpec([None, None, None, 3], self._dtype)
            self._features = tf.function(
                backend.active()(lambda images: model.backbone(images)),
                input_signature=[network_input],
                autograph=False,
            )

    def _batches(self, augmented: AugmentedImages) -> int:
        return -(-augmented.count // self._batch_size)

    def _batch(self, augmented: AugmentedImages, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Which augmented images are in a batch: from this index to before that one."""
        first = number * self._batch_size
        return first, tf.minimum(first + self._batch_size, augmented.count)

    @profile_scope("preprocess")
    def _network_input(
        self, augmented: AugmentedImages, number: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The batch of this number, [b, H, W, 3], and the sizes of its images, int32 [b, 2]."""
        first, last = self._batch(augmented, number)
        sizes = augmented.sizes[first:last]
        images = self._preprocess.of_resized(lambda index, _: augmented[first + index], sizes)
        return tf.cast(images, self._dtype), sizes

    def detect_boxes(self, augmented: AugmentedImages) -> tuple[Found, Kept]:
        """The first pass: boxes in every augmented image."""
        batches = self._batches(augmented)
        keep = self._keep(augmented)
        specs = (
            tf.TensorSpec([None, 4]),
            tf.TensorSpec([None]),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.int32),
        )

        def detect(
            number: tf.Tensor, found: Found, features: dict[str, tf.TensorArray]
        ) -> tuple[tf.Tensor, Found, dict[str, tf.TensorArray]]:
            images, sizes = self._network_input(augmented, number)
            if self._of_boxes:
                maps = self._features(images)
                detections = self.model.detect_boxes(maps, sizes)
                kept = tf.cond(keep[number], lambda: maps, lambda: _nothing(maps))
                features = {
                    name: array.write(number, kept[name]) for name, array in features.items()
                }
            else:
                detections = self.model(images, sizes).instances
            used = tf.where(
                tf.range(tf.shape(detections.scores)[1]) < detections.num_detections[:, None]
            )
            first, _ = self._batch(augmented, number)
            values = (
                tf.gather_nd(detections.pred_boxes, used),
                tf.gather_nd(detections.scores, used),
                tf.gather_nd(detections.pred_classes, used),
                tf.cast(used[:, 0], tf.int32) + first,
            )
            found = Found(*(array.write(number, v) for array, v in zip(found, values, strict=True)))
            return number + 1, found, features

        _, found, features = tf.while_loop(
            lambda number, *_: number < batches,
            detect,
            [
                tf.constant(0),
                Found(*(array_of(spec, batches) for spec in specs)),
                {name: array_of(spec, batches) for name, spec in self._feature_specs().items()},
            ],
            parallel_iterations=1,
        )
        return Found(*(array.concat() for array in found)), Kept(keep, features)

    def _feature_specs(self) -> dict[str, tf.TensorSpec]:
        """Of the features that the second pass needs too."""
        if not self._of_boxes:
            return {}
        maps = self._features.get_concrete_function().structured_outputs
        return {name: tf.TensorSpec(value.shape, value.dtype) for name, value in maps.items()}

    def _keep(self, augmented: AugmentedImages) -> tf.Tensor:
        """bool, of each batch: the first ones, of _KEPT_PIXELS together."""
        padded = padded_sizes(augmented.sizes, self.model.size_divisibility)
        pixels = tf.cumsum(tf.reduce_prod(tf.cast(padded, tf.int64), 1))
        last = [self._batch(augmented, number)[1] - 1 for number in range(self._batches(augmented))]
        return tf.gather(pixels, tf.stack(last)) <= _KEPT_PIXELS

    def predict_on_boxes(
        self, augmented: AugmentedImages, detections: Instances, kept: Kept
    ) -> dict[str, tf.Tensor]:
        """The second pass: the means over the augmented images.

        Args:
            augmented: the augmented images.
            detections: N of them, in a batch of the one image, in its pixels.
            kept: of `detect_boxes`.

        Returns:
            Of `of_boxes`: `pred_masks`, probabilities [N, M, M]; `pred_keypoints`, heatmaps
            [N, S, S, K].
        """
        boxes, classes = detections.pred_boxes[0], detections.pred_classes
        count = tf.shape(boxes)[0]
        in_augmented = augmented.to_augmented(boxes)
        specs = self._feature_specs()

        def read(number: tf.Tensor) -> dict[str, tf.Tensor]:
            arrays = kept.features.items()
            return {name: tf.ensure_shape(a.read(number), specs[name].shape) for name, a in arrays}

        def add(number: tf.Tensor, sums: dict[str, tf.Tensor]) -> tuple:
            features = tf.cond(
                kept.batches[number],
                lambda: read(number),
                lambda: self._features(self._network_input(augmented, number)[0]),
            )
            first, last = self._batch(augmented, number)
            images = last - first
            given = Instances(
                pred_boxes=in_augmented[first:last],
                scores=tf.repeat(detections.scores, images, axis=0),
                pred_classes=tf.repeat(classes, images, axis=0),
                num_detections=tf.repeat(detections.num_detections, images),
            )
            heads = self.model.roi_heads
            found = heads.forward_with_given_boxes(features, given, decode=False)
            upright = self._upright(found, augmented.flipped[first:last])
            return number + 1, {
                name: total + tf.reduce_sum(upright[name], 0) for name, total in sums.items()
            }

        batches = self._batches(augmented)
        # Sides that are not known are 1 until something is added.
        sums = {
            name: tf.zeros([count] + [1] * (2 if name == "pred_masks" else 3))
            for name in self._of_boxes
        }
        shapes = {name: tf.TensorShape([None] * len(total.shape)) for name, total in sums.items()}
        _, sums = tf.while_loop(
            lambda number, _: number < batches,
            add,
            [tf.constant(0), sums],
            shape_invariants=[tf.TensorShape([]), shapes],
            parallel_iterations=1,
        )
        return {name: total / augmented.count for name, total in sums.items()}

    def _upright(self, found: Instances, flipped: tf.Tensor) -> dict[str, tf.Tensor]:
        """Masks [b, N, M, M] and heatmaps [b, N, S, S, K] as of images that are not mirrored."""
        result = {name: getattr(found, name) for name in self._of_boxes}
        if not self._flip:
            return result
        for name, values in result.items():
            mirrored = tf.reverse(values, [3])
            if name == "pred_keypoints":
                mirrored = tf.gather(mirrored, self._keypoint_flip, axis=4)
            which = tf.reshape(flipped, [-1] + [1] * (len(values.shape) - 1))
            result[name] = tf.where(which, mirrored, values)
        return result


def array_of(spec: tf.TensorSpec, size: tf.Tensor | int) -> tf.TensorArray:
    """An array of `size` tensors whose shape is known as far as `spec` says."""
    return tf.TensorArray(spec.dtype, size, infer_shape=False, element_shape=spec.shape)


def _nothing(maps: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Not a part of the feature maps, which would keep all of them in memory."""
    return {name: tf.zeros([0, 0, 0, x.shape[3]], x.dtype) for name, x in maps.items()}
