"""--import: modules of the user's, which register what a configuration may name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from argparse import ArgumentParser, _ArgumentGroup
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from tfdetect.cli.quiet import import_tensorflow
from tfdetect.errors import InputError

_PREFIX = "tfdetect_user_"


def add_import_option(parser: ArgumentParser | _ArgumentGroup) -> None:
    """Give a command the option --import, for `import_user_modules(args.imports)`."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a Python file, or a module, that is run first: it registers parts of models, "
        "augmentations, data sets or hooks (docs/extending.md); may be repeated",
    )


def import_user_modules(names: Sequence[str]) -> None:
    """Run what --import names, before the configuration is read: it may add keys.

    Raises:
        InputError: see `import_user_module`.
    """
    if names:
        import_tensorflow()  # most of them do
    for name in names:
        import_user_module(name)


def import_user_module(name: str) -> ModuleType:
    """Run a Python file, or import a module.

    A module is looked for in the current folder too, and what a file imports in the file's.

    Args:
        name: the path of a file, ending in .py, or a dotted name.

    Raises:
        InputError: there is no such file or module, or running it raises something; the message
            names the file and the line.
    """
    path = Path(name)
    if path.suffix == ".py" or len(path.parts) > 1:
        return _run_file(path)
    _look_in(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise InputError(
                f"--import {name}: there is no module {error.name}; correct the name, or give the "
                "path of a file"
            ) from error
        raise _failed(name, error) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"--import {path}: there is no such file; correct the path")
    # A name of its own: the file may be called as a module that others import.
    name = _PREFIX + path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"--import {path}: is no Python file; give one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    _look_in(path.resolve().parent)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failed(str(path), error) from error
    return module


def _look_in(folder: Path) -> None:
    """Have modules looked for in a folder, after everything that is installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _failed(name: str, error: BaseException) -> InputError:
    """Names the deepest line that is not a library's: of the file, or of what it imports."""
    reason = " ".join(str(error).split())
    if isinstance(error, SyntaxError) and error.filename:
        return InputError(
            f"--import {name}: {error.filename}, line {error.lineno}: {error.msg}; correct it"
        )
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and not _is_library(frame.filename)
    ]
    where = f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""
    return InputError(f"--import {name}: {where}{type(error).__name__}: {reason}; correct it")


def _is_library(filename: str) -> bool:
    path = Path(filename).resolve()
    own = Path(__file__).resolve().parents[1]
    return "site-packages" in path.parts or own in path.parents or _is_standard(path)


def _is_standard(path: Path) -> bool:
    return Path(importlib.__file__).resolve().parents[1] in path.parents
