"""RoI heads of a LazyConfig, into MODEL's keys."""

from __future__ import annotations

from convert_d2.lazy_config.arguments import Arguments, Feature, converts, is_number, plain, show
from convert_d2.lazy_config.features import SHAPE, expect_channels, expect_features
from convert_d2.lazy_config.proposals import CODING, ROTATED_CODING, loss_weights, set_matcher
from convert_d2.lazy_config.resnets import convert_res5

ROI_HEADS = "RoI heads"
_POOLER = "a RoI pooler"
_BOX_HEAD, _BOX_PREDICTOR = "a box head", "a box predictor"
_ROTATED_PREDICTOR = "a predictor of rotated boxes"
_MASK_HEAD, _KEYPOINT_HEAD = "a mask head", "a keypoint head"
_MODULE = "detectron2.modeling.roi_heads"
Features = dict[str, Feature]


@converts(f"{_MODULE}.roi_heads.StandardROIHeads", ROI_HEADS)
def _standard(args: Arguments, features: Features) -> None:
    _set_sampling(args, "StandardROIHeads")
    set_matcher(args, "proposal_matcher", "ROI_HEADS", low_quality=False)
    channels, size = _box_pooler(args, features)
    width = args.part("box_head", _BOX_HEAD, channels=channels, size=size)
    args.part("box_predictor", _BOX_PREDICTOR, width=width)
    _set_other_heads(args, features)
    args.set(
        "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES",
        "train_on_pred_boxes",
        args.flag("train_on_pred_boxes", False),
    )


@converts(f"{_MODULE}.rotated_fast_rcnn.RROIHeads", ROI_HEADS)
def _rotated(args: Arguments, features: Features) -> None:
    _set_sampling(args, "RROIHeads")
    set_matcher(args, "proposal_matcher", "ROI_HEADS", low_quality=False)
    channels, size = _box_pooler(args, features)
    width = args.part("box_head", _BOX_HEAD, channels=channels, size=size)
    args.part("box_predictor", _ROTATED_PREDICTOR, width=width)
    for name in ("mask_head", "keypoint_head"):
        args.expect(name, None, "heads of rotated boxes have none", default=None)
    _set_other_heads(args, features)
    args.expect("train_on_pred_boxes", False, "rotated boxes cannot", default=False)


@converts(f"{_MODULE}.cascade_rcnn.CascadeROIHeads", ROI_HEADS)
def _cascade(args: Arguments, features: Features) -> None:
    _set_sampling(args, "CascadeROIHeads")
    channels, size = _box_pooler(args, features)
    matchers = args.parts("proposal_matchers", "a matcher", low_quality=False)
    widths = args.parts("box_heads", _BOX_HEAD, channels=channels, size=size)
    weights = args.parts(
        "box_predictors",
        _BOX_PREDICTOR,
        # At inference Detectron2 asks the last one for thresholds.
        each=lambda index, count: {
            "width": widths[index] if index < len(widths) else None,
            "last": index == count - 1,
        },
        cascade=True,
    )
    if not len(widths) == len(matchers) == len(weights) > 0:
        raise args.error(
            "box_predictors", "give as many as box_heads and proposal_matchers, one or more"
        )
    ious = []
    for index, (thresholds, labels) in enumerate(matchers):
        if len(thresholds) != 1 or labels != [0, 1]:
            raise args.error(
                f"proposal_matchers[{index}]", "give one threshold and the labels [0, 1]"
            )
        ious.append(thresholds[0])
    args.set("MODEL.ROI_BOX_CASCADE_HEAD.IOUS", "proposal_matchers", ious)
    args.set("MODEL.ROI_HEADS.IOU_THRESHOLDS", "proposal_matchers", ious[:1])
    args.set("MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS", "box_predictors", weights)
    _set_other_heads(args, features)
    args.expect("train_on_pred_boxes", False, "a cascade always trains on them", default=False)


