"""The LazyConfigs of all models of projects/ViTDet and MViTv2 say what the YAMLs here say."""

from __future__ import annotations

# ruff: noqa: E501 - messages and pieces of YAML, a line each
import gzip
import json
import re

import numpy as np
import pytest

from convert_d2.command import main as convert_command
from convert_d2.inspection import describe
from convert_d2.lazy_config.architectures import ARCHITECTURE
from convert_d2.lazy_config.arguments import Settings, convert
from convert_d2.lazy_config.conversion import read_lazy_config
from convert_d2.lazy_config.interpolation import SHAPE_SPEC_NAME, Name, Partial
from tests.convert_d2.lazy_config.test_commands import outcome
from tests.convert_d2.lazy_config.test_models import differences
from tests.support.lazy_configs import FOLDER, mutate
from tests.support.paths import DATA
from tests.support.transformer_models import narrow_state_dict
from tfdetect.checkpoint.formats.pickle_writer import pickle_arrays
from tfdetect.config import build_config, load_config
from tfdetect.config.checks import check_model
from tfdetect.config.training_checks import check_training
from tfdetect.data.images import read_image
from tfdetect.errors import InputError
from tfdetect.inference.predictor import Predictor

with gzip.open(FOLDER / "transformers.json.gz", "rt") as _file:
    TEXTS = json.load(_file)
with gzip.open(DATA / "vitdet" / "settings.json.gz", "rt") as _file:
    RECORDED = json.load(_file)
with gzip.open(DATA / "vitdet" / "state_dicts.json.gz", "rt") as _file:
    STATE_DICTS = json.load(_file)

VIT = "ViTDet/COCO/mask_rcnn_vitdet_b_100ep"
SWIN = "ViTDet/COCO/cascade_mask_rcnn_swin_b_in21k_50ep"
PREDICTED = ("config", "boxes", "scores", "classes", "mask_pixels")
MVIT = "MViTv2/cascade_mask_rcnn_mvitv2_t_3x"
# What Base-RCNN-FPN.yaml has, and LazyConfig nothing of: sizes beside INPUT.AUGMENTATIONS, and
# parts of other backbones. And what LazyConfig's trainer keeps, and evaluates on the way.
UNREAD = {
    "INPUT.MIN_SIZE_TRAIN": ((800,), (640, 672, 704, 736, 768, 800)),
    "MODEL.RESNETS.OUT_FEATURES": (["res4"], ["res2", "res3", "res4", "res5"]),
    "SOLVER.CHECKPOINTS_KEPT": (100, 5),
}
UNREAD_OF_VIT = {
    "MODEL.FPN.IN_FEATURES": ([], ["res2", "res3", "res4", "res5"]),
    "MODEL.FPN.NORM": ("", "LN"),
}


