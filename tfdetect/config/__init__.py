"""Detectron2's configuration: its schema and defaults, its YAML files read safely."""

from __future__ import annotations

from tfdetect.config.loader import dump_config, get_cfg, load_config

__all__ = ["dump_config", "get_cfg", "load_config"]
