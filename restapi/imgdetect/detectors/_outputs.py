"""What the families' networks answer, turned into boxes of the input, scores, class numbers and masks.

Each decoder takes the outputs by name and gives Found; a network whose answer has not the form of its family is a
ValueError that says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgdetect.boxes import non_max_suppression
from imgdetect.detectors._transforms import Placement, Size

Floats = NDArray[np.float32]
Outputs = dict[str, NDArray[Any]]
# Boxes compared with each other; the best ones. Ultralytics' own programs compare up to 30,000.
MAX_COMPARED = 3000
_MASK_THRESHOLD = 0.0  # of the value before the sigmoid: more likely the object than not


@dataclass(frozen=True)
class Found:
    """What a network saw, in pixels of its input; in no order."""

    xyxy: NDArray[Any]  # (N, 4)
    scores: NDArray[Any]  # (N,) 0..1
    class_ids: NDArray[Any]  # (N,)
    coefficients: Floats | None = None  # (N, K) of the prototypes
    prototypes: Floats | None = None  # (K, height, width)

    def take(self, rows: NDArray[Any]) -> Found:
        """Some of them, in the given order."""
        coefficients = None if self.coefficients is None else self.coefficients[rows]
        return Found(self.xyxy[rows], self.scores[rows], self.class_ids[rows], coefficients, self.prototypes)


Decoder = Callable[[Outputs, Size, float], Found]


def sensible(found: Found, confidence: float) -> Found:
    """Those that are sure enough, the surest first; without what is no box at all."""
    good = (found.scores >= confidence) & np.isfinite(found.scores) & np.isfinite(found.xyxy).all(1)
    good &= (found.xyxy[:, 2:] > found.xyxy[:, :2]).all(1) & (found.class_ids >= 0)
    rows = np.flatnonzero(good)
    return found.take(rows[np.argsort(-found.scores[rows], kind="stable")])


def merged(found: Found, iou_threshold: float) -> Found:
    """Without boxes that overlap a surer one of their class.

    Args:
        found: the surest first.
    """
    found = found.take(np.arange(min(len(found.scores), MAX_COMPARED)))
    if not len(found.scores):
        return found
    # Each class gets a place of its own, so that boxes of two classes never overlap.
    apart = (found.class_ids.astype(np.float64) * (2 * float(np.abs(found.xyxy).max()) + 1))[:, None]
    return found.take(non_max_suppression(found.xyxy.astype(np.float64) + apart, iou_threshold))


def yolov5(outputs: Outputs, input_wh: Size, confidence: float) -> Found:
    """Rows of centre, size, objectness and classes: (1, N, 5 + classes [+ mask coefficients])."""
    rows, prototypes = _rows(outputs)
    count = rows.shape[1] - 5 - (0 if prototypes is None else len(prototypes))
    if count < 1:
        raise ValueError(f"an output of shape {rows.shape}, where 5 numbers and the classes of each box should be")
    rows = rows[rows[:, 4] >= confidence]  # a class can only make it less
    return _best_class(
        _from_centres(rows[:, :4]), rows[:, 5 : 5 + count] * rows[:, 4:5], rows[:, 5 + count :], prototypes
    )


def yolov8(outputs: Outputs, input_wh: Size, confidence: float) -> Found:
    """Columns of centre, size and classes: (1, 4 + classes [+ mask coefficients], N). YOLO11's form is the same."""
    columns, prototypes = _rows(outputs)
    rows = columns.T
    count = rows.shape[1] - 4 - (0 if prototypes is None else len(prototypes))
    if count < 1:
        raise ValueError(f"an output of shape {columns.shape}, where 4 numbers and the classes of each box should be")
    rows = rows[rows[:, 4 : 4 + count].max(1) >= confidence]
    return _best_class(_from_centres(rows[:, :4]), rows[:, 4 : 4 + count], rows[:, 4 + count :], prototypes)


def yolox(outputs: Outputs, input_wh: Size, confidence: float) -> Found:
    """Rows of offset to the cell, logarithm of the size in strides, objectness and classes: (1, N, 5 + classes)."""
    rows, _ = _rows(outputs)
    cells, strides = _grid(input_wh, _strides(input_wh, len(rows), ((8, 16, 32), (8, 16, 32, 64))))
    if rows.shape[1] < 6:
        raise ValueError(f"an output of shape {rows.shape}, where 5 numbers and the classes of each box should be")
    sure = rows[:, 4] >= confidence
    rows, cells, strides = rows[sure], cells[sure], strides[sure]
    centres = (rows[:, :2] + cells) * strides
    sizes = np.exp(np.minimum(rows[:, 2:4], 20)) * strides
    return _best_class(_from_centres(np.hstack([centres, sizes])), rows[:, 5:] * rows[:, 4:5])


