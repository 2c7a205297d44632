"""Named things that a configuration chooses from, and that users add to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from tfdetect.errors import InputError

T = TypeVar("T", bound=Callable[..., Any])


class Registry:
    """Classes or functions by name (Detectron2: fvcore's `Registry`)."""

    def __init__(self, kind: str):
        """`kind` is what messages call the entries: "hook"."""
        self._kind = kind
        self._entries: dict[str, Any] = {}

    def register(self, name: str | None = None) -> Callable[[T], T]:
        """A decorator that enters a class or function under `name`, its own by default.

        Raises:
            InputError: the name is taken by something else.
        """

        def enter(entry: T) -> T:
            key = name or entry.__name__
            if key in self._entries:
                raise InputError(
                    f"{self._kind} {key!r}: is registered already; choose another name"
                )
            self._entries[key] = entry
            return entry

        return enter

    def get(self, name: str) -> Any:
        """The entry of this name.

        Raises:
            InputError: there is none; the message lists what there is.
        """
        if name not in self._entries:
            known = ", ".join(sorted(self._entries)) or "none"
            raise InputError(f"no {self._kind} {name!r} is registered; known: {known}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))
