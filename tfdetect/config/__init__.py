"""Detectron2's configuration: its schema and defaults, its YAML files read safely."""

from __future__ import annotations

from tfdetect.config.extend import add_config
from tfdetect.config.loader import dump_config, get_cfg, load_config

__all__ = ["add_config", "dump_config", "get_cfg", "load_config"]
