"""The configuration of a training with LazyConfig, from the config.yaml that it wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

import convert_d2.lazy_config.backbones
import convert_d2.lazy_config.resnets
import convert_d2.lazy_config.transformers  # noqa: F401 - register their classes
from convert_d2.lazy_config.architectures import ARCHITECTURE
from convert_d2.lazy_config.arguments import Settings, convert
from convert_d2.lazy_config.inert import parse
from convert_d2.lazy_config.interpolation import resolve
from convert_d2.lazy_config.training import set_training
from convert_d2.libraries.architecture import architecture
from tfdetect.config import build_config
from tfdetect.config.source import is_lazy, read_text
from tfdetect.config.zoo import find_config

# A lambda that makes a batch norm of these heads: that of Detectron2's new_baselines.
_LOST_BATCH_NORM = "naiveSyncBN_N"
_HEADS = ("MODEL.ROI_BOX_HEAD.NORM", "MODEL.ROI_MASK_HEAD.NORM")


@dataclass(frozen=True)
class LazyConfig:
    """What a file says, in this project's keys.

    Attributes:
        source: what messages call the file.
        settings: keys and values, with their paths in the file.
    """

    source: str
    settings: Settings

    @property
    def notes(self) -> list[str]:
        """A line for each thing that has no effect here, or another one than in Detectron2."""
        return [f"{path}: {text}" for path, text in self.settings.notes]

    def configuration(
        self, opts: Sequence[Any] = (), shapes: Mapping[str, tuple[int, ...]] | None = None
    ) -> tuple[CfgNode, list[str]]:
        """The complete configuration.

        Args:
            opts: KEY VALUE KEY VALUE ..., which go before the file.
            shapes: of the arrays in its checkpoint, by name: what a lambda did is lost, and which
                norm it made follows from them. None leaves such a norm out, for a first check.

        Returns:
            The configuration, and a line for each norm that followed from `shapes`.

        Raises:
            InputError: a value does not fit its key, or a norm that is lost does not follow.
        """
        values = dict(self.settings.values)
        notes = []
        given = {str(key) for key in opts[::2]}
        for key, path in self.settings.lost_norms.items():
            if key in given or shapes is None:
                continue
            if key in values:
                norm, reason = values[key][0], f"{values[key][1]} is"
            else:
                norm = self._lost_norm(key, path, shapes)
                reason = "the checkpoint's arrays are those of"
            values[key] = norm, path
            notes.append(
                f"{path}: a lambda, whose code the file does not have; {reason} {norm or 'no norm'}"
                f" (otherwise give --opts {key} ...)"
            )
        settings = [(key, value, f"{self.source}: {path}") for key, (value, path) in values.items()]
        return build_config(settings, opts), notes

    def _lost_norm(self, key: str, path: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
        try:
            found = architecture(shapes).get(key)
        except (KeyError, IndexError, ValueError, ZeroDivisionError):
            found = None
        if found in ("BN", "FrozenBN") and key in _HEADS:
            return _LOST_BATCH_NORM
        if found in ("BN", "FrozenBN", ""):
            return str(found)
        raise self.settings.error(
            path,
            "a lambda, whose code the file does not have, and the checkpoint does not show which "
            f"norm it made; give it with --opts {key} ...",
        )


def read_lazy_config(path: str | Path) -> LazyConfig | None:
    """Read a config.yaml of LazyConfig as data; nothing in it is imported, located or called.

    Args:
        path: the file, or the name of a model of the zoo.

    Returns:
        None for a configuration of yacs, which `tfdetect.config.load_config` reads.

    Raises:
        InputError: the file cannot be read, or says something that is not known or that has no
            counterpart; one line with its path in the file.
    """
    file = find_config(path)
    text = read_text(file)
    if not is_lazy(text):
        return None
    source = str(file)
    root = resolve(parse(text, source), source)
    settings = Settings(source)
    if "model" not in root:
        raise settings.error("model", "is missing; give the config.yaml of the training")
    convert(settings, "model", root["model"], ARCHITECTURE)
    set_training(settings, root)
    return LazyConfig(source, settings)
