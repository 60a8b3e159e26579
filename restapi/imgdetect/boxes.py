"""Boxes as arrays: forms, clipping, turning, overlap, and the grouping of a cascade's raw candidates.

Arrays have the shape (N, 4) and carry their form in the name: `xyxy` is left, top, right, bottom with right and
bottom exclusive; `xywh` is left, top, width, height. Coordinates are pixel edges: 0 is the picture's left edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# OpenCV's: edges may differ by this part of the mean of the shorter width and the shorter height.
GROUP_EPS = 0.2
# Pairs of boxes compared at once. It bounds the memory of a comparison to a few MiB whatever the number of boxes.
_PAIRS = 1 << 17


def xywh_to_xyxy(xywh: Array) -> Array:
    """Left, top, width, height to left, top, right, bottom; shape (N, 4), the dtype stays."""
    return np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])


def xyxy_to_xywh(xyxy: Array) -> Array:
    """Left, top, right, bottom to left, top, width, height; shape (N, 4), the dtype stays."""
    return np.hstack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]])


def clip_boxes(xyxy: Array, size_wh: tuple[int, int]) -> Array:
    """Cut boxes at the edges of a picture; one that lies outside keeps no area."""
    return np.clip(xyxy, 0, np.array(size_wh * 2, xyxy.dtype))


def scale_boxes(boxes: Array, scale_xy: tuple[float, float]) -> Floats:
    """Multiply x and width, or left and right, by the first factor and the others by the second."""
    return np.asarray(boxes * np.array(scale_xy * 2, np.float64), np.float64)


def turned_size(size_wh: tuple[int, int], degrees: int) -> tuple[int, int]:
    """The size of the smallest canvas that holds a picture turned about its centre."""
    grown = np.abs(_turn(degrees)) @ np.array(size_wh, np.float64)
    return int(np.ceil(grown[0] - 1e-6)), int(np.ceil(grown[1] - 1e-6))


def turn_matrix(size_wh: tuple[int, int], degrees: int) -> Floats:
    """The affine matrix, shape (2, 3), from a picture's coordinates to those of the turned picture.

    Args:
        size_wh: of the upright picture, pixels.
        degrees: clockwise, as seen on a screen.
    """
    linear = _turn(degrees)
    size, canvas = np.array(size_wh, np.float64), np.array(turned_size(size_wh, degrees), np.float64)
    return np.column_stack([linear, canvas / 2 - linear @ size / 2])


def rotate_boxes(xyxy: Array, degrees: int, size_wh: tuple[int, int]) -> Floats:
    """Where boxes of an upright picture lie once it was turned clockwise about its centre.

    Quarter turns are exact. Otherwise a box keeps its own size around its turned centre: a box stands for the
    round object in it, not for its corners. Nothing is clipped.

    Args:
        xyxy: boxes of the upright picture.
        degrees: clockwise.
        size_wh: of the upright picture, pixels.
    """
    matrix = turn_matrix(size_wh, degrees)
    return _moved(xyxy, matrix[:, :2], matrix[:, 2], degrees)


def unrotate_boxes(xyxy: Array, degrees: int, size_wh: tuple[int, int]) -> Floats:
    """The inverse of `rotate_boxes`: boxes of the turned picture in the upright picture of size `size_wh`."""
    matrix = turn_matrix(size_wh, degrees)
    back = matrix[:, :2].T
    return _moved(xyxy, back, -back @ matrix[:, 2], degrees)


def _turn(degrees: int) -> Floats:
    """The linear part of a clockwise turn; exact for quarter turns, whose cosine is not exactly 0 in floats."""
    angle = np.deg2rad(degrees)
    cosine, sine = (np.rint(value) if degrees % 90 == 0 else value for value in (np.cos(angle), np.sin(angle)))
    return np.array([[cosine, -sine], [sine, cosine]], np.float64)


def _moved(xyxy: Array, linear: Floats, offset: Floats, degrees: int) -> Floats:
    half = (xyxy[:, 2:] - xyxy[:, :2]) / 2.0
    centers = (xyxy[:, :2] + half) @ linear.T + offset
    if degrees % 180 == 90:
        half = half[:, ::-1]
    return np.hstack([centers - half, centers + half])


def box_iou(a_xyxy: Array, b_xyxy: Array) -> Floats:
    """Intersection over union of each box of `a` with each of `b`: shape (N, M), 0..1; 0 where both are empty."""
    a, b = a_xyxy.astype(np.float64)[:, None], b_xyxy.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = sides.clip(0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    overlap: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def non_max_suppression(xyxy: Array, threshold: float, groups: Array | None = None) -> Ints:
    """Drop every box that overlaps a better one.

    Args:
        xyxy: boxes, the best first.
        threshold: the intersection over union from which on two boxes mean the same object.
        groups: (N,) when given, only boxes of different groups suppress each other.
    Returns:
        the indices of the boxes that stay, ascending.
    """
    alive = np.ones(len(xyxy), bool)
    for i in range(len(xyxy)):
        if not alive[i]:
            continue
        rest = i + 1 + np.flatnonzero(alive[i + 1 :])
        if groups is not None:
            rest = rest[groups[rest] != groups[i]]
        if rest.size:
            alive[rest] = box_iou(xyxy[i : i + 1], xyxy[rest])[0] < threshold
    return np.flatnonzero(alive)


@dataclass(frozen=True, eq=False)
class Clusters:
    """Raw candidates put together where they mean the same object, in the order in which OpenCV numbers them."""

    candidates: Ints  # (N, 4) xywh, as they came
    xywh: Ints  # (K, 4) the mean of each cluster
    neighbors: Ints  # (K,) candidates in each cluster
    labels: Ints  # (N,) the cluster of each candidate
    eps: float

    def group(self, min_neighbors: int) -> tuple[Ints, Ints, Ints]:
        """What remains at a strictness; see `group_rectangles`."""
        if min_neighbors <= 0:
            count = len(self.candidates)
            return self.candidates, np.ones(count, np.int64), np.arange(count)
        strong = self._strong(min_neighbors)
        place = np.full(len(self.neighbors), -1, np.int64)
        place[strong] = np.arange(len(strong))
        return self.xywh[strong], self.neighbors[strong], place[self.labels]

    def _strong(self, min_neighbors: int) -> Ints:
        """The clusters with more than `min_neighbors` candidates that lie in no stronger one.

        OpenCV drops a box inside another (grown by `eps` of its size) when it has less than 3 candidates, or when
        the outer one has more candidates than it and more than 3.
        """
        many = np.flatnonzero(self.neighbors > min_neighbors)
        xywh, count = self.xywh[many], self.neighbors[many]
        grown = np.rint(xywh[:, 2:] * self.eps).astype(np.int64)
        low, high = xywh[:, :2] - grown, xywh[:, :2] + xywh[:, 2:] + grown
        keep = np.ones(len(many), bool)
        step = max(1, _PAIRS // max(1, len(many)))
        for start in range(0, len(many), step):
            rows = np.arange(start, min(start + step, len(many)))
            inner, own = xywh[rows, None], count[rows, None]
            inside = (inner[..., :2] >= low).all(-1) & (inner[..., :2] + inner[..., 2:] <= high).all(-1)
            inside &= (count > np.maximum(3, own)) | (own < 3)
            inside[rows - start, rows] = False
            keep[rows] = ~inside.any(1)
        return many[keep]


def cluster_rectangles(xywh: Array, eps: float = GROUP_EPS) -> Clusters:
    """Put raw candidates together that mean the same object.

    Two candidates belong together when all four edges are close (see `GROUP_EPS`), or through others in between.

    Args:
        xywh: int, shape (N, 4).
        eps: how far edges may differ.
    """
    candidates = np.asarray(xywh, np.int64).reshape(-1, 4)
    labels = _partition(candidates, eps)
    neighbors = np.bincount(labels).astype(np.int64)
    sums = np.column_stack([np.bincount(labels, side, len(neighbors)) for side in candidates.T])
    # OpenCV averages in 32-bit floats and rounds halves to even; so it must be here, to give the same boxes.
    means = sums.astype(np.float32) * (np.float32(1) / neighbors.astype(np.float32))[:, None]
    return Clusters(candidates, np.rint(means).astype(np.int64), neighbors, labels, eps)


def group_rectangles(xywh: Array, min_neighbors: int, eps: float = GROUP_EPS) -> tuple[Ints, Ints, Ints]:
    """Group raw candidates exactly as OpenCV's groupRectangles and detectMultiScale do.

    Args:
        xywh: int, shape (N, 4).
        min_neighbors: a group needs more candidates than this; 0 returns the candidates as they are.
        eps: how far edges may differ.
    Returns:
        boxes xywh (M, 4), neighbors (M,), and labels (N,): the box each candidate belongs to, -1 for none.
    """
    return cluster_rectangles(xywh, eps).group(min_neighbors)


def _partition(xywh: Ints, eps: float) -> Ints:
    """Label each box with its connected component; components are numbered by their first member."""
    order = np.argsort(xywh[:, 0], kind="stable")
    free = _Free(xywh[order], eps)
    labels = np.full(len(xywh), -1, np.int64)
    component = 0
    for place in np.argsort(order).tolist():
        if labels[place] >= 0:
            continue
        frontier = free.take(np.array([place]))
        while frontier.size:
            labels[frontier] = component
            frontier = free.take_similar(frontier)
        component += 1
    return labels[np.argsort(order)]


class _Free:
    """The boxes that belong to no component yet, sorted by x, so that only near ones need to be compared."""

    def __init__(self, xywh: Ints, eps: float) -> None:
        self._edges = np.ascontiguousarray(xywh_to_xyxy(xywh).T)
        self._sides = np.ascontiguousarray(xywh[:, 2:].T)
        self._reach = eps * xywh[:, 2:].sum(1) * 0.5  # no similar box begins farther away
        self._eps = eps
        self._is_free = np.ones(len(xywh), bool)

    def take(self, places: Ints) -> Ints:
        self._is_free[places] = False
        return places

    def take_similar(self, places: Ints) -> Ints:
        """Take those that are similar to at least one of the given boxes."""
        taken = []
        start = 0
        while start < len(places):
            near = self._between(places[start:])
            some = places[start : start + max(1, _PAIRS // max(1, len(near)))]
            taken.append(self.take(near[self._similar(some[:, None], near).any(0)]))
            start += len(some)
        return np.sort(np.concatenate(taken))

    def _between(self, places: Ints) -> Ints:
        left = self._edges[0]
        low = np.searchsorted(left, (left[places] - self._reach[places]).min())
        high = np.searchsorted(left, (left[places] + self._reach[places]).max(), "right")
        return np.flatnonzero(self._is_free[low:high]) + np.int64(low)

    def _similar(self, some: Ints, others: Ints) -> NDArray[np.bool_]:
        width, height = (np.minimum(side[some], side[others]) for side in self._sides)
        delta = self._eps * (width + height) * 0.5
        similar = np.ones(delta.shape, bool)
        for edge in self._edges:
            similar &= np.abs(edge[some] - edge[others]) <= delta
        return similar


def inside_polygon(points_xy: Array, polygon_xy: Array) -> NDArray[np.bool_]:
    """Which points lie inside a polygon by the even-odd rule; the polygon closes itself.

    Args:
        points_xy: (N, 2).
        polygon_xy: (M, 2), its corners in order.
    """
    x, y = points_xy[:, :1], points_xy[:, 1:]
    start, end = polygon_xy, np.roll(polygon_xy, -1, axis=0)
    crosses = (start[:, 1] > y) != (end[:, 1] > y)  # (N, M): the edge spans the height of the point
    rise = np.where(end[:, 1] == start[:, 1], 1.0, end[:, 1] - start[:, 1])
    at = start[:, 0] + (y - start[:, 1]) * (end[:, 0] - start[:, 0]) / rise
    inside: NDArray[np.bool_] = np.count_nonzero(crosses & (x < at), axis=1) % 2 == 1
    return inside
