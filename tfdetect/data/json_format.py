"""Shared by the readers of JSON annotations: lenient conversion, and errors with a location.

Annotation tools write a number as text ("12"), an integer as a float (12.0), a name as a number. An
unambiguous value is converted; anything else is an error in one line that names the file, the entry
and the field.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tfdetect.errors import InputError

LARGEST_SIDE = 2**24
"""Of an image, in pixels. A "size" beyond is none, and products of two still fit 64 bits."""

LARGEST_COORDINATE = 1e9
"""In pixels; anything farther out is not in an image, and its square would overflow float32."""

_Checked = TypeVar("_Checked")

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)


def read_object(path: Path, form: str, *, compact: bool = False) -> dict[str, Any]:
    """The object that a JSON file holds, in UTF-8, UTF-16 or UTF-32, with or without a BOM.

    Args:
        path: the file.
        form: what it should be, for messages: "COCO".
        compact: numbers of polygons, lists in lists named "segmentation", become an
            `array.array` of float64 (which `as_numbers` takes) as they are read: a quarter of the
            memory, which is most of a large file's.

    Raises:
        InputError: the file cannot be read, is not JSON, or holds something else.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read ({reason}), check the name") from error
    try:
        text = content.decode(json.detect_encoding(content), "surrogatepass")
        del content  # as large as the text
        with _collector_paused():
            root = json.loads(text, object_hook=_compact if compact else None)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not JSON in UTF-8 (byte {error.start}), save the {form} file as UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path}: not JSON ({reason}), give a {form} annotation file") from error
    if not isinstance(root, dict):
        raise InputError(f"{path}: not in {form} format, expected an object with 'images'")
    return root


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Without the garbage collector, which goes through millions of new lists again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    polygons = entry.get("segmentation")
    if isinstance(polygons, list):
        for index, polygon in enumerate(polygons):
            if isinstance(polygon, list) and set(map(type, polygon)) <= {int, float}:
                # One with an integer beyond float64 stays a list.
                with contextlib.suppress(OverflowError):
                    polygons[index] = array("d", polygon)
    return entry