@converts(f"{_MODULE}.roi_heads.Res5ROIHeads", ROI_HEADS)
def _res5(args: Arguments, features: Features) -> None:
    _set_sampling(args, "Res5ROIHeads")
    set_matcher(args, "proposal_matcher", "ROI_HEADS", low_quality=False)
    used = _in_features(args, "in_features", features)
    if len(used) != 1:
        raise args.error("in_features", "Res5ROIHeads take one feature map")
    args.part("pooler", _POOLER, section="ROI_BOX_HEAD", features=used)
    width = convert_res5(args, "res5")
    args.part("box_predictor", _BOX_PREDICTOR, width=width)
    has_masks = args.given("mask_head") is not None
    args.set("MODEL.MASK_ON", "mask_head", has_masks)
    if has_masks:
        args.part("mask_head", _MASK_HEAD, channels=width)
    else:
        args.take("mask_head", None)
    args.set("MODEL.KEYPOINT_ON", "_target_", False)


def _set_sampling(args: Arguments, name: str) -> None:
    """The arguments of `ROIHeads`, but for its matcher."""
    key = "MODEL.ROI_HEADS."
    args.set(f"{key}NAME", "_target_", name)
    args.set(f"{key}NUM_CLASSES", "num_classes", args.integer("num_classes"))
    args.set(
        f"{key}BATCH_SIZE_PER_IMAGE", "batch_size_per_image", args.integer("batch_size_per_image")
    )
    args.set(f"{key}POSITIVE_FRACTION", "positive_fraction", args.number("positive_fraction"))
    args.set(
        f"{key}PROPOSAL_APPEND_GT", "proposal_append_gt", args.flag("proposal_append_gt", True)
    )


def _in_features(args: Arguments, name: str, features: Features) -> list[Feature]:
    names = args.names(name)
    args.set("MODEL.ROI_HEADS.IN_FEATURES", name, names)
    return expect_features(args, name, features, names)


def _box_pooler(args: Arguments, features: Features) -> tuple[int | None, int]:
    """Channels and resolution of what a box head takes."""
    used = _in_features(args, "box_in_features", features)
    size: int = args.part("box_pooler", _POOLER, section="ROI_BOX_HEAD", features=used)
    return used[0][0], size


def _set_other_heads(args: Arguments, features: Features) -> None:
    """The mask and the keypoint head, each with its features and its pooler."""
    for kind, role in (("mask", _MASK_HEAD), ("keypoint", _KEYPOINT_HEAD)):
        present = args.given(f"{kind}_head") is not None
        args.set(f"MODEL.{kind.upper()}_ON", f"{kind}_head", present)
        if present:
            used = _in_features(args, f"{kind}_in_features", features)
            section = f"ROI_{kind.upper()}_HEAD"
            args.part(f"{kind}_pooler", _POOLER, section=section, features=used)
            args.part(f"{kind}_head", role, channels=used[0][0])
        else:
            for name in (f"{kind}_head", f"{kind}_in_features", f"{kind}_pooler"):
                args.take(name, None)


@converts("detectron2.modeling.poolers.ROIPooler", _POOLER)
def _pooler(args: Arguments, section: str, features: list[Feature]) -> int:
    key = f"MODEL.{section}.POOLER_"
    size = args.take("output_size")
    if isinstance(size, (list, tuple)) and len(size) == 2 and size[0] == size[1]:
        size = size[0]
    if type(size) is not int:
        raise args.error("output_size", f"is {show(size)}; give one number")
    args.set(f"{key}RESOLUTION", "output_size", size)
    args.set(f"{key}SAMPLING_RATIO", "sampling_ratio", args.integer("sampling_ratio"))
    args.set(f"{key}TYPE", "pooler_type", args.text("pooler_type"))
    scales = [1 / stride for _, stride in features]
    args.expect("scales", scales, f"the strides of the feature maps make them {scales}")
    args.expect("canonical_box_size", 224, "other sizes are not supported", default=224)
    args.expect("canonical_level", 4, "other levels are not supported", default=4)
    return size


