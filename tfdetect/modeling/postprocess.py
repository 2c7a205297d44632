"""Postprocessing: from results in the network's input to results in the original image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.modeling.conventions import conventions, last_pixels
from tfdetect.modeling.panoptic import combine_semantic_and_instance_outputs
from tfdetect.modeling.semantic import enlarge_logits, semantic_labels
from tfdetect.modeling.structures import Instances, Predictions
from tfdetect.ops.backend import current_backend
from tfdetect.ops.boxes import clip_boxes, nonempty
from tfdetect.ops.rotated_boxes import BOX_DIM as ROTATED
from tfdetect.ops.rotated_boxes import scale_rotated_boxes


class Postprocessor:
    """Maps any model's results to the original images.

    Args:
        inclusive_boxes: see `rescale_detections`.
        logits_stride: pixels of the network's input to a location of the semantic logits.
        combination: options of `combine_semantic_and_instance_outputs`; None for a model that is
            not panoptic.
    """

    def __init__(
        self,
        *,
        inclusive_boxes: bool = False,
        logits_stride: int = 4,
        combination: Mapping[str, Any] | None = None,
    ):
        self._inclusive_boxes = inclusive_boxes
        self._logits_stride = logits_stride
        self._combination = combination

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Postprocessor:
        """From MODEL.CONVENTIONS, MODEL.SEM_SEG_HEAD and MODEL.PANOPTIC_FPN."""
        combine = cfg.MODEL.PANOPTIC_FPN.COMBINE
        combination = {
            "num_stuff_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "overlap_threshold": combine.OVERLAP_THRESH,
            "stuff_area_limit": combine.STUFF_AREA_LIMIT,
            "instances_confidence_threshold": combine.INSTANCES_CONFIDENCE_THRESH,
        }
        able, stride = capabilities(cfg), cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE
        if able.has_point_semantic:
            stride //= 2**cfg.MODEL.POINT_HEAD.SUBDIVISION_STEPS
        return cls(
            inclusive_boxes=conventions(cfg).inclusive_boxes,
            logits_stride=stride,
            combination=combination if able.has_panoptic else None,
        )

    @profile_scope("postprocess")
    def __call__(
        self,
        outputs: Predictions,
        padded_sizes: tf.Tensor,
        from_sizes: tf.Tensor,
        to_sizes: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Rescale the results, and combine them for panoptic segmentation.

        Args:
            outputs: of a model.
            padded_sizes: int32 [B, 2], valid (height, width) of each image in the network's input,
                including its own padding.
            from_sizes: int32 [B, 2], (height, width) of each image in it.
            to_sizes: int32 [B, 2], of the original images. With `Backend.fixed_shapes` all three
                are constants, and the model is not panoptic.

        Returns:
            The fields of the rescaled `Instances`, where there are some; `sem_seg` int32 [B, H, W],
            the class of each pixel, where there are semantic logits; and what
            `combine_semantic_and_instance_outputs` gives of each image, stacked, for PanopticFPN.
            [H, W] holds the largest image, with zeros beyond each one's own size.
        """
        detections: dict[str, tf.Tensor] = {}
        if outputs.instances is not None:
            detections = rescale_detections(
                outputs.instances, from_sizes, to_sizes, inclusive_boxes=self._inclusive_boxes
            ).as_dict()
        if outputs.sem_seg_logits is None:
            return detections
        fixed_shapes = current_backend().fixed_shapes
        if fixed_shapes:
            padded_sizes, from_sizes, to_sizes = map(
                tf.get_static_value, (padded_sizes, from_sizes, to_sizes)
            )
            canvas = to_sizes.max(0)
        else:
            canvas = tf.reduce_max(to_sizes, 0)

        def segment(
            arguments: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, dict[str, tf.Tensor]],
        ) -> dict[str, tf.Tensor]:
            image_logits, padded_size, from_size, to_size, found = arguments
            logits_size = (padded_size + self._logits_stride - 1) // self._logits_stride
            image_logits = image_logits[: logits_size[0], : logits_size[1]]
            beyond = canvas - to_size
            padding = [[0, beyond[0]], [0, beyond[1]]]
            enlarged = enlarge_logits(image_logits, self._logits_stride * logits_size, from_size)
            labels = semantic_labels(enlarged, to_size)
            result = {"sem_seg": tf.pad(labels, padding)}
            if self._combination is not None:
                result |= combine_semantic_and_instance_outputs(
                    Instances(**found), labels, **self._combination
                )
                result["panoptic_seg"] = tf.pad(result["panoptic_seg"], padding)
            return result

        if fixed_shapes:  # an image after the other, as in a loop no shape is known
            logits = tf.unstack(outputs.sem_seg_logits)
            images = zip(logits, padded_sizes, from_sizes, to_sizes, strict=True)
            labels = [segment((*image, {}))["sem_seg"] for image in images]
            return detections | {"sem_seg": tf.stack(labels)}
        arguments = (outputs.sem_seg_logits, padded_sizes, from_sizes, to_sizes, detections)
        signature = {"sem_seg": tf.TensorSpec([None, None], tf.int32)}
        if self._combination is not None:
            slots = detections["scores"].shape[1]
            stuff = self._combination["num_stuff_classes"]
            signature |= _segments_signature(None if slots is None else slots + stuff)
        return detections | tf.map_fn(segment, arguments, fn_output_signature=signature)


