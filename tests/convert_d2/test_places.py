"""Where in a file the weights are, and what wrappers put before their names: said in a line, alike
in `convert_d2.py`, `--inspect` and MODEL.WEIGHTS of train.py."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest

from convert_d2.command import main
from convert_d2.inspection import describe
from convert_d2.libraries.recognition import describe_place, recognize
from convert_d2.libraries.sources import find_library, to_detectron2
from tests.convert_d2.libraries.test_sources import (
    SMALL_INPUT,
    narrow_arrays,
    recorded_shapes,
    to_caffe2,
    write_pth,
)
from tests.support.paths import DATA, DEMO
from tests.support.pickle_writer import Call, Global, New, dumps, torch_file, torch_state
from tfdetect.checkpoint.formats.pickle_writer import pickle_arrays
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.errors import InputError
from tfdetect.modeling.build import build_model
from tfdetect.training.weights import load_initial_weights

DEMO_WEIGHTS = DEMO / "joint_rcnn" / "model_final.pkl"
DEMO_CONFIG = DEMO / "joint_rcnn" / "config.yaml"
ARRAYS = {
    "backbone.bottom_up.stem.conv1.weight": np.arange(12, dtype=np.float32),
    "proposal_generator.rpn_head.conv.bias": np.arange(3, dtype=np.float32),
    "roi_heads.box_predictor.cls_score.weight": np.ones(5, np.float32),
}
OTHER = {name: -array for name, array in ARRAYS.items()}

CONTAINERS = (
    *("model", "blobs", "state_dict", "model_state_dict", "model_state", "net", "network"),
    *("weights", "params", "module", "ema", "model_ema", "ema_state_dict", "ema_model", "teacher"),
    *("student", "generator", "detector_weights", "best_weights"),
)


def read(tmp_path, root, arrays=ARRAYS):
    checkpoint = read_checkpoint(torch_file(tmp_path / "x.pth", root, arrays))
    found = recognize(checkpoint.arrays)
    taken = found.select(checkpoint.arrays)
    return taken, " ".join(describe_place(checkpoint.container, checkpoint.others, found))


def assert_taken(taken, arrays=ARRAYS):
    assert set(taken) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(taken[name], array)


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers(tmp_path, container):
    beside = {
        "epoch": 3,
        "optimizer": {"state": {0: {"exp_avg": torch_state(OTHER)}}, "x": torch_state(OTHER)},
        "lr_scheduler": torch_state(OTHER),
        "rng_state": torch_state(ARRAYS)["roi_heads.box_predictor.cls_score.weight"],
        "args": New(Global("argparse Namespace"), (), None, {"lr": 0.1}),
    }
    taken, said = read(tmp_path, {**beside, container: torch_state(ARRAYS)})
    assert_taken(taken)
    assert (f"under '{container}'" in said) == (container not in ("model", "blobs"))
    assert "other weights" not in said
    # One level deeper.
    taken, said = read(tmp_path, {"checkpoint": {container: torch_state(ARRAYS), **beside}})
    assert_taken(taken)
    assert f"under 'checkpoint.{container}'" in said


@pytest.mark.parametrize(
    ("order", "taken_from"),
    [
        (["model", "model_ema"], "model"),
        (["ema", "model"], "model"),
        (["model_ema", "state_dict"], "state_dict"),
        (["teacher", "student"], "student"),
        (["ema_state", "net"], "net"),
    ],
)
def test_two_candidates(tmp_path, order, taken_from):
    """The weights themselves are taken, as Detectron2 does, not their average; and it is said."""
    arrays = ARRAYS | {f"other.{name}": array for name, array in OTHER.items()}
    state = torch_state(arrays)
    states = {name: {} for name in order}
    for name in order:
        prefix = "" if name == taken_from else "other."
        states[name] = {key: state[prefix + key] for key in ARRAYS}
    taken, said = read(tmp_path, states, arrays)
    assert_taken(taken)
    left = next(name for name in order if name != taken_from)
    assert f"are not used: {left} (taken: {taken_from})" in said


PREFIXES = (
    *("module.", "model.", "_orig_mod.", "module.model.", "model.module.", "net.", "student."),
    *("ema.", "model._orig_mod.", "module._orig_mod.", "modelStudent.", "detector.", "ema_model."),
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_every_library(prefix):
    """What is recognised without a prefix is recognised with one, and the same then."""
    models = {"Detectron2": ARRAYS}
    for library in ("torchvision", "maskrcnn_benchmark"):
        for name in list(recorded_shapes(library))[:2]:
            models[library.replace("_", "-")] = narrow_arrays(library, name)
    models["Detectron"] = to_caffe2(models["maskrcnn-benchmark"], fpn=True)
    models["tensorpack"] = {"conv0/W": np.ones(1), "rpn/conv0/W": np.ones(2)}
    for library, arrays in models.items():
        wrapped = {prefix + name: array for name, array in arrays.items()}
        wrapped["criterion.weight"] = np.ones(3)
        found = recognize(wrapped)
        assert (found.library, found.prefix, found.outside) == (library, prefix, 1)
        assert find_library(wrapped).name == library
        assert set(found.select(wrapped)) == set(arrays)


def test_two_prefixes():
    """A state dict with the average beside the weights."""
    arrays = {f"model.{name}": array for name, array in ARRAYS.items()}
    arrays |= {f"ema.module.{name}": array for name, array in OTHER.items()}
    found = recognize(arrays)
    assert_taken(found.select(arrays))
    said = " ".join(describe_place("state_dict", (), found))
    assert "'model.' before the names is stripped" in said
    assert "are not used: ema.module.* (taken: model.*)" in said
    # And without a prefix of its own.
    arrays = ARRAYS | {f"ema.{name}": array for name, array in OTHER.items()}
    found = recognize(arrays)
    assert_taken(found.select(arrays))


def test_parts_within_parts_are_no_wrapped_models():
    arrays = ARRAYS | {"backbone.adapter.head.cls_score.weight": np.ones(2, np.float32)}
    found = recognize(arrays)
    assert (found.prefix, found.others) == ("", ())
    assert_taken(found.select(arrays), arrays)


def module_of(state):
    """torch.nn.Modules that have this state dict, as they are pickled."""
    here, below = {}, {}
    for name, value in state.items():
        first, dot, rest = name.partition(".")
        if dot:
            below.setdefault(first, {})[rest] = value
        else:
            here[first] = value
    ordered = Call(Global("collections OrderedDict"), ())
    attributes = {
        "training": True,
        "_parameters": {"weight": None, **here},
        "_buffers": {"scratch": torch_state(OTHER)["proposal_generator.rpn_head.conv.bias"]},
        "_non_persistent_buffers_set": Call(Global("__builtin__ set"), (["scratch"],)),
        "_forward_hooks": ordered,
        "_modules": {name: module_of(inner) for name, inner in below.items()},
    }
    return New(Global("my.models Net"), (), None, attributes)


def test_modules_saved_whole(tmp_path):
    """torch.save(model), torch.save({"model": model}), and an average that holds a model."""
    module = module_of(torch_state(ARRAYS))
    wrapped = module_of({f"module.{name}": value for name, value in torch_state(ARRAYS).items()})
    average = New(Global("my.ema ModelEMA"), (), None, {"ema": module, "updates": 3})
    for root, expected in (
        (module, ""),
        ({"model": module, "epoch": 1}, ""),
        (wrapped, "'module.' before the names is stripped"),
        ({"ema": average}, "under 'ema.ema'"),
    ):
        taken, said = read(tmp_path, root)
        assert_taken(taken)
        assert expected in said


def test_modules_within_themselves(tmp_path):
    """A module that is its own child has no end of names, and no weights."""
    module = b"\x80\x02cm\nC\n)\x81q\x00}X\x08\x00\x00\x00_modules}X\x01\x00\x00\x00ah\x00ssb."
    (tmp_path / "x.pkl").write_bytes(module)
    with pytest.raises(InputError, match="holds"):
        read_checkpoint(tmp_path / "x.pkl")


@pytest.fixture(scope="module")
def demo():
    return read_checkpoint(DEMO_WEIGHTS).arrays


def wrapped_demo(tmp_path, demo):
    arrays = {f"module.model.{name}": array for name, array in demo.items()}
    root = {
        "state_dict": {
            **torch_state(arrays),
            "loss.weight": torch_state(arrays)[next(iter(arrays))],
        },
        "args": New(Global("argparse Namespace"), (), None, {"lr": 0.1}),
        "ema": torch_state(arrays),
    }
    return torch_file(tmp_path / "wrapped.pth", root, arrays)


def test_all_commands_alike(tmp_path, demo, capsys, caplog):
    path = wrapped_demo(tmp_path, demo)
    sentences = (
        "the weights under 'state_dict' are used",
        "'module.model.' before the names is stripped",
        "names without it are ignored (1 arrays)",
        "are not used: ema (taken: state_dict)",
    )
    lines = describe(path)
    assert "GeneralizedRCNN, ResNet-50-FPN, StandardROIHeads, boxes, masks, 17 keypoints" in lines
    assert "2,267,721 in 317 arrays" in lines

    model = tmp_path / "model"
    command = ["--config-file", str(DEMO_CONFIG), "--weights", str(path), "--output", str(model)]
    main([*command, "--metadata", str(DEMO / "annotations.json")])
    said = capsys.readouterr().err

    cfg = load_config(DEMO_CONFIG, ["MODEL.WEIGHTS", str(path)])
    trained = build_model(cfg)
    with caplog.at_level(logging.INFO, "tfdetect.train"):
        load_initial_weights(cfg, trained, 1)
    for sentence in sentences:
        assert sentence in lines
        assert sentence in said
        assert sentence in caplog.text
    for named in named_variables(trained):
        np.testing.assert_array_equal(named.variable, named.from_foreign(demo[named.name]))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_training_starts_from_other_libraries(tmp_path, caplog, prefix):
    """A detector of torchvision's, or its ResNet, in a model of Detectron2's."""
    arrays = narrow_arrays("torchvision", "fasterrcnn_resnet50_fpn")
    path = write_pth(tmp_path / "x.pth", {prefix + name: x for name, x in arrays.items()})
    expected = to_detectron2(find_library(arrays), arrays, "x")
    width = ["MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "32"]
    width += ["MODEL.RESNETS.WIDTH_PER_GROUP", "8", "MODEL.FPN.OUT_CHANNELS", "32"]
    width += ["MODEL.ROI_BOX_HEAD.FC_DIM", "128", "MODEL.WEIGHTS", str(path)]
    config = DATA.parent.parent / "configs" / "COCO-Detection" / "faster_rcnn_R_50_FPN_1x.yaml"
    cfg = load_config(config, width)
    model = build_model(cfg)
    with caplog.at_level(logging.INFO, "tfdetect.train"):
        load_initial_weights(cfg, model, 1)
    assert "is a detector of torchvision" in caplog.text
    same = [
        named.name
        for named in named_variables(model)
        if named.name in expected
        and named.foreign_shape == expected[named.name].shape
        and np.array_equal(named.variable, named.from_foreign(expected[named.name]))
    ]
    assert len(same) >= len(list(named_variables(model))) - 4  # 80 classes for 90

    body = {
        prefix + name.removeprefix("backbone.body."): array
        for name, array in arrays.items()
        if name.startswith("backbone.body.")
    }
    write_pth(path, body | {f"{prefix}fc.weight": np.ones((3, 4), np.float32)})
    caplog.clear()
    model = build_model(cfg)
    with caplog.at_level(logging.INFO, "tfdetect.train"):
        load_initial_weights(cfg, model, 1)
    assert "INPUT.FORMAT" in caplog.text
    stem = {named.name: named for named in named_variables(model)}[
        "backbone.bottom_up.stem.conv1.weight"
    ]
    array = arrays["backbone.body.conv1.weight"]
    np.testing.assert_array_equal(stem.variable, stem.from_foreign(array))


# Names of published models, of which a few are enough.
FOREIGN = {
    "torchvision's RetinaNet": [
        "backbone.body.conv1.weight",
        "head.classification_head.cls_logits.weight",
        "head.regression_head.bbox_reg.weight",
    ],
    "torchvision's FCOS": [
        "backbone.body.conv1.weight",
        "head.classification_head.cls_logits.weight",
        "head.regression_head.bbox_reg.weight",
        "head.regression_head.bbox_ctrness.weight",
    ],
    "torchvision's SSD": [
        "backbone.features.0.weight",
        "head.classification_head.module_list.0.weight",
        "head.regression_head.module_list.0.weight",
    ],
    "torchvision's SSDlite": [
        "backbone.features.0.0.0.weight",
        "head.classification_head.module_list.0.1.weight",
        "head.regression_head.module_list.0.1.weight",
    ],
    "another backbone than ResNet-FPN": [
        "backbone.0.0.weight",
        "rpn.head.cls_logits.weight",
        "roi_heads.box_predictor.cls_score.weight",
    ],
    "a DETR": [
        "transformer.encoder.layers.0.self_attn.in_proj_weight",
        "query_embed.weight",
        "class_embed.weight",
        "bbox_embed.layers.0.weight",
        "backbone.0.body.conv1.weight",
    ],
    "a Deformable DETR": ["transformer.level_embed", "class_embed.0.weight"],
    "a YOLO": ["model.0.conv.weight", "model.22.dfl.conv.weight"],
    "a YOLO of Ultralytics": ["model.0.conv.weight", "model.24.anchors", "model.24.m.0.weight"],
    "a YOLOX": ["backbone.backbone.stem.conv.conv.weight", "head.cls_preds.0.weight"],
    "a detector of MMDetection": [
        "backbone.conv1.weight",
        "backbone.layer1.0.conv1.weight",
        "neck.lateral_convs.0.conv.weight",
        "bbox_head.retina_cls.weight",
    ],
    "detector of MMDetection": [
        "backbone.patch_embed.projection.weight",
        "rpn_head.rpn_conv.weight",
        "roi_head.bbox_head.fc_cls.weight",
    ],
    "a Segment Anything model": [
        "image_encoder.patch_embed.proj.weight",
        "mask_decoder.iou_token.weight",
    ],
}


@pytest.fixture(scope="module")
def demo_model():
    return build_model(load_config(DEMO_CONFIG))


@pytest.mark.parametrize("description", FOREIGN)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_models_that_are_not_converted_are_named(tmp_path, description, prefix, demo_model):
    """Not taken for Detectron2's, whose YAML could be asked for."""
    names = FOREIGN[description]
    path = tmp_path / "x.pkl"
    arrays = {prefix + name: np.ones(2, np.float32) for name in names}
    path.write_bytes(dumps({"model": arrays, "meta": {"epoch": 1}}))
    lines = describe(path)
    assert re.search(rf"library: +.*{description}", lines)
    assert "none that this project supports" in lines
    assert "configs" not in lines
    for config in ([], ["--config-file", str(DEMO_CONFIG)]):
        with pytest.raises(InputError, match=f"is .*{description}.*does not support"):
            main([*config, "--weights", str(path), "--output", str(tmp_path / "m")])
    cfg = load_config(DEMO_CONFIG, ["MODEL.WEIGHTS", str(path)])
    with pytest.raises(InputError, match=f"MODEL.WEIGHTS: .*{description}"):
        load_initial_weights(cfg, demo_model, 1)


