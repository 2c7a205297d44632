"""Reads the text of a configuration file, and tells the two kinds that Detectron2 writes apart."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from tfdetect.errors import InputError

# A complete configuration is 6 kB; a checkpoint given by mistake should be reported at once.
_MAX_BYTES = 1 << 20
# The sections that Detectron2's lazyconfig_train_net.py reads.
_LAZY_SECTIONS = {"dataloader", "lr_multiplier", "model", "optimizer", "train"}
# More than a configuration has before its second section, and read in less than a second.
_MAX_EVENTS = 5000
_MAX_DEPTH = 64


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a configuration file.

    Raises:
        InputError: it cannot be read, is too large or not UTF-8; or it is a LazyConfig in Python or
            as a pickle, which would have to be run.
    """
    path = Path(path)
    _check_name(path)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give Detectron2's YAML file"
        ) from None
    if len(data) > _MAX_BYTES:
        if is_lazy(data.decode("utf-8", "ignore")):
            raise InputError(
                f"{path}: over 1 MiB: a LazyConfig that contains a module has its weights as text; "
                "in its place write the module's class and arguments, L(Class)(...), and save again"
            )
        raise InputError(
            f"{path}: over 1 MiB, which is too large for a configuration; give "
            f"Detectron2's YAML file"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {line}: not UTF-8 text; give Detectron2's YAML file"
        ) from None


def is_lazy(text: str) -> bool:
    """Whether this is the YAML of a LazyConfig (`LazyConfig.save`) and not one of yacs."""
    if "_target_" not in text:
        return False
    depth = 0
    is_key = False
    try:
        for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
            if count > _MAX_EVENTS or depth > _MAX_DEPTH:
                return False
            if depth == 1 and isinstance(event, yaml.NodeEvent):
                if is_key and isinstance(event, yaml.ScalarEvent):
                    if event.value in _LAZY_SECTIONS:
                        return True
                    if event.value.isupper():
                        return False
                is_key = not is_key
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                is_key = is_key or depth == 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.YAMLError:
        pass
    return False


def _check_name(path: Path) -> None:
    if path.suffix == ".pkl":
        yaml_file = path.with_suffix("") if path.name.endswith((".yaml.pkl", ".yml.pkl")) else None
        instead = f"{yaml_file}, which Detectron2 writes beside it" if yaml_file else "a YAML file"
        raise InputError(
            f"{path}: a pickle contains code and is never read as a configuration; give {instead}"
        )
    if path.suffix == ".py":
        raise InputError(
            f"{path}: a LazyConfig in Python would have to be run; give the config.yaml of its "
            'training, or write one where Detectron2 is installed: python -c "from '
            "detectron2.config import LazyConfig as L; "
            f"L.save(L.load('{path}'), 'config.yaml')\""
        )
