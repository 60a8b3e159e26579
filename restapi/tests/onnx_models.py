"""Small ONNX models of every family that see: each frames the bright part of its picture and tells its colour.

The graph turns its input back into pixels of 0 to 255 by a convolution of its own, with the numbers that the family is
documented to use, finds the bounding box of what is brighter than 128 in any channel, and writes it down in the form of
its family. So the box comes out right only if the picture was fitted, ordered and scaled as the family wants it and the
answer was read as the family means it. The class is the channel that is bright: red, green or blue.

    models.build(Path("x.onnx"), "yolov8")                     # 320 x 320, three classes
    models.build(path, "yolov8", masks=True, size_wh=None)     # segmentation, an input of any size
    models.build(path, "classification", size_wh=(224, 224))
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NAMES = ("red", "green", "blue")
SCORE = 0.9
# Mean, standard deviation (of values 0..255) and order of the channels, from the families' own documentation.
IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "rgb"
NUMBERS: dict[str, tuple[Any, Any, str]] = {
    "yolov5": ((0, 0, 0), (255, 255, 255), "rgb"),
    "yolov8": ((0, 0, 0), (255, 255, 255), "rgb"),
    "yolov11": ((0, 0, 0), (255, 255, 255), "rgb"),
    "yolox": ((0, 0, 0), (1, 1, 1), "bgr"),
    "nanodet": ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395), "bgr"),
    "nanodet three": ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395), "bgr"),
    "ultraface": ((127, 127, 127), (128, 128, 128), "rgb"),
    "yunet": ((0, 0, 0), (1, 1, 1), "bgr"),
    "ssd": ((0, 0, 0), (255, 255, 255), "rgb"),
    "ssd zoo": IMAGENET,
    "fasterrcnn": ((0, 0, 0), (255, 255, 255), "rgb"),
    "fasterrcnn zoo": ((102.9801, 115.9465, 122.7717), (1, 1, 1), "bgr"),
    "tensorflow": ((0, 0, 0), (1, 1, 1), "rgb"),
    "classification": IMAGENET,
    "keras": ((103.939, 116.779, 123.68), (1, 1, 1), "bgr"),
}
_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


class Graph:
    """Nodes and weights under construction; each method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.outputs: list[Any] = []
        self._count = 0

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        self._count += 1
        name = name or f"v{self._count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        self._count += 1
        name = f"c{self._count}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def output(self, name: str, value: str, shape: list[Any], kind: str = "float32") -> None:
        """Name a value as an output."""
        element = {"int64": TensorProto.INT64}.get(kind) or _TYPES[kind]
        if kind == "float16":
            value = self.node("Cast", value, to=TensorProto.FLOAT16)
        self.node("Identity", value, name=name)
        self.outputs.append(helper.make_tensor_value_info(name, element, shape))

    def scaled(self, value: str, factor: float) -> str:
        return self.node("Mul", value, self.constant(factor))

    def plus(self, value: str, term: float) -> str:
        return self.node("Add", value, self.constant(term))

    def flat(self, *values: str) -> str:
        """Numbers, each of shape (1,), as one row of shape (n,)."""
        return self.node("Concat", *values, axis=0)

    def shaped(self, value: str, *shape: int) -> str:
        return self.node("Reshape", value, self.constant(shape, np.int64))


