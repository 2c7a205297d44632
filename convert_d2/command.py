"""Convert a checkpoint of Detectron2 or another library."""

from __future__ import annotations

import argparse
import dataclasses
import io
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from convert_d2.inspection import describe
from convert_d2.lazy_config.conversion import read_lazy_config
from convert_d2.libraries.architecture import architecture, differences, knows_backbone
from convert_d2.libraries.recognition import Recognition, describe_place, not_converted, recognize
from convert_d2.libraries.sources import (
    DETECTRON2,
    library_named,
    make_config,
    to_detectron2,
    torchvision_names,
)
from convert_d2.libraries.tensorpack import tensorpack_config, to_tensorpack
from tfdetect.checkpoint.description import check_output
from tfdetect.checkpoint.formats.reader import Checkpoint, read_checkpoint
from tfdetect.checkpoint.remote.addresses import check_address, is_address, local_file
from tfdetect.cli.arguments import CommandParser, add_opts, parse_with_opts
from tfdetect.cli.imports import add_import_option, import_user_modules
from tfdetect.cli.quiet import import_tensorflow
from tfdetect.config import load_config
from tfdetect.config.capabilities import capabilities
from tfdetect.config.checks import check_model
from tfdetect.config.ignored import ignored_in_prediction
from tfdetect.config.zoo import find_published
from tfdetect.data import catalog
from tfdetect.errors import InputError
from tfdetect.files import check_writable_file, write_bytes_atomically
from tfdetect.modeling.registries import check_names

# Keys in a message.
_LISTED = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert, and say what was written. `arguments` are those of the command line."""
    args = _parse(arguments)
    import_user_modules(args.imports)
    if args.inspect:
        print(describe(args.inspect))
        return 0
    output = Path(args.output)
    if args.format == "tensorpack":
        _check_npz(output)
    else:
        check_output(output)
    checkpoint, cfg, notes = _load(args)
    for line in ignored_in_prediction(cfg):
        print(f"note: {line}", file=sys.stderr)
    if args.format == "tensorpack":
        _write_tensorpack(output, checkpoint, cfg)
        _say(args.weights, notes)
        return 0
    names = _choose_names(cfg, args.metadata)

    import_tensorflow()
    from tfdetect.checkpoint.assign import assign_state_dict
    from tfdetect.checkpoint.model_dir import save_model
    from tfdetect.inference.pipeline import Pipeline
    from tfdetect.modeling.build import build_model
    from tfdetect.ops.backend import Backend

    model = build_model(cfg)
    Pipeline(cfg, model, Backend())  # what `tfdetect predict` will reject is rejected here
    try:
        variables = assign_state_dict(
            model,
            checkpoint.arrays,
            source=checkpoint.source,
            allow_missing=args.allow_missing,
            allow_unused=args.allow_unused,
        )
    except InputError as error:
        raise InputError(f"{error}{_say_differences(cfg, checkpoint)}") from None
    metadata = _describe(names, checkpoint, variables)
    metadata["counts"]["parameters"] = sum(int(v.shape.num_elements()) for v in model.variables)
    save_model(output, cfg, model, metadata)
    print(
        f"{output}: {variables} variables, {metadata['counts']['parameters']:,} parameters, "
        f"{_count_classes(names)}"
    )
    _say(args.weights, notes)
    return 0


def _say_differences(cfg: CfgNode, checkpoint: Checkpoint) -> str:
    """The end of a message: keys that the arrays are known to have other values of."""
    shapes = {name: array.shape for name, array in checkpoint.arrays.items()}
    found: dict[str, Any] = {}
    with suppress(KeyError, IndexError, ValueError, ZeroDivisionError):
        found = architecture(shapes)
    if not knows_backbone(found):
        return ""
    said = [
        f"{key} is {configured}, its arrays are of {value}"
        for key, (configured, value) in differences(cfg, found).items()
    ]
    # Of another backbone hardly any key is the same.
    name = next((text for text in said if text.startswith("MODEL.BACKBONE.NAME")), None)
    said = [name] if name else said
    return f". {'; '.join(said[:_LISTED])}" if said else ""


def _say(file: str, notes: Iterable[str]) -> None:
    for note in notes:
        print(f"note: {file}: {note}", file=sys.stderr)


def _check_npz(output: Path) -> None:
    if output.suffix != ".npz":
        raise InputError(f"{output}: tensorpack recognises its models by their suffix; use .npz")
    check_writable_file(output)


def _write_tensorpack(output: Path, checkpoint: Checkpoint, cfg: CfgNode) -> None:
    """Write tensorpack's `.npz`, and print the matching options for its `--config`."""
    options = tensorpack_config(cfg)
    arrays: Any = to_tensorpack(checkpoint.arrays, cfg, checkpoint.source)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_bytes_atomically(output, content.getvalue())
    print(" ".join(f"'{key}={value}'".replace(" ", "") for key, value in options))


