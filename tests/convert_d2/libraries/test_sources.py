"""Checkpoints of torchvision, maskrcnn-benchmark and Detectron: recognised, renamed, converted.

Shapes are those of the real models with an eighth of the channels. What is moved is exact; where
norms are folded together, 1e-6 of the scale.
"""

from __future__ import annotations

import gzip
import json
import re

import numpy as np
import pytest

from benchmarks import seeded_weights
from convert_d2.command import main
from convert_d2.export import export_arrays
from convert_d2.inspection import describe
from convert_d2.libraries.architecture import architecture, fits
from convert_d2.libraries.sources import find_library, make_config
from convert_d2.libraries.tensorpack import to_tensorpack
from tests.support import dense_models
from tests.support.paths import DATA, DEMO, ROOT
from tests.support.pickle_writer import dumps, torch_storage, torch_tensor, write_torch
from tests.support.point_rend import state_dicts
from tfdetect.checkpoint.assign import assign_state_dict
from tfdetect.checkpoint.formats.pickle_writer import pickle_arrays
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.data.images import read_image
from tfdetect.errors import InputError
from tfdetect.inference.predictor import Predictor
from tfdetect.modeling.build import build_model

SMALL_INPUT = ["--opts", "INPUT.MIN_SIZE_TEST", "96", "INPUT.MAX_SIZE_TEST", "160"]


def recorded_shapes(library):
    with gzip.open(DATA / library / "state_dicts.json.gz", "rt") as file:
        return json.load(file)


