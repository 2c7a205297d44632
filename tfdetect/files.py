"""Writing files and folders so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfdetect.errors import InputError
from tfdetect.interrupts import hold_interrupts

REPLACED = ".replaced"
# Of a file, in bytes: of Linux's and most other file systems.
_LONGEST_NAME = 255


class NewFile:
    """A file that is written piece by piece and that nobody sees before it is complete.

    The content goes to a temporary file in the same folder, which is renamed to `path` by
    `finish`; the folder is created if necessary. A symbolic link is followed, not replaced. At the
    end of a `with` block what is not finished is removed, and `path` holds what it held before.

    Args:
        path: the file.
        suffix: of the temporary file's name, for libraries that go by it.

    Attributes:
        temporary: the path of the temporary file, for libraries that write to a path.

    Raises:
        InputError: the folder or the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], suffix: str = ""):
        self._path = path
        with _naming(path):
            self._target = Path(os.path.realpath(path))
            if self._target.is_dir():
                raise IsADirectoryError("it is a folder")
            self._target.parent.mkdir(parents=True, exist_ok=True)
            # A name independent of the target's, so that a long name stays valid.
            self.temporary = self._target.parent / f".tmp-{secrets.token_hex(8)}{suffix}"
            self._file = open(self.temporary, "xb")  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, *_: object) -> None:
        # Closing writes what is left, which may fail; it is not wanted.
        with contextlib.suppress(OSError):
            self._file.close()
        self.temporary.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        """Add to the file.

        Raises:
            InputError: it cannot be written.
        """
        with _naming(self._path):
            self._file.write(content)

    def finish(self) -> None:
        """Give the file its name.

        Raises:
            InputError: it cannot be written.
        """
        with _naming(self._path):
            self._flush()
            if self._target.exists():
                shutil.copymode(self._target, self.temporary)
            os.replace(self.temporary, self._target)

    def finish_first(self) -> bool:
        """Give the file its name if nothing has it, also not by now; whether that was so.

        Raises:
            InputError: it cannot be written.
        """
        with _naming(self._path):
            self._flush()
            try:
                os.link(self.temporary, self._target)
            except FileExistsError:
                return False
        return True

    def _flush(self) -> None:
        # Before the rename, or a power cut could leave the new name with no content.
        self._file.flush()
        os.fsync(self._file.fileno())


def write_bytes_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file: after this `path` holds all of `content`, or what it held before (`NewFile`).

    Raises:
        InputError: the folder or the file cannot be written.
    """
    with NewFile(path) as file:
        file.write(content)
        file.finish()


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of the system become one that names the file."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be written ({reason}), choose another place") from error


@contextlib.contextmanager
def new_folder(target: Path, prefix: str = ".tmp-") -> Iterator[Path]:
    """A folder to write to that becomes `target` at the end; after an error nothing has changed.

    It is made within a temporary one beside `target`, whose folder is made where it is missing. An
    earlier folder `target` is replaced.

    Args:
        target: no symbolic link.
        prefix: of the temporary folder's name; a process that is killed leaves it behind, with the
            earlier folder in it as `REPLACED` if it was killed between the two renames.

    Raises:
        OSError: something cannot be made or renamed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with hold_interrupts():  # nothing is made that is not removed
            temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
            stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        made = temporary / target.name
        made.mkdir()  # with the permissions of any new folder, which the temporary one has not
        yield made
        with hold_interrupts():
            if target.exists():
                target.rename(temporary / REPLACED)
            made.rename(target)


def cache_directory() -> Path:
    """Where compiled operators and downloads are kept: $TFDETECT_CACHE, else ~/.cache/tfdetect."""
    return Path(os.environ.get("TFDETECT_CACHE") or os.path.expanduser("~/.cache/tfdetect"))


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Fail early, before hours of work, if a folder cannot be created or written. Creates nothing.

    Raises:
        InputError: `folder` is a file or cannot be written, or it cannot be made.
    """
    path = Path(folder).absolute()
    try:
        nearest = next(parent for parent in (path, *path.parents) if parent.exists())
        if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
            # What permissions say is not all: a file without a name is gone when it is closed.
            with tempfile.TemporaryFile(dir=nearest):
                return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{folder}: cannot be written ({reason}); choose another place") from error
    if not nearest.is_dir():
        raise InputError(f"{folder}: {nearest} is a file; choose another place")
    raise InputError(f"{folder}: {nearest} cannot be written; choose another place")


def check_writable_file(path: str | os.PathLike[str]) -> None:
    """`check_writable` for a file that is going to be written, or written over.

    Raises:
        InputError: it is a folder, or its folder cannot be written or made.
    """
    target = Path(os.path.realpath(path))
    try:
        is_folder = target.is_dir()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be written ({reason}); choose another place") from error
    if is_folder:
        raise InputError(f"{path}: is a folder; give the name of a file")
    if len(os.fsencode(target.name)) > _LONGEST_NAME:
        raise InputError(f"{path}: the name is too long; choose another")
    check_writable(target.parent)


def check_utf8(path: str | os.PathLike[str]) -> None:
    """Fail early if a name is not UTF-8, which TensorFlow requires for the files it writes.

    Raises:
        InputError: the name is not UTF-8.
    """
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path}: TensorFlow writes only to names in UTF-8; choose another place"
        ) from error


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """`write_bytes_atomically` of `text` in UTF-8."""
    write_bytes_atomically(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as JSON on one line, atomically; floats keep every digit.

    Raises:
        InputError: the folder or the file cannot be written.
        ValueError: a number is not finite, which JSON cannot say.
    """
    write_text_atomically(path, json.dumps(value, allow_nan=False) + "\n")