def nanodet(outputs: Outputs, input_wh: Size, confidence: float) -> Found:
    """Rows of classes and, for each side, a distribution over distances in strides: (1, N, classes + 4 * bins).

    NanoDet-Plus has four strides and counts from the cells' corners; its predecessor has three and counts from their
    centres.
    """
    rows, _ = _rows(outputs)
    steps = _strides(input_wh, len(rows), ((8, 16, 32, 64), (8, 16, 32)))
    cells, strides = _grid(input_wh, steps)
    bins = 8
    count = rows.shape[1] - 4 * bins
    if count < 1:
        raise ValueError(f"an output of shape {rows.shape}, where the classes and {4 * bins} numbers should be")
    sure = rows[:, :count].max(1) >= confidence
    rows, strides = rows[sure], strides[sure]
    points = (cells[sure] + (0.0 if len(steps) == 4 else 0.5)) * strides
    spread = rows[:, count:].reshape(-1, 4, bins)
    weights = np.exp(spread - spread.max(2, keepdims=True))
    weights /= weights.sum(2, keepdims=True)
    distances = weights @ np.arange(bins, dtype=np.float32) * strides
    return _best_class(np.hstack([points - distances[:, :2], points + distances[:, 2:]]), rows[:, :count])


def ultraface(outputs: Outputs, input_wh: Size, confidence: float) -> Found:
    """Scores of background and face (1, N, 2), and corners as parts of the input (1, N, 4)."""
    tables = [_plain(output) for output in outputs.values()]
    scores = next((table for table in tables if table.ndim == 2 and table.shape[1] == 2), None)
    corners = next((table for table in tables if table.ndim == 2 and table.shape[1] == 4), None)
    if scores is None or corners is None or len(scores) != len(corners):
        raise ValueError("outputs other than scores (1, N, 2) and boxes (1, N, 4)")
    return Found(corners * np.array(input_wh * 2), scores[:, 1], np.zeros(len(scores), np.int64))


def yunet(outputs: Outputs, input_wh: Size, confidence: float) -> Found:
    """For each stride the outputs cls_, obj_ and bbox_: (1, cells, 1), (1, cells, 1), (1, cells, 4)."""
    boxes, scores = [], []
    for stride in (8, 16, 32):
        try:
            cls, obj, bbox = (_plain(outputs[f"{what}_{stride}"]) for what in ("cls", "obj", "bbox"))
        except KeyError as missing:
            raise ValueError(f"no output {missing}; YuNet has cls_8, obj_8, bbox_8 and so on") from None
        cells, _ = _grid(input_wh, (stride,))
        if not len(cells) == len(cls) == len(obj) == len(bbox):
            raise ValueError(f"{len(cls)} cells of stride {stride}, where there should be {len(cells)}")
        scores.append(np.sqrt(np.clip(cls, 0, 1).reshape(-1) * np.clip(obj, 0, 1).reshape(-1)))
        centres = (cells + bbox[:, :2]) * stride
        boxes.append(_from_centres(np.hstack([centres, np.exp(np.minimum(bbox[:, 2:4], 20)) * stride])))
    everything = np.concatenate(scores)
    return Found(np.concatenate(boxes), everything, np.zeros(len(everything), np.int64))


def torchvision(outputs: Outputs, input_wh: Size, confidence: float) -> Found:
    """Boxes in pixels of the input, labels and scores, in any order; the network itself has merged them."""
    return _three(outputs)


def relative(outputs: Outputs, input_wh: Size, confidence: float) -> Found:
    """The same with corners as parts of the input: SSD of the ONNX model zoo."""
    found = _three(outputs)
    return Found(found.xyxy * np.array(input_wh * 2), found.scores, found.class_ids)


def tensorflow(outputs: Outputs, input_wh: Size, confidence: float) -> Found:
    """num_detections, detection_boxes (top, left, bottom, right as parts of the input), _scores and _classes."""
    named = {name.partition(":")[0].rpartition("/")[2]: _plain(output) for name, output in outputs.items()}
    try:
        corners, scores, classes = (named[f"detection_{what}"] for what in ("boxes", "scores", "classes"))
    except KeyError as missing:
        raise ValueError(f"no output {missing}") from None
    count = min(len(scores), int(np.min(named["num_detections"])) if "num_detections" in named else len(scores))
    xyxy = corners.reshape(-1, 4)[:count, [1, 0, 3, 2]] * np.array(input_wh * 2)
    return Found(xyxy, scores.reshape(-1)[:count], np.rint(classes.reshape(-1)[:count]).astype(np.int64))