def read(tmp_path, text, shapes=None):
    """The configuration, what is noted of the file, and of what its checkpoint decided."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    lazy = read_lazy_config(path)
    cfg, decided = lazy.configuration((), shapes)
    return cfg, lazy.notes, decided


def shapes_of(name):
    return {key: tuple(shape) for key, shape in STATE_DICTS[name].items()}


def test_all_of_them():
    assert set(TEXTS) == set(RECORDED) == set(STATE_DICTS)
    assert len(TEXTS) == 29


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_the_same_settings_as_the_yaml(name, tmp_path):
    """Every key of the two is equal, but for those that nothing reads there."""
    cfg, notes, decided = read(tmp_path, TEXTS[name], shapes_of(name))
    vit = cfg.MODEL.BACKBONE.NAME == "build_vit_simple_feature_pyramid_backbone"
    expected = {"TEST.EVAL_PERIOD": (30000 if "LVIS" in name else 5000, 0)}
    expected |= UNREAD | (UNREAD_OF_VIT if vit else {})
    assert differences(cfg, load_config(name)) == expected
    check_model(cfg)
    check_training(cfg)
    expected = ["train.ddp.fp16_compression: True has no counterpart in training"]
    if "LVIS" in name:
        predictors = [f"box_predictors[{stage}]" for stage in range(3)]
        predictors = predictors if "cascade" in name else ["box_predictor"]
        weights = (f"model.roi_heads.{each}.get_fed_loss_cls_weights: " for each in predictors)
        expected = [*weights, *expected]
    if "_75ep" in name:
        expected.append("lr_multiplier.warmup_length: is 187.50 iterations; training rounds to 187")
    if "\nconstants:" in f"\n{TEXTS[name]}":
        expected.append("constants: is not used")
    assert len(notes) == len(expected)
    assert all(map(str.startswith, notes, expected))
    # The lambdas of projects/MViTv2, which are lost.
    assert len(decided) == (2 if name.startswith("MViTv2/cascade") else 0)


def as_lazy(tree):
    """A record of what Detectron2 called, as a LazyConfig has it."""
    if isinstance(tree, list):
        return [as_lazy(entry) for entry in tree]
    if not isinstance(tree, dict):
        return tree
    if "_class_" in tree:
        return Name(tree["_class_"])
    if "_partial_" in tree or tree.get("norm") == "NaiveSyncBatchNorm":
        name = tree.get("_partial_", "detectron2.layers.NaiveSyncBatchNorm")
        keywords = {key: tree[key] for key in ("eps", "stats_mode") if key in tree}
        if name.endswith("NaiveSyncBatchNorm"):
            assert keywords.pop("eps") == 1e-5
        return Partial(name, [], keywords)
    found = {key: as_lazy(value) for key, value in tree.items()}
    return {"_target_": SHAPE_SPEC_NAME} | found if set(tree) == SHAPE else found


SHAPE = {"channels", "height", "width", "stride"}


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_every_argument_written_out(name, tmp_path):
    """With all default values of Detectron2's constructors, the model is the same."""
    settings = Settings("tree")
    convert(settings, "model", as_lazy(RECORDED[name]["tree"]), ARCHITECTURE)
    values = [(key, value, path) for key, (value, path) in settings.values.items()]
    cfg, _, _ = read(tmp_path, TEXTS[name], shapes_of(name))
    weights = ["MODEL.WEIGHTS", cfg.MODEL.WEIGHTS]
    assert differences(build_config(values, weights).MODEL, cfg.MODEL, "MODEL.") == {}


def changed(name, *changes):
    text = TEXTS[name]
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def test_sgd_with_layer_decay(tmp_path):
    """The optimizer and the decay go together as they like."""
    text = changed(
        VIT,
        ("torch.optim.AdamW", "torch.optim.SGD"),
        ("  betas: !!python/tuple [0.9, 0.999]\n", "  momentum: 0.8\n  nesterov: true\n"),
    )
    cfg, notes, _ = read(tmp_path, text)
    solver = cfg.SOLVER
    assert (solver.OPTIMIZER, solver.MOMENTUM, solver.NESTEROV) == ("SGD", 0.8, True)
    assert (solver.LAYER_DECAY, solver.WEIGHT_DECAY) == (0.7, 0.1)
    assert [list(pair) for pair in solver.WEIGHT_DECAY_OVERRIDES] == [["pos_embed", 0.0]]
    check_training(cfg)
    assert len(notes) == 1


