"""The command `tfdetect`, which runs the others by name.

They are entry points of the group `tfdetect.commands`, this project's and those of any package
that is installed: functions that take the words of the command line and return the exit status.
"""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from tfdetect.cli.command import run_command
from tfdetect.errors import InputError
from tfdetect.plugins import plugins

GROUP = "tfdetect.commands"


def main(*command: str) -> None:
    """Run a command and exit with its status.

    Args:
        command: the words that stand before those of the process, as the scripts train.py and
            predict.py have them.
    """
    run_command(lambda: dispatch([*command, *sys.argv[1:]]))


def dispatch(words: Sequence[str]) -> int | None:
    """Run the command that the first word names with the others.

    Raises:
        InputError: there is no such command.
    """
    commands = plugins(GROUP)
    if not words or words[0] in ("-h", "--help"):
        print(_help(commands))
        return 0 if words else 2
    name, *arguments = words
    if name == "--version":
        print(f"tfdetect {_version('tfdetect')}, TensorFlow {_version('tensorflow')}")
        return 0
    if name not in commands:
        near = difflib.get_close_matches(name, commands, n=1)
        meant = f"; {near[0]} is the nearest" if near else ""
        raise InputError(f"tfdetect {name}: there is no such command{meant} (tfdetect --help)")
    return commands[name].load()(arguments)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "that is not installed" if package == "tensorflow" else "of a checkout"


def _help(commands: Mapping[str, EntryPoint]) -> str:
    width = max(map(len, commands)) + 2
    lines = [f"  {name:<{width}}{_describe(point)}" for name, point in commands.items()]
    return "\n".join(
        [
            "usage: tfdetect COMMAND ...",
            "",
            "Detectron2's models in TensorFlow 2, with its exact numerics.",
            "",
            "commands:",
            *lines,
            "",
            "tfdetect COMMAND --help has the options of each; tfdetect --version.",
        ]
    )


def _describe(point: EntryPoint) -> str:
    """The first line of the module's docstring, read without importing what takes seconds."""
    try:
        spec = find_spec(point.module)
        tree = ast.parse(Path(spec.origin).read_bytes()) if spec and spec.origin else None
        text = ast.get_docstring(tree) if tree else None
    except (ImportError, OSError, SyntaxError, ValueError):
        text = None
    return (text or "").partition("\n")[0]