def entries(
    path: Path, root: Mapping[str, Any], key: str, form: str, may_be_empty: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each entry of the list `key`, with its name for messages.

    Raises:
        InputError: there is no such list, or it has an entry that is not an object.
    """
    for index, entry in enumerate(_list(path, root, key, form, may_be_empty)):
        yield f"{key}[{index}]", _object(path, entry, f"{key}[{index}]")


def check_each(
    path: Path,
    root: Mapping[str, Any],
    key: str,
    form: str,
    check: Callable[[str, dict[str, Any]], _Checked],
    report: Callable[[InputError], None] | None,
    may_be_empty: bool = False,
) -> list[_Checked]:
    """What `check(where, entry)` returns of each entry of the list `key`.

    Args:
        path: the file, for messages.
        root: what it holds.
        key: of the list.
        form: what the file should be, for messages.
        check: raises an `InputError` if an entry is broken.
        report: gets that error, and the entry is left out; None raises it.
        may_be_empty: whether the list may be.

    Raises:
        InputError: there is no such list, or without `report` an entry is broken.
    """
    checked = []
    for index, entry in enumerate(_list(path, root, key, form, may_be_empty)):
        where = f"{key}[{index}]"
        try:
            checked.append(check(where, _object(path, entry, where)))
        except InputError as error:
            if report is None:
                raise
            report(error)
    return checked


def _list(
    path: Path, root: Mapping[str, Any], key: str, form: str, may_be_empty: bool
) -> list[Any]:
    found = root.get(key)
    if not isinstance(found, list) or not (found or may_be_empty):
        raise InputError(f"{path}: not in {form} format, '{key}' must be a list with entries")
    return found


def _object(path: Path, entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise InputError(f"{path}: {where} is not an object, correct the file")
    return entry


def as_integer(value: Any) -> int | None:
    """12 for 12, 12.0 and "12"; None for anything that is not an integer or does not fit 64
    bits."""
    if isinstance(value, str):
        text = value.strip()
        return int(text.partition(".")[0]) if _INTEGER.fullmatch(text) else None
    if isinstance(value, float):
        # Beyond 2^53 a float stands for several integers.
        return int(value) if value.is_integer() and abs(value) <= 2**53 else None
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    return None


def as_number(value: Any) -> float | None:
    """A finite number, which may be given as text; None for anything else."""
    if isinstance(value, str):
        text = value.strip()
        value = float(text) if _NUMBER.fullmatch(text) else None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    # An int beyond float's range cannot be converted.
    return value if abs(value) <= 1e300 and math.isfinite(value) else None


def as_numbers(value: Any) -> list[float] | None:
    """A list of numbers, which may be given as text; None for anything else.

    A list that needs no conversion is returned itself. The array that `read_object` makes of a list
    counts as one.
    """
    if isinstance(value, array):
        value = value.tolist()
    if not isinstance(value, list):
        return None
    if not set(map(type, value)) <= {int, float}:
        converted = [as_number(item) for item in value]
        if None in converted:
            return None
        value = converted
    # NaN fails the comparison. Without a loop in Python: large files have tens of millions.
    return value if all(map(LARGEST_COORDINATE.__ge__, map(abs, value))) else None


def as_text(value: Any) -> str | None:
    """Text, or a number as text; None for anything else, including lone surrogates."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value) if as_number(value) is not None else None
    if not isinstance(value, str):
        return None
    try:
        # JSON's "\ud800" is a lone surrogate, which can be neither printed nor written.
        value.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return value


_KINDS: dict[type, tuple[Callable[[Any], Any], str]] = {
    int: (as_integer, "an integer"),
    float: (as_number, "a number"),
    str: (as_text, "a string"),
}


def get(path: Path, entry: Mapping[str, Any], where: str, key: str, kind: type) -> Any:
    """`entry[key]` as `kind` says: int, float or str, converted where its meaning is certain.

    Raises:
        InputError: it is missing or of another kind.
    """
    convert, name = _KINDS[kind]
    value = convert(entry.get(key))
    if value is None:
        raise InputError(f"{path}: {where}.{key} {given(entry, key)}, must be {name}; correct it")
    return value


def get_side(path: Path, entry: Mapping[str, Any], where: str, key: str) -> int:
    """`entry[key]`, the height or width of an image in pixels.

    Raises:
        InputError: it is missing, or no such number.
    """
    value = as_integer(entry.get(key))
    if value is None or not 0 < value <= LARGEST_SIDE:
        raise InputError(
            f"{path}: {where}.{key} {given(entry, key)}, must be the image's {key} in pixels;"
            " correct it"
        )
    return value


def get_file_name(path: Path, entry: Mapping[str, Any], where: str) -> str:
    """`entry["file_name"]`, unchanged.

    Raises:
        InputError: it is missing, no text, or can name no file.
    """
    name = entry.get("file_name")
    if not isinstance(name, str) or not name.strip() or "\0" in name or as_text(name) is None:
        raise InputError(
            f"{path}: {where}.file_name {given(entry, 'file_name')}, must name a file; correct it"
        )
    return name


def get_flag(
    path: Path, entry: Mapping[str, Any], where: str, key: str, missing: int | None = None
) -> bool:
    """Whether `entry[key]`, 0 or 1, is 1. `missing` stands for one that is not there.

    null is an error: Detectron2 takes an `iscrowd` of null for a crowd in training, and stops at it
    in evaluation.

    Raises:
        InputError: it is something else.
    """
    value = entry.get(key, missing)
    # true and false are unambiguous here.
    value = int(value) if isinstance(value, bool) else as_integer(value)
    if value not in (0, 1):
        raise InputError(f"{path}: {where}.{key} {given(entry, key)}, must be 0 or 1; correct it")
    return value == 1


def given(entry: Mapping[str, Any], key: str) -> str:
    """The state of an entry's field, for messages: "is missing", "is null", "is 'twelve'"."""
    return f"is {show(entry[key])}" if key in entry else "is missing"


def show(value: Any) -> str:
    """A value on one short line, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, dict)):
        if not value:
            return f"an empty {'list' if isinstance(value, list) else 'object'}"
        return f"a list of {len(value)}" if isinstance(value, list) else "an object"
    try:
        text = ascii(value)
    except ValueError:  # an integer of thousands of digits
        return "an integer of thousands of digits"
    return text if len(text) <= 40 else f"{text[:37]}..."


def check_unique(path: Path, key: str, ids: Iterable[int | str]) -> None:
    """Raise an `InputError` if one of the ids of the list `key` comes twice."""
    seen: set[int | str] = set()
    for value in ids:
        if value in seen:
            raise InputError(f"{path}: {key} has id {show(value)} twice, make the ids unique")
        seen.add(value)
