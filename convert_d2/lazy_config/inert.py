"""The YAML of a LazyConfig as inert data.

`LazyConfig.save` writes Python tags: PyYAML's unsafe loader, which Detectron2 uses, imports and
calls what they name. Here the few tags that such files need become plain data (`Tagged`), decided
on the tag as YAML resolves it, whether it is written `!!python/...`, in full or through %TAG; all
others are rejected. Nothing is imported, located or called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from tfdetect.errors import InputError

_YAML = "tag:yaml.org,2002:"
_PLAIN = {f"{_YAML}{kind}" for kind in ("null", "bool", "int", "float", "str")}
TUPLE = "python/tuple"
NAME = "python/name:"
SHAPE_SPEC = "python/object:detectron2.layers.shape_spec.ShapeSpec"
PARTIAL = "python/object/apply:functools.partial"
# Real files have some hundred values, no more than ten levels deep. (PyYAML's own parser reads some
# ten thousand in a second; libyaml's, which is faster, can crash on deep nesting.)
_MAX_VALUES = 20_000
_MAX_DEPTH = 64
_MAX_ALIASES = 1000
# Characters of a number, and its size: Python's time for larger ones is not linear.
_MAX_DIGITS = 100
_MAX_INTEGER = 1 << 63


@dataclass(frozen=True)
class Tagged:
    """A value with a Python tag.

    Attributes:
        tag: such as "python/name:torch.nn.modules.normalization.LayerNorm".
        value: what is written after it: a text, a list or a dictionary.
    """

    tag: str
    value: Any


@dataclass
class _Open:
    """A list or mapping that is being read; `key` is that of the value to come."""

    event: Any
    anchor: str | None
    tag: str
    items: Any
    key: Any = None
    has_key: bool = False
    weight: int = 1


class _Scalars(yaml.constructor.SafeConstructor, yaml.resolver.Resolver):
    """PyYAML's rules for what plain text is."""

    def __init__(self) -> None:
        yaml.constructor.SafeConstructor.__init__(self)
        yaml.resolver.Resolver.__init__(self)


def parse(text: str, source: str) -> dict[Any, Any]:
    """Read a LazyConfig's YAML.

    Args:
        text: of the file.
        source: what messages call it.

    Returns:
        Dictionaries, lists, texts, numbers, true, false, None and `Tagged`. What YAML aliases share
        is shared.

    Raises:
        InputError: not YAML, or more of it than such a file has: another tag, a merge key, a
            duplicate key, an alias that contains itself, too many or too deeply nested values.
    """
    try:
        root = _Reader(source).read(text)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error)
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise InputError(
            f"{source}: {where}not YAML ({' '.join(problem.split())[:200]}); correct it"
        ) from None
    if not isinstance(root, dict):
        raise InputError(f"{source}: is not a mapping; give the config.yaml that LazyConfig wrote")
    return root


