"""Say what a checkpoint file is."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from convert_d2.lazy_config.conversion import read_lazy_config
from convert_d2.libraries.architecture import architecture, fits, knows_backbone
from convert_d2.libraries.recognition import Recognition, describe_place, recognize
from convert_d2.libraries.sources import (
    DETECTRON2,
    SourceLibrary,
    library_named,
    make_config,
    to_detectron2,
)
from convert_d2.libraries.transformers import (
    describe_transformer,
    transformer,
    transformer_kind,
)
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.checkpoint.remote.addresses import local_file
from tfdetect.cli.arguments import CommandParser
from tfdetect.config import load_config
from tfdetect.config.checks import check_model
from tfdetect.config.zoo import CONFIGS, zoo_models
from tfdetect.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what `describe` says."""
    parser = CommandParser(
        "inspect",
        "Say what a checkpoint is: its library, architecture, classes, parameters, and "
        "which models of the zoo fit it; or what a config.yaml of LazyConfig describes.",
        ("model_final_f10217.pkl",),
    )
    parser.add_argument(
        "file", metavar="FILE", help="the checkpoint or its address, or the config.yaml"
    )
    print(describe(parser.parse_args(arguments).file))
    return 0


def describe(path: str | Path) -> str:
    """Library, architecture, classes, parameters and fitting configurations, a line for each.

    Of a LazyConfig's YAML, the model that it describes and what of it has no counterpart here.

    Raises:
        InputError: the file is not a checkpoint that can be read.
    """
    if str(path).endswith((".yaml", ".yml", ".py", ".yaml.pkl", ".yml.pkl")):
        return _describe_configuration(path)
    checkpoint = read_checkpoint(local_file(path))
    recognition = recognize(checkpoint.arrays)
    taken = recognition.select(checkpoint.arrays)
    lines = {"file": f"{checkpoint.source} ({checkpoint.format}), sha256 {checkpoint.sha256}"}
    author = f", by {checkpoint.author!r}" if checkpoint.author else ""
    lines["library"] = recognition.description + author
    notes = describe_place(checkpoint.container, checkpoint.others, recognition)
    if place := "; ".join(notes):
        lines["weights"] = place
    source_library = library_named(recognition.library)
    arrays = to_detectron2(source_library, taken, checkpoint.source)
    found: dict[str, Any] = {}
    shapes = {name: array.shape for name, array in arrays.items()}
    if recognition.library:
        with suppress(KeyError, IndexError, ValueError, ZeroDivisionError):
            found = architecture(shapes)
    if found:
        lines |= _of_model(found)
    else:
        lines["architecture"] = _no_architecture(recognition)
        with suppress(KeyError, IndexError, ValueError, ZeroDivisionError):
            lines |= _of_backbone(transformer(shapes))
    parameters = sum(array.size for name, array in taken.items() if not _is_computed(name, array))
    lines["parameters"] = f"{parameters:,} in {len(taken)} arrays"
    if found and source_library is DETECTRON2:
        names = fitting_configs(found)
        lines["configs"] = (
            f"{', '.join(names)} (have these layers; conversion compares every array)"
            if names
            else "none of the zoo fits; give that of its training"
        )
    elif source_library is not DETECTRON2:
        lines["configs"] = _made_config(source_library, arrays, checkpoint.source)
    return _aligned(lines)


def _aligned(lines: Mapping[str, str]) -> str:
    width = max(map(len, lines)) + 2
    return "\n".join(f"{key + ':':<{width}}{value}" for key, value in lines.items())


def _describe_configuration(path: str | Path) -> str:
    lazy = read_lazy_config(path)
    if lazy is None:
        raise InputError(
            f"{path}: is a configuration and no checkpoint; give it to tfdetect convert as "
            "--config-file, with the checkpoint as --weights"
        )
    found = {key: value for key, (value, _) in lazy.settings.values.items()}
    check_model(lazy.configuration()[0])
    lines = {"file": f"{lazy.source} (LazyConfig)"} | _of_model(found)
    for index, (key, place) in enumerate(lazy.settings.lost_norms.items(), start=1):
        lines[f"lambda {index}"] = f"{place}: {key} will follow from the checkpoint"
    lines |= {f"note {index}": note for index, note in enumerate(lazy.notes, start=1)}
    return _aligned(lines)


