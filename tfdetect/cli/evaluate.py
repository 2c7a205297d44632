"""Predict the images of a data set and measure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tfdetect.checkpoint.description import read_description
from tfdetect.cli.arguments import parse_with_opts
from tfdetect.cli.loop import find_proposals
from tfdetect.cli.model import add_model_arguments, check_configuration, load_predictor
from tfdetect.cli.records import Records
from tfdetect.errors import InputError
from tfdetect.evaluation.formats import open_for_model
from tfdetect.evaluation.predict import missing_images, predict_dataset
from tfdetect.evaluation.report import METRICS, write_and_measure
from tfdetect.files import check_writable_file
from tfdetect.interrupts import hold_interrupts


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate. Returns 1 if some of the images could not be used, else 0."""
    parser = argparse.ArgumentParser(
        prog="tfdetect evaluate",
        description="Predict the images of a data set with a converted model, write the results, "
        "and measure average precision.",
    )
    add_model_arguments(parser)
    add_evaluation_arguments(parser, "--annotations", required=True)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    args = parse_with_opts(parser, arguments)
    return evaluate(args, check_configuration(args))


def add_evaluation_arguments(
    parser: argparse.ArgumentParser, option: str, *, required: bool = False
) -> None:
    """The options that say what to measure against; `option` names the annotations, `evaluate`."""
    parser.add_argument(
        option,
        dest="evaluate",
        required=required,
        metavar="PATH",
        help="annotations to measure against: JSON of COCO, LVIS or COCO panoptic, or a folder of "
        "Pascal VOC",
    )
    parser.add_argument("--images", metavar="DIR", help="the folder of the annotations' images")


def evaluate(args: argparse.Namespace, float32_precision: str) -> int:
    """Write the results, then measure them.

    Args:
        args: with the options of `add_model_arguments`, `add_evaluation_arguments` and output.
        float32_precision: of `check_configuration`.

    Returns:
        1 if some of the images could not be used, else 0.

    Raises:
        InputError: the annotations, images or places to write to cannot be used, which is said
            before anything is predicted; or the results could not be written or measured.
    """
    output = Path(args.output)
    check_writable_file(output / METRICS)
    if args.json is not None:
        check_writable_file(args.json)
    dataset = open_for_model(args.evaluate, *read_description(args.model, args.opts, "--opts"))
    folder = dataset.image_folder if args.images is None else Path(args.images)
    if folder is None:
        raise InputError(f"{args.evaluate}: does not say where its images are; give --images")
    if not folder.is_dir():
        raise InputError(f"--images {folder}: is not a folder; give the folder of the images")
    missing = missing_images(dataset, folder)
    if len(missing) == len(dataset.file_names):
        raise InputError(
            f"--images {folder}: has none of the {len(missing)} images of {args.evaluate}, such as"
            f" {dataset.file_names[0]}; give the folder of the images"
        )
    proposals = find_proposals(args.proposals, [[name] for name in dataset.image_ids])
    predictor = load_predictor(args, float32_precision)
    for note in dataset.notes:
        print(f"note: {note}", flush=True)
    if missing:
        print(
            f"error: --images {folder}: {len(missing)} of {len(dataset.file_names)} images are"
            f" missing, such as {dataset.file_names[missing[0]]}; they are not measured",
            file=sys.stderr,
        )
    results: list[dict[str, Any]] = []
    records = None if args.json is None else Records(args.json)

    def skip(index: int, error: InputError) -> None:
        print(f"error: {error}", file=sys.stderr)

    gone = set(missing)
    wanted = [index for index in range(len(dataset.file_names)) if index not in gone]
    measured = []
    predicted = predict_dataset(
        predictor,
        dataset,
        folder,
        wanted,
        skip,
        batch_size=args.batch_size,
        proposals=proposals,
    )
    try:
        for index, detections in tqdm(predicted, "Evaluating", total=len(wanted), unit="image"):
            results += dataset.to_results(index, detections)
            if records is not None:
                records.add(dataset.file_names[index], detections)
            measured.append(index)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"{len(measured)} of {len(wanted)} images are done; nothing is written",)
        raise
    if not measured:
        raise InputError(f"--images {folder}: none of the {len(wanted)} images is usable")
    errors = []
    if records is not None:
        try:
            with hold_interrupts():
                records.write()
        except InputError as unwritten:
            errors.append(str(unwritten))
    done = write_and_measure(dataset, results, measured, output)
    if done.text:
        print(done.text)
    written = ", ".join(str(path) for path in done.written)
    if written:
        print(f"results: {written}", flush=True)
    errors += [str(error) for error in done.errors]
    if errors:
        raise InputError("; ".join(errors + ([f"the results are in {written}"] if written else [])))
    return 0 if len(measured) == len(dataset.file_names) else 1