def narrow(shape):
    # (320 is four deltas of 80 classes.)
    return [dim // 8 if dim % 64 == 0 and dim != 320 else dim for dim in shape]


def narrow_arrays(library, name):
    shapes = recorded_shapes(library)[name]
    return seeded_weights.state_dict({key: narrow(shape) for key, shape in shapes.items()})


def write_pth(path, arrays):
    """torch's archive of a state dict, as torchvision's models are published."""
    tensors, storages = {}, {}
    kinds = {"float32": "torch FloatStorage", "int64": "torch LongStorage"}
    for number, (name, array) in enumerate(arrays.items()):
        strides = tuple(stride // array.itemsize for stride in array.strides)
        kind = kinds[array.dtype.name]
        storage = torch_storage(str(number), array.size, kind)
        tensors[name] = torch_tensor(storage, array.shape, strides)
        storages[str(number)] = array.tobytes()
    return write_torch(path, tensors, storages)


ALL = [
    (library, name)
    for library in ("torchvision", "maskrcnn_benchmark")
    for name in recorded_shapes(library)
]


@pytest.mark.parametrize(("library", "name"), ALL)
def test_every_array_finds_its_variable(library, name):
    arrays = narrow_arrays(library, name)
    source_library = find_library(arrays)
    assert source_library.name == library.replace("_", "-")
    renamed = source_library.to_detectron2(arrays)
    cfg = make_config(source_library, renamed, [], name)
    assert library == cfg.MODEL.CONVENTIONS
    assert ("mask" in name) == cfg.MODEL.MASK_ON
    assert ("keypoint" in name) == cfg.MODEL.KEYPOINT_ON
    assign_state_dict(build_model(cfg), renamed, source=name)  # raises unless all fit


def test_background_and_norms():
    arrays = narrow_arrays("maskrcnn_benchmark", "e2e_mask_rcnn_R_50_FPN_1x")
    renamed = find_library(arrays).to_detectron2(arrays)
    scores = arrays["roi_heads.box.predictor.cls_score.weight"]
    predictor = "roi_heads.box_predictor"
    np.testing.assert_array_equal(renamed[f"{predictor}.cls_score.weight"][:-1], scores[1:])
    np.testing.assert_array_equal(renamed[f"{predictor}.cls_score.weight"][-1], scores[0])
    deltas = arrays["roi_heads.box.predictor.bbox_pred.bias"]
    np.testing.assert_array_equal(renamed[f"{predictor}.bbox_pred.bias"], deltas[4:])
    masks = arrays["roi_heads.mask.predictor.mask_fcn_logits.weight"]
    np.testing.assert_array_equal(renamed["roi_heads.mask_head.predictor.weight"], masks[1:])
    variance = arrays["backbone.body.layer1.0.bn2.running_var"]
    ours = renamed["backbone.bottom_up.res2.0.conv2.norm.running_var"]
    np.testing.assert_allclose(ours + np.float32(1e-5), variance, rtol=1e-6)


def test_res5_of_the_mask_head_counts():
    """maskrcnn-benchmark loads the shared layers under both names, the mask head's last."""
    arrays = narrow_arrays("maskrcnn_benchmark", "e2e_mask_rcnn_R_50_C4_1x")
    renamed = find_library(arrays).to_detectron2(arrays)
    part = "feature_extractor.head.layer4.1.conv2.weight"
    np.testing.assert_array_equal(
        renamed["roi_heads.res5.1.conv2.weight"], arrays[f"roi_heads.mask.{part}"]
    )


def test_older_names_of_torchvision():
    """Before 0.13 convolutions of FPN, RPN and mask head were not in a block of their own."""
    arrays = narrow_arrays("torchvision", "maskrcnn_resnet50_fpn")
    older = {}
    for name, array in arrays.items():
        name = re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", name)
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        name = re.sub(
            r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", name
        )
        older[name] = array
    expected = find_library(arrays).to_detectron2(arrays)
    renamed = find_library(older).to_detectron2(older)
    assert set(renamed) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(renamed[name], array, err_msg=name)


def test_frozen_norms_of_torchvision_have_no_epsilon():
    arrays = narrow_arrays("torchvision", "fasterrcnn_resnet50_fpn")
    name = "backbone.body.bn1.running_var"
    ours = "backbone.bottom_up.stem.conv1.norm.running_var"
    source_library = find_library(arrays)
    np.testing.assert_array_equal(source_library.to_detectron2(arrays)[ours], arrays[name])
    frozen = {key: x for key, x in arrays.items() if not key.endswith("num_batches_tracked")}
    variance = source_library.to_detectron2(frozen)[ours] + np.float32(1e-5)
    np.testing.assert_allclose(variance, arrays[name], rtol=1e-6)


# The last block of each stage of a ResNet-50, whose sum FPN starts from.
_LAST_BLOCKS = {"1": "res2_2", "2": "res3_3", "3": "res4_5", "4": "res5_2"}


def to_caffe2(arrays, fpn):
    """The blobs that Detectron has for a model of maskrcnn-benchmark: norms are scale and shift."""
    level = "_fpn2" if fpn else ""
    heads = {
        "rpn.head.conv": f"conv_rpn{level}",
        "rpn.head.cls_logits": f"rpn_cls_logits{level}",
        "rpn.head.bbox_pred": f"rpn_bbox_pred{level}",
    }
    blobs = {}
    for name, array in arrays.items():
        layer, _, parameter = name.rpartition(".")
        suffix = {"weight": "w", "bias": "b"}.get(parameter)
        if "running" in parameter or "mask.feature_extractor.head" in name:
            continue
        last = layer.rpartition(".")[2]
        if block := re.search(r"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)", layer):
            stage, index, kind, number = block.groups()
            branch = "branch1" if kind.startswith("d") else f"branch2{'abc'[int(number) - 1]}"
            norm = kind == "bn" or (kind.startswith("d") and number == "1")
            blob = f"res{int(stage) + 1}_{index}_{branch}"
        else:
            norm, blob = last == "bn1", "conv1" if last == "conv1" else heads.get(layer, last)
        if norm:
            blob = "res_conv1" if last == "bn1" and "stem" in layer else blob
            scale = arrays[f"{layer}.weight"] / np.sqrt(arrays[f"{layer}.running_var"])
            shift = arrays[f"{layer}.bias"] - arrays[f"{layer}.running_mean"] * scale
            blobs |= {f"{blob}_bn_s": scale, f"{blob}_bn_b": shift}
            continue
        if match := re.fullmatch(r"fpn_(inner|layer)(\d)", last):
            lateral = "_lateral" if match[2] != "4" else ""
            blob = (
                f"fpn_inner_{_LAST_BLOCKS[match[2]]}_sum{lateral}"
                if match[1] == "inner"
                else f"fpn_{_LAST_BLOCKS[match[2]]}_sum"
            )
        blob = re.sub(r"^mask_fcn(\d)$", r"_[mask]_fcn\1", blob)
        blobs[f"{blob}_{suffix}"] = array
        blobs[f"{blob}_{suffix}_momentum"] = np.zeros_like(array)
    return blobs


def scales_and_shifts(arrays):
    result = {}
    for name, weight in arrays.items():
        layer, found, _ = name.rpartition(".norm.weight")
        if found:
            parts = {
                key: arrays[f"{layer}.norm.{key}"].astype(np.float64)
                for key in ("bias", "running_mean", "running_var")
            }
            scale = weight / np.sqrt(parts["running_var"] + 1e-5)
            result[layer] = np.stack([scale, parts["bias"] - parts["running_mean"] * scale])
    return result


@pytest.mark.parametrize("name", list(recorded_shapes("maskrcnn_benchmark")))
def test_detectrons_blobs_are_the_same_model(name, tmp_path):
    arrays = narrow_arrays("maskrcnn_benchmark", name)
    if "C4" in name:  # one set of shared layers, as a real file has
        arrays |= {
            key.replace("roi_heads.mask.", "roi_heads.box."): array
            for key, array in arrays.items()
            if "mask.feature_extractor" in key
        }
    expected = find_library(arrays).to_detectron2(arrays)
    blobs = to_caffe2(arrays, "FPN" in name)
    if "keypoint" in name:  # the enlargement of heatmaps, which Detectron stores as weights
        blobs |= {"kps_score_w": np.ones([17, 17, 4, 4], np.float32)}
    path = tmp_path / "model_final.pkl"
    path.write_bytes(dumps({"blobs": blobs, "cfg": "MODEL: {}"}, python2=True))

    checkpoint = read_checkpoint(path)
    source_library = find_library(checkpoint.arrays)
    assert (source_library.name, checkpoint.ignored) == ("Detectron", ("cfg",))
    found = source_library.to_detectron2(checkpoint.arrays)
    assert set(found) == set(expected)
    for key, array in expected.items():
        if ".norm." not in key:
            np.testing.assert_array_equal(found[key], array, err_msg=key)
    norms = scales_and_shifts(found)
    for layer, values in scales_and_shifts(expected).items():
        np.testing.assert_allclose(norms[layer], values, atol=1e-6, rtol=1e-6, err_msg=layer)
    configs = [
        make_config(find_library(x), y, [], name)
        for x, y in ((arrays, expected), (checkpoint.arrays, found))
    ]
    assert configs[0] == configs[1]


@pytest.mark.parametrize(
    ("library", "name", "classes"),
    [
        ("torchvision", "maskrcnn_resnet50_fpn_v2", 90),
        ("maskrcnn_benchmark", "e2e_mask_rcnn_R_50_C4_1x", 80),
    ],
)
def test_converted_model_predicts(library, name, classes, tmp_path, capsys):
    weights = write_pth(tmp_path / f"{name}.pth", narrow_arrays(library, name))
    model = tmp_path / "model"
    main(["--weights", str(weights), "--output", str(model), *SMALL_INPUT])
    assert f"{classes} classes" in capsys.readouterr().out
    cfg, _, metadata = load_model(model)
    assert library == cfg.MODEL.CONVENTIONS
    assert metadata["class_names"][0] == "person"
    assert metadata["category_ids"][-1] == 90
    predictor = Predictor(model)
    image = read_image(DATA / "full" / "coffee.png")
    low = image[100:250]
    found, found_in_low = predictor([image, low])
    assert len(found) > 0
    assert found.masks.shape == (len(found), 400, 600)
    assert np.isfinite(found.boxes).all()
    # In a batch each image gets what it gets alone, its own anchors too.
    alone = predictor(low)
    np.testing.assert_array_equal(found_in_low.classes, alone.classes)
    np.testing.assert_allclose(found_in_low.boxes, alone.boxes, atol=1e-2)


def test_inspection(tmp_path):
    lines = describe(DEMO / "joint_rcnn" / "model_final.pkl")
    assert "Detectron2, by 'trained with Detectron2 on synthetic shapes'" in lines
    assert "GeneralizedRCNN, ResNet-50-FPN, StandardROIHeads, boxes, masks, 17 keypoints" in lines
    assert "2,267,721 in 317 arrays" in lines
    assert "4 classes" in lines
    assert "none of the zoo fits" in lines
    arrays = narrow_arrays("torchvision", "keypointrcnn_resnet50_fpn")
    lines = describe(write_pth(tmp_path / "x.pth", arrays))
    assert "torchvision" in lines
    assert "1 classes" in lines
    assert "none is needed" in lines
    backbone = {"conv1_w": np.zeros([64, 3, 7, 7], np.float32), "fc1000_b": np.zeros(1000)}
    (tmp_path / "R-50.pkl").write_bytes(dumps(backbone))
    lines = describe(tmp_path / "R-50.pkl")
    assert "Caffe2 (a backbone)" in lines
    assert "not a detector" in lines
    backbone = {"conv1.weight": np.zeros([1], np.float32), "layer1.0.conv1.weight": np.zeros([1])}
    (tmp_path / "r50.pkl").write_bytes(dumps(backbone))
    assert "torchvision (a backbone)" in describe(tmp_path / "r50.pkl")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x",
            ["GeneralizedRCNN, ResNet-50, Res5ROIHeads, boxes, masks", "80 classes"],
        ),
        ("COCO-Detection/retinanet_R_50_FPN_1x", ["RetinaNet, ResNet-50-FPN", "80 classes"]),
        (
            "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x",
            ["PanopticFPN, ResNet-50-FPN", "80 classes, 54 stuff classes"],
        ),
        ("COCO-Detection/rpn_R_50_C4_1x", ["ProposalNetwork, ResNet-50\n", "none\n"]),
    ],
)
def test_inspection_of_the_zoo(config, expected, tmp_path):
    with gzip.open(DATA / "zoo_state_dicts.json.gz", "rt") as file:
        shapes = json.load(file)[f"{config}.yaml"]
    arrays = {name: np.zeros(shape, np.uint8) for name, shape in shapes.items()}
    (tmp_path / "x.pkl").write_bytes(pickle_arrays(arrays, "Detectron2 Model Zoo"))
    lines = describe(tmp_path / "x.pkl")
    for text in expected:
        assert text in lines
    assert config in lines
    assert "by 'Detectron2 Model Zoo'" in lines


