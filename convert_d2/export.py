"""Back to Detectron2: `python -m convert_d2.export --model DIR --output model.pkl`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convert_d2.pickle_writer import pickle_arrays
from tfdetect.data.files import check_writable, write_bytes_atomically
from tfdetect.errors import InputError, run_command
from tfdetect.quiet import import_tensorflow

AUTHOR = "tfdetect"


def main(arguments: Sequence[str] | None = None) -> int:
    """Export, and say what was written. `arguments` are those of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m convert_d2.export",
        description="Write a model directory's weights as a pickle for Detectron2, which loads it "
        "as MODEL.WEIGHTS under the directory's config.yaml.",
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="the model directory")
    parser.add_argument("--output", required=True, metavar="FILE", help="the .pkl to write")
    args = parser.parse_args(arguments)
    output = Path(args.output)
    if output.suffix != ".pkl":
        raise InputError(f"{output}: Detectron2 knows a pickle by its name; end it in .pkl")
    check_writable(output.parent)
    arrays = export_arrays(args.model)
    write_bytes_atomically(output, pickle_arrays(arrays, AUTHOR))
    print(f"{output}: {len(arrays)} arrays under Detectron2's names")
    return 0


def export_arrays(directory: str | Path) -> dict[str, np.ndarray]:
    """A model directory's weights as Detectron2's state dict: names, layouts and order.

    Every array is float32 and bit for bit what was converted or trained. Of batch normalisation
    that was trained, PyTorch also counts the batches (`num_batches_tracked`); nothing reads that
    number, no model here has it, and it starts anew from zero.

    Raises:
        InputError: the directory is not a model's.
    """
    import_tensorflow()
    from tfdetect.checkpoint.model_dir import load_model
    from tfdetect.checkpoint.names import named_variables
    from tfdetect.layers.norm import BatchNorm

    cfg, model, _ = load_model(directory)
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
    return arrays


if __name__ == "__main__":
    run_command(main)