@converts(f"{_MODULE}.box_head.FastRCNNConvFCHead", _BOX_HEAD)
def _box_head(args: Arguments, channels: int | None, size: int) -> int | None:
    """Numbers that it gives for each region."""
    key = "MODEL.ROI_BOX_HEAD."
    args.set(f"{key}NAME", "_target_", "FastRCNNConvFCHead")
    shape = args.part("input_shape", SHAPE)
    expect_channels(args, "input_shape", shape, channels)
    if (shape["height"], shape["width"]) != (size, size):
        raise args.error(
            "input_shape",
            f"is {shape['height']} x {shape['width']}, but the pooler's output_size is {size}",
        )
    convs, fcs = args.integers("conv_dims"), args.integers("fc_dims")
    _set_equal(args, "conv_dims", convs, f"{key}NUM_CONV", f"{key}CONV_DIM")
    _set_equal(args, "fc_dims", fcs, f"{key}NUM_FC", f"{key}FC_DIM")
    args.norm(f"{key}NORM", "conv_norm", "")
    if fcs:
        return fcs[-1]
    last = convs[-1] if convs else channels
    return last and last * size * size


def _set_equal(args: Arguments, name: str, widths: list[int], count: str, width: str) -> None:
    """Layers of one width, as a number of them and the width."""
    if len(set(widths)) > 1:
        raise args.error(name, f"is {show(widths)}; all must be equal for {width}")
    args.set(count, name, len(widths))
    if widths:
        args.set(width, name, widths[0])


@converts(f"{_MODULE}.fast_rcnn.FastRCNNOutputLayers", _BOX_PREDICTOR)
def _box_predictor(
    args: Arguments, width: int | None, cascade: bool = False, last: bool = True
) -> list[float]:
    """Weights of the box coding."""
    return _set_predictor(args, width, CODING, cascade, last)


@converts(f"{_MODULE}.rotated_fast_rcnn.RotatedFastRCNNOutputLayers", _ROTATED_PREDICTOR)
def _rotated_predictor(args: Arguments, width: int | None) -> list[float]:
    return _set_predictor(args, width, ROTATED_CODING)


def _set_predictor(
    args: Arguments, width: int | None, coding: str, cascade: bool = False, last: bool = True
) -> list[float]:
    key = "MODEL.ROI_BOX_HEAD."
    _expect_width(args, width)
    weights: list[float] = args.part("box2box_transform", coding)
    if not cascade:
        args.set(f"{key}BBOX_REG_WEIGHTS", "box2box_transform", weights)
    args.set("MODEL.ROI_HEADS.NUM_CLASSES", "num_classes", args.integer("num_classes"))
    agnostic = args.flag("cls_agnostic_bbox_reg", False)
    if cascade and not agnostic:
        raise args.error("cls_agnostic_bbox_reg", "is false; a cascade needs true")
    args.set(f"{key}CLS_AGNOSTIC_BBOX_REG", "cls_agnostic_bbox_reg", agnostic)
    thresholds = {
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": (
            "test_score_thresh",
            args.number("test_score_thresh", 0.0),
        ),
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": ("test_nms_thresh", args.number("test_nms_thresh", 0.5)),
        "TEST.DETECTIONS_PER_IMAGE": (
            "test_topk_per_image",
            args.integer("test_topk_per_image", 100),
        ),
    }
    if last:
        for name, (argument, value) in thresholds.items():
            args.set(name, argument, value)
    args.set(f"{key}SMOOTH_L1_BETA", "smooth_l1_beta", args.number("smooth_l1_beta", 0.0))
    args.set(
        f"{key}BBOX_REG_LOSS_TYPE", "box_reg_loss_type", args.text("box_reg_loss_type", "smooth_l1")
    )
    classes, boxes = loss_weights(args, "loss_cls", "loss_box_reg")
    args.set(f"{key}BBOX_REG_LOSS_WEIGHT", "loss_weight", boxes)
    if classes != 1:
        args.note("loss_weight", f"loss_cls has the weight 1 in training here, not {classes}")
    args.set(f"{key}USE_SIGMOID_CE", "use_sigmoid_ce", args.flag("use_sigmoid_ce", False))
    federated = args.flag("use_fed_loss", False)
    args.set(f"{key}USE_FED_LOSS", "use_fed_loss", federated)
    weights_function = args.take("get_fed_loss_cls_weights", None)
    if weights_function is not None:
        args.note(
            "get_fed_loss_cls_weights",
            f"{show(weights_function)} is not used; training computes them from the data set "
            "and MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER",
        )
    args.set(
        f"{key}FED_LOSS_NUM_CLASSES",
        "fed_loss_num_classes",
        args.integer("fed_loss_num_classes", 50),
    )
    return weights


