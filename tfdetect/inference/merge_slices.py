"""Merges what was found in overlapping slices of an image, without seams through objects.

Two slices saw the same object if their detections agree where both slices look. Of an object that
one slice saw as a whole, that slice's detection is the result, as it is; what others saw of it
is dropped. The parts of an object that no slice saw as a whole are united.

supervision and SAHI compare whole detections, of one slice or two. Of 101 shapes much larger than
the overlap, with masks of 28 x 28, non-maximum merging at an IoU of 0.5 leaves 122 parts beside 88
whole objects, and at an intersection over the smaller one of 0.5 it leaves 10 beside 97. At 0.1 it
leaves none, but then objects of one class that overlap a little become one. Here 101 are left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tfdetect.detections import Detections
from tfdetect.rle_masks import RLEMasks, encode_part, unite

_SAME = 0.5
"""Least IoU, where both slices look, of two detections of one object."""

_WITHIN = 0.7
"""The same of parts of boxes, as intersection over the smaller one: of a part that ends in a tip,
the box is smaller than the part of the whole object's box."""

_BORDER = 64
"""A box that ends within this part of a slice's side from its border may be cut off there."""


def merge_slices(
    found: Sequence[Detections], slices: np.ndarray, height: int, width: int
) -> Detections:
    """The detections of an image from those of its slices.

    Args:
        found: of each of S slices, in its own pixels; without segmentations and rotated boxes.
        slices: int [S, 4] XYXY, in pixels of the image.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Returns:
        In pixels of the image, by descending score. Of united parts the score is the highest one,
        the box is around their boxes, and each keypoint is the one of the highest score.
    """
    parts = _Parts(found, slices, height, width)
    alive = ~parts.seen_better()
    links = np.array(list(parts.links(alive)), int).reshape(-1, 2)
    partial = parts.cut | parts.pieces(links)
    groups = _group(links, alive, partial, parts.scores)
    return parts.merged(groups)