def test_the_configs_that_fit_are_those_of_the_same_shapes():
    """Of all 109 recorded state dicts: a config fits just where names and shapes are the same."""
    recorded = {}
    for file_name in ("zoo_state_dicts", "new_baselines_state_dicts"):
        with gzip.open(DATA / f"{file_name}.json.gz", "rt") as file:
            for config, shapes in json.load(file).items():
                recorded[config.rpartition(".")[0]] = {
                    name: tuple(shape)
                    for name, shape in shapes.items()
                    if not name.endswith("num_batches_tracked")
                }
    for config, shapes in state_dicts().items():
        if not config.startswith("narrow_"):
            recorded[f"PointRend/{config}"] = {n: tuple(shape) for n, shape in shapes.items()}
    with gzip.open(DATA / "vitdet" / "state_dicts.json.gz", "rt") as file:
        for config, shapes in json.load(file).items():
            recorded[config] = {name: tuple(shape) for name, shape in shapes.items()}
    assert len(recorded) == 109
    configs = {name: load_config(ROOT / "configs" / f"{name}.yaml") for name in recorded}
    for name, shapes in recorded.items():
        found = architecture(shapes)
        fitting = {other for other, cfg in configs.items() if fits(cfg, found)}
        assert fitting == {other for other, theirs in recorded.items() if theirs == shapes}, name