class _Reader:
    """Builds values from PyYAML's events, without recursion."""

    def __init__(self, source: str):
        self._source = source
        self._scalars = _Scalars()
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        self._open: list[_Open] = []
        self._root: Any = None
        self._values = 0
        self._aliases = 0

    def read(self, text: str) -> Any:
        documents = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error(event, "a second document begins; keep one")
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, yaml.ScalarEvent):
                tag = self._tag(event, yaml.ScalarNode, event.value)
                self._add(event, self._scalar(event, tag), 1, event.anchor)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._start(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end()
        return self._root

    def _start(self, event: Any) -> None:
        if len(self._open) >= _MAX_DEPTH:
            raise self._error(event, f"more than {_MAX_DEPTH} levels deep; flatten it")
        mapping = isinstance(event, yaml.MappingStartEvent)
        tag = self._tag(event, yaml.MappingNode if mapping else yaml.SequenceNode, None)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._open.append(_Open(event, event.anchor, tag, {} if mapping else []))

    def _end(self) -> None:
        done = self._open.pop()
        value = done.items
        kind = f"{_YAML}{'map' if isinstance(value, dict) else 'seq'}"
        if done.tag != kind:
            value = Tagged(done.tag.removeprefix(_YAML), value)
        self._add(done.event, value, done.weight, done.anchor)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            raise self._error(event, f"the alias *{_short(event.anchor)} refers to nothing")
        known = self._anchors[event.anchor]
        if known is None:
            raise self._error(event, f"the alias *{_short(event.anchor)} contains itself")
        self._aliases += 1
        if self._aliases > _MAX_ALIASES:
            raise self._error(event, f"more than {_MAX_ALIASES} aliases; write the values out")
        self._add(event, *known, None)

    def _add(self, event: Any, value: Any, weight: int, anchor: str | None) -> None:
        """Put a complete value where it belongs. `weight` counts the values that it consists of."""
        if anchor is not None:
            self._anchors[anchor] = (value, weight)
        self._values += 1
        if max(weight, self._values) > _MAX_VALUES:
            raise self._error(event, f"more than {_MAX_VALUES} values; remove what is not needed")
        if not self._open:
            self._root = value
            return
        parent = self._open[-1]
        parent.weight += weight
        if parent.weight > _MAX_VALUES:
            raise self._error(event, f"more than {_MAX_VALUES} values; remove what is not needed")
        if isinstance(parent.items, list):
            parent.items.append(value)
        elif parent.has_key:
            parent.items[parent.key] = value
            parent.has_key = False
        else:
            if type(value) not in (str, int, float, bool):
                raise self._error(event, "a key is neither text nor a number; correct it")
            if value in parent.items:
                raise self._error(event, f"the key {_short(value)} is given twice; remove one")
            parent.key, parent.has_key = value, True

    def _tag(self, event: Any, kind: Any, text: str | None) -> str:
        tag = event.tag
        if tag is None or tag == "!":
            implicit = (
                event.implicit if isinstance(event, yaml.ScalarEvent) else (tag is None, False)
            )
            tag = self._scalars.resolve(kind, text, implicit)
        allowed = {
            yaml.ScalarNode: tag in _PLAIN or tag.startswith(f"{_YAML}{NAME}"),
            yaml.SequenceNode: tag in (f"{_YAML}seq", f"{_YAML}{TUPLE}"),
            yaml.MappingNode: tag in (f"{_YAML}map", f"{_YAML}{SHAPE_SPEC}", f"{_YAML}{PARTIAL}"),
        }[kind]
        if allowed:
            return tag
        if tag == f"{_YAML}merge":
            raise self._error(event, "a merge key (<<); write its keys out")
        shown = _short(f"!!{tag.removeprefix(_YAML)}" if tag.startswith(_YAML) else tag)
        if shown.startswith("!!python/"):
            raise self._error(
                event,
                f"the tag {shown} is rejected, because Python would run code for it; write the "
                "value itself",
            )
        raise self._error(event, f"the tag {shown} is not supported; write the value itself")

    def _scalar(self, event: Any, tag: str) -> Any:
        text = event.value
        if tag.startswith(f"{_YAML}{NAME}"):
            if text:
                raise self._error(event, f"text after !!{_short(tag.removeprefix(_YAML))}")
            return Tagged(tag.removeprefix(_YAML), "")
        node = yaml.ScalarNode(tag, text)
        construct = {
            f"{_YAML}null": lambda node: None,
            f"{_YAML}bool": self._scalars.construct_yaml_bool,
            f"{_YAML}int": self._scalars.construct_yaml_int,
            f"{_YAML}float": self._scalars.construct_yaml_float,
            f"{_YAML}str": self._scalars.construct_scalar,
        }[tag]
        try:
            if len(text) > _MAX_DIGITS and tag != f"{_YAML}str":
                raise OverflowError
            value = construct(node)
            if type(value) is int and abs(value) >= _MAX_INTEGER:
                raise OverflowError
            return value
        # On bad text after an explicit !!int and so on, or thousands of digits.
        except (ValueError, LookupError, OverflowError):
            raise self._error(
                event, f"{_short(text)} is not a {tag.removeprefix(_YAML)}; correct it"
            ) from None

    def _error(self, event: Any, text: str) -> InputError:
        return InputError(f"{self._source}: line {event.start_mark.line + 1}: {text}")


def _short(value: Any) -> str:
    return " ".join(str(value).split())[:100]
