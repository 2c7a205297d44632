"""Reads annotations in YOLO's format: a text file for each image, and names in a YAML file.

A line is `class x_center y_center width height`, in parts of the image's size, or `class x1 y1 x2
y2 ...`, the outline of a mask. supervision's reader, which the tests compare with, makes a bitmap
of every outline as it reads, with corners rounded to whole pixels; here they stay outlines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tfdetect.data.json_format import as_integer, as_number, as_text, show
from tfdetect.data.other_formats.content import (
    Content,
    around,
    check_names,
    image_size,
    images_below,
    read_text,
)
from tfdetect.errors import InputError

_YAML_SUFFIXES = (".yaml", ".yml")
_YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
_LIST_NAMES = ("classes.txt", "obj.names", "labels.txt", "notes.txt", "readme.txt", "train.txt")
# Of parts of the image's size: what tools round up, and a little more (Ultralytics has the same).
_LARGEST_PART = 1.01
_MOST_CLASSES = 100_000
_BOX, _BOX_AND_SCORE = 5, 6


def is_yolo(path: Path) -> bool:
    """Whether this is a data.yaml, or a folder of labels: the first line that there is tells."""
    if path.suffix.lower() in _YAML_SUFFIXES:
        return path.is_file()
    if not path.is_dir():
        return False
    files = _label_files(path)
    for file in files:
        try:
            lines = read_text(file).splitlines()
        except InputError:
            continue
        words = next((line.split() for line in lines if line.strip()), None)
        if words is not None:
            numbers = [as_number(word) for word in words]
            return len(words) >= _BOX and None not in numbers and as_integer(words[0]) is not None
    return bool(files)


def read_yolo(path: Path, images_dir: Path) -> Content:
    """Read the labels of all images in a folder.

    An image without a file of labels has no objects. Lines of keypoints (`kpt_shape` in the YAML
    file) have `kpt_shape[0]` keypoints of `kpt_shape[1]` numbers behind the box.

    Args:
        path: data.yaml, whose labels are found as Ultralytics does it: in `labels` in place of the
            last `images` of `images_dir`, or beside the images; or the folder of labels, whose
            names are those of a data.yaml or classes.txt in it or one of the two folders above.
        images_dir: the folder of the images, with folders in it or without.

    Raises:
        InputError: the names cannot be read, or there are no images. Broken lines are in `errors`.
    """
    description = path if path.is_file() else _find_description(path)
    data: dict[str, Any] = {}
    if description is not None and description.suffix.lower() in _YAML_SUFFIXES:
        data = _read_yaml(description)
    names = _class_names(description, data)
    keypoints = _Keypoints(description, data) if "kpt_shape" in data else None
    labels_dir = labels_of(images_dir) if path.is_file() else path
    content = Content(keypoint_names=keypoints.names if keypoints else [])
    images = images_below(images_dir)
    if not images:
        raise InputError(f"{images_dir}: has no images, give the folder of the images")
    used = set()
    highest = -1
    for image in images:
        relative = image.relative_to(images_dir)
        file = labels_dir / relative.with_suffix(".txt")
        try:
            if file in used and file.is_file():
                raise InputError(f"{file}: belongs to two images, such as {image}; rename one")
            used.add(file)
            height, width = image_size(labels_dir, image)
            lines = read_text(file).splitlines() if file.is_file() else []
        except InputError as error:
            content.errors.append(error)
            continue
        image_id = content.add_image(relative.as_posix(), height, width)
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                highest = max(highest, _read_line(content, line, image_id, names, keypoints))
            except InputError as error:
                content.errors.append(InputError(f"{file}: line {number}: {error}"))
    content.errors += [
        InputError(f"{file}: has no image in {images_dir}, add it or remove the file")
        for file in _label_files(labels_dir)
        if file not in used
    ]
    if names is None:
        names = [f"class {index}" for index in range(highest + 1)]
    content.class_names = names
    return content


def labels_of(images_dir: Path) -> Path:
    """Where Ultralytics looks for the labels of a folder of images."""
    return _beside(images_dir, "images", "labels") or images_dir


def images_of_yolo(path: Path) -> Path | None:
    """The folder of the images where it is known: a data.yaml's `val`, or `images` for `labels`."""
    if path.is_file():
        data = _read_yaml(path)
        root = path.parent / (as_text(data.get("path")) or ".")
        split = data.get("val")
        folder = root / split if isinstance(split, str) else None
        if folder is not None and not folder.is_dir():
            folder = path.parent / str(split)
        return folder if folder is not None and folder.is_dir() else None
    folder = _beside(path, "labels", "images")
    if folder is not None:
        return folder
    return path if images_below(path) else None


def _beside(folder: Path, name: str, other: str) -> Path | None:
    """The folder with `other` in place of the last `name` of a path, if there is one."""
    parts = folder.absolute().parts
    if name not in parts:
        return None
    last = len(parts) - 1 - parts[::-1].index(name)
    found = Path(*parts[:last], other, *parts[last + 1 :])
    return found if found.is_dir() else None


def yolo_files(path: Path, images_dir: Path) -> list[Path]:
    """The files that say something of the objects."""
    description = path if path.is_file() else _find_description(path)
    labels = labels_of(images_dir) if path.is_file() else path
    return [*([description] if description else []), *_label_files(labels)]


def _label_files(folder: Path) -> list[Path]:
    found = folder.rglob("*.txt") if folder.is_dir() else ()
    return sorted(p for p in found if p.name.lower() not in _LIST_NAMES and p.is_file())