@pytest.mark.parametrize("norm", ["GN", "", "BN"])
def test_fcos_is_told_from_retinanet(norm):
    """By its centerness, and p6 from p5; the norm of a head by its place in the subnet."""
    cfg, model = dense_models.make("fcos", MODEL__FCOS__NORM=norm)
    found = architecture({named.name: named.foreign_shape for named in named_variables(model)})
    assert found["MODEL.META_ARCHITECTURE"] == "FCOS"
    assert found["MODEL.BACKBONE.NAME"] == "build_fcos_resnet_fpn_backbone"
    assert found["MODEL.FCOS.NUM_CLASSES"] == 5
    assert fits(cfg, found)
    assert not fits(dense_models.make("retinanet")[0], found)


def test_tensorpack_through_the_command(tmp_path, capsys):
    config = ROOT / "configs" / "COCO-Detection" / "faster_rcnn_R_50_FPN_1x.yaml"
    with gzip.open(DATA / "zoo_state_dicts.json.gz", "rt") as file:
        shapes = json.load(file)["COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"]
    arrays = seeded_weights.state_dict({name: narrow(shape) for name, shape in shapes.items()})
    weights, output = tmp_path / "d2.pkl", tmp_path / "tensorpack.npz"
    weights.write_bytes(pickle_arrays(arrays, "test"))
    arguments = ["--config-file", str(config), "--weights", str(weights), "--format", "tensorpack"]
    main([*arguments, "--output", str(output)])
    assert capsys.readouterr().out == (
        "'MODE_MASK=False' 'MODE_FPN=True' 'FPN.CASCADE=False' 'BACKBONE.STRIDE_1X1=True' "
        "'PREPROC.PIXEL_MEAN=[123.675,116.28,103.53]' 'PREPROC.PIXEL_STD=[1.0,1.0,1.0]'\n"
    )
    expected = to_tensorpack(arrays, load_config(config), "test")
    with np.load(output) as written:
        assert set(written) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(written[name], array)
    with pytest.raises(InputError, match=r"use \.npz"):
        main([*arguments, "--output", str(tmp_path / "tensorpack.pkl")])

    # And back: the file says what it is.
    model = tmp_path / "model"
    main(["--weights", str(output), "--output", str(model)])
    assert "library:      tensorpack" in describe(output)
    exported = export_arrays(*load_model(model)[:2])
    assert set(exported) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(exported[name], array, err_msg=name)
    cfg, _, metadata = load_model(model)
    assert cfg.MODEL.CONVENTIONS == "tensorpack"
    assert (cfg.MODEL.RESNETS.STRIDE_IN_1X1, cfg.INPUT.MAX_SIZE_TEST) == (False, 1344)
    assert metadata["class_names"][-1] == "toothbrush"