class Seen:
    """What the first part of every model knows of its picture, as names of values of shape (1,) and (3,)."""

    def __init__(self, graph: Graph, pixels: str) -> None:
        bright = graph.node("Cast", graph.node("Greater", pixels, graph.constant(128)), to=TensorProto.FLOAT)
        self.anywhere = graph.node("ReduceMax", bright, axes=[1], keepdims=1)  # (1, 1, H, W)
        self.edges = []  # left, top, right, bottom
        sides = [graph.node("ReduceMax", self.anywhere, axes=[0, 1, axis], keepdims=0) for axis in (2, 3)]
        for last in (0, 1):
            for side in sides:
                place = graph.node("ArgMax", side, axis=0, keepdims=1, select_last_index=last)
                self.edges.append(graph.plus(graph.node("Cast", place, to=TensorProto.FLOAT), float(last)))
        found = graph.node("ReduceMax", self.anywhere, axes=[0, 1, 2, 3], keepdims=0)
        self.score = graph.shaped(graph.scaled(found, SCORE), 1)
        each = graph.node("ReduceSum", bright, graph.constant([0, 2, 3], np.int64), keepdims=0)  # (3,)
        most = graph.plus(graph.node("ReduceMax", each, axes=[0], keepdims=1), 1e-6)
        self.classes = graph.node("Div", each, most)  # 1 for the colour that is bright
        self.colour = graph.node("ArgMax", each, axis=0, keepdims=1)  # int64
        left, top, right, bottom = self.edges
        self.size = [graph.node("Sub", right, left), graph.node("Sub", bottom, top)]
        self.centre = [graph.scaled(graph.node("Add", low, high), 0.5) for low, high in ((left, right), (top, bottom))]
        shape = graph.node("Shape", self.anywhere)
        self.input_wh = [
            graph.node("Cast", graph.node("Gather", shape, graph.constant([axis], np.int64)), to=TensorProto.FLOAT)
            for axis in (3, 2)
        ]

    def relative(self, graph: Graph) -> list[str]:
        """Left, top, right and bottom as parts of the input."""
        return [graph.node("Div", edge, self.input_wh[i % 2]) for i, edge in enumerate(self.edges)]


def build(
    path: Path,
    family: str,
    *,
    form: str = "",
    size_wh: tuple[int, int] | None = (320, 320),
    dtype: str = "float32",
    channels_last: bool = False,
    batch: int | str | None = 1,
    masks: bool = False,
    softmax: bool = False,
    metadata: dict[str, str] | None = None,
    names: tuple[str, ...] | None = NAMES,
) -> Path:
    """Write a model.

    Args:
        form: of `ssd` and `fasterrcnn`: "", "zoo" or "tensorflow"; of `classification`: "" or "keras"; of `nanodet`: ""
            or "three", for its first version with three strides.
        size_wh: of the input; None for any size.
        dtype: of the input, and of outputs that are no class numbers: float32, float16 or uint8 (with float32 outputs).
        channels_last: an input (batch, height, width, 3).
        batch: None for an input without it; a text for one that may vary.
        masks: of `yolov5` and its successors: a segmentation.
        softmax: of `classification`: whether the graph ends with it.
        metadata: beside the family and names.
        names: of the classes, in the metadata; None leaves them out.
    """
    graph = Graph()
    width, height = size_wh or ("width", "height")
    shape = [height, width, 3] if channels_last else [3, height, width]
    picture = helper.make_tensor_value_info("images", _TYPES[dtype], shape if batch is None else [batch, *shape])
    value = graph.node("Cast", "images", to=TensorProto.FLOAT)
    if batch is None:
        value = graph.node("Unsqueeze", value, graph.constant([0], np.int64))
    if channels_last:
        value = graph.node("Transpose", value, perm=[0, 3, 1, 2])
    key = "tensorflow" if form == "tensorflow" else "keras" if form == "keras" else f"{family} {form}".strip()
    kind = "float16" if dtype == "float16" else "float32"
    pixels = _pixels(graph, value, ((0, 0, 0), (1, 1, 1), "rgb") if dtype == "uint8" else NUMBERS[key])
    if family == "classification":
        _classification(graph, pixels, softmax, kind)
    else:
        seen = Seen(graph, pixels)
        head = _tensorflow if form == "tensorflow" else _zoo if form == "zoo" else _HEADS[f"{family} {form}".strip()]
        head(graph, seen, family, size_wh, masks, kind)
    told = {"family": family} | ({} if names is None else {"names": json.dumps(_listed(family, form, names))})
    return save(
        path, graph, picture, told | ({"transform": "keras_resnet50"} if form == "keras" else {}) | (metadata or {})
    )