REFUSED = [
    (VIT, ("embed_dim: 768", "embed_dim: wide"), "net.embed_dim: is wide; give an integer"),
    (VIT, ("window_size: 14", "window_size: 14.0"), "net.window_size: is 14.0; give an integer"),
    (VIT, ("scale_factors: !!python/tuple [4.0, 2.0, 1.0, 0.5]", "scale_factors: [1.0e-308]"), "scale_factors: is [1e-308]; give some of 4, 2, 1, 0.5"),
    (VIT, ("patch_size: 16", "patch_size: 0"), "net.patch_size: is 0; give a power of 2"),
    (VIT, ("square_pad: 1024", "square_size: 1024"), "square_size: Detectron2's SimpleFeaturePyramid has no such argument"),
    (VIT, ("square_pad: 1024", "padding_constraints: {size_divisiblity: 32}"), "padding_constraints: Detectron2's SimpleFeaturePyramid has no such argument"),
    (SWIN, ("depths: [2, 2, 18, 2]", "depths: [2, 2, x, 2]"), "bottom_up.depths: is [2, 2, 'x', 2]; give a list of integers"),
    (SWIN, ("      embed_dim: 128", "      embed_dim: 128\n      out_indices: [0, 100000000000]"), "bottom_up.out_indices: is [0, 100000000000]; give stages from 0 to 3"),
    (SWIN, ("      embed_dim: 128", "      embed_dim: 128\n      patch_size: 0"), "bottom_up.patch_size: is 0; give 4"),
    (SWIN, ("      embed_dim: 128", "      embed_dim: 128\n      drop_rate: 0.1"), "bottom_up.drop_rate: is 0.1, but dropout has no counterpart here; give 0"),
    (SWIN, ("      embed_dim: 128", "      embed_dim: 128\n      norm_layer: !!python/name:torch.nn.modules.batchnorm.BatchNorm2d ''"), "bottom_up.norm_layer: is torch.nn.modules.batchnorm.BatchNorm2d; only LayerNorm with eps 1e-05 is"),
    (SWIN, ("num_heads: [4, 8, 16, 32]", "num_heads: [4, 8, 16, 32]\n      shift: 3"), "bottom_up.shift: Detectron2's SwinTransformer has no such argument"),
    (SWIN, ("[p0, p1, p2, p3]", "[p0, p1, p2, p4]"), "in_features: 'p4' is not among bottom_up.out_features"),
    (MVIT, ("embed_dim: 96", "embed_dim: [96]"), "bottom_up.embed_dim: is [96]; give an integer"),
    (MVIT, ("{eps: 1.0e-06}", "{eps: 1.0e-05}"), "bottom_up.norm_layer: is LayerNorm with eps 1e-05; only eps 1e-06 is supported"),
    (MVIT, ("[scale2, scale3, scale4, scale5]", "[scale2, scale6]"), "bottom_up.out_features: 'scale6' is not one of scale2, scale3, scale4, scale5"),
    (MVIT, ("depth: 10", "depth: 10\n      patch_stride: [0, 0]"), "bottom_up.patch_stride: is [0, 0]; give two equal powers of 2"),
    (MVIT, ("depth: 10", "depth: 10\n      act_layer: !!python/name:torch.nn.modules.activation.ReLU ''"), "bottom_up.act_layer: is torch.nn.modules.activation.ReLU; only torch.nn.GELU"),
    (MVIT, ("python/name:torch.nn.modules.normalization.LayerNorm", "python/name:os.system"), "bottom_up.norm_layer: is functools.partial of os.system; only LayerNorm with eps 1e-06 is supported"),
    (MVIT, ("_target_: detectron2.modeling.MViT", "_target_: os.system"), "bottom_up: os.system is not one of the classes of Detectron2 that are known here"),
    (MVIT, ("depth: 10", "depth: 10\n      in_chans: 4"), "bottom_up.in_chans: is 4, but images have three channels here; give 3"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "expected"), REFUSED, ids=range(len(REFUSED)))
def test_refused(name, change, expected, tmp_path):
    with pytest.raises(InputError) as caught:
        read(tmp_path, changed(name, change))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{tmp_path / 'config.yaml'}: model.backbone.{expected}")


IMPOSSIBLE = [
    (VIT, ("depth: 12", "depth: 100000000000"), "MODEL.VIT.DEPTH: is 100000000000; give a number from 1 to 1000"),
    (SWIN, ("depths: [2, 2, 18, 2]", "depths: [2, 2, 1000000000, 2]"), "MODEL.SWIN.DEPTHS: is"),
    (MVIT, ("depth: 10", "depth: 1000000000000"), "MODEL.MVIT.DEPTH: is 1000000000000; give a number from 4 to 1000"),
    (VIT, ("num_heads: 12", "num_heads: 5"), "MODEL.VIT.NUM_HEADS: 5 does not divide"),
    (SWIN, ("num_heads: [4, 8, 16, 32]", "num_heads: [4, 8]"), "MODEL.SWIN.NUM_HEADS: has 2 stages"),
    (SWIN, ("      embed_dim: 128", "      embed_dim: 128\n      window_size: 0"), "MODEL.SWIN.WINDOW_SIZE: is 0"),
    (MVIT, ("python/tuple [0, 2, 7, 9]", "python/tuple [0, 2, 7, 12]"), "MODEL.MVIT.LAST_BLOCK_INDEXES: 12 is not among the 10 blocks"),
    (MVIT, ("depth: 10", "depth: 10\n      patch_kernel: [7, 5]"), "MODEL.MVIT.PATCH_KERNEL: is"),
    (MVIT, ("depth: 10", "depth: 10\n      adaptive_window_size: 12"), "MODEL.MVIT.ADAPTIVE_WINDOW_SIZE: 12"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "expected"), IMPOSSIBLE, ids=range(len(IMPOSSIBLE)))