def _no_architecture(recognition: Recognition) -> str:
    if not recognition.converted:
        return "none that this project supports"
    if recognition.library:
        return (
            f"not known: parts of a detector of {recognition.library} are missing, or it is not one"
        )
    return "not a detector (a backbone, or an unknown model)"


def _made_config(
    source_library: SourceLibrary, arrays: Mapping[str, np.ndarray], source: str
) -> str:
    """Whether a configuration can be made from the file, which is tried."""
    try:
        make_config(source_library, arrays, [], source)
    except InputError as error:
        return f"it cannot be derived: {error}"
    return "none is needed: tfdetect convert makes it from the file, and compares every array"


def fitting_configs(found: Mapping[str, Any]) -> list[str]:
    """The models of the zoo, such as "COCO-Detection/retinanet_R_50_FPN_1x", that have the layers
    that `architecture` found."""
    if not knows_backbone(found):
        return []
    return [name for name, cfg in _configs().items() if fits(cfg, found)]


@functools.cache
def _configs() -> dict[str, CfgNode]:
    """The configurations of the zoo; they may not be changed."""
    return {name: load_config(CONFIGS / f"{name}.yaml") for name in zoo_models()}


def _of_model(found: Mapping[str, Any]) -> dict[str, str]:
    kind = found["MODEL.META_ARCHITECTURE"]
    backbone = transformer_kind(found) or "an unknown backbone"
    if "MODEL.REGNETS.DEPTH" in found:
        backbone = "RegNet"
    if "MODEL.RESNETS.DEPTH" in found:
        groups = found.get("MODEL.RESNETS.NUM_GROUPS", 1)
        backbone = f"{'ResNeXt' if groups > 1 else 'ResNet'}-{found['MODEL.RESNETS.DEPTH']}"
    if "MODEL.FPN.NORM" in found and knows_backbone(found):
        backbone += "-FPN"
    if "MODEL.SIMPLE_FEATURE_PYRAMID.NORM" in found:
        backbone += " with a simple feature pyramid"
    parts = [kind, backbone]
    if "MODEL.ROI_HEADS.NAME" in found:
        parts.append(found["MODEL.ROI_HEADS.NAME"])
        tasks = ["boxes"]
        if found["MODEL.MASK_ON"]:
            head = found["MODEL.ROI_MASK_HEAD.NAME"]
            tasks.append("masks" if head == "MaskRCNNConvUpsampleHead" else f"masks ({head})")
        if found["MODEL.KEYPOINT_ON"]:
            tasks.append(f"{found['MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS']} keypoints")
        parts += tasks
    if found.get("MODEL.SEM_SEG_HEAD.NAME", "SemSegFPNHead") != "SemSegFPNHead":
        parts.append(found["MODEL.SEM_SEG_HEAD.NAME"])
    lines = {"architecture": ", ".join(parts)} | _of_backbone(found)
    classes = [
        f"{found[key]} {what}"
        for key, what in (
            ("MODEL.ROI_HEADS.NUM_CLASSES", "classes"),
            ("MODEL.RETINANET.NUM_CLASSES", "classes"),
            ("MODEL.FCOS.NUM_CLASSES", "classes"),
            ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "stuff classes"),
        )
        if key in found
    ]
    return lines | {"classes": ", ".join(classes) or "none"}


def _of_backbone(found: Mapping[str, Any]) -> dict[str, str]:
    """A line about the blocks of a transformer, of which the name of none says enough."""
    kind = transformer_kind(found)
    return {} if kind is None else {"backbone": f"{kind}: {describe_transformer(found)}"}


def _is_computed(name: str, array: np.ndarray) -> bool:
    """Whether it is a counter of PyTorch's BatchNorm, or one of Swin's tables."""
    if array.ndim == 0:
        return name.endswith("num_batches_tracked")
    return name.endswith(("relative_position_index", "attn_mask"))
