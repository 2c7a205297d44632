"""Write a SavedModel, LiteRT or ONNX file."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tfdetect.cli.arguments import FILES, MODEL, CommandParser, add_opts, parse_with_opts
from tfdetect.cli.imports import add_import_option, import_user_modules
from tfdetect.cli.model import positive
from tfdetect.cli.quiet import import_tensorflow
from tfdetect.config.prediction import load_prediction_config
from tfdetect.config.tta import check_tta
from tfdetect.files import check_utf8, check_writable


def main(arguments: Sequence[str] | None = None) -> None:
    """Export, and say what was written."""
    args = _parse(arguments)
    import_user_modules(args.imports)
    _check_configuration(args)
    check_writable(args.output.parent if args.format in ("litert", "onnx") else args.output)
    if args.format not in ("litert", "onnx"):
        check_utf8(args.output)
    import_tensorflow()
    if args.format != "saved_model":
        from tfdetect.export.fixed_export import export_fixed

        # It warns of every shape in a loop that it does not know, and does not need to.
        logging.getLogger("tf2onnx").setLevel(logging.ERROR)

        height, width = args.size
        path = export_fixed(
            args.model, args.output, args.format, args.batch, height, width, args.opts
        )
        print(f"{path}: uint8 [{args.batch}, {height}, {width}, 3] RGB images")
        return
    from tfdetect.export.saved_model import export_savedmodel

    exported = export_savedmodel(
        args.model,
        args.output,
        ops=args.ops,
        device=args.device,
        dtype=args.dtype,
        max_batch=args.max_batch,
        opts=args.opts,
    )
    print(f"{exported.path}: {exported.size / 1e6:.1f} MB ({exported.weights / 1e6:.1f} weights)")
    print(f"signatures: {', '.join(exported.signatures)}")
    if exported.library is not None:
        print(f"before it is loaded: tf.load_op_library({str(exported.library)!r})")


def _check_configuration(args: argparse.Namespace) -> None:
    """Check TEST.AUG, and report where it has no effect; before TensorFlow is loaded."""
    path = Path(args.model) / "config.yaml"
    if not path.is_file():
        return  # `load_model` says what is missing
    cfg = load_prediction_config(path, args.opts, "--opts")
    if not cfg.TEST.AUG.ENABLED:
        return
    if args.format == "saved_model":
        check_tta(cfg)
    else:
        print(
            f"note: TEST.AUG.ENABLED: has no effect, --format {args.format} has no test-time "
            "augmentation",
            file=sys.stderr,
        )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(
        "export",
        "Write a converted model as a SavedModel, or for images of one size as XLA, LiteRT or ONNX "
        "take it.",
        (
            "--model models/mask_rcnn --output servable",
            "--model models/mask_rcnn --output model.onnx --format onnx --size 480 640",
        ),
    )
    files, model = parser.group(FILES), parser.group(MODEL)
    files.add_argument(
        "--model", required=True, metavar="DIR", help="the directory that tfdetect convert wrote"
    )
    files.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="SERVABLE",
        help="folder of versions: the SavedModel becomes SERVABLE/1, or the next number; the file, "
        "with --format litert or onnx",
    )
    files.add_argument(
        "--format",
        choices=("saved_model", "xla", "litert", "onnx"),
        default="saved_model",
        help="saved_model (default); xla: a SavedModel that XLA compiles when it is first called; "
        "litert or onnx: a file. All but the first are for images of one --size",
    )
    model.add_argument(
        "--size",
        nargs=2,
        type=positive,
        metavar=("HEIGHT", "WIDTH"),
        help="of the images, in pixels before the model resizes them; not for saved_model",
    )
    model.add_argument(
        "--batch",
        type=positive,
        default=1,
        metavar="N",
        help="with --size: images to a batch (default 1)",
    )
    model.add_argument(
        "--ops",
        choices=("portable", "native"),
        default="portable",
        help="portable: any TensorFlow loads it (default); native: faster, and its operator "
        "library, among the assets, has to be loaded first",
    )
    model.add_argument(
        "--device",
        choices=("cpu", "gpu"),
        default="cpu",
        help="with --ops native: where it will run, whatever this machine has. cpu (default) has "
        "the fastest convolutions for processors with AVX2; gpu runs on both",
    )
    model.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of weights and features (default float32); boxes and scores are float32",
    )
    model.add_argument(
        "--max-batch",
        type=positive,
        metavar="N",
        help="reject batches of more images (default: no limit)",
    )
    model.add_argument(
        "--tta",
        action="store_true",
        help="add the signature tta, of test-time augmentation, as --opts TEST.AUG.ENABLED True",
    )
    add_import_option(model)
    add_opts(
        model,
        "keys of the model's configuration to change, of those that affect prediction only, such "
        "as MODEL.ROI_HEADS.SCORE_THRESH_TEST or TEST.AUG.MIN_SIZES",
    )
    args = parse_with_opts(parser, arguments)
    if args.tta:
        args.opts += ["TEST.AUG.ENABLED", "True"]
    if args.format == "saved_model":
        if args.size is not None or args.batch != 1:
            parser.error("--size and --batch are for other formats: a SavedModel takes every size")
    elif args.size is None:
        parser.error(f"--format {args.format} needs --size HEIGHT WIDTH")
    elif (args.ops, args.device, args.dtype, args.max_batch, args.tta) != (
        "portable",
        "cpu",
        "float32",
        None,
        False,
    ):
        parser.error("--ops, --device, --dtype, --max-batch and --tta are for --format saved_model")
    return args
