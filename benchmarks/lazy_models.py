"""Detectron2's models that are configured in Python alone, with the seeded random weights.

The configurations are those of Detectron2's projects/, which its package does not have:
TFDETECT_DETECTRON2 names a checkout.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Skip

CHECKOUT = "TFDETECT_DETECTRON2"


def build(config: str, change: Callable[[Any], None] | None = None) -> tuple[Any, Any]:
    """The configuration of a file, and its model.

    Args:
        config: such as "ViTDet/COCO/mask_rcnn_vitdet_b_100ep".
        change: given the configuration before the model is built.

    Raises:
        Skip: there is no checkout.
    """
    import torch
    from seeded_weights import state_dict

    project, _, path = config.partition("/")
    file = Path(os.environ.get(CHECKOUT, "")) / "projects" / project / "configs" / f"{path}.py"
    if not file.is_file():
        raise Skip(f"{CHECKOUT} names no checkout of Detectron2")
    _stand_in_for_fairscale()
    from detectron2.config import LazyConfig, instantiate

    cfg = LazyConfig.load(str(file))
    if change is not None:
        change(cfg)
    model = instantiate(cfg.model)
    current = model.state_dict()
    # Swin computes its indices itself.
    weights = state_dict({name: value.shape for name, value in current.items()})
    computed = {name for name in current if name.endswith("relative_position_index")}
    model.load_state_dict(
        {
            name: value if name in computed else torch.from_numpy(weights[name])
            for name, value in current.items()
        }
    )
    return cfg, model


def _stand_in_for_fairscale() -> None:
    """Where it is not installed, PyTorch's checkpointing, which fairscale's wrapper is made of."""
    try:
        import fairscale  # noqa: F401
    except ImportError:
        import torch
        from torch.utils.checkpoint import checkpoint

        def checkpoint_wrapper(module: torch.nn.Module) -> torch.nn.Module:
            forward = module.forward
            module.forward = lambda *inputs: checkpoint(forward, *inputs, use_reentrant=False)
            return module

        names = ("fairscale", "fairscale.nn", "fairscale.nn.checkpoint")
        modules = {name: types.ModuleType(name) for name in names}
        modules[names[-1]].checkpoint_wrapper = checkpoint_wrapper  # type: ignore[attr-defined]
        sys.modules.update(modules)
