"""The parser of a command, and KEY VALUE pairs among its options."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from typing import NoReturn

FILES, MODEL, MEASURE = "input and output", "model", "evaluation"
"""Titles of groups of options, in the order of a help."""

_WIDTH = 79
_NO_MODEL = (
    "; it is a directory that tfdetect convert or a training wrote. To get one of the "
    "zoo: tfdetect convert --zoo COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x --output DIR"
)


class CommandParser(argparse.ArgumentParser):
    """A parser whose help has groups and examples, and which says how to get a model.

    Args:
        command: the name after `tfdetect`.
        description: what it does, in paragraphs.
        examples: command lines without `tfdetect` and the name.
        note: what the help ends with.
    """

    def __init__(self, command: str, description: str, examples: Sequence[str], note: str = ""):
        lines = [f"  tfdetect {command} {example}" for example in examples]
        end = ["", textwrap.fill(note, _WIDTH)] if note else []
        super().__init__(
            prog=f"tfdetect {command}",
            description="\n\n".join(
                textwrap.fill(paragraph, _WIDTH) for paragraph in description.split("\n\n")
            ),
            epilog="\n".join(["examples:", *lines, *end]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._titled = {title: self.add_argument_group(title) for title in (FILES, MODEL, MEASURE)}

    def group(self, title: str) -> argparse._ArgumentGroup:
        """The group of a title above; without options it is not in the help."""
        return self._titled[title]

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        is_missing = message.startswith("the following arguments are required")
        super().error(message + _NO_MODEL if is_missing and "--model" in message else message)


def add_opts(parser: argparse.ArgumentParser | argparse._ArgumentGroup, purpose: str) -> None:
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
