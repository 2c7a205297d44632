"""The mask head (Mask R-CNN, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.conv import Conv2d, ConvTranspose2d
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.registries import MASK_HEADS
from tfdetect.modeling.roi_heads.sampling import SampledProposals
from tfdetect.modeling.structures import Targets
from tfdetect.ops.probabilities import sigmoid


class MaskHead(tf.Module):
    """What RoI heads ask of a mask head of pooled regions.

    A subclass has `__call__`, and `output_size` where its masks are not twice as large as what it
    is given.
    """

    def output_size(self, side: int) -> int:
        """The side of the masks of regions that are pooled to `side` x `side`."""
        return 2 * side

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[R, side, side, C] -> mask logits float32 [R, M, M, K], or [R, M, M, 1] if masks do not
        depend on the class; M is `output_size(side)`.
        """
        raise NotImplementedError

    def predict(self, x: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """Mask probabilities of each box's predicted class (Detectron2's `mask_rcnn_inference`).

        Args:
            x: [R, side, side, C].
            classes: int32 [R]; ignored by class-agnostic masks.

        Returns:
            float32 [R, M, M].
        """
        logits = self(x)
        if logits.shape[3] > 1:
            logits = tf.gather(logits, classes[:, None], axis=3, batch_dims=1)
        return sigmoid(logits[..., 0])


class FeatureMaskHead(tf.Module):
    """What RoI heads ask of a mask head that looks at the feature maps itself.

    Such a head has no pooler: MODEL.ROI_MASK_HEAD.POOLER_TYPE is ''.
    """

    def predict(
        self,
        features: Mapping[str, tf.Tensor],
        boxes: tf.Tensor,
        image_indices: tf.Tensor,
        classes: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
    ) -> tf.Tensor:
        """Mask probabilities of each box's predicted class.

        Args:
            features: [B, H, W, C] by name, those of MODEL.ROI_HEADS.IN_FEATURES.
            boxes: float32 [R, 4] in pixels of the network's input.
            image_indices: int32 [R], the image of each.
            classes: int32 [R]; ignored by class-agnostic masks.
            valid_sizes: of the images; see `GeneralizedRCNN`.

        Returns:
            float32 [R, M, M], the masks within the boxes.
        """
        raise NotImplementedError

    def losses(
        self,
        features: Mapping[str, tf.Tensor],
        regions: SampledProposals,
        targets: Targets,
        image_sizes: tf.Tensor,
        seeds: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Scalars by name.

        Args:
            features: as above.
            regions: R of foreground; there may be none.
            targets: the objects, with their masks.
            image_sizes: int32 [B, 2], (height, width) of each image without padding.
            seeds: int [B, 2], of each image, for random choices.
        """
        raise NotImplementedError


@MASK_HEADS.register()
class MaskRCNNConvUpsampleHead(MaskHead):
    """Convolutions `mask_fcn1` .., a 2x transposed convolution and a 1 x 1 predictor.

    Args:
        in_channels: of the pooled regions.
        num_classes: K; 1 for masks that do not depend on the class.
        conv_dims: the channels of each convolution, the transposed one last.
        norm: of the convolutions before that, as Detectron2 names it; "" or None for none.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        conv_dims: Sequence[int],
        norm: str | None = "",
    ):
        super().__init__()
        self._convs = []
        for index, dim in enumerate(conv_dims[:-1], start=1):
            conv = Conv2d(in_channels, dim, 3, padding=1, bias=not norm, norm=norm)
            setattr(self, f"mask_fcn{index}", conv)
            self._convs.append(conv)
            in_channels = dim
        self.deconv = ConvTranspose2d(in_channels, conv_dims[-1], 2)
        self.predictor = Conv2d(conv_dims[-1], num_classes, 1)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> MaskRCNNConvUpsampleHead:
        """From MODEL.ROI_HEADS and MODEL.ROI_MASK_HEAD."""
        head = cfg.MODEL.ROI_MASK_HEAD
        if not isinstance(in_channels, int):
            raise InputError(
                f"MODEL.ROI_MASK_HEAD.POOLER_TYPE: is '', but {head.NAME} takes pooled regions; "
                "use ROIAlignV2"
            )
        return cls(
            in_channels,
            num_classes=1 if head.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            conv_dims=[head.CONV_DIM] * (head.NUM_CONV + 1),
            norm=head.NORM,
        )

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[R, side, side, C] -> mask logits float32 [R, 2 side, 2 side, K or 1]."""
        locations = self._logits_of_locations(x)
        shape = tf.shape(locations)
        logits = tf.reshape(locations, [shape[0], shape[1], shape[2], 4 * locations.shape[4]])
        return tf.cast(tf.nn.depth_to_space(logits, 2), tf.float32)

    def predict(self, x: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """As `MaskHead.predict`."""
        # Rearranged last, when only one class is left.
        locations = self._logits_of_locations(x)
        shape = tf.shape(locations)
        if locations.shape[4] > 1:
            flat = tf.reshape(locations, [shape[0], -1, locations.shape[4]])
            locations = tf.gather(flat, classes, axis=2, batch_dims=1)
        logits = tf.nn.depth_to_space(tf.reshape(locations, [shape[0], shape[1], shape[2], 4]), 2)
        return sigmoid(tf.cast(logits[..., 0], tf.float32))

    def _logits_of_locations(self, x: tf.Tensor) -> tf.Tensor:
        """[R, side, side, C] -> [R, side, side, 4, K or 1], four outputs for each location of x."""
        for conv in self._convs:
            x = conv(x, relu=True)
        # The predictor is 1 x 1, so that the upsampled map with its many channels need not be
        # rearranged.
        blocks = self.deconv.blocks(x, relu=True)
        shape = tf.shape(blocks)
        locations = tf.reshape(blocks, [shape[0], shape[1], 4 * shape[2], blocks.shape[3] // 4])
        logits = self.predictor(locations)
        return tf.reshape(logits, [shape[0], shape[1], shape[2], 4, logits.shape[3]])