def _load(args: argparse.Namespace) -> tuple[Checkpoint, CfgNode, list[str]]:
    """Read the configuration and the weights, as a Detectron2 state dict, with notes on where in
    the file they were.

    An invalid configuration is reported before minutes of reading or downloading.
    """
    option = "--weights" if args.zoo is None else "--zoo"
    if is_address(args.weights):
        check_address(args.weights, option)
    lazy = read_lazy_config(args.config_file) if args.config_file else None
    cfg = None
    if lazy is not None:
        cfg, _ = lazy.configuration(args.opts)
        _say(args.config_file, lazy.notes)
    elif args.config_file:
        cfg = load_config(args.config_file, args.opts)
    if cfg is not None:
        check_model(cfg)
        check_names(cfg)
    checkpoint = read_checkpoint(local_file(args.weights, option))
    found = recognize(checkpoint.arrays)
    notes = [*describe_place(checkpoint.container, checkpoint.others, found)]
    arrays = found.select(checkpoint.arrays)
    source_library = library_named(found.library)
    if not found.converted:
        raise InputError(f"{args.weights}: {not_converted(found)}")
    if source_library is DETECTRON2:
        alone = found.library is None and found.description != "unknown"
        if cfg is None or (alone and not args.allow_missing):
            raise InputError(f"{args.weights}: {_no_configuration(found, arrays)}")
        arrays = to_detectron2(source_library, arrays, args.weights)
        if lazy is not None:
            shapes = {name: array.shape for name, array in arrays.items()}
            cfg, inferred = lazy.configuration(args.opts, shapes)
            _say(args.config_file, inferred)
        return dataclasses.replace(checkpoint, arrays=arrays), cfg, notes
    if cfg is not None:
        raise InputError(
            f"--config-file: {args.weights} is {source_library.name}'s, and its weights determine "
            "the configuration; leave it out, and change individual keys with --opts"
        )
    source = args.weights
    if found.prefix:
        source += f" (without the '{found.prefix[:100]}' before its names)"
    arrays = to_detectron2(source_library, arrays, source)
    cfg = make_config(source_library, arrays, args.opts, source)
    return dataclasses.replace(checkpoint, arrays=arrays), cfg, notes


