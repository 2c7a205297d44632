"""Panoptic FPN (Kirillov et al., 2019): instances and a semantic segmentation of one backbone."""

from __future__ import annotations

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.drop_path import drop_paths
from tfdetect.layers.norm import batch_statistics
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.build import build_backbone, build_proposal_generator, build_roi_heads
from tfdetect.modeling.rcnn import GeneralizedRCNN
from tfdetect.modeling.registries import META_ARCHITECTURES
from tfdetect.modeling.replicas import image_seeds
from tfdetect.modeling.semantic import build_sem_seg_head
from tfdetect.modeling.structures import Instances, Predictions, Targets
from tfdetect.ops.paste_masks import paste_masks


@META_ARCHITECTURES.register()
class PanopticFPN(GeneralizedRCNN):
    """GeneralizedRCNN with an additional semantic head: Detectron2's PanopticFPN.

    How the two are combined is `combine_semantic_and_instance_outputs`, in the original image.

    Args:
        backbone, proposal_generator, roi_heads: as `GeneralizedRCNN`'s.
        sem_seg_head: gives the logits of the stuff classes.
        instance_loss_weight: what losses of the RoI heads are multiplied by: see `losses`.
    """

    def __init__(
        self,
        backbone: tf.Module,
        proposal_generator: tf.Module,
        roi_heads: tf.Module,
        sem_seg_head: tf.Module,
        *,
        instance_loss_weight: float = 1.0,
    ):
        super().__init__(backbone, proposal_generator, roi_heads)
        self.sem_seg_head = sem_seg_head
        self._instance_loss_weight = instance_loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> PanopticFPN:
        """As `GeneralizedRCNN`, with the semantic head of MODEL.SEM_SEG_HEAD."""
        if not cfg.MODEL.MASK_ON:
            raise InputError("MODEL.MASK_ON: PanopticFPN needs masks; set it to True")
        backbone = build_backbone(cfg)
        shapes = backbone.output_shapes
        return cls(
            backbone,
            build_proposal_generator(cfg, shapes),
            build_roi_heads(cfg, shapes),
            build_sem_seg_head(cfg, shapes),
            instance_loss_weight=cfg.MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT,
        )

    def __call__(
        self, images: tf.Tensor, image_sizes: tf.Tensor, valid_sizes: ValidSizes = WHOLE
    ) -> Predictions:
        """As `GeneralizedRCNN`, and `sem_seg_logits` beside the instances."""
        features = self.backbone(images, valid_sizes)
        proposals = self.proposal_generator(features, image_sizes, valid_sizes)
        return Predictions(
            self.roi_heads(features, proposals, image_sizes, valid_sizes),
            self.sem_seg_head(features, valid_sizes),
        )

    def losses(
        self,
        images: tf.Tensor,
        image_sizes: tf.Tensor,
        targets: Targets,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """As `GeneralizedRCNN.losses`, and those of the semantic head, such as `loss_sem_seg`.

        MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT weighs what it weighs in Detectron2: the losses of
        box regression in the RoI heads and of masks, not those of classes and of the RPN. (With a
        cascade Detectron2 takes no weight but 1; here it weighs every stage.)
        """
        seeds = image_seeds(seed, tf.shape(images)[0])
        with batch_statistics(), drop_paths(seeds):
            features = self.backbone(images)
            losses = self.sem_seg_head.losses(features, targets.gt_sem_seg, seeds)
            proposals, of_proposals = self.proposal_generator.losses(
                features, image_sizes, targets, seeds
            )
            of_heads = self.roi_heads.losses(features, proposals, image_sizes, targets, seeds)
        for name, loss in of_heads.items():
            weighed = name.startswith(("loss_box_reg", "loss_mask"))
            of_heads[name] = self._instance_loss_weight * loss if weighed else loss
        return losses | of_proposals | of_heads


def combine_semantic_and_instance_outputs(
    detections: Instances,
    sem_seg: tf.Tensor,
    *,
    num_stuff_classes: int,
    overlap_threshold: float,
    stuff_area_limit: int,
    instances_confidence_threshold: float,
) -> dict[str, tf.Tensor]:
    """Assigns each pixel of one image to at most one segment (Detectron2's function of this name).

    Instances come first, by descending score down to the threshold. An instance is dropped if more
    than `overlap_threshold` of it is already taken, or if its mask is empty; otherwise it gets the
    rest of its mask. Remaining pixels go to the stuff classes (except class 0, "things") with at
    least `stuff_area_limit` pixels there.

    Args:
        detections: of one image, without the first axis, in its pixels.
        sem_seg: int32 [H, W], the stuff class of each pixel.

    Returns:
        `panoptic_seg` int32 [H, W], the segments' ids from 1, 0 where there is none;
        `num_segments` int32; and of the segment of id i + 1 at index i, with zeros after the last,
        [S] with S = D + `num_stuff_classes`: `segment_category_ids` int32 (a class of the
        instances or of the stuff), `segment_isthing` bool, `segment_scores` float32 (0 for stuff),
        `segment_instance_ids` int32 (the index of the detection, 0 for stuff) and `segment_areas`
        int32, in pixels.
    """
    scores, masks = detections.scores, detections.pred_masks
    assert masks is not None  # a PanopticFPN has a mask head
    slots = tf.shape(scores)[0] if scores.shape[0] is None else scores.shape[0]
    used = tf.range(slots) < detections.num_detections
    # In float64, in which Detectron2 compares.
    used &= tf.cast(scores, tf.float64) >= tf.constant(instances_confidence_threshold, tf.float64)
    order = tf.argsort(-scores, stable=True)
    order = tf.boolean_mask(order, tf.gather(used, order))
    size = tf.shape(sem_seg)

    def add(
        rank: tf.Tensor, panoptic: tf.Tensor, count: tf.Tensor, instances: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        index = order[rank]
        # One mask at a time: a hundred of a large image would take gigabytes.
        mask = paste_masks(masks[index][None], detections.pred_boxes[index][None], size)[0]
        free = mask & (panoptic == 0)
        area = _count(mask)
        taken = (area - _count(free)) / area  # float64; NaN without a pixel
        accepted = (area > 0) & ~(taken > overlap_threshold)
        count += tf.cast(accepted, tf.int32)
        panoptic = tf.where(free & accepted, count, panoptic)
        instances = tf.where(accepted & (tf.range(slots) == count - 1), index, instances)
        return rank + 1, panoptic, count, instances

    _, panoptic, things, instances = tf.while_loop(
        lambda rank, *_: rank < tf.size(order),
        add,
        [tf.constant(0), tf.zeros_like(sem_seg), tf.constant(0), tf.zeros([slots], tf.int32)],
    )

    def areas(labels: tf.Tensor) -> tf.Tensor:
        return tf.math.bincount(labels, minlength=num_stuff_classes, maxlength=num_stuff_classes)

    stuff_areas = areas(tf.boolean_mask(sem_seg, panoptic == 0))
    accepted = (areas(tf.reshape(sem_seg, [-1])) > 0) & (stuff_areas >= stuff_area_limit)
    accepted &= tf.range(num_stuff_classes) > 0
    stuff_ids = tf.where(accepted, things + tf.cumsum(tf.cast(accepted, tf.int32)), 0)
    panoptic = tf.where(panoptic == 0, tf.gather(stuff_ids, sem_seg), panoptic)

    stuff = tf.cast(tf.where(accepted)[:, 0], tf.int32)
    instances = instances[:things]

    def join(of_things: tf.Tensor, of_stuff: tf.Tensor) -> tf.Tensor:
        joined = tf.concat([of_things, of_stuff], 0)
        capacity = slots + num_stuff_classes
        return tf.reshape(tf.pad(joined, [[0, capacity - tf.size(joined)]]), [capacity])

    count = things + tf.size(stuff)
    segment_areas = tf.math.bincount(panoptic, minlength=count + 1)[1:]
    return {
        "panoptic_seg": panoptic,
        "num_segments": count,
        "segment_category_ids": join(tf.gather(detections.pred_classes, instances), stuff),
        "segment_isthing": join(tf.fill([things], True), tf.fill(tf.shape(stuff), False)),
        "segment_scores": join(tf.gather(scores, instances), tf.zeros(tf.shape(stuff))),
        "segment_instance_ids": join(instances, tf.zeros_like(stuff)),
        "segment_areas": join(segment_areas, segment_areas[:0]),
    }


def _count(mask: tf.Tensor) -> tf.Tensor:
    """Pixels of a bool [H, W] mask, as float64 (exact)."""
    return tf.cast(tf.math.count_nonzero(mask), tf.float64)
