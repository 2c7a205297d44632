"""Keys of a user's own in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfdetect.config import suggest
from tfdetect.config.defaults import DEFAULTS
from tfdetect.errors import InputError


def add_config(section: str, defaults: Mapping[str, Any]) -> None:
    """Add keys with their default values to the configuration, for every `load_config` after it.

    >>> add_config("MODEL.MY_BACKBONE", {"WIDTH": 32, "NORM": "GN"})

    Args:
        section: dotted; made where there is none.
        defaults: values by key, mappings for sections below. A file must give a value of the same
            type.

    Raises:
        InputError: there is such a key with another value, or `section` is a key.

    Detectron2: the `add_..._config(cfg)` of its projects.
    """
    node: Any = DEFAULTS
    for name in section.split("."):
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            raise InputError(f"{section}: {name} is a key, not a section; give another name")
    for name, value in defaults.items():
        if isinstance(value, Mapping):
            add_config(f"{section}.{name}", value)
        elif node.setdefault(name, value) != value:
            raise InputError(
                f"{section}.{name}: is a key already, with the default {node[name]!r}; give another"
                " name"
            )
    suggest.forget_keys()
