"""Matches a model's classes with a data set's: by name, if both have names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from tfdetect.errors import InputError

_LISTED = 5


@dataclass(frozen=True)
class ClassMatch:
    """The data set's classes in the model's order.

    Attributes:
        indices: of each class of the model the index of the data set's, None where it has none.
        note: one line that says what was matched; None where position and name agree.
    """

    indices: tuple[int | None, ...]
    note: str | None = None


def match_classes(
    source: str, model: Sequence[str], data: Sequence[str], used: Collection[int]
) -> ClassMatch:
    """Match the classes of a model with those of a data set.

    By name if both sides have names: by exact text and then, for the remaining classes, ignoring
    case, spaces, hyphens and underscores. Names such as "class 3", a converted model's
    placeholders, do not count as names; then the classes are matched by position. Detectron2 always
    matches by position.

    Args:
        source: the annotations, for messages.
        model: the names of the model's classes; empty for any number without names.
        data: the names of the data set's classes, by position those of the model.
        used: indices of the classes in `data` that have annotations.

    Raises:
        InputError: annotations are of a class that the model does not have, no class is common to
            both, a name that should be matched comes twice, or there are no names and the numbers
            of classes differ.
    """
    if list(model) == list(data) or not model:
        return ClassMatch(tuple(range(len(data))))
    if not _has_names(model) or not _has_names(data):
        return _by_position(source, model, data)
    found = _by_name(model, data)
    matched = {index for index in found if index is not None}
    missing = [data[index] for index in sorted(set(used) - matched)]
    for name in missing:
        if _normal(name) in map(_normal, model):
            raise InputError(
                f"{source}: {name!r} names more than one class of the annotations or the model "
                f"({_listed(model)}): give each class a unique name"
            )
    if missing or not matched:
        lacking = _listed(missing or data)
        raise InputError(
            f"{source}: has the classes {lacking}, which the model does not have (it has "
            f"{_listed(model)}): give annotations with its classes or, if only the names differ, "
            "correct class_names in the model's metadata.json"
        )
    return ClassMatch(tuple(found), _note(source, model, data, found))


def reorder(model: Sequence[str], data: Sequence[str]) -> list[int] | None:
    """Which of a model's K classes each of a data set's K classes continues from in training.

    Args:
        model: the names of the model's classes.
        data: as many names, of the data set's classes.

    Returns:
        The model's class of each class in `data`: that of the same name, and for names that the
        model does not have, those that are left, in their order. None where that is the identity,
        or there are no names.
    """
    if len(model) != len(data) or not _has_names(model) or not _has_names(data):
        return None
    source: list[int | None] = [None] * len(data)
    for index, position in enumerate(_by_name(model, data)):
        if position is not None:
            source[position] = index
    left = iter(sorted(set(range(len(model))) - set(source)))
    order = [next(left) if index is None else index for index in source]
    return None if order == list(range(len(model))) else order


def distinct_names(names: Sequence[str], ids: Sequence[int]) -> list[str]:
    """`names`, where equal ones get their id: "cat (id 3)", so that tables have a row for each."""
    counts = Counter(names)
    return [
        name if counts[name] == 1 else f"{name} (id {index})"
        for name, index in zip(names, ids, strict=True)
    ]


def _has_names(names: Sequence[str]) -> bool:
    return any(name not in (f"class {index}", f"stuff {index}") for index, name in enumerate(names))


def _by_position(source: str, model: Sequence[str], data: Sequence[str]) -> ClassMatch:
    if len(model) != len(data):
        side = "the annotations" if _has_names(model) else "the model"
        raise InputError(
            f"{source}: has {len(data)} classes ({_listed(data)}) and the model {len(model)} "
            f"({_listed(model)}), and {side} has no names to match by: give the annotations "
            "that the model was trained on, or add their names to class_names in its "
            "metadata.json"
        )
    note = (
        f"{source}: classes are matched by position: {_listed(data)} are the model's classes "
        f"in order"
    )
    return ClassMatch(tuple(range(len(data))), note)


def _by_name(model: Sequence[str], data: Sequence[str]) -> list[int | None]:
    """Of each name in `model` the index in `data`, by exact text, then by `_normal`."""
    found: list[int | None] = [None] * len(model)
    keys: tuple[Callable[[str], str], ...] = (str, _normal)
    for key in keys:
        taken = set(found)
        rest = [index for index in range(len(data)) if index not in taken]
        names = [key(data[index]) for index in rest]
        counts = Counter(names) + Counter()
        open_model = Counter(key(name) for name, at in zip(model, found, strict=True) if at is None)
        for index, name in enumerate(model):
            name = key(name)
            if found[index] is None and counts[name] == 1 and open_model[name] == 1:
                found[index] = rest[names.index(name)]
    return found


def _normal(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _note(
    source: str, model: Sequence[str], data: Sequence[str], found: Sequence[int | None]
) -> str:
    matched = {index for index in found if index is not None}
    pairs = [
        f"{model[index]!r}"
        + (f" ({data[at]!r})" if model[index] != data[at] else "")
        + f" {index} -> {at}"
        for index, at in enumerate(found)
        if at is not None and (at != index or model[index] != data[at])
    ]
    parts = [f"{source}: classes are matched by name, {len(matched)} of the model's {len(model)}"]
    if pairs:
        parts.append("model -> annotations: " + _some(pairs))
    if len(matched) < len(model):
        rest = [name for name, at in zip(model, found, strict=True) if at is None]
        parts.append(f"detections of {_listed(rest)} are left out")
    if len(matched) < len(data):
        rest = [name for index, name in enumerate(data) if index not in matched]
        parts.append(f"{_listed(rest)} of the annotations has no objects")
    return "; ".join(parts)


def _listed(names: Sequence[str]) -> str:
    return _some([" ".join(name.split()) for name in names])


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return ", ".join(items[:_LISTED]) + more
