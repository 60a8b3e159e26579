"""Small cascade files drawn at random: valid, cheap to run, and passing a useful share of windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

KINDS = ("stumps", "trees", "tilted", "fractions", "lbp", "old")


@dataclass(frozen=True)
class Tree:
    """left, right: above 0 a later node, otherwise minus a leaf. conditions: a threshold, or 8 words for LBP."""

    left: list[int]
    right: list[int]
    conditions: list[list[float]]
    leaves: list[float]


def random_xml(kind: str, seed: int, *, window_wh: tuple[int, int] | None = None, stages: int | None = None) -> bytes:
    """A cascade file.

    Args:
        kind: "stumps" (HAAR, one node a tree, mostly upright), "trees" (HAAR, up to 16 nodes), "tilted" (HAAR, half of
            the features turned), "fractions" (HAAR, fractional weights, not quite balanced), "lbp" (stumps for even
            seeds, trees for odd ones), "old" (the old format: one node a tree for even seeds, up to 2 for odd ones).
        seed: the same seed gives the same file.
        window_wh: sides of the window, 8 to 128; by default drawn, mostly 8 to 32.
        stages: how many, 1 to 64; by default 1 to 6.

    Returns:
        The XML.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; should be one of {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    width, height = window_wh or _draw_window(rng)
    number = _draw_style(rng)
    most_nodes = {"trees": 16, "tilted": 3, "fractions": 3, "lbp": 1 + 15 * (seed % 2), "old": 1 + seed % 2}.get(
        kind, 1
    )
    ensemble = [
        [_draw_tree(rng, most_nodes, kind) for _ in range(rng.integers(1, 7))]
        for _ in range(stages or rng.integers(1, 7))
    ]
    thresholds = [_passable_threshold(rng, trees) for trees in ensemble]
    node_count = sum(len(tree.left) for trees in ensemble for tree in trees)
    if kind == "old":
        features = [_haar_feature(rng, kind, width, height, number) for _ in range(node_count)]
        return _old_format(width, height, ensemble, thresholds, features, number)
    draw = _lbp_feature if kind == "lbp" else _haar_feature
    features = [draw(rng, kind, width, height, number) for _ in range(rng.integers(1, node_count + 2))]
    return _new_format(rng, kind, width, height, ensemble, thresholds, features, number)


def _draw_window(rng: np.random.Generator) -> tuple[int, int]:
    longest = rng.choice([12, 24, 32, 128], p=[0.3, 0.4, 0.2, 0.1])
    width, height = rng.integers(8, longest + 1, size=2)
    return int(width), int(height)


def _draw_style(rng: np.random.Generator) -> Callable[[float], str]:
    """How the file writes its numbers: as OpenCV, as an old compiler for Windows did, or as short as they can be."""

    def opencv(value: float) -> str:
        return f"{value:.0f}." if value == int(value) else f"{np.float32(value):.16e}"

    def windows(value: float) -> str:
        mantissa, exponent = f"{np.float32(value):.16e}".split("e")
        return f"{mantissa}e{int(exponent):+04d}"

    def short(value: float) -> str:
        return str(np.float32(value)).removesuffix(".0")

    styles = (opencv, windows, short)
    return styles[rng.integers(len(styles))]


def _draw_tree(rng: np.random.Generator, most_nodes: int, kind: str) -> Tree:
    count = int(rng.integers(1, most_nodes + 1))
    slots = [(0, "left"), (0, "right")]
    children: list[dict[str, int]] = [{} for _ in range(count)]
    for node in range(1, count):
        parent, side = slots.pop(rng.integers(len(slots)))
        children[parent][side] = node
        slots += [(node, "left"), (node, "right")]
    # The old format numbers leaves as they are met; the new one may name them in any order.
    slots.sort()
    order = np.arange(count + 1) if kind == "old" or rng.random() < 0.7 else rng.permutation(count + 1)
    for (parent, side), leaf in zip(slots, order, strict=True):
        children[parent][side] = -int(leaf)
    return Tree(
        left=[child["left"] for child in children],
        right=[child["right"] for child in children],
        conditions=[_draw_condition(rng, kind) for _ in range(count)],
        leaves=rng.normal(0, 1, count + 1).astype(np.float32).tolist(),
    )


def _draw_condition(rng: np.random.Generator, kind: str) -> list[float]:
    if kind == "lbp":
        return list(map(int, rng.integers(-(2**31), 2**31, 8)))
    # What a feature gives is normalised by the contrast of the window: seldom outside of -0.3 to 0.3.
    return [float(np.float32(rng.normal(0, 0.05)))]


def _passable_threshold(rng: np.random.Generator, trees: list[Tree]) -> float:
    """A stage threshold that between 30 and 90 % of the sums of one leaf of each tree reach."""
    sums = sum(rng.choice(tree.leaves, 256) for tree in trees)
    return float(np.float32(np.quantile(sums, rng.uniform(0.1, 0.7))))


def _haar_feature(rng: np.random.Generator, kind: str, width: int, height: int, number: Callable[[float], str]) -> str:
    tilted = (kind == "tilted" and rng.random() < 0.5) or (kind != "stumps" and rng.random() < 0.1)
    outer = _tilted_rect(rng, width, height) if tilted else _upright_rect(rng, 0, 0, width, height)
    x, y, w, h = outer
    rects = [(*outer, -1.0)]
    parts = int(rng.integers(1, 3))
    for _ in range(parts):
        # Inside of the outer one, so that a tilted one stays in the window as well.
        part_w, part_h = int(rng.integers(1, w + 1)), int(rng.integers(1, h + 1))
        at_x, at_y = (0, 0) if tilted else (int(rng.integers(w - part_w + 1)), int(rng.integers(h - part_h + 1)))
        balanced = w * h / (part_w * part_h * parts)
        weight = balanced * rng.normal(1, 0.05) if kind == "fractions" else rng.choice([2.0, 3.0, round(balanced)])
        rects.append((x + at_x, y + at_y, part_w, part_h, float(weight)))
    items = "".join(f"\n<_>\n{x} {y} {w} {h} {number(weight)}</_>" for x, y, w, h, weight in rects)
    flag = f"\n<tilted>{int(tilted)}</tilted>" if tilted or rng.random() < 0.5 else ""
    return f"<rects>{items}</rects>{flag}"


def _upright_rect(rng: np.random.Generator, left: int, top: int, right: int, bottom: int) -> tuple[int, int, int, int]:
    w, h = int(rng.integers(1, right - left + 1)), int(rng.integers(1, bottom - top + 1))
    return int(rng.integers(left, right - w + 1)), int(rng.integers(top, bottom - h + 1)), w, h


def _tilted_rect(rng: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    """(x, y) is the topmost corner; w goes down to the right, h down to the left."""
    w = int(rng.integers(1, min(width, height)))
    h = int(rng.integers(1, min(width, height) - w + 1))
    return int(rng.integers(h, width - w + 1)), int(rng.integers(0, height - w - h + 1)), w, h


def _lbp_feature(rng: np.random.Generator, kind: str, width: int, height: int, number: Callable[[float], str]) -> str:
    w, h = int(rng.integers(1, width // 3 + 1)), int(rng.integers(1, height // 3 + 1))
    x, y = int(rng.integers(width - 3 * w + 1)), int(rng.integers(height - 3 * h + 1))
    return f"<rect>\n{x} {y} {w} {h}</rect>"


def _new_format(
    rng: np.random.Generator,
    kind: str,
    width: int,
    height: int,
    ensemble: list[list[Tree]],
    thresholds: list[float],
    features: list[str],
    number: Callable[[float], str],
) -> bytes:
    def tree_xml(tree: Tree) -> str:
        nodes = zip(
            tree.left, tree.right, rng.integers(len(features), size=len(tree.left)), tree.conditions, strict=True
        )
        condition = str if kind == "lbp" else number
        texts = (f"{left} {right} {at} {' '.join(map(condition, words))}" for left, right, at, words in nodes)
        return (
            f"<_>\n<internalNodes>\n{' '.join(texts)}</internalNodes>\n"
            f"<leafValues>\n{_joined(number, tree.leaves)}</leafValues></_>"
        )

    stages = "\n".join(
        f"<!-- stage {index} -->\n<_><maxWeakCount>{len(trees)}</maxWeakCount>"
        f"<stageThreshold>{number(threshold)}</stageThreshold>\n"
        f"<weakClassifiers>\n{''.join(map(tree_xml, trees))}</weakClassifiers></_>"
        for index, (trees, threshold) in enumerate(zip(ensemble, thresholds, strict=True))
    )
    items = "\n".join(f"<_>{feature}</_>" for feature in features)
    text = f"""<?xml version="1.0"?>
<opencv_storage>
<cascade>
<stageType>BOOST</stageType>
<featureType>{"LBP" if kind == "lbp" else "HAAR"}</featureType>
<height>{height}</height>
<width>{width}</width>
<stageParams><boostType>GAB</boostType><maxDepth>1</maxDepth></stageParams>
<featureParams><maxCatCount>{256 if kind == "lbp" else 0}</maxCatCount><featSize>1</featSize></featureParams>
<stageNum>{len(ensemble)}</stageNum>
<stages>
{stages}</stages>
<features>
{items}</features></cascade>
</opencv_storage>
"""
    return text.encode()


def _old_format(
    width: int,
    height: int,
    ensemble: list[list[Tree]],
    thresholds: list[float],
    features: Iterable[str],
    number: Callable[[float], str],
) -> bytes:
    features = iter(features)

    def child(side: str, tree: Tree, index: int) -> str:
        if index > 0:
            return f"<{side}_node>{index}</{side}_node>"
        return f"<{side}_val>{number(tree.leaves[-index])}</{side}_val>"

    def tree_xml(tree: Tree) -> str:
        nodes = zip(tree.left, tree.right, tree.conditions, features, strict=False)
        items = "".join(
            f"<_><feature>{feature}</feature><threshold>{number(words[0])}</threshold>\n"
            f"{child('left', tree, left)}{child('right', tree, right)}</_>"
            for left, right, words, feature in nodes
        )
        return f"<_>\n<!-- tree -->\n{items}</_>"

    stages = "\n".join(
        f"<_><trees>{''.join(map(tree_xml, trees))}</trees>\n<stage_threshold>{number(threshold)}</stage_threshold>"
        f"<parent>{index - 1}</parent><next>-1</next></_>"
        for index, (trees, threshold) in enumerate(zip(ensemble, thresholds, strict=True))
    )
    text = f"""<?xml version="1.0"?>
<opencv_storage>
<cascade type_id="opencv-haar-classifier">
<size>
{width} {height}</size>
<stages>
{stages}</stages></cascade>
</opencv_storage>
"""
    return text.encode()


def _joined(number: Callable[[float], str], values: Iterable[float]) -> str:
    return " ".join(map(number, values))
