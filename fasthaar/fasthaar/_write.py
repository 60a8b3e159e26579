"""Writing cascades in one canonical form."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from fasthaar._cascade import LBP_CATEGORIES, MAX_BYTES, Cascade


def write(cascade: Cascade) -> bytes:
    """Writes a cascade in the new format, so that reading it gives the same cascade and OpenCV 4 the same detections.

    The bytes depend on nothing but the cascade. Numbers are the shortest that read back the same.

    Args:
        cascade: as `parse` returns it.

    Returns:
        The XML, ASCII, at most 4 MiB.

    Raises:
        ValueError: the canonical form has more than 4 MiB, as can happen when the file came close to that.
    """
    data = bytearray()
    for line in _lines(cascade):
        data += line.encode("ascii") + b"\n"
        if len(data) > MAX_BYTES:
            raise ValueError(f"the canonical form has more than {MAX_BYTES} bytes; should be shorter")
    return bytes(data)


def _lines(cascade: Cascade) -> Iterator[str]:
    categories = LBP_CATEGORIES if cascade.feature_type == "LBP" else 0
    yield '<?xml version="1.0"?>'
    yield '<opencv_storage><cascade type_id="opencv-cascade-classifier">'
    yield f"<stageType>BOOST</stageType><featureType>{cascade.feature_type}</featureType>"
    yield f"<height>{cascade.window_wh[1]}</height><width>{cascade.window_wh[0]}</width>"
    yield f"<stageParams><maxWeakCount>{cascade.stage_trees.max()}</maxWeakCount></stageParams>"
    yield f"<featureParams><maxCatCount>{categories}</maxCatCount></featureParams>"
    yield f"<stageNum>{len(cascade.stage_trees)}</stageNum>"
    yield "<stages>"
    yield from _stages(cascade)
    yield "</stages>"
    yield "<features>"
    yield from _features(cascade)
    yield "</features>"
    yield "</cascade></opencv_storage>"


def _stages(cascade: Cascade) -> Iterator[str]:
    nodes = _nodes(cascade)
    leaves = _texts(cascade.leaves)
    tree_nodes = iter(cascade.tree_nodes)
    for threshold, trees in zip(_texts(cascade.stage_thresholds), cascade.stage_trees, strict=True):
        yield f"<_><maxWeakCount>{trees}</maxWeakCount><stageThreshold>{threshold}</stageThreshold><weakClassifiers>"
        for count in islice(tree_nodes, trees):
            yield f"<_><internalNodes>{' '.join(islice(nodes, count))}</internalNodes>"
            yield f"<leafValues>{' '.join(islice(leaves, count + 1))}</leafValues></_>"
        yield "</weakClassifiers></_>"


def _nodes(cascade: Cascade) -> Iterator[str]:
    if cascade.feature_type == "HAAR":
        conditions = _texts(cascade.threshold)
    else:
        conditions = (" ".join(map(str, words)) for words in cascade.subsets.view(np.int32))
    for left, right, feature, condition in zip(cascade.left, cascade.right, cascade.feature, conditions, strict=True):
        yield f"{left} {right} {feature} {condition}"


def _features(cascade: Cascade) -> Iterator[str]:
    if cascade.feature_type == "LBP":
        for x, y, w, h in cascade.rects[:, 0]:
            yield f"<_><rect>{x} {y} {w} {h}</rect></_>"
        return
    weights = _texts(cascade.weights.ravel())
    for rects, third, tilted in zip(cascade.rects, cascade.weights[:, 2], cascade.tilted, strict=True):
        texts = [
            f"<_>{x} {y} {w} {h} {weight}</_>" for (x, y, w, h), weight in zip(rects, islice(weights, 3), strict=True)
        ]
        yield f"<_><rects>{''.join(texts if third else texts[:2])}</rects>"
        yield "<tilted>1</tilted></_>" if tilted else "</_>"


def _texts(values: NDArray[np.float32]) -> Iterator[str]:
    """Each number as short as it can be, so that it reads back the same by way of a double.

    Readers look for a point or an exponent to tell numbers with a fraction, so there is always one.
    """
    for value in values:
        text = str(value)
        # Rounded to a double and then again, the shortest form can miss; a double's own form cannot.
        if np.float32(float(text)) != value:
            text = repr(float(value))
        yield text.removesuffix("0") if text.endswith(".0") else text
