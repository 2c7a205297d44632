"""The gradients of the native operators; importing it registers them with TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops import kernels

_ROI_ALIGN_ATTRIBUTES = (
    "pooled_height",
    "pooled_width",
    "spatial_scale",
    "sampling_ratio",
    "aligned",
)
_ROTATED_ATTRIBUTES = _ROI_ALIGN_ATTRIBUTES[:-1]
_DEFORM_CONV_ATTRIBUTES = ("stride", "padding", "dilation", "groups", "deformable_groups")

for _name in (
    "TfdetectRoiAlignGrad",
    "TfdetectRoiPoolGrad",
    "TfdetectResizeBilinearUint8",
    "TfdetectNms",
    "TfdetectNmsRotated",
    "TfdetectBoxIouRotated",
    "TfdetectRoiAlignRotatedGrad",
    "TfdetectPasteMasks",
    "TfdetectDecodeKeypoints",
    "TfdetectDeformConvGrad",
    "TfdetectPointSampleGrad",
):
    tf.no_gradient(_name)


@tf.RegisterGradient("TfdetectRoiAlign")
def _roi_align(op: tf.Operation, grad: tf.Tensor) -> tuple[tf.Tensor, None, None, None]:
    """For the features only: as in torchvision, boxes have none."""
    features, boxes, box_indices, sizes = op.inputs
    attributes = {name: op.get_attr(name) for name in _ROI_ALIGN_ATTRIBUTES}
    features_grad = kernels.library().tfdetect_roi_align_grad(
        grad, boxes, box_indices, sizes, tf.shape(features), **attributes
    )
    return features_grad, None, None, None


@tf.RegisterGradient("TfdetectRoiAlignRotated")
def _roi_align_rotated(op: tf.Operation, grad: tf.Tensor) -> tuple[tf.Tensor, None, None, None]:
    """For the features only, as in Detectron2."""
    features, boxes, box_indices, sizes = op.inputs
    attributes = {name: op.get_attr(name) for name in _ROTATED_ATTRIBUTES}
    features_grad = kernels.library().tfdetect_roi_align_rotated_grad(
        grad, boxes, box_indices, sizes, tf.shape(features), **attributes
    )
    return features_grad, None, None, None


@tf.RegisterGradient("TfdetectRoiAlignLevels")
def _roi_align_levels(op: tf.Operation, grad: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
    """For the features of each level, from the regions that were pooled from it."""
    count = op.get_attr("N")
    boxes, box_indices, levels = op.inputs[2 * count :]
    attributes = {
        name: op.get_attr(name) for name in _ROI_ALIGN_ATTRIBUTES if name != "spatial_scale"
    }
    grads = []
    for level, scale in enumerate(op.get_attr("spatial_scales")):
        here = tf.where(levels == level)[:, 0]
        grads.append(
            kernels.library().tfdetect_roi_align_grad(
                tf.gather(grad, here),
                tf.gather(boxes, here),
                tf.gather(box_indices, here),
                op.inputs[count + level],
                tf.shape(op.inputs[level]),
                spatial_scale=scale,
                **attributes,
            )
        )
    return *grads, *[None] * (count + 3)


@tf.RegisterGradient("TfdetectPointSample")
def _point_sample(op: tf.Operation, grad: tf.Tensor) -> tuple[tf.Tensor, None, None, None]:
    """For the features only."""
    features, points, map_indices, sizes = op.inputs
    features_grad = kernels.library().tfdetect_point_sample_grad(
        grad, points, map_indices, sizes, tf.shape(features)
    )
    return features_grad, None, None, None


@tf.RegisterGradient("TfdetectRoiPool")
def _roi_pool(op: tf.Operation, grad: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
    """For the features only: as in torchvision, boxes have none."""
    features, _, box_indices, _ = op.inputs
    total = kernels.library().tfdetect_roi_pool_grad(
        grad, op.outputs[1], box_indices, tf.shape(features)
    )
    return tf.cast(total, features.dtype), None, None, None


@tf.RegisterGradient("TfdetectDeformConv")
def _deform_conv(op: tf.Operation, grad: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """For x, the offsets, the mask and the weight."""
    attributes = {name: op.get_attr(name) for name in _DEFORM_CONV_ATTRIBUTES}
    return tuple(kernels.library().tfdetect_deform_conv_grad(*op.inputs, grad, **attributes))
