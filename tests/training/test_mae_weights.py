"""MAE's ViT, by its own names, as the initial weights of a ViTDet."""

import logging

import numpy as np
from safetensors.numpy import save_file

from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.modeling.build import build_model
from tfdetect.training.weights import load_initial_weights

NARROW = (
    *("MODEL.VIT.EMBED_DIM", 32, "MODEL.VIT.DEPTH", 2, "MODEL.VIT.NUM_HEADS", 2),
    *("MODEL.VIT.WINDOW_BLOCK_INDEXES", [0]),
)


def test_names_of_mae(tmp_path, caplog):
    path = tmp_path / "mae.safetensors"
    opts = [*NARROW, "MODEL.WEIGHTS", f"{path}?matching_heuristics=True"]
    cfg = load_config("ViTDet/COCO/mask_rcnn_vitdet_b_100ep", opts)
    model = build_model(cfg)
    prefix, rng = "backbone.net.", np.random.default_rng(0)
    # MAE has no relative positions, and a class token and a last norm that ViTDet has not.
    of_net = [
        named
        for named in named_variables(model)
        if named.name.startswith(prefix) and "rel_pos" not in named.name
    ]
    arrays = {
        named.name.removeprefix(prefix): rng.normal(size=named.foreign_shape).astype(np.float32)
        for named in of_net
    }
    assert {"pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"} <= set(arrays)
    others = {"cls_token": np.zeros((1, 1, 32), np.float32), "norm.weight": np.ones(32, np.float32)}
    save_file(arrays | others, path)
    with caplog.at_level(logging.INFO, logger="tfdetect.train"):
        load_initial_weights(cfg, model, seed=0)
    for named in of_net:
        expected = named.from_foreign(arrays[named.name.removeprefix(prefix)])
        np.testing.assert_array_equal(named.variable.numpy(), expected, named.name)
    assert "not used: cls_token" in caplog.text
    assert f"{len(of_net)} variables are from there" in caplog.text
    assert "has no backbone.simfp_2.0.weight" in caplog.text
