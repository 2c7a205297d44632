"""Reading and writing Detectron2's YAML configuration.

A file states what differs from the defaults, or from the file that its `_BASE_` names. It is
plain data: Python tags, which Detectron2 itself executes, are rejected here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from tfdetect.config.defaults import DEFAULTS
from tfdetect.config.keys import RENAMED, TAKES_MAPPINGS
from tfdetect.config.source import is_lazy, read_text
from tfdetect.config.suggest import is_below_schema, is_key, nearest_keys
from tfdetect.config.values import ValueMismatch, coerce, decode, describe, encode
from tfdetect.config.zoo import find_config
from tfdetect.errors import InputError

_BASE = "_BASE_"


def get_cfg() -> CfgNode:
    """Return a new configuration, not frozen, with Detectron2's keys and default values."""
    return CfgNode(DEFAULTS)


def load_config(
    path: str | os.PathLike[str], opts: Sequence[Any] = (), opts_source: str = "--opts"
) -> CfgNode:
    """Read one of Detectron2's YAML files on top of the defaults.

    Args:
        path: the file, or the name of a model of the zoo (`find_config`). The file's `_BASE_`, a
            path or a list of paths relative to the file (or absolute, or from `~`), is read first
            and so on.
        opts: KEY VALUE KEY VALUE ..., with dotted keys, which go before everything else. Text
            that spells a Python literal is that literal.
        opts_source: what messages call the place that `opts` are from.

    Returns:
        The complete configuration, frozen.

    Raises:
        InputError: a file cannot be read or is not YAML, or a key is unknown, was renamed or has
            a value of the wrong type; the message is one line with the file and the key.
    """
    cfg = get_cfg()
    for source, mapping in _with_bases(find_config(path), ()):
        _merge(cfg, mapping, DEFAULTS, "", source)
    _merge_pairs(cfg, opts, opts_source)
    cfg.freeze()
    return cfg


def build_config(
    settings: Iterable[tuple[str, Any, str]], opts: Sequence[Any] = (), opts_source: str = "--opts"
) -> CfgNode:
    """A configuration of the defaults and what was read from somewhere else than a YAML of yacs.

    Args:
        settings: dotted key, value, and what messages call the place that the value is from.
        opts, opts_source: see `load_config`.

    Returns:
        The complete configuration, frozen.

    Raises:
        InputError: a key is unknown or has a value of the wrong type.
    """
    cfg = get_cfg()
    for key, value, source in settings:
        _merge(cfg, _nested(key, value), DEFAULTS, "", source)
    _merge_pairs(cfg, opts, opts_source)
    cfg.freeze()
    return cfg


def _merge_pairs(cfg: CfgNode, opts: Sequence[Any], source: str) -> None:
    for key, value in _pairs(opts, source):
        if not is_below_schema(key):
            raise InputError(f"{source}: {_unknown(key, value)}")
        _merge(cfg, _nested(key, value), DEFAULTS, "", source)


def _nested(key: str, value: Any) -> Any:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _pairs(opts: Sequence[Any], source: str) -> Iterator[tuple[str, Any]]:
    """KEY VALUE KEY VALUE ... by twos.

    Raises:
        InputError: a value is missing.
    """
    for index in range(0, len(opts), 2):
        key = str(opts[index])
        name, equals, _ = key.partition("=")
        if equals and is_key(name):
            raise InputError(
                f"{source}: {key}: separate {name} and its value by a space instead of ="
            )
        value = opts[index + 1] if index + 1 < len(opts) else None
        if index + 1 == len(opts) or (is_key(value) and is_key(key)):
            follows = "nothing" if value is None else f"the key {value}"
            raise InputError(
                f"{source}: {key} has no value, {follows} comes after it; entries must be pairs "
                "KEY VALUE"
            )
        yield key, value


def dump_config(cfg: CfgNode) -> str:
    """Write a complete configuration as YAML, keys sorted, which `load_config` reads the same."""

    def plain(node: CfgNode) -> dict[str, Any]:
        return {
            key: plain(value) if isinstance(value, CfgNode) else encode(value)
            for key, value in node.items()
        }

    return yaml.safe_dump(plain(cfg), sort_keys=True, allow_unicode=True)