def _find_description(folder: Path) -> Path | None:
    folder = folder.absolute()
    for place in (folder, folder.parent, folder.parent.parent):
        for name in (*_YAML_NAMES, *_LIST_NAMES[:2]):
            if (place / name).is_file():
                return place / name
    return None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path}: not YAML ({reason}), give a data.yaml with 'names'") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: has no 'names', give a data.yaml of YOLO")
    return data


def _class_names(path: Path | None, data: dict[str, Any]) -> list[str] | None:
    """None where nothing says them."""
    if path is None:
        return None
    if path.suffix.lower() not in _YAML_SUFFIXES:
        names = [line.strip() for line in read_text(path).splitlines()]
        return check_names(path, [name for name in names if name])
    found = data.get("names")
    if isinstance(found, dict):
        pairs = {as_integer(key): value for key, value in found.items()}
        if sorted(key for key in pairs if key is not None) != list(range(len(found))):
            raise InputError(
                f"{path}: 'names' must have a name of each of 0, 1, 2, ...; correct it"
            )
        found = [pairs[index] for index in range(len(found))]
    if not isinstance(found, list) or len(found) > _MOST_CLASSES:
        raise InputError(f"{path}: 'names' must be a list of the classes; correct it")
    texts = [as_text(name) for name in found]
    if None in texts:
        bad = found[texts.index(None)]
        raise InputError(f"{path}: 'names' has {show(bad)}, must be text; correct it")
    return check_names(path, [str(text) for text in texts])


class _Keypoints:
    """How many keypoints a line has, and of how many numbers."""

    def __init__(self, path: Path | None, data: dict[str, Any]):
        shape = data["kpt_shape"]
        counts = [as_integer(value) for value in shape] if isinstance(shape, list) else []
        if len(counts) != 2 or not counts[0] or counts[0] < 1 or counts[1] not in (2, 3):
            raise InputError(
                f"{path}: 'kpt_shape' must be the number of keypoints and 2 or 3; correct it"
            )
        self.count, self.numbers = counts[0], counts[1] or 0
        flips = data.get("flip_idx", [])
        flips = [as_integer(value) for value in flips] if isinstance(flips, list) else [None]
        if flips and sorted(-1 if f is None else f for f in flips) != list(range(self.count)):
            raise InputError(f"{path}: 'flip_idx' must be an order of the keypoints; correct it")
        # A mirror image exchanges what is called left and right.
        self.names = [f"keypoint_{index}" for index in range(self.count)]
        for index, other in enumerate(flips):
            if other is not None and index < other:
                self.names[index], self.names[other] = f"left_{index}", f"right_{index}"


def _read_line(
    content: Content,
    line: str,
    image_id: int,
    names: list[str] | None,
    keypoints: _Keypoints | None,
) -> int:
    """Add the object of a line; gives its class.

    Raises:
        InputError: the line is broken.
    """
    words = line.split()
    numbers = [as_number(word) for word in words]
    values = [float(number) for number in numbers if number is not None]
    if len(values) < len(numbers):
        bad = words[numbers.index(None)]
        raise InputError(f"{show(bad)} is not a number; correct it")
    class_index = as_integer(values[0])
    limit = _MOST_CLASSES if names is None else len(names)
    if class_index is None or not 0 <= class_index < limit:
        known = "" if names is None else f" (there are {limit} names)"
        raise InputError(f"class {show(words[0])} is not one of 0, 1, 2, ...{known}; correct it")
    values = values[1:]
    image = content.images[image_id - 1]
    size = image["width"], image["height"]
    points = None
    if keypoints is not None and len(values) == 4 + keypoints.count * keypoints.numbers:
        points = _points(values[4:], keypoints, size)
        values = values[:4]
    if len(values) + 1 < _BOX:
        raise InputError(f"has {len(words)} numbers, must be class x y width height; correct it")
    if len(values) + 1 <= _BOX_AND_SCORE:  # behind the box may be a score
        x, y, width, height = _parts(values[:4])
        if min(width, height) < 0:
            raise InputError("width or height is negative; correct it")
        box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        pixels = [part * size[index % 2] for index, part in enumerate(box)]
        content.add_object(image_id, class_index, pixels, keypoints=points)
        return class_index
    # Of an odd number the last is a score.
    parts = _parts(values[: len(values) // 2 * 2])
    polygon = [part * size[index % 2] for index, part in enumerate(parts)]
    content.add_object(image_id, class_index, around([polygon]), [polygon], keypoints=points)
    return class_index


def _parts(values: list[float]) -> list[float]:
    bad = next((v for v in values if not 1 - _LARGEST_PART <= v <= _LARGEST_PART), None)
    if bad is not None:
        raise InputError(f"{bad:g} is not a part of the image's size (0 to 1); correct it")
    return values


def _points(values: list[float], keypoints: _Keypoints, size: tuple[int, int]) -> list[float]:
    """x, y in pixels and visibility of each, flat; a point of two numbers at 0, 0 is not there."""
    found: list[float] = []
    for first in range(0, len(values), keypoints.numbers):
        x, y, *visibility = values[first : first + keypoints.numbers]
        visible = visibility[0] if visibility else 2 * (x > 0 or y > 0)
        if visible not in (0, 1, 2):
            raise InputError(
                f"a keypoint's visibility is {visible:g}, must be 0, 1 or 2; correct it"
            )
        _parts([x, y] if visible else [])
        found += [x * size[0], y * size[1], int(visible)] if visible else [0, 0, 0]
    return found
