"""Neural networks: `onnx:/models/yolox_s.onnx?family=yolox`, `onnx:/models/resnet50.onnx?family=classification`.

A model is three steps: a picture is fitted into the input (`_transforms`), the network runs (`_session`), and its
answer is read (`_outputs`); `_families` says which of them a family needs. What a URL leaves out may stand in the
model's metadata under the same names, labels also as Ultralytics writes them.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgdetect import masks
from imgdetect.backends import refuse_unknown
from imgdetect.detection import Box, ClassScore, Detection, DetectionResult, DetectOptions, Facts
from imgdetect.detectors import Image, _graph, _labels, _outputs, _session, _transforms, refuse
from imgdetect.detectors._families import Family, choose
from imgdetect.detectors._graph import GraphFile
from imgdetect.detectors._labels import read as read_labels
from imgdetect.detectors._outputs import Decoder, Found
from imgdetect.detectors._session import ENGINE, Session, on_graphics_card
from imgdetect.detectors._smaller import Compared, compare, noise, optimise
from imgdetect.detectors._tensors import described, infer
from imgdetect.detectors._transforms import InputForm, Placement, Size
from imgdetect.detectors._vetting import Vetted, vet
from imgdetect.errors import DetectorFailed, InvalidRequest

__all__ = [
    "ENGINE",
    "Compared",
    "OnnxDetector",
    "Vetted",
    "compare",
    "create",
    "described",
    "infer",
    "noise",
    "on_graphics_card",
    "optimise",
    "read_labels",
    "vet",
]

TOP_K = 5
# What cascades have and a network has not.
_NOT_HERE = {
    name: "belongs to cascades; confidence says how strict a network is"
    for name in ("scale_factor", "min_neighbors", "min_size", "max_size", "equalize")
} | {"rotations": "are not for networks; turn the picture before it is sent"}
_NOT_FOR_DETECTION = {"top_k": "belongs to classification; max_detections keeps the best"}
_NOT_FOR_CLASSIFICATION = {
    "confidence": "a classification names the top_k classes, however sure it is",
    "iou_threshold": "a classification finds no boxes",
    "classes": "a classification names the top_k classes, whichever they are",
    "class_confidence": "a classification names the top_k classes, however sure it is",
} | dict.fromkeys(("min_area", "max_area", "mask"), "a classification finds no boxes")
_MERGED = {"iou_threshold": "this network merges overlapping boxes itself"}


def create(
    name: str, target: str, parameters: dict[str, str], *, working_pixels: int, threads: int = 1
) -> OnnxDetector:
    """Build the detector of an ONNX file. Nothing of it is loaded before a look.

    Args:
        name: the public name.
        target: the path of the file.
        parameters: family, form, transform, labels, size, confidence, iou_threshold, top_k, provider, sha256.
        working_pixels: the most pixels of an input that is as large as the picture.
        threads: for one look.
    Raises:
        ValueError: a bad parameter, a file that is missing or no model of the family, or no ONNX Runtime; one line.
    """
    refuse_unknown(parameters, "family", "form", "transform", "labels", "size", *_DEFAULTS, "provider", "sha256")
    version = _session.version()
    if not target:
        raise ValueError("onnx: needs the path of an ONNX file")
    file = _graph.read(Path(target))
    if parameters.get("sha256", file.sha256) != file.sha256:
        raise ValueError(f"model {target}: is another file: its SHA-256 is {file.sha256}")
    try:
        model = _model(file, parameters)
    except ValueError as error:
        raise ValueError(f"model {target}: {error}") from None
    cuda = _provider(parameters.get("provider", "auto"))
    return OnnxDetector(name, model, Session(file, threads, cuda), version, working_pixels)


@dataclass(frozen=True)
class _Model:
    """All that is known of a model before it runs."""

    sha256: str
    family_name: str
    family: Family
    task: str
    form: InputForm
    size_wh: Size | None  # of the input; None where it follows from the picture
    names: tuple[str, ...]  # by class number; NOTHING where there is no such class
    defaults: dict[str, Any]

    def name_of(self, class_id: int) -> str:
        """What a class is called; empty where it stands for nothing."""
        return self.names[class_id] if class_id < len(self.names) else f"class_{class_id}"


def _model(file: GraphFile, parameters: dict[str, str]) -> _Model:
    """Put together what the URL, the metadata and the shapes of a file say.

    Raises:
        ValueError: they do not make a model; the end of a sentence.
    """
    given = {
        name: value for name, value in file.metadata.items() if name in ("family", "form", "transform")
    } | parameters
    family_name = given.get("family", "")
    family = choose(family_name, given.get("form"), given.get("transform"), file)
    if len(file.inputs) != 1:
        raise ValueError(f"has {len(file.inputs)} inputs; one picture is all that it can be given")
    form = InputForm.of(file.inputs[0], family.channels_last)
    count = _class_count(family, file)
    return _Model(
        sha256=file.sha256,
        family_name=family_name,
        family=family,
        task=_task(family, file),
        form=form,
        size_wh=_size(form, family, file.metadata, parameters.get("size")),
        names=_names(family, file.metadata, parameters.get("labels"), count),
        defaults=_defaults(family, parameters),
    )


def _task(family: Family, file: GraphFile) -> str:
    if family.decode is None:
        return "classification"
    return "detection" if _prototypes(family, file) is None else "segmentation"


def _prototypes(family: Family, file: GraphFile) -> int | None:
    """How many prototypes of masks there are; None where a network has none."""
    if family.decode not in (_outputs.yolov5, _outputs.yolov8):
        return None
    shapes = [output.shape for output in file.outputs if len(output.shape) == 4]
    return (shapes[0][1] or 0) if shapes else None


def _class_count(family: Family, file: GraphFile) -> int | None:
    """How many classes the shapes of the outputs tell of; None where they leave it open."""
    if family.decode is None:
        return file.outputs[0].shape[-1] if file.outputs[0].shape else None
    tables = [output.shape for output in file.outputs if len(output.shape) == 3]
    if family.extra is None or not tables:
        return None
    numbers = tables[0][2 if family.rows_first else 1]
    if numbers is None:
        return None
    count = numbers - family.extra - (_prototypes(family, file) or 0)
    if count < 1:
        raise ValueError(f"does not answer as its family does: the shape of its output is {tables[0]}")
    return count


def _names(family: Family, metadata: dict[str, str], where: str | None, count: int | None) -> tuple[str, ...]:
    told = metadata.get("labels") or metadata.get("names")
    names: tuple[str, ...]
    if where:
        names = _labels.read(where)
    elif told:
        names = _labels.KNOWN.get(told) or _labels.parse(told)
    else:
        names = _labels.KNOWN.get(family.labels, (family.labels,) if family.labels else ())
        if count not in (None, len(names)):
            names = tuple(f"class_{number}" for number in range(min(count or 0, _labels.MAX_CLASSES)))
    if not any(names):
        raise ValueError("does not say how its classes are called; add labels=FILE to its URL, one name a line")
    if count not in (None, len(names)):
        raise ValueError(f"has {count} classes, but its labels are {len(names)}")
    return names


def _size(form: InputForm, family: Family, metadata: dict[str, str], given: str | None) -> Size | None:
    """Width and height of the input. Ultralytics' `imgsz` has the height first."""
    width, height = form.size_wh
    asked = _pair(given, "size") if given else _pair(metadata.get("input_size", ""), "input_size")
    if asked is None and (imgsz := metadata.get("imgsz")):
        try:
            sides = ast.literal_eval(imgsz)
            asked = (int(sides), int(sides)) if isinstance(sides, int) else (int(sides[1]), int(sides[0]))
        except (ValueError, SyntaxError, TypeError, IndexError, KeyError, MemoryError, RecursionError):
            raise ValueError("has an imgsz in its metadata that is no size") from None
    if width and height:
        if given and asked != (width, height):
            raise ValueError(f"takes pictures of {width}x{height} only; leave out size={given}")
        return width, height
    if asked is None and family.size_wh is None and not (width or height):
        return None
    chosen = asked or family.size_wh or (640, 640)
    size = width or chosen[0], height or chosen[1]
    if min(size) < 1 or size[0] * size[1] > _transforms.MAX_PIXELS:
        raise ValueError(
            f"an input of {size[0]}x{size[1]} is none; at most {_transforms.MAX_PIXELS} pixels are possible"
        )
    return size


