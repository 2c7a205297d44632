"""Weights for full-size models: the same numbers for the same names and shapes everywhere.

Detectron2 made the records in tests/arrays/full with exactly these, so a model of 44 million
parameters is compared without a file of 170 MB.
"""

import zlib

import numpy as np


def array(name, shape):
    """One parameter or buffer in PyTorch's layout, seeded by the CRC-32 of its name."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    # Positions of transformers, of the order of what they are added to.
    if name.endswith("pos_embed"):
        return (0.5 * rng.randn(*shape)).astype(np.float32)
    if name.endswith(("rel_pos_h", "rel_pos_w")):
        return (np.sqrt(2 / shape[1]) * rng.randn(*shape)).astype(np.float32)
    if name.endswith("relative_position_bias_table"):
        return rng.randn(*shape).astype(np.float32)
    if name.endswith("running_mean"):
        return (0.1 * rng.randn(*shape)).astype(np.float32)
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) == 1 and name.endswith(
        "weight"
    ):  # a normalisation's gain; the last one of a block is kept small
        return (
            rng.uniform(0.5, 1.0, shape) * (0.3 if ".conv3." in name or ".bn3." in name else 1.0)
        ).astype(np.float32)
    if len(shape) <= 1:  # biases
        return (0.02 * rng.randn(*shape)).astype(np.float32)
    fan_in = (
        shape[0] * shape[2] * shape[3]
        if "deconv" in name or "score_lowres" in name
        else int(np.prod(shape[1:]))
    )
    gain = np.sqrt(2.0 / fan_in)
    if name.endswith("stem.conv1.weight"):  # pixels are of the order of 100, features of 1
        gain *= 0.01
    if "offset" in name:  # the offsets of a deformable convolution: about a pixel
        gain *= 0.5
    if name.endswith(("cls_score.weight", "objectness_logits.weight")):
        gain *= 1.6
    if name.endswith(("bbox_pred.weight", "anchor_deltas.weight")):
        gain *= 0.3
    return (gain * rng.randn(*shape)).astype(np.float32)


def state_dict(shapes):
    return {name: array(name, tuple(shape)) for name, shape in shapes.items()}


def seeded_model(cfg):
    """The model of a configuration, with these weights."""
    from tfdetect.checkpoint.assign import assign_state_dict
    from tfdetect.checkpoint.names import named_variables
    from tfdetect.modeling.build import build_model

    model = build_model(cfg)
    shapes = {named.name: named.foreign_shape for named in named_variables(model)}
    assign_state_dict(model, state_dict(shapes), source="seeded weights")
    return model
