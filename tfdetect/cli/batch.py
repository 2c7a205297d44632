"""Detect objects in millions of images, on one machine or many, into Parquet files."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tfdetect.batch.parquet import require_pyarrow
from tfdetect.batch.parts import missing_ranges, written_ranges
from tfdetect.batch.run_file import RUN, join_run, model_digest
from tfdetect.batch.source import Block, ImageSource
from tfdetect.checkpoint.description import read_description
from tfdetect.cli.arguments import FILES, CommandParser, parse_with_opts
from tfdetect.cli.imports import import_user_modules
from tfdetect.cli.model import add_model_arguments, check_configuration, load_predictor, positive
from tfdetect.cli.ray_cluster import add_cluster_arguments, require_ray
from tfdetect.cli.video import counted
from tfdetect.errors import InputError
from tfdetect.files import check_writable

_SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict. Returns 1 if no image could be used, else 0: errors are in the column `error`."""
    args = _parse(arguments)
    output = Path(args.output)
    require_pyarrow()
    if args.engine == "ray":
        require_ray("--engine ray", "ray.data")
    import_user_modules(args.imports)
    precision = check_configuration(args)
    read_description(args.model, args.opts, "--opts")
    check_writable(output)
    source = ImageSource(args.input)
    settings = _settings(args, source)
    blocks = _plan(args, source, settings)
    if not blocks:
        print(f"{output}: nothing is left to predict")
        return 0
    total = sum(block.stop - block.start for block in blocks)
    with tqdm(total=total, desc="Predicting", unit="image", disable=None) as progress:
        try:
            if args.engine == "ray":
                from tfdetect.cli.batch_ray import run_on_ray

                errors = run_on_ray(args, precision, settings["model"], blocks, progress.update)
            else:
                errors = _run_here(args, precision, blocks, progress.update)
        except (KeyboardInterrupt, InputError) as error:
            kept = f"{output} keeps what is done; continue with --resume"
            error.args = ("; ".join(filter(None, [str(error), kept])),)
            raise
    print(f"{output}: {counted(total, 'image')}, {errors} with an error (column error)")
    if errors == total:
        print("error: no image could be used; see the column error", file=sys.stderr)
    return int(errors == total)


def _settings(args: argparse.Namespace, source: ImageSource) -> dict[str, Any]:
    """What all processes of a run have in common; `join_run`."""
    return {
        "model": model_digest(args.model),
        "opts": [str(word) for word in args.opts],
        "dtype": args.dtype,
        "padding": args.padding,
        "slices": [args.slice, args.overlap],
        "images": source.total,
        "input": source.digest,
        "images_per_file": args.images_per_file,
    }


def _plan(args: argparse.Namespace, source: ImageSource, settings: dict[str, Any]) -> list[Block]:
    """What this process has to predict.

    Raises:
        InputError: the folder has results of another run, or of this one without --resume.
    """
    output = Path(args.output)
    written = written_ranges(output)
    if written and not (output / RUN).exists():
        raise InputError(f"{output}: has parts but no {RUN}; give another --output")
    join_run(output, settings)
    number, count = args.shard
    size = args.images_per_file
    starts = range((number - 1) * size, source.total, count * size)
    whole = [(start, min(start + size, source.total)) for start in starts]
    ranges = [missing for block in whole for missing in missing_ranges(*block, written)]
    if ranges != whole and not args.resume:
        raise InputError(
            f"{output}: has results of this run; continue it with --resume, or give another folder"
        )
    return [source.block(*one) for one in ranges]


def _run_here(
    args: argparse.Namespace,
    float32_precision: str,
    blocks: Sequence[Block],
    advance: Callable[[int], object],
) -> int:
    """Predict in this process, and call `advance` with 1 after each image; how many have errors."""
    predictor = load_predictor(args, float32_precision, args.threads)
    from tfdetect.batch.worker import BlockWorker

    worker = BlockWorker(predictor, Path(args.output), args.batch_size)
    errors = 0
    for block in blocks:
        errors += worker.run(block, lambda: advance(1))
    return errors


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(
        "batch",
        "Detect objects in many images with a converted model. Results are Parquet files; an image "
        "that cannot be used has its error in the column error. Many machines: --engine ray on a "
        "Ray cluster, or one process each with --shard I/N.",
        ("--model models/mask_rcnn --input photos/ --output found/",),
    )
    files = parser.group(FILES)
    add_model_arguments(parser, proposals=False, json=False)
    files.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="PATH",
        help="images, folders of them, glob patterns, lists (.txt, a path in each line) or Parquet "
        "files with images or paths",
    )
    files.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    files.add_argument(
        "--images-per-file",
        type=positive,
        default=500,
        metavar="N",
        help="rows in each Parquet file, which is written when they are done (default 500)",
    )
    files.add_argument(
        "--resume",
        action="store_true",
        help="continue a run: what is in its folder is not predicted again",
    )
    files.add_argument(
        "--shard",
        type=_shard,
        default=None,
        metavar="I/N",
        help="predict the I-th of N shares, from 1/N to N/N, into the folder of all; one process "
        "each, on machines that see the same files",
    )
    files.add_argument(
        "--engine",
        choices=("process", "ray"),
        default="process",
        help="process: this one (default); ray: workers on the machines of a Ray cluster",
    )
    add_cluster_arguments(files)
    files.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="with --engine ray: how many processes have the model (default: one for each GPU, or "
        "for each machine if there is none)",
    )
    args = parse_with_opts(parser, arguments)
    for option in ("address", "workers"):
        if args.engine != "ray" and getattr(args, option) is not None:
            parser.error(f"--{option} needs --engine ray")
    if args.engine == "ray" and args.slice is not None:
        parser.error("--slice is for --engine process so far; leave one of them out")
    if args.engine == "ray" and args.shard is not None:
        parser.error("--shard is for --engine process; Ray distributes the images itself")
    args.shard = args.shard or (1, 1)
    return args


def _shard(text: str) -> tuple[int, int]:
    match = _SHARD.fullmatch(text)
    number, count = (int(part) for part in match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise argparse.ArgumentTypeError(f"{text} is not I/N with I from 1 to N")
    return number, count