class _Parts:
    """All detections of all slices."""

    def __init__(self, found: Sequence[Detections], slices: np.ndarray, height: int, width: int):
        self._found = found
        self._slices = slices
        self._size = height, width
        counts = [len(one) for one in found]
        self._owner = np.repeat(np.arange(len(found)), counts)
        self._index = np.concatenate([np.arange(count) for count in counts])
        self._first = np.cumsum([0, *counts])
        self.scores = np.concatenate([one.scores for one in found])
        self._classes = np.concatenate([one.classes for one in found])
        self._boxes = np.concatenate([one.boxes for one in found])
        # Corners of the slices fit into float32 exactly.
        self._boxes = self._boxes + np.tile(slices[self._owner, :2], 2).astype(np.float32)
        self._margin = np.maximum((slices[:, 2:] - slices[:, :2]).max(1) / _BORDER, 2)
        self._sides = self._touched(self._owner, 1)
        self.cut: np.ndarray = np.asarray(self._sides.any(1))

    def _touched(
        self, of_slice: np.ndarray, margins: int, which: slice = slice(None)
    ) -> np.ndarray:
        """Bool [N, 4]: the sides of slices, within the image, at which boxes may be cut off."""
        borders, (height, width) = self._slices[of_slice], self._size
        within = borders != [0, 0, width, height]
        distance = (self._boxes[which] - borders) * [1, 1, -1, -1]
        return within & (distance <= margins * self._margin[of_slice, None])

    def seen_better(self) -> np.ndarray:
        """Bool [N]: cut off, but within another slice that sees beyond the border.

        Whatever is there, the other slice has seen it. It must be clearly within: two views of one
        object must not give way to one another.
        """
        result = np.zeros(len(self.scores), bool)
        for this, others in self._neighbors():
            mine = slice(self._first[this], self._first[this + 1])
            boxes, sides = self._boxes[mine], self._sides[mine]
            for other in others:
                frame = self._slices[other]
                inside = (boxes[:, :2] >= frame[:2]).all(1) & (boxes[:, 2:] <= frame[2:]).all(1)
                there = self._touched(np.full(len(boxes), other), 2, mine)
                fewer = (there <= sides).all(1) & (there != sides).any(1)
                result[mine] |= inside & fewer
        return result

    def _neighbors(self) -> Iterator[tuple[int, list[int]]]:
        """Each slice, and those that overlap it."""
        for this, frame in enumerate(self._slices):
            low = np.maximum(self._slices[:, :2], frame[:2])
            high = np.minimum(self._slices[:, 2:], frame[2:])
            others = np.flatnonzero((low < high).all(1))
            yield this, [int(other) for other in others if other != this]

    def links(self, alive: np.ndarray) -> Iterator[tuple[int, int]]:
        """Pairs of detections of one object in two slices."""
        for this, others in self._neighbors():
            mine = self._of(this, alive)
            for other in others:
                if other < this:
                    continue
                theirs = self._of(other, alive)
                low = np.maximum(self._slices[this, :2], self._slices[other, :2])
                high = np.minimum(self._slices[this, 2:], self._slices[other, 2:])
                window = np.concatenate([low, high])
                common = _intersections(self._boxes[mine], self._boxes[theirs], window)
                same_class = self._classes[mine][:, None] == self._classes[theirs]
                for row, column in np.argwhere((common > 0) & same_class).tolist():
                    pair = int(mine[row]), int(theirs[column])
                    if self._agree(*pair, window):
                        yield pair

    def pieces(self, links: np.ndarray) -> np.ndarray:
        """Bool [N]: the other one of a pair goes beyond this one's slice.

        What is hidden in the middle is in pieces, and a slice may see a piece alone, not cut off.
        """
        result = np.zeros(len(self.scores), bool)
        for this, other in (links.T, links.T[::-1]):
            of_slice = self._owner[this]
            margin = self._margin[of_slice, None]
            distance = (self._boxes[other] - self._slices[of_slice]) * [1, 1, -1, -1]
            result[this[(distance < -margin).any(1)]] = True
        return result

    def _of(self, index: int, alive: np.ndarray) -> np.ndarray:
        """Detections of a slice."""
        first, end = self._first[index], self._first[index + 1]
        return first + np.flatnonzero(alive[first:end])

    def _agree(self, one: int, other: int, window: np.ndarray) -> bool:
        """Whether two detections are the same where both slices look, the window."""
        if self._found[0].has_masks:
            masks = [self._mask(index, window) for index in (one, other)]
            together = int(np.count_nonzero(masks[0] | masks[1]))
            return 0 < _SAME * together <= int(np.count_nonzero(masks[0] & masks[1]))
        pair = self._boxes[[one, other]]
        areas = _intersections(pair, pair, window).tolist()
        common, smaller, both = (
            areas[0][1],
            min(areas[0][0], areas[1][1]),
            areas[0][0] + areas[1][1],
        )
        if self.cut[one] and self.cut[other]:
            return bool(common >= _WITHIN * smaller)
        return bool(common >= _SAME * (both - common))

    def _place(self, index: int) -> tuple[int, int, np.ndarray]:
        """Top row, left column and the mask there of a detection, in the image."""
        masks = self._found[self._owner[index]].rle_masks
        assert masks is not None
        top, left, part = masks.part(self._index[index])
        x, y = self._slices[self._owner[index], :2].tolist()
        return top + y, left + x, part

    def _mask(self, index: int, window: np.ndarray) -> np.ndarray:
        """What is in a window of the image, XYXY, of a detection's mask."""
        top, left, part = self._place(index)
        x1, y1, x2, y2 = window.tolist()
        result = np.zeros((y2 - y1, x2 - x1), bool)
        inside = part[max(y1 - top, 0) : max(y2 - top, 0), max(x1 - left, 0) : max(x2 - left, 0)]
        row, column = max(top - y1, 0), max(left - x1, 0)
        result[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
        return result

    def merged(self, groups: list[np.ndarray]) -> Detections:
        height, width = self._size
        best = [group[np.argmax(self.scores[group])] for group in groups]
        order = np.argsort(-self.scores[best], kind="stable").tolist()
        groups = [groups[index] for index in order]
        chosen = np.array([best[index] for index in order], int)
        boxes = self._boxes[chosen]
        first = self._found[0]
        masks = RLEMasks(height, width) if first.has_masks else None
        points = None
        if first.keypoints is not None:
            points = self._keypoints()
            keypoints = points[chosen]
        for slot, group in enumerate(groups):
            if masks is not None:
                runs = []
                for index in group.tolist():
                    top, left, part = self._place(index)
                    runs.append(encode_part(part, top, left, height))
                masks.runs.append(runs[0] if len(runs) == 1 else unite(runs))
            if len(group) > 1:
                boxes[slot, :2] = self._boxes[group, :2].min(0)
                boxes[slot, 2:] = self._boxes[group, 2:].max(0)
                if points is not None:
                    surest = points[group, :, 2].argmax(0)
                    keypoints[slot] = points[group[surest], np.arange(len(surest))]
        return Detections(
            height=height,
            width=width,
            boxes=boxes,
            scores=self.scores[chosen],
            classes=self._classes[chosen],
            masks=masks,
            keypoints=None if points is None else keypoints,
            box_extent=first.box_extent,
            keypoint_offset=first.keypoint_offset,
        )

    def _keypoints(self) -> np.ndarray:
        points = np.concatenate([one.keypoints for one in self._found if one.keypoints is not None])
        points[..., :2] += self._slices[self._owner, None, :2]
        return points


def _intersections(boxes: np.ndarray, others: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Areas [N, M] of what two boxes have in common in a window, all XYXY."""
    low = np.maximum(np.maximum(boxes[:, None, :2], others[None, :, :2]), window[:2])
    high = np.minimum(np.minimum(boxes[:, None, 2:], others[None, :, 2:]), window[2:])
    return np.maximum(high - low, 0).prod(2)


def _group(
    links: np.ndarray, alive: np.ndarray, partial: np.ndarray, scores: np.ndarray
) -> list[np.ndarray]:
    """The detections that make up each object: one that is not a part, or all parts.

    Args:
        links: int [L, 2], pairs of detections of one object.
        alive: bool [N], what counts.
        partial: bool [N], what may be a part only.
        scores: float [N].
    """
    neighbors: dict[int, list[int]] = {}
    for one, other in links.tolist():
        neighbors.setdefault(one, []).append(other)
        neighbors.setdefault(other, []).append(one)
    left = alive.copy()
    groups = []
    whole = np.flatnonzero(alive & ~partial)
    for index in whole[np.argsort(-scores[whole], kind="stable")].tolist():
        if left[index]:
            left[[index, *neighbors.get(index, [])]] = False
            groups.append(np.array([index]))
    links = links[left[links].all(1)]
    count = len(alive)
    graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), (count, count))
    labels = connected_components(graph, directed=False)[1]
    rest = np.flatnonzero(left)
    rest = rest[np.argsort(labels[rest], kind="stable")]
    changes = np.flatnonzero(np.diff(labels[rest])) + 1
    return groups + [group for group in np.split(rest, changes) if len(group)]
