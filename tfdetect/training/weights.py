"""What a model's weights are before the first step: MODEL.WEIGHTS."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.checkpoint.libraries import import_state_dict
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.checkpoint.names import NamedVariable, named_variables
from tfdetect.checkpoint.quantization import require_float32
from tfdetect.checkpoint.remote.addresses import local_file
from tfdetect.config.training_checks import weights_file
from tfdetect.data.class_names import reorder
from tfdetect.errors import InputError
from tfdetect.training.class_order import reorder_classes, reorder_stuff
from tfdetect.training.initialization import initialize

_logger = logging.getLogger("tfdetect.train")

_LISTED = 20


def load_initial_weights(
    cfg: CfgNode,
    model: tf.Module,
    seed: int,
    class_names: Sequence[str] = (),
    stuff_names: Sequence[str] = (),
) -> None:
    """Initialise a model, and give it what MODEL.WEIGHTS has for it.

    MODEL.WEIGHTS is empty, a model directory (`tfdetect convert`'s or of another training), or a
    checkpoint file or its address (`local_file`) of a detector or a backbone that an importer knows
    (`import_state_dict`; convert_d2 knows Detectron2's, ImageNet backbones of Caffe2 and
    torchvision, transformers by their own names, and detectors of other libraries). An array goes
    to the variable whose name it has, or ends with, after a dot; the longest such name wins
    (Detectron2:
    `align_and_update_state_dicts`). Variables that there is no array of the right shape for keep
    their initial values, and the log names them.

    Args:
        cfg: MODEL, what `model` was built from.
        model: set in place.
        seed: of the initial values.
        class_names: of `model`. A model directory with as many classes, of which some have these
            names in another order, each class starts from the weights of the class with its name.
        stuff_names: the same of its classes of stuff.

    Raises:
        InputError: MODEL.WEIGHTS cannot be read, has values that are not finite, nothing of the
            model, or more of other shapes than of the model's.
    """
    weights = weights_file(cfg)
    if not weights:
        initialize(model, cfg, seed)
        _logger.info("MODEL.WEIGHTS is empty: training from scratch")
        return
    shapes = {named.name: named.foreign_shape for named in named_variables(model)}
    if Path(weights).is_dir():
        require_float32(Path(weights), "MODEL.WEIGHTS")
        source_cfg, source, metadata = load_model(weights)
        initialize(model, cfg, seed)
        found = {named.name: named.variable.numpy() for named in named_variables(source)}
        for key, names, put_in_order in (
            ("class_names", class_names, reorder_classes),
            ("stuff_class_names", stuff_names, reorder_stuff),
        ):
            before = metadata.get(key) or []
            order = reorder(before, names)
            if order is not None:
                pairs = zip(names, order, strict=True)
                names_of = [f"{name} from {before[index]}" for name, index in pairs]
                _logger.info("%s: classes are matched by name: %s", weights, _listed(names_of))
                found = put_in_order(found, order, source_cfg)
        _assign(model, found, weights, own_layout=True)
        return
    arrays = _read(weights)
    initialize(model, cfg, seed)
    matches = _match(shapes, arrays)
    unused = sorted(set(arrays) - set(matches.values()))
    if unused:
        _logger.info("%s: not used: %s", weights, _listed(unused))
    by_name = {name: arrays[match] for name, match in matches.items()}
    _assign(model, by_name, weights, own_layout=False)


def _read(weights: str) -> dict[str, np.ndarray]:
    """The arrays of a file, by Detectron2's names; the log says what is not obvious."""
    checkpoint = read_checkpoint(local_file(weights, "MODEL.WEIGHTS"))
    found = import_state_dict(checkpoint, f"MODEL.WEIGHTS: {weights}")
    for note in found.notes:
        _logger.info("%s: %s", weights, note)
    for warning in found.warnings:
        _logger.warning("%s: %s", weights, warning)
    return found.arrays


def _match(
    shapes: Mapping[str, tuple[int, ...]], arrays: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """Variable -> array: the longest name of an array that is the variable's or ends it.

    An array that ends the names of several variables is of the one that it fits. If it fits several
    it is of none: as MAE's last `norm.weight`, where a pyramid's norms are as wide. (Detectron2
    fails there.)
    """
    matches = {}
    for name in shapes:
        parts = name.split(".")
        endings = (".".join(parts[first:]) for first in range(len(parts)))
        if match := next((ending for ending in endings if ending in arrays), None):
            matches[name] = match
    fitting = {name: x for name, x in matches.items() if arrays[x].shape == shapes[name]}
    ending, fits = Counter(matches.values()), Counter(fitting.values())
    return {
        name: match
        for name, match in matches.items()
        if ending[match] == 1 or (fits[match] == 1 and name in fitting)
    }


def _assign(
    model: tf.Module, arrays: Mapping[str, np.ndarray], source: str, *, own_layout: bool
) -> None:
    """Assign by name, from TensorFlow's layout or PyTorch's; name what is left as it was."""
    initialised, other_shape = [], []
    assigned = 0
    for named in named_variables(model):
        array = arrays.get(named.name)
        if named.name.endswith(".fed_loss_cls_weights") and (array is None or not array.any()):
            continue  # not known there (see `FastRCNNOutputLayers`): those of the data stay
        if array is None and _is_statistic_of(named, arrays):
            # Caffe2 has none: its scale and shift are the whole of batch normalisation.
            named.variable.assign(np.full(named.foreign_shape, float(named.name.endswith("var"))))
            continue
        if array is None:
            initialised.append(named.name)
            continue
        shape = tuple(named.variable.shape) if own_layout else named.foreign_shape
        if array.shape != shape:
            other_shape.append(f"{named.name} {list(array.shape)} for {list(shape)}")
            continue
        if not np.isfinite(array).all():
            raise InputError(f"{source}: NaN or infinity in {named.name}; give another file")
        named.variable.assign(array if own_layout else named.from_foreign(array))
        assigned += 1
    if assigned == 0:
        raise InputError(
            f"{source}: MODEL.WEIGHTS has nothing of the configured model; give its checkpoint or "
            "its backbone's, or '' to train from scratch"
        )
    if len(other_shape) >= assigned:
        # What is left of one backbone in another one. (Detectron2 begins with that.)
        raise InputError(
            f"{source}: MODEL.WEIGHTS is of another model: as many arrays are of other shapes "
            f"({other_shape[0]}, ...) as fit, or more; give the configured model's checkpoint or "
            "its backbone's, or '' to train from scratch"
        )
    _logger.info("%s: %d variables are from there", source, assigned)
    if initialised:
        _logger.warning("%s: has no %s; initialised", source, _listed(initialised))
    if other_shape:
        _logger.warning("%s: other shapes, initialised: %s", source, _listed(other_shape))


def _is_statistic_of(named: NamedVariable, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether it is a running mean or variance of a layer whose scale is among the arrays."""
    layer, _, kind = named.name.rpartition(".")
    return kind in ("running_mean", "running_var") and f"{layer}.weight" in arrays


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
