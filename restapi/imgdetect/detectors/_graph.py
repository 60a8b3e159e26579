"""What an ONNX file says of itself: inputs, outputs and metadata, read without the weights and without any library.

The process that serves reads no model of a stranger with native code, and none of 100 MB for the few facts it needs. A
protobuf message is a row of numbered fields; the walk skips the fields that it does not know by their length.
"""

from __future__ import annotations

import hashlib
import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MAX_BYTES = 2_000_000_000  # protobuf's own limit is 2 GiB
_MAX_FIELDS = 200_000  # of one message; large networks have some thousand nodes
_MAX_SIDES = 16  # of a weight
_MAX_TEXT = 2_000_000  # bytes of one text of the metadata
# TensorProto.DataType of those that an input or output may have.
_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL = 1


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph."""

    name: str
    dtype: str  # NumPy's name; "" for a type that no family uses
    shape: tuple[int | None, ...]  # None for a side that may vary

    @property
    def numpy_type(self) -> np.dtype[Any]:
        return np.dtype(self.dtype)


@dataclass(frozen=True)
class GraphFile:
    """An ONNX file."""

    path: Path
    sha256: str  # hexadecimal
    size_bytes: int
    inputs: tuple[Tensor, ...]  # without those that are weights
    outputs: tuple[Tensor, ...]
    metadata: dict[str, str]
    numbers: int  # how many its weights are
    quantised: bool  # whether some of them are whole numbers of 8 bits

    def content(self) -> bytes:
        """Its bytes.

        Raises:
            ValueError: the file can no longer be read, or is another one; the end of a sentence.
        """
        try:
            content = self.path.read_bytes()
        except OSError:
            raise ValueError("can no longer be read") from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ValueError("has changed since the server started")
        return content


def read(path: Path) -> GraphFile:
    """Read an ONNX file.

    Raises:
        ValueError: missing, unreadable, too large, or no model; one line that names the file.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES} bytes")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if not size:
                raise ValueError("is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                inputs, outputs, metadata, weights = _model(content, size)
    except OSError as error:
        raise ValueError(f"model {path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"model {path}: {error}") from None
    numbers, quantised = sum(weight.numbers for weight in weights), any(weight.bits8 for weight in weights)
    return GraphFile(path, sha256, size, inputs, outputs, metadata, numbers, quantised)


class _Weight(NamedTuple):
    name: str
    numbers: int
    bits8: bool


_Tensors = tuple[Tensor, ...]


def _model(content: mmap.mmap, size: int) -> tuple[_Tensors, _Tensors, dict[str, str], list[_Weight]]:
    metadata: dict[str, str] = {}
    graph: tuple[int, int] | None = None
    for number, value in _fields(content, 0, size):
        if number == 7 and isinstance(value, tuple):
            graph = value
        elif number == 14 and isinstance(value, tuple):
            pair = dict(_fields(content, *value))
            metadata[_text(content, pair.get(1))] = _text(content, pair.get(2))
    if graph is None:
        raise ValueError("is no ONNX model: it has no graph")
    inputs, outputs, weights = _graph(content, graph)
    if not inputs or not outputs:
        raise ValueError("is no ONNX model: its graph has no input or no output")
    return inputs, outputs, metadata, weights


def _graph(content: mmap.mmap, graph: tuple[int, int]) -> tuple[_Tensors, _Tensors, list[_Weight]]:
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    weights: list[_Weight] = []
    for number, value in _fields(content, *graph):
        if not isinstance(value, tuple):
            continue
        if number == 5:
            weights.append(_weight(content, value))
        elif number in (11, 12):
            (inputs if number == 11 else outputs).append(_value(content, value))
    # Before version 4 of the format, weights were listed as inputs too.
    named = {weight.name for weight in weights}
    return tuple(tensor for tensor in inputs if tensor.name not in named), tuple(outputs), weights


def _weight(content: mmap.mmap, place: tuple[int, int]) -> _Weight:
    """TensorProto: sides 1 (each, or all packed into bytes), type of the numbers 2, name 8, place of the data 14."""
    sides: list[int] = []
    fields = {}
    for number, value in _fields(content, *place):
        fields[number] = value
        if number == 1 and isinstance(value, int):
            sides.append(value)
        elif number == 1 and isinstance(value, tuple):
            start, end = value
            while start < end and len(sides) <= _MAX_SIDES:
                side, start = _varint(content, start, end)
                sides.append(side)
    if len(sides) > _MAX_SIDES:
        raise ValueError("is no ONNX model that can be used here: it has a weight of too many dimensions")
    if fields.get(14) == _EXTERNAL:
        raise ValueError("keeps weights in other files; export it as one file (torch.onnx: external_data=False)")
    bits8 = fields.get(2) in (2, 3)  # uint8, int8
    return _Weight(_text(content, fields.get(8)), math.prod(sides), bits8)


def _value(content: mmap.mmap, place: tuple[int, int]) -> Tensor:
    """ValueInfoProto: name 1, type 2 -> tensor 1 -> element type 1, shape 2 -> dimensions 1 -> value 1."""
    fields = dict(_fields(content, *place))
    kind = dict(_message(content, fields.get(2)))
    tensor = dict(_message(content, kind.get(1)))
    shape: list[int | None] = []
    for number, dimension in _message(content, tensor.get(2)):
        if number == 1:
            side = dict(_message(content, dimension)).get(1)
            shape.append(side if isinstance(side, int) and 0 < side < 1 << 31 else None)
    element = tensor.get(1)
    return Tensor(
        _text(content, fields.get(1)), _TYPES.get(element, "") if isinstance(element, int) else "", tuple(shape)
    )


def _message(content: mmap.mmap, place: Any) -> Iterator[tuple[int, Any]]:
    return _fields(content, *place) if isinstance(place, tuple) else iter(())


def _text(content: mmap.mmap, place: Any) -> str:
    if not isinstance(place, tuple):
        return ""
    if place[1] - place[0] > _MAX_TEXT:
        raise ValueError(f"has a text of more than {_MAX_TEXT} bytes in its metadata")
    return content[slice(*place)].decode("utf-8", "replace")


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int | tuple[int, int]]]:
    """The fields of a message: their numbers with a number, or with the place (start, end) of bytes."""
    count = 0
    while start < end:
        count += 1
        if count > _MAX_FIELDS:
            raise ValueError("is no ONNX model that can be used here: it has too many parts")
        key, start = _varint(content, start, end)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, start = _varint(content, start, end)
            yield number, value
        elif kind == _BYTES:
            length, start = _varint(content, start, end)
            if length > end - start or not number:
                raise ValueError("is no ONNX model, or is cut off")
            yield number, (start, start + length)
            start += length
        elif kind in (_FIXED32, _FIXED64):
            start += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("is no ONNX model")
    if start != end:
        raise ValueError("is no ONNX model, or is cut off")


def _varint(content: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if start >= end:
            raise ValueError("is no ONNX model, or is cut off")
        byte = content[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
    raise ValueError("is no ONNX model")