def test_nothing_is_claimed_that_was_not_found(tmp_path):
    """Names of no library, of a part of a model, and of a model with a part missing."""
    path = tmp_path / "x.pkl"

    def lines_of(names):
        path.write_bytes(pickle_arrays({name: np.ones(2, np.float32) for name in names}, "me"))
        return describe(path)

    for names in (["encoder.weight", "decoder.weight"], ["module.encoder.weight"]):
        lines = lines_of(names)
        assert re.search("library: +unknown", lines)
        assert "not a detector" in lines
        with pytest.raises(InputError, match=r"no known library's array names"):
            main(["--weights", str(path), "--output", str(tmp_path / "m")])
    lines = lines_of(["module.backbone.stem.conv1.weight", "module.backbone.res2.0.conv1.weight"])
    assert "ProposalNetwork" not in lines
    assert "parts of a detector of Detectron2 are missing" in lines
    assert "configs" not in lines
    lines = lines_of(["stem.conv1.weight", "res2.0.conv1.weight"])
    assert "Detectron2 (a backbone)" in lines
    with pytest.raises(InputError, match=r"is not a detector: Detectron2 \(a backbone\)"):
        main(["--weights", str(path), "--output", str(tmp_path / "m")])

    arrays = narrow_arrays("torchvision", "fasterrcnn_resnet50_fpn")
    del arrays["roi_heads.box_predictor.bbox_pred.weight"]
    lines = describe(write_pth(tmp_path / "y.pth", arrays))
    assert "parts of a detector of torchvision are missing" in lines
    assert "cannot be derived" in lines
    assert "not needed" not in lines


def test_torchvision_under_data_parallel(tmp_path, capsys):
    """Recognised, converted, and the prefix is said, by both commands."""
    arrays = narrow_arrays("torchvision", "fasterrcnn_resnet50_fpn")
    weights = write_pth(tmp_path / "x.pth", {f"module.{name}": x for name, x in arrays.items()})
    lines = describe(weights)
    assert re.search(r"library: +torchvision\n", lines)
    assert "'module.' before the names is stripped" in lines
    main(["--weights", str(weights), "--output", str(tmp_path / "m"), *SMALL_INPUT])
    assert "'module.' before the names is stripped" in capsys.readouterr().err
    # And where the conversion ends in an error.
    del arrays["roi_heads.box_predictor.bbox_pred.weight"]
    write_pth(weights, {f"module.{name}": x for name, x in arrays.items()})
    with pytest.raises(
        InputError, match=r"without the 'module\.' before its names\): looks like t"
    ):
        main(["--weights", str(weights), "--output", str(tmp_path / "n")])
