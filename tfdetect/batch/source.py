"""The images of a batch run, in an order that is the same for all of its processes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfdetect.batch.parquet import open_parquet, require_pyarrow
from tfdetect.data.images import (
    IMAGE_SUFFIXES,
    decode_image,
    describe_passed_over,
    find_images,
    read_image,
)
from tfdetect.errors import InputError

LIST_SUFFIXES = frozenset((".txt", ".lst", ".list"))
PARQUET_SUFFIXES = frozenset((".parquet", ".pq"))

BYTES_COLUMNS = ("bytes", "image")
"""Columns with files' contents: binary, or Hugging Face's struct of `bytes` and `path`."""
PATH_COLUMNS = ("path", "file_name")
"""Columns with paths."""

_LOOKED_FOR = 100
# Rows of a Parquet file that are in memory together.
_ROWS = 16


@dataclass(frozen=True)
class GivenImage:
    """An image that has not been read.

    Attributes:
        name: what results call it.
        path: its file; None where `content` has it.
        content: of its file.
        error: why there is neither.
    """

    name: str
    path: str | None = None
    content: bytes | None = None
    error: str = ""

    def read(self) -> np.ndarray:
        """The pixels, uint8 [height, width, 3] BGR.

        Raises:
            InputError: as of `read_image`.
        """
        if self.content is not None:
            return decode_image(self.content, self.name)
        if self.path is None:
            raise InputError(self.error)
        return read_image(self.path)


@dataclass(frozen=True)
class Files:
    """Paths of images."""

    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, start: int, stop: int) -> Files:
        return Files(self.paths[start:stop])

    def images(self, folder: str) -> Iterator[GivenImage]:
        for path in self.paths:
            yield GivenImage(printable(path), os.path.join(folder, path))

    def identify(self) -> Iterator[bytes]:
        for path in self.paths:
            yield os.fsencode(path) + b"\0"


@dataclass(frozen=True)
class Rows:
    """Rows `start` to `stop` of a Parquet file."""

    path: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def part(self, start: int, stop: int) -> Rows:
        return Rows(self.path, self.start + start, min(self.start + stop, self.stop))

    def images(self, folder: str) -> Iterator[GivenImage]:
        done = self.start
        try:
            with open_parquet(os.path.join(folder, self.path)) as file:
                if file.metadata.num_rows < self.stop:
                    raise InputError(f"{self.path}: has fewer rows than when the run started")
                for row in _rows(file, self.start, self.stop):
                    yield _given(row, f"{printable(self.path)}[{done}]", folder)
                    done += 1
        except InputError as error:
            for index in range(done, self.stop):
                yield GivenImage(f"{printable(self.path)}[{index}]", error=str(error))

    def identify(self) -> Iterator[bytes]:
        yield os.fsencode(self.path) + f"\0{self.start}:{self.stop}\0".encode()


@dataclass(frozen=True)
class Block:
    """Images `start` to `stop` of a run.

    Attributes:
        start: index of the first.
        stop: index after the last.
        pieces: where they are.
        folder: what relative paths are relative to.
    """

    start: int
    stop: int
    pieces: Sequence[Files | Rows]
    folder: str

    def images(self) -> Iterator[GivenImage]:
        """Each of them, in order, none of them read."""
        for piece in self.pieces:
            yield from piece.images(self.folder)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for other processes."""
        pieces = [
            {"paths": list(piece.paths)} if isinstance(piece, Files) else dataclasses.asdict(piece)
            for piece in self.pieces
        ]
        return {"start": self.start, "stop": self.stop, "pieces": pieces, "folder": self.folder}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Block:
        """What `to_dict` made plain."""
        pieces = [
            Files(piece["paths"]) if "paths" in piece else Rows(**piece)
            for piece in values["pieces"]
        ]
        return Block(values["start"], values["stop"], pieces, values["folder"])


