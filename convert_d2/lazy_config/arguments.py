"""What a LazyConfig gives to Detectron2's classes, taken argument by argument into keys.

A converter is registered for each of Detectron2's classes (`converts`). It takes the arguments of
its class, with the defaults of Detectron2's constructor, and says which keys have them here. An
argument that is left over is an error, and so are two that give one key different values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from convert_d2.lazy_config.interpolation import Name, Partial
from tfdetect.errors import InputError

_REQUIRED: Any = object()
# OmegaConf's value of what has yet to be given.
_MISSING = "???"
Feature = tuple[int | None, int]
"""Channels, None if they do not follow from the arguments, and stride."""


class Contradiction(InputError):
    """Two places of a file that give one key different values."""


@dataclass
class Settings:
    """What a file sets.

    Attributes:
        source: what messages call the file.
        values: by key, the value and the path that it is from.
        notes: path and text of what has no effect here, or not the same.
        lost_norms: by key, the path of a norm that the file has lost.
    """

    source: str
    values: dict[str, tuple[Any, str]] = field(default_factory=dict)
    notes: list[tuple[str, str]] = field(default_factory=list)
    lost_norms: dict[str, str] = field(default_factory=dict)

    def set(self, key: str, value: Any, path: str) -> None:
        """Give a key its value.

        Raises:
            Contradiction: another path gave it another one.
        """
        if key in self.values:
            known, other = self.values[key]
            if plain(known) != plain(value):
                raise Contradiction(
                    f"{self.source}: {path}: is {show(value)}, but {other} is {show(known)}; here "
                    f"both are {key}, so make them equal"
                )
            return
        self.values[key] = value, path

    def note(self, path: str, text: str) -> None:
        """Name what does not matter for prediction and has no counterpart in training."""
        self.notes.append((path, text))

    def error(self, path: str, text: str) -> InputError:
        return InputError(f"{self.source}: {path}: {text}")


@dataclass(frozen=True)
class _Entry:
    name: str
    role: str
    convert: Callable[..., Any]


_TABLE: dict[str, _Entry] = {}
_UNSUPPORTED: dict[str, tuple[str, str]] = {}


def converts(name: str, role: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the converter of a class of Detectron2.

    Args:
        name: module and class, such as "detectron2.modeling.poolers.ROIPooler". It is recognised
            under the packages above it too, as Detectron2 writes the shortest of them.
        role: what it can stand for, such as "a RoI pooler".
    """

    def register(convert: Callable[..., Any]) -> Callable[..., Any]:
        for alias in aliases(name):
            _TABLE[alias] = _Entry(name, role, convert)
        return convert

    return register


def unsupported(name: str, why: str) -> None:
    """Register a class that is known and has no counterpart here."""
    for alias in aliases(name):
        _UNSUPPORTED[alias] = name, why


def canonical(name: str) -> str:
    """The module and class of a name; itself if it is not known."""
    if name in _UNSUPPORTED:
        return _UNSUPPORTED[name][0]
    return _TABLE[name].name if name in _TABLE else name


def known_classes() -> set[str]:
    """The classes of the table, by the modules that define them."""
    return {entry.name for entry in _TABLE.values()}


def unsupported_classes() -> set[str]:
    """The classes that are known and have no counterpart."""
    return {name for name, _ in _UNSUPPORTED.values()}


def aliases(name: str) -> Iterator[str]:
    """A class by its module, and by each of the packages above."""
    parts = name.split(".")
    first = next(
        index for index, part in enumerate(parts) if part[0].isupper() or index == len(parts) - 1
    )
    for end in range(1, first + 1):
        yield ".".join((*parts[:end], *parts[first:]))