def probabilities(outputs: Outputs) -> Floats:
    """The probability of each class. Where the network ends before the softmax, which shows in its numbers, it is done
    here.
    """
    values = np.asarray(next(iter(outputs.values())), np.float64).reshape(-1)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("numbers that are none")
    if values.min() < 0 or abs(values.sum() - 1) > 0.02:
        values = np.exp(values - values.max())
    return np.asarray(values / values.sum(), np.float32)


def mask_of(found: Found, row: int, xyxy: NDArray[np.int64], where: Placement) -> NDArray[np.bool_]:
    """The pixels of an object inside its box of the picture: shape (height, width) of the box."""
    if found.coefficients is None or found.prototypes is None:
        raise ValueError("no masks")
    likely = np.tensordot(found.coefficients[row], found.prototypes, 1).astype(np.float32)
    left, top, right, bottom = (int(edge) for edge in xyxy)
    # From the middle of a pixel of the box, through the input, to the middle of a value of the prototypes.
    matrix = np.zeros((2, 3))
    for axis, first in enumerate((left, top)):
        shrink = likely.shape[1 - axis] / where.canvas_wh[axis]
        scale = where.scale_xy[axis] * shrink
        matrix[axis, axis] = scale
        matrix[axis, 2] = (first - where.crop[axis] + 0.5) * scale + where.offset_xy[axis] * shrink - 0.5
    size = right - left, bottom - top
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(likely, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE) > _MASK_THRESHOLD
    )


def _plain(output: NDArray[Any]) -> NDArray[Any]:
    """An output without its batch, in numbers that can be compared."""
    if output.ndim > 1 and output.shape[0] == 1:
        output = output[0]
    return output.astype(np.float32) if output.dtype.kind == "f" else output


def _rows(outputs: Outputs) -> tuple[Floats, Floats | None]:
    """The table of boxes, and the prototypes of masks where there are some."""
    plain = [_plain(output) for output in outputs.values()]
    tables = [table for table in plain if table.ndim == 2]
    prototypes = [table for table in plain if table.ndim == 3]
    if not tables:
        shapes = ", ".join(str(output.shape) for output in outputs.values())
        raise ValueError(f"outputs of the shapes {shapes}, where a table of boxes should be")
    return tables[0], prototypes[0] if prototypes else None


def _three(outputs: Outputs) -> Found:
    """Boxes, labels and scores by name, else by form."""
    named = {name.lower(): output for name, output in outputs.items()}
    floats = [table for table in named.values() if table.dtype.kind == "f"]
    boxes = named.get("boxes", named.get("bboxes", _first(t for t in floats if t.ndim > 1 and t.shape[-1] == 4)))
    labels = named.get("labels", _first(table for table in named.values() if table.dtype.kind in "iu"))
    scores = named.get("scores", _first(table for table in floats if table is not boxes))
    if boxes is None or labels is None or scores is None or not boxes.size == labels.size * 4 == scores.size * 4:
        shapes = ", ".join(f"{name[:40]} {output.shape}" for name, output in outputs.items())
        raise ValueError(f"the outputs {shapes}, where boxes, labels and scores should be")
    return Found(
        boxes.reshape(-1, 4).astype(np.float32),
        scores.reshape(-1).astype(np.float32),
        labels.reshape(-1).astype(np.int64),
    )


def _first(tables: Iterable[NDArray[Any]]) -> NDArray[Any] | None:
    return next(iter(tables), None)


def _from_centres(boxes: Floats) -> Floats:
    half = boxes[:, 2:4] / 2
    return np.hstack([boxes[:, :2] - half, boxes[:, :2] + half])


def _best_class(
    xyxy: Floats, scores: Floats, coefficients: Floats | None = None, prototypes: Floats | None = None
) -> Found:
    if not len(scores):
        return Found(xyxy, np.zeros(0, np.float32), np.zeros(0, np.int64), coefficients, prototypes)
    class_ids = scores.argmax(1)
    best = scores[np.arange(len(scores)), class_ids]
    return Found(xyxy, best, class_ids, coefficients if prototypes is not None else None, prototypes)


def _strides(input_wh: Size, count: int, possible: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """Those of the possible strides whose cells are as many as there are rows."""
    for strides in possible:
        if sum(math.prod(-(-side // stride) for side in input_wh) for stride in strides) == count:
            return strides
    raise ValueError(f"{count} boxes, which do not fit an input of {input_wh[0]}x{input_wh[1]} pixels")


def _grid(input_wh: Size, strides: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Column and row of each cell (N, 2), and its stride (N, 1), stride by stride, row by row."""
    cells, steps = [], []
    for stride in strides:
        columns, rows = (-(-side // stride) for side in input_wh)
        x, y = np.meshgrid(np.arange(columns), np.arange(rows))
        cells.append(np.column_stack([x.reshape(-1), y.reshape(-1)]))
        steps.append(np.full((columns * rows, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(steps).astype(np.float32)