def save(path: Path, graph: Graph, picture: Any, metadata: dict[str, str]) -> Path:
    """Check a graph and write it."""
    made = helper.make_graph(graph.nodes, "bright", [picture], graph.outputs, graph.weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def quantised(path: Path, target: Path, form: str, pictures: list[np.ndarray]) -> Path:
    """An int8 model of a model, by ONNX Runtime's static quantisation.

    Args:
        form: `QDQ` or `QOperator`.
        pictures: inputs of the model, to take the ranges from.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(pictures)

        def get_next(self) -> Any:
            picture = next(self._left, None)
            return None if picture is None else {"images": picture}

    quantize_static(path, target, Reader(), quant_format=QuantFormat[form], op_types_to_quantize=["Conv", "Gemm"])
    return target


def _listed(family: str, form: str, names: tuple[str, ...]) -> list[str]:
    """Class numbers begin behind the background where a family has one."""
    if family in ("ultraface", "yunet"):
        return ["face"]
    return ["", *names] if family in ("ssd", "fasterrcnn") else list(names)


def _pixels(graph: Graph, value: str, numbers: tuple[Any, Any, str]) -> str:
    """Red, green and blue of 0 to 255, by a convolution with one pixel."""
    mean, std, order = numbers
    kernel = np.diag(np.array(std, np.float32))
    bias = np.array(mean, np.float32)
    if order == "bgr":
        kernel, bias = kernel[::-1], bias[::-1]
    return graph.node("Conv", value, graph.constant(kernel[:, :, None, None].copy()), graph.constant(bias.copy()))


def _classification(graph: Graph, pixels: str, softmax: bool, kind: str) -> None:
    mean = graph.node("Flatten", graph.node("GlobalAveragePool", graph.scaled(pixels, 1 / 255)))
    logits = graph.node("Gemm", mean, graph.constant(np.eye(3) * 8), graph.constant(np.zeros(3) - 1))
    answer = graph.node("Softmax", logits, axis=1) if softmax else logits
    graph.output("probabilities" if softmax else "logits", answer, [1, 3], kind)


def _yolov8(graph: Graph, seen: Seen, family: str, size_wh: Any, masks: bool, kind: str) -> None:
    sure = graph.node("Mul", seen.classes, seen.score)
    weaker = graph.scaled(sure, 0.8)
    mask = [graph.constant([1, 0.5])] if masks else []  # the second prototype is 0 everywhere
    first = graph.flat(*seen.centre, *seen.size, sure, *mask)
    beside = graph.flat(graph.plus(seen.centre[0], 1.0), seen.centre[1], *seen.size, weaker, *mask)
    count = 7 + 2 * masks
    columns = [graph.shaped(row, 1, count, 1) for row in (first, beside)]
    table = graph.node("Concat", *columns, graph.constant(np.zeros((1, count, 18))), axis=2)
    graph.output("output0", table, [1, count, 20], kind)
    _prototypes(graph, seen, size_wh, masks, kind)


def _yolov5(graph: Graph, seen: Seen, family: str, size_wh: Any, masks: bool, kind: str) -> None:
    mask = [graph.constant([1, 0.5])] if masks else []
    first = graph.flat(*seen.centre, *seen.size, seen.score, seen.classes, *mask)
    weaker = graph.scaled(seen.score, 0.8)
    beside = graph.flat(graph.plus(seen.centre[0], 1.0), seen.centre[1], *seen.size, weaker, seen.classes, *mask)
    count = 8 + 2 * masks
    rows = [graph.shaped(row, 1, 1, count) for row in (first, beside)]
    table = graph.node("Concat", *rows, graph.constant(np.zeros((1, 18, count))), axis=1)
    graph.output("output0", table, [1, 20, count], kind)
    _prototypes(graph, seen, size_wh, masks, kind)


def _prototypes(graph: Graph, seen: Seen, size_wh: Any, masks: bool, kind: str) -> None:
    """A quarter of the input's size; above 0 where at least half of the pixels are bright."""
    if masks:
        small = graph.node("AveragePool", seen.anywhere, kernel_shape=[4, 4], strides=[4, 4])
        bright = graph.plus(graph.scaled(small, 2.0), -1.0)
        both = graph.node("Concat", bright, graph.scaled(bright, 0.0), axis=1)
        sides = [size_wh[1] // 4, size_wh[0] // 4] if size_wh else ["rows", "columns"]
        graph.output("output1", both, [1, 2, *sides], kind)


def _in_grid(
    graph: Graph, row: str, count: int, size_wh: tuple[int, int], strides: tuple[int, ...], stride: int, cell: Any
) -> str:
    """A row of `count` numbers at the place of a cell in the table of all cells, which are 0: shape (1, N, count)."""
    before, total = 0, 0
    for step in strides:
        columns, rows = math.ceil(size_wh[0] / step), math.ceil(size_wh[1] / step)
        if step == stride:
            before = total + cell[1] * columns + cell[0]
        total += columns * rows
    parts = [np.zeros((1, before, count)), np.zeros((1, total - before - 1, count))]
    first, last = (graph.constant(part) for part in parts)
    return graph.node("Concat", first, graph.shaped(row, 1, 1, count), last, axis=1)


def _yolox(graph: Graph, seen: Seen, family: str, size_wh: Any, masks: bool, kind: str) -> None:
    stride, cell = 16, (3, 2)
    centre = [graph.plus(graph.scaled(c, 1 / stride), -float(cell[i])) for i, c in enumerate(seen.centre)]
    size = [graph.node("Log", graph.scaled(graph.plus(side, 1e-6), 1 / stride)) for side in seen.size]
    row = graph.flat(*centre, *size, seen.score, seen.classes)
    table = _in_grid(graph, row, 8, size_wh, (8, 16, 32), stride, cell)
    graph.output("output", table, [1, None, 8], kind)


def _nanodet(graph: Graph, seen: Seen, family: str, size_wh: Any, masks: bool, kind: str, three: bool = False) -> None:
    """NanoDet-Plus; or its predecessor with three strides, which counts from the middle of its cells."""
    stride = 32
    strides = (8, 16, 32) if three else (8, 16, 32, 64)
    cell = (size_wh[0] // 64, size_wh[1] // 64)
    bins = graph.constant(np.arange(8))
    row = [graph.node("Mul", seen.classes, seen.score)]
    for index, edge in enumerate(seen.edges):
        point = (cell[index % 2] + three / 2) * stride
        sign = -1.0 if index < 2 else 1.0
        distance = graph.scaled(graph.plus(graph.scaled(edge, sign), -sign * point), 1 / stride)
        # The two bins beside the distance share it, so that their mean is the distance.
        away = graph.node("Abs", graph.node("Sub", bins, distance))
        share = graph.node("Relu", graph.plus(graph.scaled(away, -1.0), 1.0))
        row.append(graph.node("Log", graph.plus(share, 1e-9)))
    table = _in_grid(graph, graph.flat(*row), 35, size_wh, strides, stride, cell)
    graph.output("output", table, [1, None, 35], kind)


def _ultraface(graph: Graph, seen: Seen, family: str, size_wh: Any, masks: bool, kind: str) -> None:
    background = graph.plus(graph.scaled(seen.score, -1.0), 1.0)
    scores = graph.shaped(graph.flat(background, seen.score), 1, 1, 2)
    nothing = np.array([[[1.0, 0.0]] * 9])
    graph.output("scores", graph.node("Concat", scores, graph.constant(nothing), axis=1), [1, 10, 2], kind)
    corners = graph.shaped(graph.flat(*seen.relative(graph)), 1, 1, 4)
    rest = graph.constant(np.zeros((1, 9, 4)))
    graph.output("boxes", graph.node("Concat", corners, rest, axis=1), [1, 10, 4], kind)


def _yunet(graph: Graph, seen: Seen, family: str, size_wh: Any, masks: bool, kind: str) -> None:
    here, cell = 16, (3, 2)
    centre = [graph.plus(graph.scaled(c, 1 / here), -float(cell[i])) for i, c in enumerate(seen.centre)]
    size = [graph.node("Log", graph.scaled(graph.plus(side, 1e-6), 1 / here)) for side in seen.size]
    found = {"cls": graph.flat(seen.score), "obj": graph.flat(seen.score), "bbox": graph.flat(*centre, *size)}
    for what, width in (("cls", 1), ("obj", 1), ("bbox", 4)):
        for stride in (8, 16, 32):
            count = math.ceil(size_wh[0] / stride) * math.ceil(size_wh[1] / stride)
            table = graph.constant(np.zeros((1, count, width)))
            if stride == here:
                table = _in_grid(graph, found[what], width, size_wh, (stride,), stride, cell)
            graph.output(f"{what}_{stride}", table, [1, count, width], kind)


def _torchvision(graph: Graph, seen: Seen, family: str, size_wh: Any, masks: bool, kind: str) -> None:
    graph.output("boxes", graph.shaped(graph.flat(*seen.edges), 1, 4), [1, 4], kind)
    graph.output("labels", graph.node("Add", seen.colour, graph.constant([1], np.int64)), [1], "int64")
    graph.output("scores", seen.score, [1], kind)


def _zoo(graph: Graph, seen: Seen, family: str, size_wh: Any, masks: bool, kind: str) -> None:
    label = graph.node("Add", seen.colour, graph.constant([1], np.int64))
    if family == "ssd":
        graph.output("bboxes", graph.shaped(graph.flat(*seen.relative(graph)), 1, 1, 4), [1, 1, 4], kind)
        graph.output("labels", graph.shaped(label, 1, 1), [1, 1], "int64")
        graph.output("scores", graph.shaped(seen.score, 1, 1), [1, 1], kind)
        return
    graph.output("6379", graph.shaped(graph.flat(*seen.edges), 1, 4), [None, 4], kind)
    graph.output("6381", label, [None], "int64")
    graph.output("6383", seen.score, [None], kind)


def _tensorflow(graph: Graph, seen: Seen, family: str, size_wh: Any, masks: bool, kind: str) -> None:
    left, top, right, bottom = seen.relative(graph)
    nothing = graph.constant(np.full(4, 0.5))
    corners = graph.flat(top, left, bottom, right, nothing)
    graph.output("num_detections:0", graph.constant([1.0]), [1])
    graph.output("detection_boxes:0", graph.shaped(corners, 1, 2, 4), [1, 2, 4])
    graph.output("detection_scores:0", graph.shaped(graph.flat(seen.score, graph.constant([0.99])), 1, 2), [1, 2])
    colour = graph.plus(graph.node("Cast", seen.colour, to=TensorProto.FLOAT), 1.0)
    graph.output("detection_classes:0", graph.shaped(graph.flat(colour, graph.constant([1.0])), 1, 2), [1, 2])


_HEADS = {
    "yolov5": _yolov5,
    "yolov8": _yolov8,
    "yolov11": _yolov8,
    "yolox": _yolox,
    "nanodet": _nanodet,
    "nanodet three": partial(_nanodet, three=True),
    "ultraface": _ultraface,
    "yunet": _yunet,
    "ssd": _torchvision,
    "fasterrcnn": _torchvision,
}


def endless(path: Path) -> Path:
    """A hostile model: well-formed, and it never ends."""
    graph = Graph()
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])
    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    on, still = (helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("on", "still"))
    kept, given = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("kept", "given"))
    steps = [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Sin", ["given"], ["kept"])]
    body = helper.make_graph(steps, "body", [number, on, given], [still, kept])
    mean = graph.node("Flatten", graph.node("GlobalAveragePool", "images"))
    forever, yes = graph.constant(2**60, np.int64), graph.constant(True, np.bool_)
    graph.output("logits", graph.node("Loop", forever, yes, mean, body=body), [1, 3])
    return save(path, graph, picture, {"family": "classification"})


def hungry(path: Path) -> Path:
    """A hostile model: a few hundred bytes that ask for 400 GB."""
    graph = Graph()
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])
    mean = graph.node("GlobalAveragePool", "images")
    side = graph.constant([1, 3, 200_000, 200_000], np.int64)
    large = graph.node("Expand", mean, side)
    graph.output("logits", graph.node("Flatten", graph.node("GlobalAveragePool", large)), [1, 3])
    return save(path, graph, picture, {"family": "classification"})
