"""Semantic segmentation on a feature pyramid (Panoptic FPN, Kirillov et al., 2019, section 3)."""

from __future__ import annotations

import math

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.conv import Conv2d
from tfdetect.layers.drop_path import drop_paths
from tfdetect.layers.norm import batch_statistics
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.build import build_backbone
from tfdetect.modeling.detector import Detector
from tfdetect.modeling.features import Shapes, input_features
from tfdetect.modeling.registries import META_ARCHITECTURES, SEM_SEG_HEADS
from tfdetect.modeling.replicas import image_seeds
from tfdetect.modeling.semantic_loss import semantic_cross_entropy
from tfdetect.modeling.structures import Predictions, Targets
from tfdetect.ops.interpolate import bilinear_rows

# Rows of the result whose logits are held at once: 50 MB for 54 classes and 4000 columns.
_STRIP = 64


class ScaleHead(tf.Module):
    """3 x 3 convolutions with norm and ReLU, each with a bilinear doubling after it if `double`.

    The convolutions are attributes `0`, `1`, .., or `0`, `2`, .. where the doublings count too.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        convs: int,
        double: bool,
        norm: str,
    ):
        super().__init__()
        self._stride = stride
        self._double = double
        self._convs = []
        for index in range(convs):
            conv = Conv2d(in_channels, out_channels, 3, padding=1, bias=norm == "", norm=norm)
            setattr(self, str(index * (2 if double else 1)), conv)
            self._convs.append(conv)
            in_channels = out_channels

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """[B, H, W, in_channels] -> [B, s H, s W, out_channels], s = 2 ** convs or 1.

        The valid sizes are those of the images, of which a location of x is `stride` by `stride`
        pixels.
        """
        stride = self._stride
        for conv in self._convs:
            here = valid_sizes.strided(stride)
            x = conv(x, here, relu=True)
            if self._double:
                # Between pixel centres, computed in float32 whatever the type of x.
                size = 2 * tf.shape(x)[1:3]
                x = tf.cast(tf.image.resize(here.extend(x), size), x.dtype)
                stride //= 2
        return x


@SEM_SEG_HEADS.register()
class SemSegFPNHead(tf.Module):
    """Every level brought to one stride, summed, and a 1 x 1 predictor.

    Args:
        shapes: (channels, stride) of each feature that is taken, by name.
        common_stride: of the result; the strides come to it by doublings.
        conv_dim: channels of the convolutions.
        num_classes: K.
        norm: of the convolutions, as Detectron2 names it.
        ignore_value: of pixels that the loss leaves out.
        loss_weight: what the loss is multiplied by.

    Raises:
        InputError: a stride does not come to `common_stride`.
    """

    def __init__(
        self,
        shapes: Shapes,
        *,
        common_stride: int,
        conv_dim: int,
        num_classes: int,
        norm: str = "",
        ignore_value: int = 255,
        loss_weight: float = 1.0,
    ):
        super().__init__()
        self._common_stride = common_stride
        self._ignore_value = ignore_value
        self._loss_weight = loss_weight
        self._in_features = sorted(shapes, key=lambda name: shapes[name][1])
        for name in self._in_features:
            channels, stride = shapes[name]
            doublings = math.log2(stride / common_stride)
            if doublings < 0 or doublings != int(doublings):
                raise InputError(
                    f"MODEL.SEM_SEG_HEAD.COMMON_STRIDE: {name} of stride {stride} does not come "
                    f"to {common_stride} by doublings; set the smallest stride"
                )
            scale_head = ScaleHead(
                channels,
                conv_dim,
                stride=stride,
                convs=max(1, int(doublings)),
                double=doublings > 0,
                norm=norm,
            )
            setattr(self, name, scale_head)
        self.predictor = Conv2d(conv_dim, num_classes, 1)

    @classmethod
    def from_config(cls, cfg: CfgNode, shapes: Shapes) -> SemSegFPNHead:
        """From MODEL.SEM_SEG_HEAD.

        Args:
            cfg: the whole configuration.
            shapes: (channels, stride) of the backbone's features by name.
        """
        head = cfg.MODEL.SEM_SEG_HEAD
        key = "MODEL.SEM_SEG_HEAD.IN_FEATURES"
        names = input_features(key, head.IN_FEATURES, shapes, equal_channels=False)
        return cls(
            # Once each, in whatever order they are named.
            {name: shapes[name] for name in names},
            common_stride=head.COMMON_STRIDE,
            conv_dim=head.CONVS_DIM,
            num_classes=head.NUM_CLASSES,
            norm=head.NORM or "",
            ignore_value=head.IGNORE_VALUE,
            loss_weight=head.LOSS_WEIGHT,
        )

    @profile_scope("sem_seg_head")
    def __call__(
        self, features: dict[str, tf.Tensor], valid_sizes: ValidSizes = WHOLE
    ) -> tf.Tensor:
        """Features [B, H, W, C] by name -> logits float32 [B, H', W', K] at COMMON_STRIDE.

        Detectron2's head also enlarges them to the size of the image batch: see `enlarge_logits`.
        The valid sizes are those of the images.
        """
        x = tf.add_n(
            [getattr(self, name)(features[name], valid_sizes) for name in self._in_features]
        )
        return tf.cast(self.predictor(x), tf.float32)

    def losses(
        self, features: dict[str, tf.Tensor], labels: tf.Tensor, seeds: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """`loss_sem_seg`, weighted: see `semantic_cross_entropy`.

        Args:
            features: [B, H, W, C] by name.
            labels: integer [B, H, W], the class of each pixel of the images, or the ignored value.
            seeds: int [B, 2], of each image, for a head that chooses at random; this one does not.
        """
        del seeds
        return self.losses_of_logits(self(features), labels)

    def losses_of_logits(self, logits: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same of logits that the head gave."""
        loss = semantic_cross_entropy(
            logits, labels, stride=self._common_stride, ignore_value=self._ignore_value
        )
        return {"loss_sem_seg": self._loss_weight * loss}


