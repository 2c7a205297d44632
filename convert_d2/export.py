"""Export to Detectron2: `python -m convert_d2.export --model DIR --output model.pkl`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from yacs.config import CfgNode

from tfdetect.checkpoint.formats.pickle_writer import pickle_arrays
from tfdetect.checkpoint.quantization import require_float32
from tfdetect.cli.command import run_command
from tfdetect.cli.quiet import import_tensorflow
from tfdetect.config import dump_config
from tfdetect.config.capabilities import capabilities
from tfdetect.config.keys import OWN_KEYS, POINTREND_KEYS
from tfdetect.errors import InputError
from tfdetect.files import check_writable, write_bytes_atomically, write_text_atomically

if TYPE_CHECKING:
    import tensorflow as tf

AUTHOR = "tfdetect"
_UNKNOWN_VALUES = (
    *("torchvision", "maskrcnn_benchmark", "tensorpack"),
    "build_regnet_fpn_backbone",
    *("FCOS", "build_fcos_resnet_fpn_backbone"),
)
_TRANSFORMERS = (
    *(f"build_{name}_backbone" for name in ("vit", "vit_simple_feature_pyramid")),
    *(f"build_{kind}{above}_backbone" for kind in ("swin", "mvit") for above in ("", "_fpn")),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export, and say what was written. `arguments` are those of the command line.

    Beside the pickle goes the configuration without the keys that Detectron2 does not know.
    """
    parser = argparse.ArgumentParser(
        prog="python -m convert_d2.export",
        description="Write a model directory's weights as a pickle for Detectron2 (its "
        "MODEL.WEIGHTS), and the configuration next to it, as .yaml.",
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="the model directory")
    parser.add_argument("--output", required=True, metavar="FILE", help="the .pkl to write")
    args = parser.parse_args(arguments)
    output = Path(args.output)
    if output.suffix != ".pkl":
        raise InputError(f"{output}: Detectron2 recognises a pickle by its suffix; use .pkl")
    require_float32(Path(args.model), "convert_d2.export")
    check_writable(output.parent)
    import_tensorflow()
    from tfdetect.checkpoint.model_dir import load_model

    cfg, model, _ = load_model(args.model)
    arrays = export_arrays(cfg, model)
    write_bytes_atomically(output, pickle_arrays(arrays, AUTHOR))
    config = output.with_suffix(".yaml")
    write_text_atomically(config, detectron2_config(cfg))
    print(f"{output}: {len(arrays)} arrays under Detectron2's names, configuration in {config}")
    for key in ("MODEL.CONVENTIONS", "MODEL.META_ARCHITECTURE", "MODEL.BACKBONE.NAME"):
        if (value := _value(cfg, key)) in (*_UNKNOWN_VALUES, *_TRANSFORMERS):
            where = (
                "; the weights are for a Python configuration, as those of its projects/ViTDet and "
                "projects/MViTv2 (train.init_checkpoint)"
            )
            where = where if value in _TRANSFORMERS else ""
            print(f"note: Detectron2's YAML cannot express {key} {value}{where}", file=sys.stderr)
    return 0


def detectron2_config(cfg: CfgNode) -> str:
    """The configuration as YAML, without this project's own keys.

    Those of PointRend are there for a model that has it, which needs `add_pointrend_config`.
    """
    tree = yaml.safe_load(dump_config(cfg))
    for key in OWN_KEYS if capabilities(cfg).has_points else (*OWN_KEYS, *POINTREND_KEYS):
        *path, name = key.split(".")
        node = tree
        for part in path:
            node = node[part]
        del node[name]
    return yaml.safe_dump(tree, sort_keys=True, allow_unicode=True)


def _value(cfg: CfgNode, key: str) -> Any:
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    return node


def export_arrays(cfg: CfgNode, model: tf.Module) -> dict[str, np.ndarray]:
    """A model's weights as Detectron2's state dict: names, layouts and order.

    Every parameter is float32 and bit for bit what was converted or trained. Of batch normalisation
    that was trained, PyTorch also counts the batches (`num_batches_tracked`); nothing reads that
    number, no model here has it, and it restarts from zero.
    """
    from tfdetect.checkpoint.names import named_buffers, named_variables
    from tfdetect.layers.norm import BatchNorm

    regnet = cfg.MODEL.BACKBONE.NAME == "build_regnet_fpn_backbone"
    norm = (cfg.MODEL.REGNETS if regnet else cfg.MODEL.RESNETS).NORM
    arrays: dict[str, np.ndarray] = {}
    for named in named_variables(model):
        arrays[named.name] = named.to_foreign()
        path, _, attribute = named.name.rpartition(".")
        frozen = isinstance(named.layer, BatchNorm) and not named.layer.weight.trainable
        # What MODEL.BACKBONE.FREEZE_AT freezes has a counter all the same, FrozenBN itself none.
        if attribute == "running_var" and not (frozen and norm == "FrozenBN"):
            arrays[f"{path}.num_batches_tracked"] = np.zeros([], np.int64)
    return arrays | {name: buffer.compute() for name, buffer in named_buffers(model)}


if __name__ == "__main__":
    run_command(main)
