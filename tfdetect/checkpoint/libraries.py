"""Checkpoint files of other libraries: packages that read them register here.

A package names its importer in the entry-point group `tfdetect.libraries`, as convert_d2 does in
this project's entry_points.txt, or calls `register_importer`. Nothing here knows any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tfdetect.checkpoint.formats.reader import Checkpoint
from tfdetect.plugins import plugins

GROUP = "tfdetect.libraries"


@dataclass(frozen=True)
class StateDict:
    """Weights as a state dict of Detectron2, of a whole model or a part of one.

    Attributes:
        arrays: in PyTorch's layout, by Detectron2's names or the ends of these.
        notes: what was taken from where in the file, where that is not obvious.
        warnings: why a model with these weights is not the model that they were trained as.
    """

    arrays: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


Importer = Callable[[Checkpoint, str], StateDict | None]
"""Maps a checkpoint, and what messages call it, to its weights; None if it does not know it.

It raises InputError for a model that it knows and that cannot be used.
"""

_importers: dict[str, Importer] = {}


def register_importer(name: str, importer: Importer) -> None:
    """Have `import_state_dict` ask an importer; it replaces an earlier one of the same name."""
    _importers[name] = importer


def import_state_dict(checkpoint: Checkpoint, source: str) -> StateDict:
    """The weights by Detectron2's names, from the first importer that knows them.

    Args:
        checkpoint: of `read_checkpoint`.
        source: what messages call it.

    Returns:
        The arrays as they are in the file where no importer knows them.

    Raises:
        InputError: an importer knows the checkpoint and cannot use it.
    """
    for name, point in plugins(GROUP).items():
        if name not in _importers:
            register_importer(name, point.load())
    for importer in _importers.values():
        found = importer(checkpoint, source)
        if found is not None:
            return found
    return StateDict(dict(checkpoint.arrays))
