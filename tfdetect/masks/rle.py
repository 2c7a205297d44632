"""Run-length encoding of masks, as COCO's tools read it."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as mask_codec


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """COCO's compressed RLE of a bool [height, width] mask: size, and counts as a string."""
    rle = mask_codec.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}
