"""The YAMLs of new_baselines have the values of Detectron2's Python configs of the same name."""

from __future__ import annotations

import pytest

from tests.support.paths import ROOT
from tfdetect.config import load_config

CONFIGS = ROOT / "configs" / "new_baselines"
# Iterations, milestones and warm-up by epochs, as Detectron2's files compute them.
SCHEDULES = {
    50: (92187, (81944, 88773), 250),
    100: (184375, (163889, 177546), 500),
    200: (368750, (327778, 355092), 1000),
    400: (737500, (655556, 710184), 2000),
}
NAMES = [
    *(f"mask_rcnn_R_50_FPN_{epochs}ep_LSJ" for epochs in (50, 100, 200, 400)),
    *(
        f"mask_rcnn_{backbone}_FPN_{epochs}ep_LSJ"
        for backbone in ("R_101", "regnetx_4gf_dds", "regnety_4gf_dds")
        for epochs in (100, 200, 400)
    ),
]


def test_these_and_no_others():
    assert sorted(path.stem for path in CONFIGS.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_values(name):
    cfg = load_config(CONFIGS / f"{name}.yaml")
    solver = cfg.SOLVER
    epochs = int(name.split("_")[-2].removesuffix("ep"))
    assert SCHEDULES[epochs] == (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS)
    assert (solver.BASE_LR, solver.WEIGHT_DECAY, solver.WARMUP_FACTOR) == (0.1, 4e-5, 0.067)
    assert (solver.MOMENTUM, solver.IMS_PER_BATCH, solver.AMP.ENABLED) == (0.9, 64, True)
    model = cfg.MODEL
    assert model.MASK_ON
    assert model.WEIGHTS == ""
    assert model.BACKBONE.FREEZE_AT == 0
    assert model.FPN.NORM == "SyncBN"
    assert model.RPN.CONV_DIMS == [-1, -1]
    head = model.ROI_BOX_HEAD
    assert (head.NUM_CONV, head.CONV_DIM, head.NUM_FC, head.FC_DIM) == (4, 256, 1, 1024)
    assert head.NORM == model.ROI_MASK_HEAD.NORM == "naiveSyncBN_N"
    if "regnet" in name:
        net = model.REGNETS
        assert model.PIXEL_STD == [57.375, 57.12, 58.395]
        assert cfg.CUDNN_BENCHMARK
        assert (net.STEM_WIDTH, net.W_0, net.NORM) == (32, 96, "SyncBN")
        values = (net.DEPTH, net.W_A, net.W_M, net.GROUP_WIDTH, net.SE_RATIO)
        x, y = (23, 38.65, 2.43, 40, 0.0), (22, 31.41, 2.24, 64, 0.25)
        assert values == (x if "regnetx" in name else y)
    else:
        assert model.PIXEL_STD == [1.0, 1.0, 1.0]
        depth = 101 if "R_101" in name else 50
        assert depth == model.RESNETS.DEPTH
        assert (model.RESNETS.NORM, model.RESNETS.STRIDE_IN_1X1) == ("SyncBN", True)
