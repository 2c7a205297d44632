"""Registries: what a name in the configuration stands for."""

from __future__ import annotations

import difflib
import functools
import importlib
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from yacs.config import CfgNode

from tfdetect.errors import InputError

Entry = TypeVar("Entry")
Registered = TypeVar("Registered")


class Registry(Generic[Entry]):
    """Named classes or functions of one kind, to which a user's own may be added.

    >>> BACKBONES = Registry("backbone")
    >>> @BACKBONES.register()
    ... def build_my_backbone(cfg): ...
    >>> BACKBONES.build(cfg, "MODEL.BACKBONE.NAME")

    Iterating gives the names in the order of their registration.

    Args:
        kind: what the entries are, in the singular, for messages.
        built_in: modules whose import registers this project's own entries; imported when
            something is looked up first.
        advice: maps an unknown name to a note for the message that rejects it.

    Detectron2: `fvcore.common.registry.Registry`.
    """

    def __init__(
        self,
        kind: str,
        built_in: Sequence[str] = (),
        advice: Callable[[str], str] | None = None,
    ):
        self._kind = kind
        self._built_in = tuple(built_in)
        self._advice = advice
        self._entries: dict[str, Entry] = {}

    def register(self, name: str | None = None) -> Callable[[Registered], Registered]:
        """A decorator that registers a class or a function, and returns it as it is.

        Args:
            name: None for the `__name__` of what is registered.

        Raises:
            InputError: the name is taken.
        """

        def add(entry: Any) -> Any:
            self.add(entry.__name__ if name is None else name, entry)
            return entry

        return add

    def add(self, name: str, entry: Entry) -> None:
        """Register under a name.

        Raises:
            InputError: the name is taken.
        """
        if name in self._entries:
            modules = [_module(self._entries[name]), _module(entry)]
            raise InputError(
                f"{self._kind} {name!r} is registered twice, by {' and by '.join(modules)}; give "
                "one of them another name"
            )
        self._entries[name] = entry

    def get(self, key: str, name: str) -> Entry:
        """What `name` stands for.

        Args:
            key: of the configuration, whose value is `name`, for the message.
            name: as registered.

        Raises:
            InputError: nothing is registered under this name.
        """
        self._load_built_in()
        if name in self._entries:
            return self._entries[name]
        near = difflib.get_close_matches(str(name), self._entries) or list(self._entries)
        choice = f"use {' or '.join(near)}" if near else f"no {self._kind} is registered"
        advice = "" if self._advice is None else f" ({self._advice(str(name))})"
        raise InputError(f"{key}: {name!r} is not supported; {choice}{advice}")

    def build(self, cfg: CfgNode, key: str, *args: Any) -> Any:
        """What the entry that the configuration names makes of it.

        Args:
            cfg: the whole configuration.
            key: whose value is the name, such as "MODEL.BACKBONE.NAME".
            args: what the entry takes after `cfg`.

        Raises:
            InputError: as `make`.
        """
        name = functools.reduce(operator.getitem, key.split("."), cfg)
        return self.make(key, name, cfg, *args)

    def make(self, key: str, name: str, *args: Any) -> Any:
        """What the entry `name` makes of `args`: by its `from_config`, if it has one.

        Args:
            key: where the name stands, for the message.
            name: as registered.
            args: what the entry takes.

        Raises:
            InputError: nothing is registered under this name, or what the entry raises.
        """
        entry: Any = self.get(key, name)
        return getattr(entry, "from_config", entry)(*args)

    def is_added(self, name: object) -> bool:
        """Whether `name` is registered so far, without the import of what is built in."""
        return name in self._entries

    def __contains__(self, name: object) -> bool:
        self._load_built_in()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load_built_in()
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        self._load_built_in()
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Registry({self._kind!r}, {list(self._entries)})"

    def _load_built_in(self) -> None:
        for module in self._built_in:
            importlib.import_module(module)


def _module(entry: object) -> str:
    return str(getattr(entry, "__module__", type(entry).__module__))
