"""Digits of a file's hash in the file's name."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

# Detectron2's zoo ends names with six digits of the MD5 (MODEL_ZOO.md), torchvision and others with
# eight or more of the SHA-256 (torch.hub).
_OF_ZOO = re.compile(r"_([0-9a-f]{6})\.pkl\Z")
_LIKE_ZOO = re.compile(r"\Amodel_\w+_([0-9a-f]{6})\.(?:pkl|pth)\Z")
_OF_TORCH_HUB = re.compile(r"-([0-9a-f]{8,64})\.\w+\Z")
_CHUNK = 1 << 22


@dataclass(frozen=True)
class NamedHash:
    """The first digits of a file's SHA-256 or MD5, hexadecimal."""

    digits: str

    def is_of(self, path: Path) -> bool:
        """Whether one of the file's two hashes begins so."""
        # Neither is for security here: they recognise damage.
        hashes = [hashlib.sha256(usedforsecurity=False), hashlib.md5(usedforsecurity=False)]
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                for digest in hashes:
                    digest.update(chunk)
        return any(digest.hexdigest().startswith(self.digits) for digest in hashes)


def hash_in_name(name: str, *, of_zoo: bool = False) -> NamedHash | None:
    """The digits of a hash that a file's name ends with, if it does.

    They are six in the zoo's names, such as model_final_f10217.pkl, and after a hyphen eight or
    more, such as maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth. Beyond the zoo they may be a date or an
    iteration if none is a letter: these are not taken for a hash.

    Args:
        name: of the file.
        of_zoo: whether it is from Detectron2's server.
    """
    if of_zoo and (match := _OF_ZOO.search(name)):
        return NamedHash(match[1])
    match = _LIKE_ZOO.search(name) or _OF_TORCH_HUB.search(name)
    return None if match is None or match[1].isdecimal() else NamedHash(match[1])
