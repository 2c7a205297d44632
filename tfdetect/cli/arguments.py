"""KEY VALUE pairs among the options of a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def add_opts(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the option --opts, which may be repeated; `purpose` is its help."""
    parser.add_argument(
        "--opts", nargs="*", action="extend", default=[], metavar="KEY VALUE", help=purpose
    )


def parse_with_opts(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """Parse a command line whose KEY VALUE pairs, `opts`, may stand before and between options.

    Args:
        parser: has `opts` as its last positional argument or as an option, of nargs "*".
        arguments: None for those of the process.
    """
    words = sys.argv[1:] if arguments is None else arguments
    # argparse takes -1 for a value but -1e-3 and -.inf for options, if they have no space.
    protected = [f" {word}" if _is_negative_number(word) else word for word in words]
    args = parser.parse_intermixed_args(protected)
    args.opts = [word.removeprefix(" ") for word in args.opts]
    return args


def _is_negative_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return word.startswith("-")
