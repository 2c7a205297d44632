"""Make a model int8, calibrated on images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from tfdetect.checkpoint.description import read_description
from tfdetect.checkpoint.quantization import LEAST_DECIBELS, Quantization, require_float32
from tfdetect.cli.arguments import FILES, MEASURE, CommandParser
from tfdetect.cli.heap import keep_freed_memory
from tfdetect.cli.imports import add_import_option, import_user_modules
from tfdetect.cli.model import positive
from tfdetect.cli.quiet import import_tensorflow
from tfdetect.config.capabilities import capabilities
from tfdetect.data.images import describe_passed_over, find_images, read_image
from tfdetect.errors import InputError
from tfdetect.evaluation.evaluate import EvaluationRun
from tfdetect.files import check_utf8

if TYPE_CHECKING:
    import tensorflow as tf
    from yacs.config import CfgNode

_DESCRIPTION = """\
Make a model int8, calibrated on images (post-training static quantization).

Layers multiply int8 weights, with a scale for each output channel, by activations of 8 bits, whose
ranges are those of the images given: a hundred or so, such as the model is for. A layer stays in
float32 where int8 would change its output too much, which is measured on the images and printed,
layer by layer. The result is a model directory for predict, evaluate, track and export. It only
predicts: keep the float32 model for training.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Quantize, and say what became of each layer.

    Returns:
        1 if some of the images could not be read, else 0.
    """
    args = _parse(arguments)
    import_user_modules(args.imports)
    model_dir, output = Path(args.model), Path(args.output)
    require_float32(model_dir, "--model")
    cfg, metadata = read_description(model_dir)
    if capabilities(cfg).takes_proposals:
        raise InputError(
            f"{model_dir}: its MODEL.PROPOSAL_GENERATOR.NAME is PrecomputedProposals; tfdetect "
            "quantize calibrates with a model's own proposals"
        )
    if output.resolve() == model_dir.resolve():
        raise InputError(f"--output {output}: is the float32 model; give another directory")
    check_utf8(output)
    passed_over: list[Path] = []
    files = find_images([args.images], passed_over)
    if passed_over:
        print(f"note: skipped {describe_passed_over(passed_over)}", file=sys.stderr)
    if args.max_images is not None:
        # From all over the folder, whose order may mean something.
        places = np.linspace(0, len(files) - 1, min(args.max_images, len(files)))
        files = [files[round(place)] for place in places]
    run = None
    if args.annotations is not None:
        folder = args.annotation_images or (args.images if Path(args.images).is_dir() else None)
        run = EvaluationRun(args.annotations, cfg, metadata, folder, source="--annotation-images")
    import_tensorflow(cfg.FLOAT32_PRECISION)
    from tfdetect.checkpoint.description import check_output
    from tfdetect.checkpoint.model_dir import load_model, save_model
    from tfdetect.inference.quantization.calibrate import quantize_model

    check_output(output)
    images = _Images(files)
    cfg, model, metadata = load_model(model_dir)
    keep_freed_memory()
    quantization = quantize_model(
        cfg,
        model,
        metadata,
        images,
        method=args.method,
        percentile=args.percentile,
        least_decibels=args.least_decibels,
        keep=args.keep,
        origin={"model": str(model_dir.resolve())},
    )
    print(_table(quantization), flush=True)
    if run is not None:
        print(_measure(args, run, cfg, model, metadata, quantization), flush=True)
    save_model(output, cfg, model, metadata, quantization)
    print(f"{output}: {_count(quantization)}")
    return 1 if images.unreadable else 0


class _Images:
    """The images of files, as often as it is called; one that cannot be read is said once.

    Attributes:
        unreadable: the files that cannot be read.
    """

    def __init__(self, files: Sequence[Path]):
        self._files = list(files)
        self._titles = ["Ranges", "Errors"]
        self.unreadable: list[Path] = []

    def __call__(self) -> Iterator[np.ndarray]:
        title = self._titles.pop(0)
        for path in tqdm(self._files, title, unit="image"):
            if path in self.unreadable:
                continue
            try:
                image = read_image(path)
            except InputError as error:
                self.unreadable.append(path)
                if len(self.unreadable) == len(self._files):
                    raise InputError(
                        f"none of {len(self._files)} images is usable: {error}"
                    ) from error
                print(f"error: {error}", file=sys.stderr)
                continue
            yield image


def _table(quantization: Quantization) -> str:
    """A line for each layer: its form, its error, and why it stays in float32."""
    names = sorted([*quantization.layers, *quantization.kept])
    width = max(map(len, names))
    lines = [f"{'layer':{width}}  form     dB"]
    for name in names:
        if name in quantization.layers:
            lines.append(f"{name:{width}}  int8     {quantization.layers[name].decibels:.1f}")
        else:
            lines.append(f"{name:{width}}  float32  {quantization.kept[name]}")
    return "\n".join(lines)


def _count(quantization: Quantization) -> str:
    kept = len(quantization.kept)
    return f"{len(quantization.layers)} layers in int8, {kept} in float32"


def _measure(
    args: argparse.Namespace,
    run: EvaluationRun,
    cfg: CfgNode,
    model: tf.Module,
    metadata: dict[str, Any],
    quantization: Quantization,
) -> str:
    """A table of each task's AP before and after."""
    from tfdetect.evaluation.evaluate import evaluate
    from tfdetect.inference.optimization import optimize
    from tfdetect.inference.predictor import Predictor
    from tfdetect.ops.backend import Backend

    backend = Backend.for_device()
    found = []
    for made in (None, quantization):
        model.quantization = made
        predictor = Predictor.of_model(cfg, optimize(model, backend), metadata, backend)
        evaluated = evaluate(
            predictor, args.annotations, run.folder, skip=lambda index, error: None
        )
        if evaluated.errors:
            raise evaluated.errors[0]
        found.append(evaluated.metrics)
    before, after = found
    lines = [f"{'metric':16}  float32    int8  difference"]
    for task, metrics in before.items():
        for name, value in metrics.items():
            if name in _METRICS:
                now = after[task][name]
                lines.append(
                    f"{f'{task} {name}':16}  {value:7.2f} {now:7.2f}  {now - value:+10.2f}"
                )
    return "\n".join(lines)


