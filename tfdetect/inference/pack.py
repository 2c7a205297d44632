"""Putting the weights of convolutions in order for the CPU's own kernels, for inference."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.layers.conv import Conv2d, ConvTranspose2d
from tfdetect.ops import kernels

_CONVOLUTIONS = (Conv2d, ConvTranspose2d)


def pack_convolutions(model: tf.Module) -> None:
    """Give the convolutions of `model` to the native kernels of the CPU, where these are used.

    On a CPU with AVX2 they take two thirds of the time of TensorFlow's
    (`tfdetect.ops.packed_conv`); on another, with a GPU, and with the portable operators, nothing
    is done (`kernels.use_native_convolutions`). Call it after `fold_norms`; the model
    computes in float32 from then on and no longer has the variables of Detectron2's checkpoints.

    Args:
        model: changed in place.
    """
    if not kernels.use_native_convolutions():
        return
    for module in (model, *model.submodules):
        # First what makes convolutions, ...
        if hasattr(module, "pack") and not isinstance(module, _CONVOLUTIONS):
            module.pack()
    for module in (model, *model.submodules):
        if isinstance(module, _CONVOLUTIONS):  # ... then these.
            module.pack()
