"""Draw a data set: see `python -m tfdetect.data.shapes --help`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tfdetect.cli.command import run_command
from tfdetect.data.shapes import write_shapes


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tfdetect.data.shapes")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("n", type=int, help="number of images")
    parser.add_argument("seed", type=int, help="other seeds draw other images")
    options = parser.parse_args(arguments)
    write_shapes(options.out, options.n, options.seed)
    return 0


if __name__ == "__main__":
    run_command(main)