_METRICS = ("AP", "AP50", "AP75", "PQ", "mIoU")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(
        "quantize",
        _DESCRIPTION,
        ("--model models/mask_rcnn --images photos/ --output models/mask_rcnn_int8",),
    )
    files, measure = parser.group(FILES), parser.group(MEASURE)
    files.add_argument(
        "--model", required=True, metavar="DIR", help="the directory that tfdetect convert wrote"
    )
    files.add_argument(
        "--images",
        required=True,
        metavar="PATH",
        help="the images to calibrate on: a folder, a glob pattern or one image",
    )
    files.add_argument(
        "--output", required=True, metavar="DIR", help="the model directory to write"
    )
    parser.add_argument(
        "--max-images",
        type=positive,
        metavar="N",
        help="calibrate on N of the images, from all over the folder (default: all)",
    )
    parser.add_argument(
        "--method",
        choices=("mse", "percentile"),
        default="mse",
        help="how far a range goes. mse: where rounding and clipping change the values least, by "
        "the mean square (default); percentile: as far as --percentile of the magnitudes",
    )
    parser.add_argument(
        "--percentile",
        type=_percentile,
        default=None,
        metavar="P",
        help="with --method percentile (default 99.99)",
    )
    parser.add_argument(
        "--least-decibels",
        type=float,
        default=LEAST_DECIBELS,
        metavar="DB",
        help="a layer whose int8 output has less signal to its error than this stays in float32 "
        f"(default {LEAST_DECIBELS:g}: an error of a tenth of the output)",
    )
    parser.add_argument(
        "--keep",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATTERN",
        help="layers that stay in float32, by their names in the table, such as "
        "'roi_heads.keypoint_head.*'",
    )
    measure.add_argument(
        "--annotations",
        metavar="PATH",
        help="measure average precision before and after, against these annotations: whatever "
        "tfdetect evaluate takes",
    )
    measure.add_argument(
        "--annotation-images",
        metavar="DIR",
        help="the folder of the annotations' images (default: --images)",
    )
    add_import_option(parser)
    args = parser.parse_args(arguments)
    if args.annotation_images is not None and args.annotations is None:
        parser.error("--annotation-images is for --annotations")
    if args.percentile is not None and args.method != "percentile":
        parser.error("--percentile is for --method percentile")
    args.percentile = args.percentile or 99.99
    if not np.isfinite(args.least_decibels):
        parser.error("--least-decibels: give a number")
    return args


def _percentile(text: str) -> float:
    value = float(text)
    if not 50 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not between 50 and 100")
    return value