def test_values_that_no_model_can_have(name, change, expected, tmp_path):
    """Said by the checks of the keys, before anything is built."""
    with pytest.raises(InputError, match=re.escape(expected)):
        check_model(read(tmp_path, changed(name, change))[0])


def test_other_initial_values_are_a_note(tmp_path):
    change = ("depth: 10", "depth: 10\n      rel_pos_zero_init: false")
    _, notes, _ = read(tmp_path, changed(MVIT, change))
    assert "bottom_up.rel_pos_zero_init: false has no counterpart" in notes[0]


@pytest.mark.parametrize(
    ("name", "backbone", "blocks"),
    [
        (VIT, "ViT with a simple feature pyramid", "12 blocks of 768 channels and 12 heads; windows of 14 x 14 tokens in 8 of them"),
        (SWIN, "Swin-FPN", "stages of 2, 2, 18 and 2 blocks with 4, 8, 16 and 32 heads, 128 channels in the first; windows of 7 x 7 tokens"),
        (MVIT, "MViT-FPN", "10 blocks in stages that end with 0, 2, 7 and 9, 96 channels and 1 head in the first; windows of 56 x 56 tokens there"),
    ],
)  # fmt: skip
def test_inspect(name, backbone, blocks, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(TEXTS[name])
    said = describe(path)
    assert re.search(rf"^architecture: +GeneralizedRCNN, {re.escape(backbone)}, ", said, re.M)
    kind = backbone.partition("-")[0].partition(" ")[0]
    assert re.search(rf"^backbone: +{kind}: {re.escape(blocks)}$", said, re.M)


def test_mutations(tmp_path, monkeypatch):
    """Whatever a file says, it is read or named in one line."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    messages = []
    for seed in range(60):
        path.write_bytes(mutate(TEXTS[(VIT, SWIN, MVIT)[seed % 3]], seed))
        messages.append(outcome(path, lambda cfg: None))
    errors = [message for message in messages if message is not None]
    assert not [message for message in errors if "\n" in message or len(message) > 1000]
    assert len(errors) > 20
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.full
@pytest.mark.parametrize("kind", ["vit", "swin", "mvit"])
def test_detections(kind, tmp_path, capsys):
    """A training's two files become a model that predicts as Detectron2's: all detections, boxes
    within 0.01 pixels, scores within 2e-4, masks within 20 pixels (its noise with weights disturbed
    by 1e-6: 3.5e-3, 6e-5, 13)."""
    with np.load(FOLDER / "predictions.npz") as arrays:
        recorded = {name: arrays[f"{kind}/{name}"] for name in PREDICTED}
    config, weights = tmp_path / "config.yaml", tmp_path / "model_final.pkl"
    config.write_text(str(recorded["config"]))
    lazy = read_lazy_config(config)
    norms = ["MODEL.ROI_BOX_HEAD.NORM", "BN", "MODEL.ROI_MASK_HEAD.NORM", "BN"]
    arrays = narrow_state_dict(lazy.configuration(norms if kind == "mvit" else ())[0])
    weights.write_bytes(pickle_arrays(arrays, "test"))
    files = ["--config-file", str(config), "--weights", str(weights)]
    assert convert_command([*files, "--output", str(tmp_path / "model")]) == 0
    found = Predictor(tmp_path / "model")(read_image(DATA / "full" / "coffee.png"))
    assert len(found.boxes) == len(recorded["boxes"]) == 100
    left = set(range(100))
    for index, box in enumerate(recorded["boxes"]):
        same = [other for other in left if found.classes[other] == recorded["classes"][index]]
        nearest = min(same, key=lambda other: np.abs(found.boxes[other] - box).max())
        left.remove(nearest)
        assert np.abs(found.boxes[nearest] - box).max() < 0.01
        assert abs(found.scores[nearest] - recorded["scores"][index]) < 2e-4
        pixels = int(np.sum(found.masks[nearest]))
        assert abs(pixels - int(recorded["mask_pixels"][index])) <= 20
