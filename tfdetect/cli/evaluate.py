"""Predict the images of a data set and measure."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from tfdetect.checkpoint.description import read_description
from tfdetect.cli.arguments import FILES, MEASURE, CommandParser, parse_with_opts
from tfdetect.cli.imports import import_user_modules
from tfdetect.cli.model import add_model_arguments, check_configuration, load_predictor
from tfdetect.cli.prediction_file import PredictionFile
from tfdetect.errors import InputError
from tfdetect.evaluation.evaluate import EvaluationRun
from tfdetect.evaluation.report import METRICS, Evaluated
from tfdetect.files import check_writable_file
from tfdetect.interrupts import hold_interrupts

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate. Returns 1 if some of the images could not be used, else 0."""
    parser = CommandParser(
        "evaluate",
        "Predict the images of a data set with a converted model, write the results, and measure "
        "average precision.",
        (
            "--model models/mask_rcnn --annotations annotations.json \\\n"
            "      --images images/ --output results/",
        ),
    )
    add_model_arguments(parser)
    add_evaluation_arguments(parser, "--annotations", required=True)
    parser.group(FILES).add_argument(
        "--output", required=True, metavar="DIR", help="folder for the results"
    )
    args = parse_with_opts(parser, arguments)
    import_user_modules(args.imports)
    return evaluate(args, check_configuration(args))


def add_evaluation_arguments(parser: CommandParser, option: str, *, required: bool = False) -> None:
    """The options that say what to measure against; `option` names the annotations, `evaluate`."""
    group = parser.group(MEASURE)
    group.add_argument(
        option,
        dest="evaluate",
        required=required,
        metavar="PATH",
        help="annotations to measure against: JSON of COCO, LVIS or COCO panoptic; YOLO's "
        "data.yaml or labels; or a folder of Pascal VOC, of labelme, of Cityscapes' gtFine or of "
        "semantic masks",
    )
    group.add_argument("--images", metavar="DIR", help="the folder of the annotations' images")


def evaluate(args: argparse.Namespace, float32_precision: str) -> int:
    """Write the results, then measure them.

    Args:
        args: with the options of `add_model_arguments`, `add_evaluation_arguments` and output.
        float32_precision: of `check_configuration`.

    Returns:
        1 if some of the images could not be used, else 0.

    Raises:
        InputError: the annotations, images or output locations are unusable, which is checked
            before anything is predicted; or the results could not be written or evaluated.
    """
    output = Path(args.output)
    check_writable_file(output / METRICS)
    if args.json is not None:
        check_writable_file(args.json)
    run = EvaluationRun(
        args.evaluate,
        *read_description(args.model, args.opts, "--opts"),
        args.images,
        proposals=args.proposals,
        source="--images",
    )
    predictor = load_predictor(args, float32_precision)
    measure(run, predictor, output, batch_size=args.batch_size, json=args.json)
    return 0 if len(run.measured) == len(run.dataset.file_names) else 1


def measure(
    run: EvaluationRun,
    predictor: Predictor,
    output: Path,
    *,
    batch_size: int = 1,
    json: str | None = None,
) -> Evaluated:
    """Predict, write the results, measure them and print what comes of it.

    Args:
        run: of the annotations.
        predictor: the model.
        output: the folder of the results.
        batch_size: images that go through the network together.
        json: a file for everything that is found; None for none.

    Raises:
        InputError: the results could not be written or evaluated.
    """
    dataset, total = run.dataset, len(run.dataset.file_names)
    for note in dataset.notes:
        print(f"note: {note}", flush=True)
    if run.missing:
        print(
            f"error: --images {run.folder}: {len(run.missing)} of {total} images are missing, such"
            f" as {dataset.file_names[run.missing[0]]}; they are not evaluated",
            file=sys.stderr,
        )

    def skip(index: int, error: InputError) -> None:
        print(f"error: {error}", file=sys.stderr)

    predicted = run.predict(predictor, skip, batch_size=batch_size)
    errors = []
    with contextlib.ExitStack() as open_files:
        records = None
        if json is not None:
            records = open_files.enter_context(PredictionFile(json))
        try:
            for index, detections in tqdm(
                predicted, "Evaluating", total=len(run.wanted), unit="image"
            ):
                if records is not None:
                    try:
                        records.add(dataset.file_names[index], detections)
                    except InputError as unwritten:
                        errors.append(str(unwritten))
                        records = None
        except KeyboardInterrupt as interrupt:
            count, wanted = len(run.measured), len(run.wanted)
            interrupt.args = (f"{count} of {wanted} images are done; nothing is written",)
            raise
        if records is not None:
            try:
                with hold_interrupts():
                    records.finish()
            except InputError as unwritten:
                errors.append(str(unwritten))
    done = run.measure(output)
    if done.text:
        print(done.text)
    written = ", ".join(str(path) for path in done.written)
    if written:
        print(f"results: {written}", flush=True)
    errors += [str(error) for error in done.errors]
    if errors:
        raise InputError("; ".join(errors + ([f"the results are in {written}"] if written else [])))
    return done
