"""The graph from uint8 images to detections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.errors import InputError
from tfdetect.inference.like_sizes import groups_of_like_sizes
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.postprocess import Postprocessor
from tfdetect.modeling.preprocess import Preprocessor, padded_sizes
from tfdetect.modeling.proposal_generator.precomputed import transform_proposals
from tfdetect.modeling.structures import Proposals
from tfdetect.ops.backend import Backend

# How to treat the padding in a batch of images of different sizes.
PADDINGS = ("own", "detectron2")


_IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8)
_PIXELS = tf.TensorSpec([None, 3], tf.uint8)
_SIZES = tf.TensorSpec([None, 2], tf.int32)
_PROPOSALS = (tf.TensorSpec([None, None, 4], tf.float32), tf.TensorSpec([None], tf.int32))


class Pipeline(tf.Module):
    """Preprocessing, the model and the postprocessing of its results, as one function.

    Attributes:
        detect: maps `images`, uint8 [B, H, W, 3] BGR, each in the top left corner, and `sizes`,
            int32 [B, 2], (height, width) of each, to what is found in them. With a model that is
            given its proposals (`FastRCNN`) it takes `proposals` too, float32 [B, P, 4] in pixels
            of the images given, the best of each first, and `num_valid`, int32 [B], the number of
            valid ones per image.

            It gives `pred_boxes` float32 [B, D, 4], or [B, D, 5] of rotated boxes, in pixels of the
            images given, `scores` float32 [B, D], `pred_classes` int32 [B, D], `num_detections`
            int32 [B], and where the model has them `pred_masks` float32 [B, D, M, M], probabilities
            within the box, and `pred_keypoints` float32 [B, D, K, 3] (x, y, score).
            A SemanticSegmentor gives `sem_seg` int32 [B, H, W] instead, the class of each pixel; a
            PanopticFPN gives it as well, with `panoptic_seg` int32 [B, H, W] and the segments in
            it: see `combine_semantic_and_instance_outputs`. Both are 0 beyond each image, and
            [H, W] holds the largest.
        detect_pixels: the same with `pixels`, uint8 [P, 3] BGR, of all images one after the other,
            row by row, in place of `images`: images of different shapes take no room but their own.

    Args:
        cfg: the whole configuration.
        model: of `build_model`, or what `optimize` makes of it.
        backend: what the graph is traced for; what the model was optimized for, if it was.
        padding: "own", and an image's results are those that it gets alone, whatever else is in
            the batch; or "detectron2", which lets every image see all of the batch's padding, so
            that its results depend on the largest one (for comparison with Detectron2, which
            evaluates images one by one).

    Raises:
        InputError: there is no such padding, or the configuration describes no pipeline.
    """

    def __init__(self, cfg: CfgNode, model: tf.Module, backend: Backend, padding: str = "own"):
        super().__init__()
        if padding not in PADDINGS:
            raise InputError(f"padding {padding!r}: it is {' or '.join(PADDINGS)}")
        self._own_padding = padding == "own"
        self.model = model
        self._dtype = tf.dtypes.as_dtype(backend.dtype)
        self._preprocess = Preprocessor.from_config(cfg, model.size_divisibility)
        self._square = cfg.MODEL.BACKBONE.SQUARE_PAD > 0
        self._postprocess = Postprocessor.from_config(cfg)
        self._proposal_options = {
            "topk": cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST,
            "min_box_size": float(cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE),
        }
        rest = [_SIZES, *(_PROPOSALS if capabilities(cfg).takes_proposals else ())]

        def function(method: Callable, *specs: tf.TensorSpec) -> Any:
            return tf.function(backend.active()(method), input_signature=specs, autograph=False)

        self.detect = function(self._detect, _IMAGES, *rest)
        self.detect_pixels = function(self._detect_pixels, _PIXELS, *rest)
        side = model.size_divisibility if self._square else None
        batch = tf.TensorSpec([None, side, side, 3], tf.float32)
        self._network = function(self._run_network, batch, _SIZES, *rest)

    def groups(self, sizes: np.ndarray) -> list[list[int]]:
        """Indices of the images, of int32 [B, 2] sizes, that should go through the network
        together; the others get the same results, in less memory and time.

        Raises:
            InputError: a group is of too many pixels for the network; the functions raise
                tf.errors.InvalidArgumentError.
        """
        groups = [list(range(len(sizes)))]
        if self._own_padding and len(sizes) > 1:
            groups = groups_of_like_sizes(self._preprocess.network_sizes(sizes))
        for group in groups:
            self._preprocess.check(sizes[group], group)
        return groups

    def _detect(
        self, images: tf.Tensor, sizes: tf.Tensor, *proposals: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        return self._network(*self._preprocess(images, sizes), sizes, *proposals)

    def _detect_pixels(
        self, pixels: tf.Tensor, sizes: tf.Tensor, *proposals: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        return self._network(*self._preprocess.of_pixels(pixels, sizes), sizes, *proposals)

    def _run_network(
        self, batch: tf.Tensor, resized_sizes: tf.Tensor, sizes: tf.Tensor, *proposals: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Run the network on its preprocessed input: one graph for all kinds of input."""
        given: tuple[Proposals, ...] = ()
        if proposals:
            options = self._proposal_options
            given = (transform_proposals(Proposals(*proposals), sizes, resized_sizes, **options),)
        padded, valid_sizes = self._pad(batch, resized_sizes)
        outputs = self.model(tf.cast(batch, self._dtype), resized_sizes, *given, valid_sizes)
        return self._postprocess(outputs, padded, resized_sizes, sizes)

    def _pad(self, batch: tf.Tensor, sizes: tf.Tensor) -> tuple[tf.Tensor, ValidSizes]:
        """The padded size of each image, int32 [B, 2], and the valid sizes for the model."""
        if not self._own_padding:
            shape = tf.shape(batch)
            return tf.repeat(shape[None, 1:3], shape[0], axis=0), WHOLE
        padded = padded_sizes(sizes, self.model.size_divisibility)
        # Squares are valid as a whole, and then no operations are added for what is not.
        return padded, WHOLE if self._square else self.model.valid_sizes(padded)
