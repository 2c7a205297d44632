"""Detectron2's configuration: its schema and defaults, its YAML files read safely."""

from __future__ import annotations

from tfdetect.config.extend import add_config
from tfdetect.config.loader import build_config, dump_config, get_cfg, load_config
from tfdetect.config.zoo import find_config, zoo_models

__all__ = [
    "add_config",
    "build_config",
    "dump_config",
    "find_config",
    "get_cfg",
    "load_config",
    "zoo_models",
]