@pytest.mark.parametrize("path", sorted((DATA / "tensorpack").glob("*.json")), ids=lambda p: p.stem)
def test_tensorpacks_models_are_recognised(path):
    """From the names and shapes alone; a training checkpoint has more, which is left out."""
    record = json.loads(path.read_text())
    arrays = {
        f"{name}:0": np.broadcast_to(np.float32(0), shape)
        for name, (shape, _) in record["arrays"].items()
    }
    arrays |= {"global_step:0": np.array(7), "conv0/W/Momentum": np.zeros(3, np.float32)}
    source_library = find_library(arrays)
    renamed = source_library.to_detectron2(arrays)
    cfg = make_config(source_library, renamed, [], path.name)
    expected = load_config(ROOT / "configs" / f"{path.stem.replace('__', '/')}.yaml")
    assert source_library.name == "tensorpack"
    assert fits(expected, architecture({name: array.shape for name, array in renamed.items()}))
    for key in ("NAME", "NUM_CLASSES", "IN_FEATURES"):
        assert cfg.MODEL.ROI_HEADS[key] == expected.MODEL.ROI_HEADS[key]
    assert record["config"]["MODE_MASK"] == cfg.MODEL.MASK_ON


def test_what_the_command_refuses(tmp_path):
    weights = write_pth(tmp_path / "x.pth", narrow_arrays("torchvision", "fasterrcnn_resnet50_fpn"))
    config = str(ROOT / "configs" / "COCO-Detection" / "faster_rcnn_R_50_FPN_1x.yaml")
    rest = ["--weights", str(weights), "--output", str(tmp_path / "model")]
    with pytest.raises(InputError, match=r"is torchvision's, and its weights determine"):
        main(["--config-file", config, *rest])
    rest[1] = str(DEMO / "joint_rcnn" / "model_final.pkl")
    with pytest.raises(
        InputError,
        match=r"is a Detectron2 checkpoint; give its YAML with "
        r"--config-file",
    ):
        main(rest)
    arrays = narrow_arrays("torchvision", "fasterrcnn_resnet50_fpn")
    del arrays["roi_heads.box_predictor.cls_score.weight"]
    rest[1] = str(write_pth(tmp_path / "y.pth", arrays))
    with pytest.raises(InputError, match=r"looks like torchvision's, but is not one of its R-CNNs"):
        main(rest)
    arrays["roi_heads.box_predictor.bbox_pred.bias"] = np.zeros([], np.float32)
    rest[1] = str(write_pth(tmp_path / "z.pth", arrays))
    with pytest.raises(InputError, match=r"has an array of an impossible shape"):
        main(rest)