class ImageSource:
    """The images that the inputs of a batch run stand for.

    Args:
        inputs: images, folders of images or of Parquet files, globs, lists (a path in each line)
            and Parquet files; relative paths, also those in lists and Parquet files, are relative
            to the current folder.

    Attributes:
        total: how many images there are.
        digest: SHA-256 of their names, in hexadecimal.

    Raises:
        InputError: an input names nothing or cannot be read, or no image is where it should be.
    """

    def __init__(self, inputs: Sequence[str]):
        self._folder = os.getcwd()
        self._pieces = list(_pieces(inputs))
        self._starts = np.cumsum([0, *map(len, self._pieces)]).tolist()
        self.total: int = self._starts[-1]
        if not self.total:
            raise InputError(f"{' '.join(inputs)}: there are no images in it; give others")
        digest = hashlib.sha256()
        for piece in self._pieces:
            for identity in piece.identify():
                digest.update(identity)
        self.digest = digest.hexdigest()
        self._look_for_first()

    def block(self, start: int, stop: int) -> Block:
        """Images `start` to `stop`."""
        pieces = []
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        for piece, begin in zip(self._pieces[first:], self._starts[first:], strict=False):
            if begin >= stop:
                break
            part = piece.part(max(start - begin, 0), min(stop - begin, len(piece)))
            if len(part):
                pieces.append(part)
        return Block(start, stop, pieces, self._folder)

    def _look_for_first(self) -> None:
        """A wrong folder is said now, and not in the error column of every image."""
        for piece in self._pieces:
            if isinstance(piece, Files):
                first = piece.paths[:_LOOKED_FOR]
                if first and not any(os.path.exists(path) for path in first):
                    raise InputError(
                        f"{printable(first[0])}: not found, and none of the first {len(first)} "
                        f"images of its list is; relative paths are relative to {self._folder}"
                    )


def printable(name: str) -> str:
    """A file's name as text that every format takes: bytes that are not UTF-8 become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _pieces(inputs: Sequence[str]) -> Iterator[Files | Rows]:
    suffixes = IMAGE_SUFFIXES | PARQUET_SUFFIXES
    passed_over: list[Path] = []
    images: list[str] = []
    for path in find_images(list(inputs), passed_over, suffixes):
        kind = path.suffix.lower()
        if kind not in LIST_SUFFIXES | PARQUET_SUFFIXES:
            images.append(str(path))
            continue
        if images:
            yield Files(images)
            images = []
        yield Files(_read_list(path)) if kind in LIST_SUFFIXES else _read_parquet(path)
    if images:
        yield Files(images)
    if passed_over:
        print(f"note: skipped {describe_passed_over(passed_over)}", file=sys.stderr)


def _read_list(path: Path) -> list[str]:
    try:
        if not path.is_file():
            raise InputError(f"{path}: not a regular file, give a list of images")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), check the name") from error
    names = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        name = line.removesuffix(b"\r")
        if not name.strip():
            continue
        if b"\0" in name:
            raise InputError(
                f"{path}, line {number}: not text; give a list with a path in each line"
            )
        if b"://" in name[:16]:
            raise InputError(
                f"{path}, line {number}: {printable(os.fsdecode(name))} is a URL; give paths of "
                "files"
            )
        names.append(os.fsdecode(name))
    if not names:
        raise InputError(f"{path}: the list is empty; give one with a path in each line")
    return names


def _read_parquet(path: Path) -> Rows:
    require_pyarrow()
    with open_parquet(path) as file:
        if not _columns(file.schema_arrow):
            raise InputError(
                f"{path}: has the columns {', '.join(file.schema_arrow.names)}; images are in "
                f"{' or '.join(BYTES_COLUMNS)} (binary), their paths in {' or '.join(PATH_COLUMNS)}"
            )
        return Rows(str(path), 0, file.metadata.num_rows)


def _columns(schema: Any) -> dict[str, str]:
    """What is read: name of the column by "bytes", "path" and "struct"."""
    from pyarrow import types

    found: dict[str, str] = {}
    for name in schema.names:
        kind = schema.field(name).type
        if name in BYTES_COLUMNS and (types.is_binary(kind) or types.is_large_binary(kind)):
            found.setdefault("bytes", name)
        elif name in BYTES_COLUMNS and types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            found.setdefault("struct", name)
        elif name in PATH_COLUMNS and (types.is_string(kind) or types.is_large_string(kind)):
            found.setdefault("path", name)
    return found


def _rows(file: Any, start: int, stop: int) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, with what `_columns` finds; other row groups are not read."""
    columns = _columns(file.schema_arrow)
    counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    starts = np.cumsum([0, *counts]).tolist()
    groups = [
        i for i in range(len(counts)) if starts[i] < stop and starts[i + 1] > start and counts[i]
    ]
    position = starts[groups[0]] if groups else stop
    for batch in file.iter_batches(_ROWS, row_groups=groups, columns=list(columns.values())):
        first, last = max(start - position, 0), min(stop - position, len(batch))
        position += len(batch)
        if first < last:
            for row in batch.slice(first, last - first).to_pylist():
                yield {key: row[name] for key, name in columns.items()}
        if position >= stop:
            return


def _given(row: dict[str, Any], name: str, folder: str) -> GivenImage:
    struct = row.get("struct") or {}
    content = row.get("bytes") if row.get("bytes") is not None else struct.get("bytes")
    path = row.get("path") or struct.get("path")
    if content is not None:
        return GivenImage(path or name, content=content)
    if path and "\0" not in path:
        return GivenImage(path, os.path.join(folder, path))
    return GivenImage(name, error=f"{name}: has no image and no path")