def _pair(text: str, what: str) -> Size | None:
    if not text:
        return None
    if not re.fullmatch(r"\d{1,5}(,\d{1,5})?", text):
        raise ValueError(f"{what}={text[:40]} should be N or WIDTH,HEIGHT in pixels")
    sides = [int(side) for side in text.split(",")]
    return sides[0], sides[-1]


def _share(text: str) -> float:
    value = float(text) if re.fullmatch(r"\d*\.?\d+", text) else -1.0
    if not 0 <= value <= 1:
        raise ValueError("should be a number from 0 to 1")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise ValueError("should be a whole number from 1 to 1000")
    return int(text)


_DEFAULTS: dict[str, Callable[[str], Any]] = {"confidence": _share, "iou_threshold": _share, "top_k": _count}


def _defaults(family: Family, parameters: dict[str, str]) -> dict[str, Any]:
    """The values used where a request names none, of the options that the family has."""
    values: dict[str, Any] = {"top_k": TOP_K} if family.decode is None else {"confidence": family.confidence}
    if family.iou_threshold is not None:
        values["iou_threshold"] = family.iou_threshold
    for name, read in _DEFAULTS.items():
        if name not in parameters:
            continue
        if name not in values:
            raise ValueError(f"takes no {name}: its family has none")
        try:
            values[name] = read(parameters[name])
        except ValueError as error:
            raise ValueError(f"{name}={parameters[name]}: {error}") from None
    return values