class Arguments:
    """The arguments that a file gives to one class.

    Args:
        settings: where they go.
        path: of the mapping in the file.
        target: the class as the file names it.
        values: the arguments by name.
    """

    def __init__(self, settings: Settings, path: str, target: str, values: Mapping[Any, Any]):
        self.settings = settings
        self.path = path
        self.target = target.rpartition(".")[2]
        self._values = dict(values)

    def where(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def error(self, name: str, text: str) -> InputError:
        return self.settings.error(self.where(name), text)

    def note(self, name: str, text: str) -> None:
        self.settings.note(self.where(name), text)

    def given(self, name: str) -> Any:
        """What the file has for an argument, which is still to be taken; None without."""
        return self._values.get(name)

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """An argument, or its default."""
        if name not in self._values:
            if default is _REQUIRED:
                raise self.settings.error(
                    self.path or name, f"{self.target} needs the argument {name}; add it"
                )
            return default
        value = self._values.pop(name)
        if value == _MISSING:
            raise self.error(name, "is ???, which stands for a value yet to be given; give it")
        return value

    def of_type(self, name: str, default: Any, holds: Callable[[Any], bool], expected: str) -> Any:
        given = name in self._values
        value = self.take(name, default)
        if given and not holds(value):
            raise self.error(name, f"is {show(value)}; give {expected}")
        return value

    def integer(self, name: str, default: Any = _REQUIRED) -> int:
        result: int = self.of_type(name, default, is_integer, "an integer")
        return result

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        result: float = self.of_type(name, default, is_number, "a number")
        return result

    def flag(self, name: str, default: Any = _REQUIRED) -> bool:
        result: bool = self.of_type(
            name, default, lambda value: type(value) is bool, "true or false"
        )
        return result

    def text(self, name: str, default: Any = _REQUIRED) -> str:
        result: str = self.of_type(name, default, lambda value: isinstance(value, str), "a text")
        return result

    def numbers(self, name: str, default: Any = _REQUIRED) -> list[Any]:
        return list(self.of_type(name, default, _list_of(is_number), "a list of numbers"))

    def integers(self, name: str, default: Any = _REQUIRED) -> list[int]:
        return list(self.of_type(name, default, _list_of(is_integer), "a list of integers"))

    def names(self, name: str, default: Any = _REQUIRED) -> list[str]:
        return list(
            self.of_type(
                name, default, _list_of(lambda value: isinstance(value, str)), "a list of names"
            )
        )

    def expect(self, name: str, expected: Any, why: str, default: Any = _REQUIRED) -> None:
        """Take an argument that can only have one value here."""
        value = self.take(name, default)
        if plain(value) != plain(expected):
            raise self.error(name, f"is {show(value)}, but {why}; give {show(expected)}")

    def set(self, key: str, name: str, value: Any) -> None:
        self.settings.set(key, value, self.where(name))

    def norm(self, key: str, name: str, default: Any = _REQUIRED) -> None:
        """Take a norm, as Detectron2's `get_norm` does: a name, None, or what makes the layer."""
        value = self.take(name, default)
        if isinstance(value, Name) and value.name.endswith("<lambda>"):
            self.settings.lost_norms[key] = self.where(name)
            return
        self.set(key, name, norm_name(value, lambda text: self.error(name, text)))

    def part(self, name: str, role: str, **context: Any) -> Any:
        """Convert an argument that is a call of a class with this role."""
        return convert(self.settings, self.where(name), self.take(name), role, **context)

    def parts(
        self,
        name: str,
        role: str,
        each: Callable[[int, int], dict[str, Any]] | None = None,
        **context: Any,
    ) -> list[Any]:
        """Convert a list of calls; `each` adds context, by the index and the number of all."""
        values = self.of_type(name, _REQUIRED, lambda value: isinstance(value, list), "a list")
        return [
            convert(
                self.settings,
                f"{self.where(name)}[{index}]",
                value,
                role,
                **context,
                **(each(index, len(values)) if each else {}),
            )
            for index, value in enumerate(values)
        ]

    def finish(self) -> None:
        """Raise InputError for an argument that nothing took."""
        for name in self._values:
            raise self.error(
                show(name),
                f"Detectron2's {self.target} has no such argument, or none with a counterpart "
                "here; remove it",
            )

    def rest(self) -> list[str]:
        """The arguments that nothing took, which no longer count as left over."""
        names = [show(name) for name in self._values]
        self._values.clear()
        return names


def convert(settings: Settings, path: str, value: Any, role: str, **context: Any) -> Any:
    """Convert a call of one of Detectron2's classes.

    Args:
        settings: where its arguments go.
        path: of the call in the file.
        value: the call: a mapping with a `_target_`.
        role: what is wanted, such as "a backbone".
        context: what its converter takes beside the arguments.

    Raises:
        InputError: the class is not known, or is something else, or an argument has no counterpart.
    """
    if value == _MISSING:
        raise settings.error(path, f"is ???, which stands for a value yet to be given; give {role}")
    if not isinstance(value, dict) or "_target_" not in value:
        raise settings.error(path, f"is {show(value)}; give {role}, with its _target_")
    target = target_name(value)
    if target is None:
        raise settings.error(f"{path}._target_", "is not the name of a class; correct it")
    if target in _UNSUPPORTED:
        raise settings.error(path, f"{show(target)} {_UNSUPPORTED[target][1]}")
    entry = _TABLE.get(target)
    if entry is None:
        raise settings.error(
            path,
            f"{show(target)} is not one of the classes of Detectron2 that are known here; give "
            f"{role}",
        )
    if entry.role != role:
        raise settings.error(path, f"{entry.name} is {entry.role}; give {role}")
    given = {key: entry for key, entry in value.items() if key != "_target_"}
    arguments = Arguments(settings, path, target, given)
    result = entry.convert(arguments, **context)
    arguments.finish()
    return result


def optional(settings: Settings, path: str, value: Any, role: str, **context: Any) -> None:
    """Convert a call, or note why it cannot be and set nothing of it."""
    known = dict(settings.values)
    try:
        convert(settings, path, value, role, **context)
    except Contradiction:
        raise
    except InputError as error:
        settings.values = known
        where, _, why = str(error).removeprefix(f"{settings.source}: ").partition(": ")
        settings.note(where, f"{why} (only training needs it, which would take the defaults)")


def optional_part(args: Arguments, name: str, role: str, **context: Any) -> None:
    optional(args.settings, args.where(name), args.take(name), role, **context)


def target_name(value: Mapping[Any, Any]) -> str | None:
    """The class that a mapping is a call of."""
    target = value.get("_target_")
    if isinstance(target, Name):
        return target.name
    return target if isinstance(target, str) else None


NORMS = ("", "BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")
_NORM_CLASSES = {
    "torch.nn.modules.batchnorm.BatchNorm2d": "BN",
    "torch.nn.modules.batchnorm.SyncBatchNorm": "nnSyncBN",
    "detectron2.layers.wrappers.BatchNorm2d": "BN",
    "detectron2.layers.batch_norm.FrozenBatchNorm2d": "FrozenBN",
    "detectron2.layers.batch_norm.NaiveSyncBatchNorm": "naiveSyncBN",
    "detectron2.layers.batch_norm.LayerNorm": "LN",
}
_NORM_NAMES = {alias: norm for name, norm in _NORM_CLASSES.items() for alias in aliases(name)}
_MODES = {"": "naiveSyncBN", "N": "naiveSyncBN_N"}


def norm_name(value: Any, error: Callable[[str], InputError]) -> str:
    """The value of a NORM key for what Detectron2's `get_norm` is given."""
    if value is None:
        return ""
    if isinstance(value, Name) and value.name in _NORM_NAMES:
        return _NORM_NAMES[value.name]
    if isinstance(value, Partial):
        mode = value.keywords.get("stats_mode", "")
        known = _NORM_NAMES.get(value.function)
        if known == "naiveSyncBN" and set(value.keywords) <= {"stats_mode"} and not value.args:
            if isinstance(mode, str) and mode in _MODES:
                return _MODES[mode]
        elif known and not value.args and not value.keywords:
            return known
    if isinstance(value, str) and value in NORMS:
        return value
    raise error(
        f"the norm {show(value)} is not supported; use one of {', '.join(NORMS[1:])}, or ''"
    )


def is_integer(value: Any) -> bool:
    return type(value) is int


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (list, tuple)) and all(map(holds, value))


def plain(value: Any) -> Any:
    """A value to compare: lists and tuples alike."""
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value


def show(value: Any) -> str:
    """A value in a message."""
    if isinstance(value, Name):
        text = value.name
    elif isinstance(value, Partial):
        text = f"functools.partial of {value.function}"
    elif isinstance(value, dict):
        text = f"a {target_name(value) or 'mapping'}"
    elif isinstance(value, (list, tuple)) and len(value) > 12:
        text = f"a list of {len(value)}"
    else:
        text = str(value) if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:97]}..."