def _with_bases(path: Path, above: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (file name, its mapping without `_BASE_`) of a file's bases and then of the file."""
    real = os.path.realpath(path)
    if real in above:
        raise InputError(f"{path}: its {_BASE} refers back to itself; break the cycle")
    mapping = _read(path)
    bases = mapping.pop(_BASE, [])
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or not base:
            raise InputError(f"{path}: {_BASE}: got {describe(base)}, expected a file name")
        if re.match(r"[a-z0-9]+://", base):
            raise InputError(f"{path}: {_BASE}: {base} is not a local file; download it first")
        base_path = path.parent / Path(base).expanduser()
        if not base_path.is_file():
            raise InputError(f"{path}: {_BASE}: there is no file {base_path}; correct the path")
        yield from _with_bases(base_path, (*above, real))
    yield str(path), mapping


def _read(path: Path) -> dict[str, Any]:
    """Parse one YAML file, which must be a mapping."""
    text = read_text(path)
    if is_lazy(text):
        raise InputError(
            f"{path}: is a LazyConfig; convert its model first (tfdetect convert --config-file "
            f"{path} --weights ... --output DIR), and use DIR/config.yaml"
        )
    try:
        mapping = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: {_explain(error)}") from None
    # PyYAML's constructors of !!int, !!timestamp and so on let these through on bad text.
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise InputError(f"{path}: not valid YAML ({error}); correct it") from None
    if not isinstance(mapping, dict):
        content = "is empty" if mapping is None else f"holds {describe(mapping)}"
        raise InputError(f"{path}: {content}, not keys with values; give Detectron2's YAML file")
    return mapping


def _explain(error: yaml.YAMLError) -> str:
    """Put PyYAML's message of several lines into one, with the line of the file."""
    problem = getattr(error, "problem", None) or str(error)
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark else ""
    tag = re.search(r"tag:yaml.org,2002:(python/[^'\"]*)", problem)
    if tag:
        return f"{where}the tag !!{tag[1]} is rejected because it runs code; write the value itself"
    return f"{where}not YAML ({' '.join(problem.split())}); correct it"


def _merge(
    node: CfgNode, updates: Mapping[Any, Any], schema: Mapping[str, Any], prefix: str, source: str
) -> None:
    """Put `updates` into `node`; `schema` is the part of the defaults at `prefix`."""
    for name, value in updates.items():
        key = f"{prefix}{name}"
        if name not in schema:
            raise InputError(f"{source}: {_unknown(key, value)}")
        default = schema[name]
        value = decode(value)
        if isinstance(default, dict):
            if not isinstance(value, dict):
                raise InputError(
                    f"{source}: {key}: got {describe(value)}, but it is a section; "
                    f"set one of its keys, such as {key}.{next(iter(default))}"
                )
            _merge(node[name], value, default, f"{key}.", source)
            continue
        if isinstance(value, dict):
            below = f"{key}.{next(iter(value), '')}".rstrip(".")
            raise InputError(
                f"{source}: {below}: {key} is not a section but {describe(default)}; set {key}"
            )
        try:
            value = coerce(value, default, takes_mappings=key in TAKES_MAPPINGS)
        except ValueMismatch as error:
            raise InputError(f"{source}: {key}: {error}; correct the value") from None
        if key == "VERSION" and value != DEFAULTS["VERSION"]:
            raise InputError(
                f"{source}: VERSION is {value}, only Detectron2's version 2 is supported; "
                "load the file in Detectron2 and save it again"
            )
        node[name] = value


def _unknown(key: str, value: Any) -> str:
    """The message for a key that is not in the schema."""
    # A renamed key may lie in a section that is gone too, so look below the one found missing.
    below = {key, *(f"{key}.{name}" for name in value)} if isinstance(value, dict) else {key}
    for old in sorted(below & RENAMED.keys()):
        return f"the key {old} was renamed to {RENAMED[old]}; use that, and VERSION: 2"
    key = " ".join(key.split())[:200]
    nearest = nearest_keys(key)
    if not nearest:
        return f"unknown key {key}, and Detectron2's configuration has no similar one; remove it"
    if len(nearest) == 1:
        return f"unknown key {key}; the closest known key is {nearest[0]}"
    return f"unknown key {key}; similar known keys are {', '.join(nearest)}"
