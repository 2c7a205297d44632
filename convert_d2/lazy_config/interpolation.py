"""Resolves OmegaConf's interpolations: `${a.b}` from the root, `${.x}` and `${..x}` relative."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from convert_d2.lazy_config.inert import NAME, PARTIAL, SHAPE_SPEC, TUPLE, Tagged
from tfdetect.errors import InputError

SHAPE_SPEC_NAME = "detectron2.layers.shape_spec.ShapeSpec"
_MAX_VALUES = 20_000
_MAX_TEXT = 10_000
_MAX_DEPTH = 200
# With the backslash before it the text itself is meant.
_INTERPOLATION = re.compile(r"\\?\$\{([^{}]*)\}")
_REFERENCE = re.compile(r"(\.*)([A-Za-z0-9_\-/.\[\]]+)")
_PART = re.compile(r"[^.\[\]]+|\[-?\d+\]")


@dataclass(frozen=True)
class Name:
    """A class or a function by its name; it is looked up in a table and never imported."""

    name: str


@dataclass(frozen=True)
class Partial:
    """A `functools.partial` of a named function, which is never called."""

    function: str
    args: list[Any]
    keywords: dict[Any, Any]


def resolve(root: dict[Any, Any], source: str) -> dict[Any, Any]:
    """Replace interpolations by what they refer to, and `Tagged` values by what they mean.

    Args:
        root: of `parse`.
        source: what messages call the file.

    Returns:
        Dictionaries, lists, scalars, `Name` and `Partial`. A ShapeSpec is a mapping with a
        `_target_`, as a call of it is. Values that several places refer to are shared.

    Raises:
        InputError: an interpolation refers to nothing, or to itself, or calls a resolver.
    """
    resolved: dict[Any, Any] = _Resolver(root, source).value(())
    return resolved


def path_text(path: tuple[Any, ...]) -> str:
    """Such as "model.roi_heads.box_heads[0]"."""
    parts = (f"[{part}]" if isinstance(part, _Index) else f".{part}" for part in path)
    return " ".join("".join(parts).removeprefix(".").split())[:200]


class _Index(int):
    """An index of a list, as a part of a path; other integers are keys of a mapping."""


class _Resolver:
    def __init__(self, root: dict[Any, Any], source: str):
        self._root = root
        self._source = source
        # Path -> (value, how many values it consists of); None while it is being resolved.
        self._done: dict[tuple[Any, ...], tuple[Any, int] | None] = {}
        self._depth = 0

    def value(self, path: tuple[Any, ...]) -> Any:
        return self._resolve(path)[0]

    def _resolve(self, path: tuple[Any, ...]) -> tuple[Any, int]:
        if path in self._done:
            known = self._done[path]
            if known is None:
                raise self._error(
                    path, "an interpolation here refers back to itself; write a value"
                )
            return known
        self._done[path] = None
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error(path, "interpolations refer to each other too often; write a value")
        value, weight = self._of(path, self._raw(path))
        if weight > _MAX_VALUES:
            raise self._error(path, f"is more than {_MAX_VALUES} values; write fewer")
        self._depth -= 1
        self._done[path] = value, weight
        return value, weight

    def _of(self, path: tuple[Any, ...], raw: Any) -> tuple[Any, int]:
        if isinstance(raw, Tagged):
            if raw.tag != TUPLE:
                return _meaning(raw, lambda text: self._error(path, text)), 1
            raw = raw.value
        if isinstance(raw, str):
            return self._text(path, raw)
        children: list[tuple[Any, int]]
        if isinstance(raw, dict):
            children = [self._resolve((*path, key)) for key in raw]
            value: Any = {key: child for key, (child, _) in zip(raw, children, strict=True)}
        elif isinstance(raw, list):
            children = [self._resolve((*path, _Index(index))) for index in range(len(raw))]
            value = [child for child, _ in children]
        else:
            return raw, 1
        return value, 1 + sum(weight for _, weight in children)

    def _text(self, path: tuple[Any, ...], text: str) -> tuple[Any, int]:
        whole = _INTERPOLATION.fullmatch(text)
        if whole and not text.startswith("\\"):
            return self._resolve(self._referred(path, whole[1]))
        if "${" not in text:
            return text, 1
        if "${" in _INTERPOLATION.sub("", text):
            raise self._error(
                path, "an interpolation that is not closed, or within another; write the value"
            )
        parts, end = [], 0
        for match in _INTERPOLATION.finditer(text):
            parts.append(text[end : match.start()])
            end = match.end()
            if match[0].startswith("\\"):
                parts.append(match[0][1:])
                continue
            value, _ = self._resolve(self._referred(path, match[1]))
            if isinstance(value, (dict, list, Name, Partial)):
                raise self._error(path, f"${{{match[1]}}} within a text is not a text or number")
            parts.append(str(value))
        parts.append(text[end:])
        joined = "".join(parts)
        if len(joined) > _MAX_TEXT:
            raise self._error(path, f"its interpolations make more than {_MAX_TEXT} characters")
        return joined, 1

    def _referred(self, path: tuple[Any, ...], reference: str) -> tuple[Any, ...]:
        """The path that `${reference}` in the value at `path` refers to."""
        shown = f"${{{reference[:100]}}}"
        if ":" in reference:
            raise self._error(path, f"{shown} calls a resolver, which is not run; write the value")
        match = _REFERENCE.fullmatch(reference.strip())
        if not match:
            raise self._error(path, f"{shown} is not an interpolation; correct it")
        dots, names = match.groups()
        if len(dots) > len(path):
            raise self._error(path, f"{shown} leads out of the file; correct it")
        found = path[: len(path) - len(dots)] if dots else ()
        for part in _PART.findall(names):
            found = (*found, self._step(found, part.strip("[]"), path, shown))
        return found

    def _step(self, at: tuple[Any, ...], part: str, path: tuple[Any, ...], shown: str) -> Any:
        container = self._container(at)
        if isinstance(container, list):
            if re.fullmatch(r"-?\d{1,9}", part) and -len(container) <= int(part) < len(container):
                return _Index(int(part) % len(container))
        elif isinstance(container, dict):
            if part in container:
                return part
            for key in container:
                if str(key) == part:
                    return key
        where = path_text(at)
        raise self._error(
            path, f"{shown}: there is no {part[:100]}{' in ' + where if where else ''}; correct it"
        )

    def _container(self, path: tuple[Any, ...]) -> Any:
        """What is written at a path, seen through an interpolation in its place."""
        raw = self._raw(path)
        if isinstance(raw, str):
            raw = self._resolve(path)[0]
        return raw.value if isinstance(raw, Tagged) and raw.tag == TUPLE else raw

    def _raw(self, path: tuple[Any, ...]) -> Any:
        raw: Any = self._root
        for count, part in enumerate(path):
            if isinstance(raw, str):
                raw = self._resolve(path[:count])[0]
            if isinstance(raw, Tagged):
                raw = raw.value
            raw = raw[part]
        return raw

    def _error(self, path: tuple[Any, ...], text: str) -> InputError:
        return InputError(f"{self._source}: {path_text(path) or 'the file'}: {text}")


def _meaning(tagged: Tagged, error: Any) -> Any:
    """A tagged value as OmegaConf keeps it: an object, within which nothing is interpolated."""
    if tagged.tag.startswith(NAME):
        return Name(tagged.tag.removeprefix(NAME))
    if tagged.tag == SHAPE_SPEC:
        return {"_target_": SHAPE_SPEC_NAME} | {
            key: _plain(value, error) for key, value in tagged.value.items()
        }
    if tagged.tag == PARTIAL:
        state = tagged.value.get("state")
        parts = _plain(state, error) if isinstance(state, Tagged) else None
        if isinstance(parts, list) and len(parts) == 4 and set(tagged.value) <= {"args", "state"}:
            function, args, keywords, _ = parts
            if _plain(tagged.value.get("args"), error) == [function]:
                match function, args, keywords:
                    case Name(), list(), dict():
                        return Partial(function.name, args, keywords)
        raise error("is not a functools.partial as PyYAML writes it; write the value itself")
    raise error(f"!!{tagged.tag} has no meaning here")


def _plain(value: Any, error: Any) -> Any:
    if isinstance(value, Tagged):
        return _plain(value.value, error) if value.tag == TUPLE else _meaning(value, error)
    if isinstance(value, list):
        return [_plain(entry, error) for entry in value]
    if isinstance(value, dict):
        return {key: _plain(entry, error) for key, entry in value.items()}
    return value
