"""Write the results of `tfdetect batch` as COCO's JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tfdetect.batch.coco import BatchResults, write_dataset, write_results
from tfdetect.batch.parquet import require_pyarrow
from tfdetect.cli.arguments import FILES, CommandParser
from tfdetect.cli.drawing import unit_interval
from tfdetect.data.coco import read_coco
from tfdetect.files import check_writable_file


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file, and say what was left out."""
    args = _parse(arguments)
    require_pyarrow()
    check_writable_file(args.output)

    def note(text: str) -> None:
        print(f"note: {text}", file=sys.stderr)

    results = BatchResults(Path(args.input), partial=args.partial)
    if results.missing:
        note(f"{args.input}: {results.missing} images are missing")
    failed = sum(row["error"] is not None for row in results.rows(("error",)))
    if failed:
        note(f"{args.input}: {failed} images have an error; they are left out")
    if args.annotations is None:
        write_dataset(args.output, results, args.confidence_threshold)
    else:
        dataset = read_coco(args.annotations)
        write_results(args.output, results, dataset, args.confidence_threshold, note)
    print(args.output)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(
        "coco-results",
        "Write the results of tfdetect batch as COCO's JSON: a data set with the detections as "
        "annotations, or with --annotations results for COCO's evaluation.",
        ("--input found/ --output found.json",),
    )
    files = parser.group(FILES)
    files.add_argument(
        "--input", required=True, metavar="DIR", help="the folder that tfdetect batch wrote"
    )
    files.add_argument("--output", required=True, metavar="FILE", help="the JSON file")
    files.add_argument(
        "--annotations",
        metavar="FILE",
        help="COCO annotations: results get the ids of its images and categories, which are found "
        "by their names",
    )
    files.add_argument(
        "--confidence-threshold",
        type=unit_interval,
        default=0.0,
        metavar="SCORE",
        help="leave out what has a lower score (default 0)",
    )
    files.add_argument(
        "--partial", action="store_true", help="write the results of a run that is not finished"
    )
    return parser.parse_args(arguments)
