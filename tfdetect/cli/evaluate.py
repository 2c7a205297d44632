"""`predict.py --evaluate`: predict the images of a data set, and measure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from tfdetect.checkpoint.description import read_description
from tfdetect.cli.interrupts import hold_interrupts
from tfdetect.errors import InputError
from tfdetect.evaluation.evaluate import EvaluationRun
from tfdetect.evaluation.records import Records
from tfdetect.evaluation.report import METRICS
from tfdetect.files import check_writable_file

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor


def evaluate(args: argparse.Namespace, load: Callable[[argparse.Namespace], Predictor]) -> int:
    """Write the results, then measure them.

    Args:
        args: of predict.py.
        load: the model.

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
    run = EvaluationRun(
        args.evaluate,
        *read_description(args.model, args.opts, "--opts"),
        args.images,
        proposals=args.proposals,
        source="--images",
    )
    dataset, total = run.dataset, len(run.dataset.file_names)
    predictor = load(args)
    for note in dataset.notes:
        print(f"note: {note}", flush=True)
    if run.missing:
        print(
            f"error: --images {run.folder}: {len(run.missing)} of {total} images are missing, such"
            f" as {dataset.file_names[run.missing[0]]}; they are not measured",
            file=sys.stderr,
        )
    records = None if args.json is None else Records(args.json)

    def skip(index: int, error: InputError) -> None:
        print(f"error: {error}", file=sys.stderr)

    predicted = run.predict(predictor, skip, batch_size=args.batch_size)
    try:
        for index, detections in tqdm(predicted, "Evaluating", total=len(run.wanted), unit="image"):
            if records is not None:
                records.add(dataset.file_names[index], detections)
    except KeyboardInterrupt as interrupt:
        count, wanted = len(run.measured), len(run.wanted)
        interrupt.args = (f"{count} of {wanted} images are done; nothing is written",)
        raise
    errors = []
    if records is not None:
        try:
            with hold_interrupts():
                records.write()
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
    return 0 if len(run.measured) == total else 1