def build_sem_seg_head(cfg: CfgNode, shapes: Shapes) -> tf.Module:
    """The head of MODEL.SEM_SEG_HEAD.NAME, for features of these (channels, stride) by name."""
    return SEM_SEG_HEADS.build(cfg, "MODEL.SEM_SEG_HEAD.NAME", shapes)


@META_ARCHITECTURES.register()
class SemanticSegmentor(Detector):
    """Backbone and semantic head: Detectron2's meta architecture of this name."""

    def __init__(self, backbone: tf.Module, sem_seg_head: tf.Module):
        super().__init__(backbone)
        self.sem_seg_head = sem_seg_head

    @classmethod
    def from_config(cls, cfg: CfgNode) -> SemanticSegmentor:
        """From MODEL.BACKBONE and MODEL.SEM_SEG_HEAD."""
        backbone = build_backbone(cfg)
        return cls(backbone, build_sem_seg_head(cfg, backbone.output_shapes))

    def __call__(
        self, images: tf.Tensor, image_sizes: tf.Tensor, valid_sizes: ValidSizes = WHOLE
    ) -> Predictions:
        """Segment.

        Args:
            images: [B, H, W, 3], normalised, zero beyond each image's own size.
            image_sizes: int32 [B, 2], (height, width) of each image without padding; only what is
                made of the logits depends on it.
            valid_sizes: of the images; see `GeneralizedRCNN`.

        Returns:
            `sem_seg_logits`.
        """
        features = self.backbone(images, valid_sizes)
        return Predictions(sem_seg_logits=self.sem_seg_head(features, valid_sizes))

    def losses(
        self,
        images: tf.Tensor,
        image_sizes: tf.Tensor,
        targets: Targets,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The head's losses, such as `loss_sem_seg`: see `GeneralizedRCNN.losses`.

        Args:
            images, seed: as there.
            image_sizes: not used: pixels beyond an image are ignored ones in the targets.
            targets: `gt_sem_seg`.
        """
        del image_sizes
        seeds = image_seeds(seed, tf.shape(images)[0])
        with batch_statistics(), drop_paths(seeds):
            features = self.backbone(images)
            return self.sem_seg_head.losses(features, targets.gt_sem_seg, seeds)


def enlarge_logits(logits: tf.Tensor, padded_size: tf.Tensor, image_size: tf.Tensor) -> tf.Tensor:
    """The head's logits for each pixel of the network's input that is of the image.

    Args:
        logits: float32 [h, w, K], over the padded input.
        padded_size: int32 [2], (height, width) of the padded input, rounded up to the logits'
            stride.
        image_size: int32 [2], of the image in it.

    Returns:
        float32 [height, width, K].
    """
    return tf.image.resize(logits, padded_size)[: image_size[0], : image_size[1]]


def semantic_labels(logits: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """The class of each pixel of the original image.

    The greatest of what Detectron2's `sem_seg_postprocess` gives, of equal ones the lowest class.

    Args:
        logits: float32 [h, w, K], over the image without padding: see `enlarge_logits`.
        size: int32 [2], (height, width) of the original image.

    Returns:
        int32 [height, width].
    """

    def label(start: tf.Tensor) -> tf.Tensor:
        rows = tf.minimum(start + tf.range(_STRIP), size[0] - 1)
        return tf.argmax(bilinear_rows(logits, rows, size), 2, output_type=tf.int32)

    strips = tf.map_fn(
        label,
        tf.range(0, size[0], _STRIP),
        fn_output_signature=tf.TensorSpec([_STRIP, None], tf.int32),
    )
    return tf.reshape(strips, [-1, size[1]])[: size[0]]