def _segments_signature(count: int | None) -> dict[str, tf.TensorSpec]:
    """What `combine_semantic_and_instance_outputs` gives, for at most `count` segments."""
    return {
        "panoptic_seg": tf.TensorSpec([None, None], tf.int32),
        "num_segments": tf.TensorSpec([], tf.int32),
        "segment_category_ids": tf.TensorSpec([count], tf.int32),
        "segment_isthing": tf.TensorSpec([count], tf.bool),
        "segment_scores": tf.TensorSpec([count], tf.float32),
        "segment_instance_ids": tf.TensorSpec([count], tf.int32),
        "segment_areas": tf.TensorSpec([count], tf.int32),
    }


def rescale_detections(
    detections: Instances,
    from_sizes: tf.Tensor,
    to_sizes: tf.Tensor,
    *,
    inclusive_boxes: bool = False,
) -> Instances:
    """Detectron2's `detector_postprocess`, before the masks are pasted.

    Width and height are scaled separately (see `scale_rotated_boxes`); boxes are clipped to the new
    size, and detections whose box is then empty are dropped.

    Args:
        detections: in the network's input.
        from_sizes: int32 [B, 2], (height, width) of the images that the detections are in.
        to_sizes: int32 [B, 2], of the images that they are wanted in.
        inclusive_boxes: Detectron's way: boxes are rescaled, and given, by their last pixel, and
            neither clipped nor dropped.

    Returns:
        The same without `region_indices`; the detections that are left come first.
    """
    ratio = tf.cast(to_sizes, tf.float64) / tf.cast(from_sizes, tf.float64)
    scale_xy = tf.cast(ratio, tf.float32)[:, ::-1]
    boxes = detections.pred_boxes
    slots = tf.range(tf.shape(boxes)[1])
    kept = slots < detections.num_detections[:, None]
    if inclusive_boxes:
        boxes = tf.where(kept[..., None], last_pixels(boxes), 0.0)
    if boxes.shape[-1] == ROTATED:
        boxes = scale_rotated_boxes(boxes, scale_xy[:, None])
    else:
        boxes *= tf.concat([scale_xy, scale_xy], 1)[:, None]
    if not inclusive_boxes:
        boxes = clip_boxes(boxes, to_sizes)
        kept &= nonempty(boxes)
    keypoints = detections.pred_keypoints
    if keypoints is not None:
        xy, score = tf.split(keypoints, [2, 1], axis=-1)
        keypoints = tf.concat([xy * scale_xy[:, None, None], score], -1)
    # Keys that differ: not every runtime of an exported file sorts equal ones by index.
    order = tf.argsort(tf.where(kept, slots, slots + tf.size(slots)), axis=1)

    def reorder(values: tf.Tensor | None) -> tf.Tensor | None:
        return None if values is None else tf.gather(values, order, batch_dims=1)

    return Instances(
        pred_boxes=reorder(boxes),
        scores=reorder(detections.scores),
        pred_classes=reorder(detections.pred_classes),
        num_detections=tf.reduce_sum(tf.cast(kept, tf.int32), 1),
        pred_masks=reorder(detections.pred_masks),
        pred_keypoints=reorder(keypoints),
    )


def empty_unused_slots(found: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """What `Pipeline.detect` gives, with zeros in every slot beyond the number of detections."""
    if "num_detections" not in found:
        return found
    result = dict(found)
    used = tf.range(tf.shape(found["scores"])[1]) < found["num_detections"][:, None]
    for key in ("pred_boxes", "scores", "pred_classes", "pred_masks", "pred_keypoints"):
        if key in found:
            values = found[key]
            where = used
            while len(where.shape) < len(values.shape):
                where = where[..., None]
            emptied = tf.where(where, values, tf.zeros([], values.dtype))
            result[key] = tf.ensure_shape(emptied, values.shape)
    return result
