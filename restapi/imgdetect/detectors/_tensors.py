"""Tensors in and out of a network as JSON, in the form of the Open Inference Protocol v2; it runs in a child."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgdetect.detectors._graph import Tensor
from imgdetect.detectors._session import Session
from imgdetect.errors import DetectorFailed, InvalidRequest

DATATYPES = {
    "float32": "FP32",
    "float16": "FP16",
    "float64": "FP64",
    "uint8": "UINT8",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
}
MAX_NUMBERS = 4_000_000  # of all outputs together
_MAX_SIDES = 16
_MAX_ID = 200


def infer(name: str, session: Session, body: bytes) -> bytes:
    """Run a network on the tensors of a request.

    Args:
        name: what the model is called.
        body: the request's.
    Returns:
        The body of the answer.
    Raises:
        InvalidRequest: it does not fit the protocol or the network.
        DetectorFailed: the network refuses the tensor, or answers more than MAX_NUMBERS.
    """
    asked = _object(body)
    wanted = _wanted(asked.get("outputs"), session.file.outputs)
    values = _values(asked.get("inputs"), session.file.inputs[0])
    try:
        outputs = session.run(values)
    except Exception:  # ONNX Runtime has a dozen kinds, and their texts have paths
        raise DetectorFailed(f"{name} cannot work with this tensor.") from None
    found = [(tensor.name, outputs[tensor.name]) for tensor in wanted]
    if sum(output.size for _, output in found) > MAX_NUMBERS:
        raise DetectorFailed(f"{name} answers with more than {MAX_NUMBERS} numbers; ask for fewer outputs.")
    answer: dict[str, Any] = {"model_name": name, "model_version": "1"}
    if "id" in asked:
        answer["id"] = asked["id"]
    return json.dumps(answer | {"outputs": [_told(*output) for output in found]}).encode()


def described(tensor: Tensor) -> dict[str, Any]:
    """An input or output in the protocol's form; -1 is a side that may vary."""
    return {
        "name": tensor.name,
        "datatype": DATATYPES.get(tensor.dtype, "BYTES"),
        "shape": [-1 if side is None else side for side in tensor.shape],
    }


def _object(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise InvalidRequest("The body should be a JSON object with inputs.")
    if "id" in asked and not (isinstance(asked["id"], str) and len(asked["id"]) <= _MAX_ID):
        raise InvalidRequest.field("id", f"should be a text of at most {_MAX_ID} characters")
    return asked


def _named(entries: Any, field: str) -> dict[str, dict[str, Any]]:
    """The objects of a list by their names."""
    if not isinstance(entries, list) or not all(isinstance(one, dict) and "name" in one for one in entries):
        raise InvalidRequest.field(field, "should be a list of objects with a name")
    named = {str(one["name"]): one for one in entries}
    if len(named) != len(entries):
        raise InvalidRequest.field(field, "names one twice")
    return named


def _wanted(entries: Any, outputs: tuple[Tensor, ...]) -> list[Tensor]:
    known = {tensor.name: tensor for tensor in outputs}
    names = list(known) if entries is None else list(_named(entries, "outputs"))
    if unknown := [name for name in names if name not in known]:
        raise InvalidRequest.field("outputs", f"there is no {unknown[0][:80]!r}; there are: {', '.join(known)}")
    return [known[name] for name in names]


def _values(entries: Any, tensor: Tensor) -> NDArray[Any]:
    given = _named(entries, "inputs")
    if list(given) != [tensor.name]:
        raise InvalidRequest.field("inputs", f"should be one tensor, {tensor.name!r}")
    sent = given[tensor.name]
    datatype = DATATYPES.get(tensor.dtype, "")
    if sent.get("datatype") != datatype:
        raise InvalidRequest.field("datatype", f"should be {datatype} (given: {str(sent.get('datatype'))[:20]!r})")
    shape = _shape(sent.get("shape"), tensor)
    if not isinstance(sent.get("data"), list):
        raise InvalidRequest.field("data", "should be a list of numbers; binary tensors are not taken")
    try:
        numbers = np.asarray(sent["data"])
    except ValueError:  # lists of different lengths
        raise InvalidRequest.field("data", "should be a list of numbers, or lists of them in the given shape") from None
    if numbers.size != math.prod(shape):
        raise InvalidRequest.field("data", f"has {numbers.size} numbers; this shape has {math.prod(shape)}")
    return _converted(numbers, tensor.numpy_type).reshape(shape)


def _shape(shape: Any, tensor: Tensor) -> tuple[int, ...]:
    sides = shape if isinstance(shape, list) and len(shape) <= _MAX_SIDES else []
    whole = bool(sides) and all(type(side) is int and 0 < side < 1 << 31 for side in sides)
    fits = len(sides) == len(tensor.shape) and all(
        own in (None, side) for own, side in zip(tensor.shape, sides, strict=False)
    )
    if not whole or not fits:
        right = described(tensor)["shape"]
        raise InvalidRequest.field("shape", f"should be {right}, where -1 is any (given: {str(shape)[:80]})")
    return tuple(sides)


def _converted(numbers: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    if kind.kind == "f" and numbers.dtype.kind in "iuf":
        with np.errstate(over="ignore"):
            return numbers.astype(kind)
    if kind.kind in "iu" and numbers.dtype.kind in "iu":
        limits = np.iinfo(kind)
        if limits.min <= int(numbers.min()) and int(numbers.max()) <= limits.max:
            return numbers.astype(kind)
    raise InvalidRequest.field("data", f"should be numbers of the type {DATATYPES[kind.name]}")


def _told(name: str, output: NDArray[Any]) -> dict[str, Any]:
    datatype = DATATYPES.get(output.dtype.name)
    if datatype is None:
        raise DetectorFailed(f"The output {name} has a type that cannot be told in JSON.")
    data: list[Any] = output.ravel().tolist()
    if output.dtype.kind == "f" and not np.isfinite(output).all():
        data = [number if math.isfinite(number) else None for number in data]  # JSON has no such numbers
    return {"name": name, "datatype": datatype, "shape": list(output.shape), "data": data}