def _expect_width(args: Arguments, width: int | None) -> None:
    if type(args.given("input_shape")) is int:
        shape = {"channels": args.integer("input_shape"), "height": None, "width": None}
    else:
        shape = args.part("input_shape", SHAPE)
    if shape["channels"] is None:
        raise args.error("input_shape", "has no channels; give them")
    given = shape["channels"] * (shape["height"] or 1) * (shape["width"] or 1)
    if width is not None and given != width:
        raise args.error(
            "input_shape", f"is of {given} numbers, but the layers before give {width}"
        )


@converts(f"{_MODULE}.mask_head.MaskRCNNConvUpsampleHead", _MASK_HEAD)
def _mask_head(args: Arguments, channels: int | None) -> None:
    key = "MODEL.ROI_MASK_HEAD."
    args.set(f"{key}NAME", "_target_", "MaskRCNNConvUpsampleHead")
    expect_channels(args, "input_shape", args.part("input_shape", SHAPE), channels)
    widths = args.integers("conv_dims")
    if len(set(widths)) != 1:
        raise args.error(
            "conv_dims",
            f"is {show(widths)}; give one or more, all equal, for MODEL.ROI_MASK_HEAD.CONV_DIM",
        )
    # The last one is the transposed convolution's.
    args.set(f"{key}NUM_CONV", "conv_dims", len(widths) - 1)
    args.set(f"{key}CONV_DIM", "conv_dims", widths[0])
    args.norm(f"{key}NORM", "conv_norm", "")
    classes = args.integer("num_classes")
    of_boxes = args.settings.values["MODEL.ROI_HEADS.NUM_CLASSES"][0]
    args.set(f"{key}CLS_AGNOSTIC_MASK", "num_classes", classes == 1 and of_boxes != 1)
    if classes not in (1, of_boxes):
        raise args.error(
            "num_classes", f"is {classes}; give roi_heads.num_classes, {of_boxes}, or 1"
        )
    _note_loss_weight(args)
    set_vis_period(args)


@converts(f"{_MODULE}.keypoint_head.KRCNNConvDeconvUpsampleHead", _KEYPOINT_HEAD)
def _keypoint_head(args: Arguments, channels: int | None) -> None:
    key = "MODEL.ROI_KEYPOINT_HEAD."
    args.set(f"{key}NAME", "_target_", "KRCNNConvDeconvUpsampleHead")
    expect_channels(args, "input_shape", args.part("input_shape", SHAPE), channels)
    args.set(f"{key}NUM_KEYPOINTS", "num_keypoints", args.integer("num_keypoints"))
    args.set(f"{key}CONV_DIMS", "conv_dims", args.integers("conv_dims"))
    args.set(f"{key}LOSS_WEIGHT", "loss_weight", args.number("loss_weight", 1.0))
    normalizer = args.take("loss_normalizer", 1.0)
    visible = normalizer == "visible"
    args.set(f"{key}NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS", "loss_normalizer", visible)
    if not visible:
        args.note(
            "loss_normalizer",
            f"is {show(normalizer)}; training divides by NUM_KEYPOINTS x BATCH_SIZE_PER_IMAGE x "
            "POSITIVE_FRACTION here",
        )


def _note_loss_weight(args: Arguments) -> None:
    weight = args.take("loss_weight", 1.0)
    if not is_number(weight) or plain(weight) != 1:
        args.note(
            "loss_weight", f"is {show(weight)}, but this loss has the weight 1 in training here"
        )


def set_vis_period(args: Arguments) -> None:
    """VIS_PERIOD, where it is more than 0: the parts of a model have one each."""
    period = args.integer("vis_period", 0)
    if period > 0:
        args.set("VIS_PERIOD", "vis_period", period)
