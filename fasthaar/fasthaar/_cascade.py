"""A cascade in its validated form, and the rules that every cascade keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 4 * 1024 * 1024
SIDE_RANGE = (8, 128)
MAX_STAGES = 64
MAX_TREES = 20_000
MAX_NODES_PER_TREE = 16
MAX_NODES_PER_OLD_TREE = 2
LBP_CATEGORIES = 256

# The converter for the old format leaves out a third rectangle that weighs less than this.
_OLD_LEAST_WEIGHT = np.finfo(np.float32).eps

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cascade:
    """A cascade that keeps every rule: S stages, T trees, N nodes and F features, each in the order of the file.

    Attributes:
        feature_type: which kind of feature all nodes use.
        window_wh: width and height of the window in pixels, 8 to 128 each.
        stage_thresholds: float32 (S,), as in the file; the detector subtracts 1e-5.
        stage_trees: int32 (S,), trees of each stage, at least 1.
        tree_nodes: int32 (T,), nodes of each tree, 1 to 16.
        left: int32 (N,), where a node leads below its threshold (LBP: in its subset): above 0 a later node of
            the same tree, otherwise minus the index of a leaf of the same tree.
        right: int32 (N,), where it leads otherwise, in the same form.
        feature: int32 (N,), index of the node's feature.
        threshold: float32 (N,), zeros for LBP.
        subsets: uint32 (N, 8), bit c % 32 of word c // 32 says whether category c is in the subset; HAAR: (0, 8).
        leaves: float32 (N + T,), one more than nodes for each tree.
        rects: int32 (F, 3, 4), x, y, width, height in pixels of the window, an absent third rectangle is zeros;
            LBP: (F, 1, 4), the upper left one of the 3 x 3 cells.
        weights: float32 (F, 3), 0 where the third rectangle is absent; LBP: (F, 0).
        tilted: uint8 (F,), 1 where the rectangles are turned by 45 degrees; zeros for LBP.
    """

    feature_type: Literal["HAAR", "LBP"]
    window_wh: tuple[int, int]
    stage_thresholds: NDArray[np.float32]
    stage_trees: NDArray[np.int32]
    tree_nodes: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    subsets: NDArray[np.uint32]
    leaves: NDArray[np.float32]
    rects: NDArray[np.int32]
    weights: NDArray[np.float32]
    tilted: NDArray[np.uint8]


@dataclass(frozen=True)
class Columns:
    """What a file says, as flat numbers that no rule has looked at yet, with the lengths of the lists they came in.

    A list is what stood in one element: `node_lengths[t]` numbers of `nodes` describe tree t.
    """

    feature_type: str
    categories: int
    old_format: bool
    window_wh: tuple[int, int]
    stage_thresholds: Floats
    stage_trees: Integers
    nodes: Floats
    node_lengths: Integers
    leaves: Floats
    leaf_lengths: Integers
    feature_count: int
    rects: Floats
    rect_lengths: Integers
    feature_rects: Integers  # rectangles of each HAAR feature
    tilted: Floats


def build(columns: Columns) -> Cascade:
    """Checks every rule and returns the cascade.

    Raises:
        ValueError: the first broken rule in one line.
    """
    haar = columns.feature_type == "HAAR"
    if columns.categories != (0 if haar else LBP_CATEGORIES):
        raise ValueError(f"maxCatCount is {columns.categories}; should be 0 for HAAR and {LBP_CATEGORIES} for LBP")
    for name, side in zip(("width", "height"), columns.window_wh, strict=True):
        if not SIDE_RANGE[0] <= side <= SIDE_RANGE[1]:
            raise ValueError(f"the window's {name} is {side}; should be {SIDE_RANGE[0]} to {SIDE_RANGE[1]} pixels")
    _check_stages(columns.stage_trees)
    if columns.feature_count < 1:
        raise ValueError("there are no features; should be at least 1")
    rects, weights, tilted = _haar_features(columns) if haar else _lbp_features(columns)
    tree_nodes = _tree_nodes(columns, 4 if haar else 3 + LBP_CATEGORIES // 32)
    nodes = columns.nodes.reshape(tree_nodes.sum(), -1)
    left, right, feature = (
        _int32(nodes[:, column], f"internalNodes: {name}") for column, name in enumerate(("left", "right", "feature"))
    )
    _check_children(tree_nodes, left, right)
    _refuse(
        (feature < 0) | (feature >= columns.feature_count),
        lambda i: f"node {i}: feature {feature[i]} does not exist; should be 0 to {columns.feature_count - 1}",
    )
    if haar:
        threshold = _float32(nodes[:, 3], "internalNodes: threshold")
        subsets = np.zeros((0, 8), np.uint32)
    else:
        threshold = np.zeros(len(nodes), np.float32)
        subsets = _int32(nodes[:, 3:], "internalNodes: subset").view(np.uint32)
    return Cascade(
        feature_type="HAAR" if haar else "LBP",
        window_wh=columns.window_wh,
        stage_thresholds=_float32(columns.stage_thresholds, "stageThreshold"),
        stage_trees=columns.stage_trees.astype(np.int32),
        tree_nodes=tree_nodes.astype(np.int32),
        left=left,
        right=right,
        feature=feature,
        threshold=threshold,
        subsets=subsets,
        leaves=_float32(columns.leaves, "leafValues"),
        rects=rects,
        weights=weights,
        tilted=tilted,
    )


def _check_stages(stage_trees: Integers) -> None:
    if not 1 <= len(stage_trees) <= MAX_STAGES:
        raise ValueError(f"there are {len(stage_trees)} stages; should be 1 to {MAX_STAGES}")
    _refuse(stage_trees < 1, lambda i: f"stage {i} has no weak classifiers; should have at least 1")


def _tree_nodes(columns: Columns, step: int) -> Integers:
    lengths = columns.node_lengths
    _refuse(
        (lengths % step != 0) | (lengths == 0),
        lambda i: f"tree {i}: internalNodes has {lengths[i]} numbers; should be a multiple of {step}, at least {step}",
    )
    nodes = lengths // step
    most = MAX_NODES_PER_OLD_TREE if columns.old_format else MAX_NODES_PER_TREE
    _refuse(nodes > most, lambda i: f"tree {i} has {nodes[i]} nodes; should be at most {most}")
    _refuse(
        columns.leaf_lengths != nodes + 1,
        lambda i: f"tree {i} has {columns.leaf_lengths[i]} leaves for {nodes[i]} nodes; should be {nodes[i] + 1}",
    )
    return nodes


def _check_children(tree_nodes: Integers, left: NDArray[np.int32], right: NDArray[np.int32]) -> None:
    """A child is a leaf of the same tree or a later node of it, so every walk through a tree ends."""
    count = np.repeat(tree_nodes, tree_nodes)
    own = np.arange(len(count)) - np.repeat(np.cumsum(tree_nodes) - tree_nodes, tree_nodes)
    _check_side("left", left, own, count)
    _check_side("right", right, own, count)


def _check_side(name: str, child: NDArray[np.int32], own: Integers, count: Integers) -> None:
    bad = np.where(child > 0, (child <= own) | (child >= count), -child.astype(np.int64) > count)
    _refuse(
        bad,
        lambda i: (
            f"node {own[i]} of a tree of {count[i]} nodes: {name} is {child[i]}; should be a later node, "
            f"{own[i] + 1} to {count[i] - 1}, or a leaf, 0 to {-count[i]}"
        ),
    )


def _haar_features(columns: Columns) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.uint8]]:
    counts = columns.feature_rects
    if len(counts) != columns.feature_count:
        raise ValueError("a feature has rect; should be rects, as the featureType is HAAR")
    _refuse((counts < 2) | (counts > 3), lambda i: f"feature {i} has {counts[i]} rects; should be 2 or 3")
    lengths = columns.rect_lengths
    _refuse(
        lengths != 5, lambda i: f"rects: a rectangle has {lengths[i]} numbers; should be 5, x y width height weight"
    )
    tilted = _int32(columns.tilted, "tilted") != 0
    table = columns.rects.reshape(-1, 5)
    xywh = _int32(table[:, :4], "rects")
    weight = _float32(table[:, 4], "rects: weight")
    feature = np.repeat(np.arange(len(counts)), counts)
    _check_rects(xywh.astype(np.int64), tilted[feature], feature, columns.window_wh)

    place = np.arange(len(feature)) - np.repeat(np.cumsum(counts) - counts, counts)
    # A third rectangle without weight adds nothing: it is as absent as one that is not there.
    dropped = np.abs(weight) < _OLD_LEAST_WEIGHT if columns.old_format else weight == 0
    kept = (place < 2) | ~dropped
    rects = np.zeros((len(counts), 3, 4), np.int32)
    weights = np.zeros((len(counts), 3), np.float32)
    rects[feature[kept], place[kept]] = xywh[kept]
    weights[feature[kept], place[kept]] = weight[kept]
    return rects, weights, tilted.astype(np.uint8)


def _check_rects(xywh: Integers, tilted: NDArray[np.bool_], feature: Integers, window_wh: tuple[int, int]) -> None:
    x, y, w, h = xywh.T
    width, height = window_wh
    # Turned by 45 degrees, (x, y) is the topmost corner and h goes down to the left.
    outside = (x < np.where(tilted, h, 0)) | (y < 0) | (w < 0) | (h < 0)
    outside |= (x + w > width) | (y + h + np.where(tilted, w, 0) > height)
    _refuse(
        outside,
        lambda i: (
            f"feature {feature[i]}: {'tilted ' if tilted[i] else ''}rectangle {x[i]} {y[i]} {w[i]} {h[i]} "
            f"should lie inside the window of {width} x {height}"
        ),
    )


def _lbp_features(columns: Columns) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.uint8]]:
    count = columns.feature_count
    if len(columns.feature_rects):
        raise ValueError("a feature has rects; should be rect, as the featureType is LBP")
    lengths = columns.rect_lengths
    _refuse(lengths != 4, lambda i: f"feature {i}: rect has {lengths[i]} numbers; should be 4, x y width height")
    rects = _int32(columns.rects.reshape(-1, 4), "rect")
    x, y, w, h = rects.astype(np.int64).T
    width, height = columns.window_wh
    _refuse(
        (x < 0) | (y < 0) | (w < 0) | (h < 0) | (x + 3 * w > width) | (y + 3 * h > height),
        lambda i: (
            f"feature {i}: 3 x 3 cells {x[i]} {y[i]} {w[i]} {h[i]} should lie inside the window of {width} x {height}"
        ),
    )
    return rects.reshape(-1, 1, 4), np.zeros((count, 0), np.float32), np.zeros(count, np.uint8)


def _int32(values: Floats, name: str) -> NDArray[np.int32]:
    integers = np.iinfo(np.int32)
    bad = ~((values >= integers.min) & (values <= integers.max) & (np.rint(values) == values))
    _refuse(bad.ravel(), lambda i: f"{name}: {values.flat[i]:g} should be a whole number of 32 bits")
    return values.astype(np.int32)


def _float32(values: Floats, name: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    _refuse(~np.isfinite(narrow), lambda i: f"{name}: {values[i]:g} should be finite as a 32-bit number")
    return narrow


def _refuse(bad: NDArray[np.bool_], message: Callable[[int], str]) -> None:
    if bad.any():
        raise ValueError(message(int(np.argmax(bad))))
