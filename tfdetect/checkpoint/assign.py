"""Name-for-name loading of a foreign state dict."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfdetect.checkpoint.names import named_buffers, named_variables
from tfdetect.errors import InputError

# Buffers that Detectron2 computes from the configuration, or that inference does not use: some
# versions save them, and nothing here needs them.
_FED_LOSS_WEIGHTS = "*.fed_loss_cls_weights"
_RECOMPUTED = (
    "*.num_batches_tracked",
    "*anchor_generator.cell_anchors.*",
    "pixel_mean",
    "pixel_std",
    _FED_LOSS_WEIGHTS,
)
_LISTED = 8


def assign_state_dict(
    model: tf.Module,
    arrays: Mapping[str, np.ndarray],
    *,
    source: str,
    allow_missing: Sequence[str] = (),
    allow_unused: Sequence[str] = (),
) -> int:
    """Assign to every variable of `model` the array of its name.

    Those of what a model computes (`named_buffers`) need not be there, and have to be equal.

    Args:
        model: its variables' paths are Detectron2's keys.
        arrays: Detectron2's state dict, in PyTorch's layout.
        source: what the arrays are from, for errors.
        allow_missing: patterns (shell style) of variables that may keep their initial values.
        allow_unused: patterns of arrays that may be left over.

    Returns:
        The number of variables assigned.

    Raises:
        InputError: something is missing, unused, of another shape or not finite, and no pattern
            allows it. The model is then unchanged.
    """
    variables = list(named_variables(model))
    known = {named.name for named in variables}
    problems = []
    for named in variables:
        array = arrays.get(named.name)
        if array is None:
            # Older versions of Detectron2 do not save what training computes from its data.
            if not _matches(named.name, (_FED_LOSS_WEIGHTS, *allow_missing)):
                problems.append(f"missing {named.name}")
        elif array.shape != named.foreign_shape:
            problems.append(
                f"shape of {named.name} is {list(array.shape)}, not {list(named.foreign_shape)}"
            )
        elif not np.isfinite(array).all():
            problems.append(f"NaN or infinity in {named.name}")
    for name, buffer in named_buffers(model):
        known.add(name)
        array = arrays.get(name)
        if array is not None and array.shape != buffer.shape:
            problems.append(f"shape of {name} is {list(array.shape)}, not {list(buffer.shape)}")
        elif array is not None and not np.array_equal(array, buffer.compute()):
            problems.append(f"{name} has other values than are computed here")
    problems += [
        f"unused {name}"
        for name in arrays
        if name not in known and not _matches(name, (*_RECOMPUTED, *allow_unused))
    ]
    if problems:
        more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise InputError(
            f"{source} does not fit the model of the configuration: "
            f"{'; '.join(problems[:_LISTED])}{more}. "
            "Use the configuration that it was trained with, or --allow-missing / --allow-unused"
        )
    assigned = [named for named in variables if named.name in arrays]
    for named in tqdm(assigned, desc="Assigning variables", delay=1):
        named.variable.assign(named.from_foreign(arrays[named.name]))
    return len(assigned)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
