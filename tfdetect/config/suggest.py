"""Suggests existing keys for an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any

from tfdetect.config.defaults import DEFAULTS

# Threshold of difflib's ratio, 0 to 1: typos are above it, other words below.
_SIMILAR = 0.75
_MOST = 4


def is_key(text: Any) -> bool:
    """Whether it is a dotted key of the schema (a key, not a section)."""
    return isinstance(text, str) and not _keys().get(text, True)


def is_below_schema(key: str) -> bool:
    """Whether it is a dotted key or section of the schema, or continues below a key."""
    parts = key.split(".")
    above = (".".join(parts[:count]) for count in range(1, len(parts)))
    return key in _keys() or any(map(is_key, above))


def nearest_keys(key: str) -> list[str]:
    """The keys or sections that an unknown dotted key may stand for, the likeliest first.

    Those of the same name below the section given, or anywhere where none is given; else the one of
    a similar name in this section, or in one of a similar name where there is no such section.
    """
    section, _, name = key.rpartition(".")
    below = f"{section}." if section else ""
    same = [
        other
        for other in _keys()
        if other.rpartition(".")[2].lower() == name.lower()
        and other.lower().startswith(below.lower())
    ]
    if same:
        return [other for other in same if other.lower() == key.lower()] or same[:_MOST]
    likeness = {}
    for other in _keys():
        other_section, _, other_name = other.rpartition(".")
        if section == other_section:
            likeness[other] = _similarity(name, other_name)
        elif section not in _keys():
            names = _similarity(name, other_name), _similarity(section, other_section)
            likeness[other] = min(names)
    best = max(likeness, key=lambda other: likeness[other], default="")
    return [best] if likeness.get(best, 0.0) >= _SIMILAR else []


def _similarity(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a.lower(), b.lower()).ratio()


def forget_keys() -> None:
    """Look at the schema again, after keys were added to it."""
    _keys.cache_clear()


@cache
def _keys() -> dict[str, bool]:
    """Every dotted key of the schema, and whether it is a section."""

    def walk(schema: Mapping[str, Any], prefix: str) -> dict[str, bool]:
        found = {}
        for name, value in schema.items():
            found[f"{prefix}{name}"] = isinstance(value, dict)
            if isinstance(value, dict):
                found |= walk(value, f"{prefix}{name}.")
        return found

    return walk(DEFAULTS, "")