def _no_configuration(found: Recognition, names: Iterable[str]) -> str:
    """The message that a configuration is needed, or that none would help."""
    if found.library:
        return (
            "is a Detectron2 checkpoint; give its YAML with --config-file (--inspect lists "
            "those that fit)"
        )
    if found.description != "unknown":
        return (
            f"is not a detector: {found.description}; give a whole model (a backbone is "
            "for tfdetect train, as MODEL.WEIGHTS)"
        )
    return (
        f"has no known library's array names (such as {', '.join(list(names)[:3])[:120]}); "
        "if it is from Detectron2, give its YAML with --config-file"
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(
        "convert",
        "Convert a checkpoint of Detectron2, torchvision, maskrcnn-benchmark, "
        "Detectron or tensorpack to a model directory for tfdetect predict.",
        (
            "--config-file COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x \\\n"
            "      --weights model_final_f10217.pkl --output models/mask_rcnn",
            "--weights fasterrcnn_resnet50_fpn_coco.pth --output models/torchvision",
        ),
    )
    parser.add_argument(
        "--inspect",
        metavar="FILE",
        help="say what a checkpoint is, without converting it: library, architecture, classes, "
        "parameters, and which of this project's YAMLs fit; or what a config.yaml of LazyConfig "
        "describes",
    )
    parser.add_argument(
        "--zoo",
        metavar="NAME",
        help="download and convert a model of Detectron2's zoo, such as "
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x: in place of --config-file and --weights",
    )
    parser.add_argument(
        "--format",
        choices=("tfdetect", "tensorpack"),
        default="tfdetect",
        help="tfdetect: a model directory (default); tensorpack: write the .npz of its "
        "FasterRCNN example instead, and print its options",
    )
    parser.add_argument(
        "--config-file",
        metavar="YAML",
        help="Detectron2's YAML of the model, the name of a model of the zoo, or the config.yaml "
        "that its training wrote, with LazyConfig too; not wanted for checkpoints of other "
        "libraries",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="a file or its address (detectron2://..., https://...): the .pkl from the zoo or the "
        ".pth or .safetensors from training; also a .pth from torchvision or maskrcnn-benchmark, a "
        ".pkl from Detectron, or an .npz from tensorpack",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="the model directory to write (with tensorpack, the .npz)"
    )
    parser.add_argument(
        "--metadata",
        metavar="JSON",
        help="COCO annotations that give the names of classes and keypoints, if the "
        "configuration's data set is not one of the zoo's",
    )
    parser.add_argument(
        "--allow-missing",
        action="append",
        default=[],
        metavar="PATTERN",
        help="variables (shell pattern) that may be missing from the checkpoint; may be repeated",
    )
    parser.add_argument(
        "--allow-unused",
        action="append",
        default=[],
        metavar="PATTERN",
        help="arrays (shell pattern) in the checkpoint that may be unused; may be repeated",
    )
    add_opts(parser, "configuration keys to change")
    add_import_option(parser)
    args = parse_with_opts(parser, arguments)
    if args.zoo is not None:
        if args.config_file or args.weights or args.inspect:
            parser.error("--zoo names configuration and weights; leave out the others")
        published = find_published(args.zoo, "--zoo")
        args.config_file = str(published.config)
        args.weights = published.address
    missing = [name for name in ("weights", "output") if getattr(args, name) is None]
    if missing and not args.inspect:
        parser.error(f"--{missing[0]} is missing (or --zoo NAME, or --inspect FILE)")
    return args


def _choose_names(cfg: CfgNode, metadata_file: str | None) -> catalog.DatasetMetadata:
    """The names of classes and keypoints: of the zoo's data set, of the file, or numbers."""
    able = capabilities(cfg)
    if able.proposes:
        return dataclasses.replace(catalog.numbered(1), thing_classes=["object"])
    classes, stuff, keypoints = able.num_classes, able.num_stuff_classes, able.num_keypoints
    stuff_classes = [f"stuff {index}" for index in range(stuff)] or None
    numbered = dataclasses.replace(
        catalog.numbered(classes, keypoints), stuff_classes=stuff_classes
    )
    if cfg.MODEL.CONVENTIONS == "torchvision" and (known := torchvision_names(classes)):
        return known
    for dataset in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        known = catalog.metadata(dataset)
        if known is None or (stuff and len(known.stuff_classes or ()) != stuff):
            continue
        if classes == 0:  # the data set has things, but this model does not tell them apart
            known = dataclasses.replace(known, thing_classes=[], category_ids=None)
        if len(known.thing_classes) == classes:
            if metadata_file is not None:
                print(
                    f"note: --metadata {metadata_file} is not used; "
                    f"the names are those of DATASETS' {dataset}",
                    file=sys.stderr,
                )
            return known
    if metadata_file is None:
        return numbered
    given = catalog.metadata_from_coco(metadata_file)
    if len(given.thing_classes) != (classes or stuff):
        raise InputError(
            f"{metadata_file}: has {len(given.thing_classes)} categories, but "
            f"{able.classes_key} is {classes or stuff}; give the annotations from training"
        )
    if keypoints and len(given.keypoint_names or []) != keypoints:
        raise InputError(
            f"{metadata_file}: has {len(given.keypoint_names or [])} keypoints, but "
            f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is {keypoints}; "
            "give the annotations from training"
        )
    if classes == 0:
        return dataclasses.replace(numbered, stuff_classes=given.thing_classes)
    return dataclasses.replace(given, stuff_classes=stuff_classes)


def _count_classes(names: catalog.DatasetMetadata) -> str:
    """Such as "80 classes, 54 stuff classes"."""
    numbers = {"classes": names.thing_classes, "stuff classes": names.stuff_classes or []}
    return ", ".join(f"{len(classes)} {kind}" for kind, classes in numbers.items() if classes)


def _describe(
    names: catalog.DatasetMetadata, checkpoint: Checkpoint, variables: int
) -> dict[str, Any]:
    return {
        **names.for_model(),
        "source": {
            "file_name": checkpoint.source,
            "sha256": checkpoint.sha256,
            "format": checkpoint.format,
            "author": checkpoint.author,
        },
        "counts": {"arrays": len(checkpoint.arrays), "variables": variables},
    }
