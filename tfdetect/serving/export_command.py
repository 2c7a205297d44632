"""The command `python -m tfdetect.export`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tfdetect.data.files import check_writable
from tfdetect.quiet import import_tensorflow, without_startup_remarks


def main(arguments: Sequence[str] | None = None) -> None:
    """Export, and say what was written."""
    args = _parse(arguments)
    check_writable(args.output)
    # By default this signal ends Python on the spot, with the temporary folder left behind.
    signal.signal(signal.SIGTERM, _exit)
    import_tensorflow()
    with without_startup_remarks():
        from tfdetect.serving.export import export

        exported = export(
            args.model, args.output, ops=args.ops, dtype=args.dtype, max_batch=args.max_batch
        )
    print(f"{exported.path}: {exported.size / 1e6:.1f} MB ({exported.weights / 1e6:.1f} weights)")
    print(f"signatures: {', '.join(exported.signatures)}")
    if exported.library is not None:
        print(f"before it is loaded: tf.load_op_library({str(exported.library)!r})")


def _exit(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tfdetect.export", description="Write a converted model as a SavedModel."
    )
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="the directory that convert_d2.py wrote"
    )
    parser.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="SERVABLE",
        help="folder of versions: the SavedModel becomes SERVABLE/1, or the next number",
    )
    parser.add_argument(
        "--ops",
        choices=("portable", "native"),
        default="portable",
        help="portable: any TensorFlow loads it (default); native: faster, and its operator "
        "library, among the assets, has to be loaded first",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of weights and features (default float32); boxes and scores are float32",
    )
    parser.add_argument(
        "--max-batch",
        type=_positive,
        metavar="N",
        help="refuse batches of more images (default: no limit)",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value
