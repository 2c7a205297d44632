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
_DEFORM_CONV_ATTRIBUTES = ("stride", "padding", "dilation", "groups", "deformable_groups")

for _name in (
    "TfdetectRoiAlignGrad",
    "TfdetectResizeBilinearUint8",
    "TfdetectNms",
    "TfdetectPasteMasks",
    "TfdetectDecodeKeypoints",
    "TfdetectDeformConvGrad",
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


@tf.RegisterGradient("TfdetectDeformConv")
def _deform_conv(op: tf.Operation, grad: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """For x, the offsets, the mask and the weight."""
    attributes = {name: op.get_attr(name) for name in _DEFORM_CONV_ATTRIBUTES}
    return tuple(kernels.library().tfdetect_deform_conv_grad(*op.inputs, grad, **attributes))
