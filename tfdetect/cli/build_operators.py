"""Compile the native operators ahead."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tfdetect.cli.arguments import CommandParser
from tfdetect.errors import InputError
from tfdetect.ops.kernels.build import build, instruction_sets
from tfdetect.ops.kernels.instruction_set import check_variable


def main(arguments: Sequence[str] | None = None) -> int:
    """Build (or find) the library of native operators and print where it is."""
    parser = CommandParser(
        "build-operators",
        "Compile the native operators into the cache (TFDETECT_CACHE), as for an image "
        "that will have no compiler. Otherwise the first command that needs them does.",
        ("", "--optional"),
    )
    parser.add_argument(
        "--optional",
        action="store_true",
        help="exit with status 0 where they cannot be built: the portable ones are used then",
    )
    options = parser.parse_args(arguments)
    check_variable()
    try:
        library = build()
        sets = instruction_sets(library)
    except InputError as error:
        if not options.optional:
            raise
        print(f"native operators: none, the portable ones will be used ({error})", file=sys.stderr)
        return 0
    print(f"native operators: {library}")
    sets.check_wanted()
    print(sets.describe())
    return 0