def _provider(text: str) -> bool:
    if text not in ("auto", "cpu"):
        raise ValueError(f"onnx: provider={text[:40]} should be auto (a graphics card where there is one) or cpu")
    return text == "auto"


def _schema(defaults: dict[str, Any], class_names: tuple[str, ...]) -> dict[str, Any]:
    """JSON Schema of the parameters, as they are echoed in answers."""
    share = {"type": "number", "minimum": 0, "maximum": 1}
    known: dict[str, dict[str, Any]] = {
        "confidence": share | {"description": "Less sure detections are left out."},
        "iou_threshold": share | {"description": "Boxes of a class that overlap this much mean the same object."},
        "top_k": {"type": "integer", "minimum": 1, "maximum": 1000, "description": "How many classes are named."},
    }
    properties = {name: known[name] | {"default": value} for name, value in defaults.items()}
    if "confidence" in defaults:
        names: dict[str, Any] = {"type": "string"}
        if len(class_names) <= 100:
            names["enum"] = sorted(set(class_names))
        properties["classes"] = {"type": ["array", "null"], "items": names, "default": None}
        properties["classes"]["description"] = "Only these classes."
    return {"type": "object", "properties": properties}


class OnnxDetector:
    """Looks with one network; see `Detector` for the members."""

    def __init__(self, name: str, model: _Model, session: Session, version: str, working_pixels: int) -> None:
        self.name = name
        self.task = model.task
        self.class_names = tuple(name for name in model.names if name)
        self.session = session
        self._model = model
        self._working_pixels = working_pixels
        schema = _schema(model.defaults, self.class_names)
        self.facts = Facts(name, ENGINE, version, None, dict(model.defaults), schema)
        family = model.family
        identity = (model.sha256, model.family_name, family.transform, model.size_wh, model.names, model.defaults)
        self.fingerprint = hashlib.sha256(
            json.dumps([repr(identity), ENGINE, version, working_pixels]).encode()
        ).hexdigest()

    def resolve(self, options: DetectOptions) -> DetectOptions:
        """The options with every None that has a default replaced by it.

        Raises:
            InvalidRequest: an option that this network does not have, or a class that it does not know.
        """
        if self.task == "classification":
            refuse(options, _NOT_HERE | _NOT_FOR_CLASSIFICATION)
        else:
            merges = "iou_threshold" not in self._model.defaults
            refuse(options, _NOT_HERE | _NOT_FOR_DETECTION | (_MERGED if merges else {}))
        if unknown := sorted(set(options.classes or ()) - set(self.class_names)):
            some = ", ".join(dict.fromkeys(self.class_names[:20])) + (", ..." if len(self.class_names) > 20 else "")
            raise InvalidRequest.field("classes", f"{self.name} knows no {unknown[0][:80]!r}; it knows {some}")
        return replace(options, **{k: v for k, v in self._model.defaults.items() if getattr(options, k) is None})

    def cost(self, size_wh: Size, options: DetectOptions) -> int:
        """0: a network looks at every picture in the same size.

        Raises:
            InvalidRequest: the roi lies outside the picture.
        """
        _transforms.part(size_wh, options)
        return 0

    def detect(self, image: Image, options: DetectOptions) -> DetectionResult:
        """Look at an upright BGR image, shape (height, width, 3).

        Raises:
            InvalidRequest: the roi lies outside the picture.
            DetectorFailed: the network does not answer as its family does.
        """
        options = self.resolve(options)
        where, values = self._pre_process(image, options)
        outputs = self.session.run(values)
        try:
            if self._model.family.decode is None:
                return self._classes(_outputs.probabilities(outputs), where, options)
            return self._post_process(self._model.family.decode, outputs, where, options)
        except ValueError as error:
            raise DetectorFailed(
                f"{self.name} is no network of the family {self._model.family_name}: {error}."
            ) from None

    def prepared(self, image: Image) -> Any:
        """A picture as the network takes it."""
        return self._pre_process(image, self.resolve(DetectOptions(self.name)))[1]

    def _pre_process(self, image: Image, options: DetectOptions) -> tuple[Placement, Any]:
        transform = self._model.family.transform
        size_wh = image.shape[1], image.shape[0]
        where = _transforms.place(size_wh, options, transform.fit, self._model.size_wh, self._working_pixels)
        canvas = _transforms.fitted(image, where, transform.pad)
        return where, self._model.form.tensor(canvas, transform.numbers)

    def _classes(self, probabilities: Any, where: Placement, options: DetectOptions) -> DetectionResult:
        best = np.argsort(-probabilities, kind="stable")[: options.top_k].tolist()
        named = tuple(
            ClassScore(self._model.name_of(number) or f"class_{number}", number, min(1.0, float(probabilities[number])))
            for number in best
        )
        return DetectionResult((), named, 0, where.canvas_wh)

    def _post_process(
        self, decode: Decoder, outputs: _outputs.Outputs, where: Placement, options: DetectOptions
    ) -> DetectionResult:
        confidence = options.confidence or 0.0
        found = _outputs.sensible(decode(outputs, where.canvas_wh, confidence), confidence)
        found = found.take(np.flatnonzero(self._wanted(found.class_ids, options)))
        if options.iou_threshold is not None:
            found = _outputs.merged(found, options.iou_threshold)
        edges = np.rint(where.to_image(found.xyxy)).astype(np.int64)
        there = np.flatnonzero((edges[:, 2:] > edges[:, :2]).all(1))
        found, edges = found.take(there), edges[there]
        best = range(min(len(edges), options.max_detections))
        detections = tuple(self._detection(found, row, edges[row], where) for row in best)
        return DetectionResult(detections, (), len(edges), where.scaled_wh)

    def _wanted(self, class_ids: Any, options: DetectOptions) -> Any:
        """Which detections are of a class that was asked for, and of one that stands for something."""
        wanted = {
            number: bool(name := self._model.name_of(number)) and (options.classes is None or name in options.classes)
            for number in np.unique(class_ids).tolist()
        }
        return np.array([wanted[number] for number in class_ids.tolist()], bool)

    def _detection(self, found: Found, row: int, edges: Any, where: Placement) -> Detection:
        left, top, right, bottom = edges.tolist()
        mask = None
        if found.coefficients is not None:
            mask = masks.encode(_outputs.mask_of(found, row, edges, where), (left, top), where.image_wh)
        score = min(1.0, float(found.scores[row]))
        name = self._model.name_of(int(found.class_ids[row]))
        return Detection(self.name, name, Box(left, top, right - left, bottom - top), score, 1, score, 0, mask)
