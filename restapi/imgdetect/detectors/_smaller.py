"""Make a model quicker and smaller: fuse what can be fused, and count in int8.

What that costs is measured and not promised.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imgdetect import boxes
from imgdetect.detection import DetectionResult, DetectOptions
from imgdetect.detectors import Image, create
from imgdetect.detectors._graph import read

_TIMES = 5
_MATRICES = ["MatMul", "Gemm"]
# Where the time goes. Nothing else is counted in int8: a detection's last step puts boxes of hundreds of pixels and
# scores below 1 into one table, and one scale for both leaves nothing of the scores.
_HEAVY = ["Conv", *_MATRICES]
# Boxes of one class that overlap this much are the same one.
_SAME = 0.5


class Compared(NamedTuple):
    """Two models beside each other on the same pictures."""

    size_bytes: tuple[int, int]  # before, after
    look_ms: tuple[float, float]  # median of a look, preparing included
    agreement: float  # 0..1, how much of what either finds both find
    pictures: int


def optimise(source: Path, target: Path, url: str, *, pictures: Sequence[Image] = (), quantise: bool = True) -> None:
    """Write a model that does the same with less.

    Args:
        source: the model.
        target: where the other one goes; it has the metadata of the source.
        url: of the model's detector, which knows how a picture is prepared.
        pictures: BGR, to take the ranges of static quantisation from; none: dynamic quantisation.
        quantise: to int8; otherwise the graph is fused only.
    Raises:
        ValueError: a library is missing, or the model cannot be treated so; one line.
    """
    try:
        import onnx  # noqa: PLC0415 - heavy, and only this command needs it
        import onnxruntime  # noqa: PLC0415
        from onnxruntime import quantization  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(f"optimizing needs {error.name}: pip install 'imgdetect[onnx]'") from None
    logging.getLogger().addFilter(_not_the_hint)
    try:
        with tempfile.TemporaryDirectory() as folder:
            fused = Path(folder) / "fused.onnx"
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            options.optimized_model_filepath = str(fused)
            # What fits any processor; more would tie the file to this one.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
            onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
            if not quantise:
                _with_metadata(onnx, source, fused, target)
                return
            small = Path(folder) / "small.onnx"
            if pictures:
                name = read(source).inputs[0].name
                reader = _reader(quantization.CalibrationDataReader, name, _tensors(url, pictures))
                quantization.quantize_static(
                    str(fused),
                    str(small),
                    reader,
                    quant_format=quantization.QuantFormat.QDQ,
                    op_types_to_quantize=_HEAVY,
                    per_channel=True,
                )
            else:
                # Of a convolution with dynamic ranges no processor makes anything quick: matrices only.
                quantization.quantize_dynamic(str(fused), str(small), op_types_to_quantize=_MATRICES)
            _with_metadata(onnx, source, small, target)
    except ValueError:
        raise
    except Exception as error:  # the libraries' own kinds are many
        raise ValueError(f"cannot be optimized: {' '.join(str(error).split())[:300]}") from None
    finally:
        logging.getLogger().removeFilter(_not_the_hint)


def _not_the_hint(record: logging.LogRecord) -> bool:
    """ONNX Runtime logs advice to prepare a model in a way that was taken already."""
    return "pre-processing before quantization" not in record.getMessage()


def compare(before: str, after: str, pictures: Sequence[Image]) -> Compared:
    """Let two models look at the same pictures.

    Args:
        before, after: the URLs of their detectors.
    """
    detectors: list[Any] = [create("it", url, working_pixels=2_100_000) for url in (before, after)]
    options = [detector.resolve(DetectOptions("it")) for detector in detectors]
    times: tuple[list[float], list[float]] = ([], [])
    shares = []
    for picture in pictures:
        results = []
        for detector, asked, spent in zip(detectors, options, times, strict=True):
            results.append(detector.detect(picture, asked))
            for _ in range(_TIMES):  # in turn, so that a busy moment meets both
                started = time.perf_counter()
                detector.detect(picture, asked)
                spent.append((time.perf_counter() - started) * 1000)
        shares.append(agreement(*results))
    sizes = [detector.session.size_bytes for detector in detectors]
    medians = [float(np.median(spent)) for spent in times]
    return Compared((sizes[0], sizes[1]), (medians[0], medians[1]), float(np.mean(shares)), len(pictures))


def noise() -> list[Image]:
    """Pictures to compare on where there are no others."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (360, 480, 3), dtype=np.uint8) for _ in range(4)]


def agreement(a: DetectionResult, b: DetectionResult) -> float:
    """How much of what either finds both find: 1 where they find the same, or both nothing.

    Of a classification: whether the surest class is the same one.
    """
    if a.classes or b.classes:
        return float(bool(a.classes and b.classes) and a.classes[0].class_id == b.classes[0].class_id)
    if not a.detections and not b.detections:
        return 1.0
    if not a.detections or not b.detections:
        return 0.0
    overlaps = boxes.box_iou(_xyxy(a), _xyxy(b))
    same_class = np.array([[x.class_name == y.class_name for y in b.detections] for x in a.detections])
    fitting = np.where(same_class, overlaps, 0.0)
    matched = 0
    for row in fitting:  # the surest of `a` choose first
        if row.max() >= _SAME:
            matched += 1
            fitting[:, row.argmax()] = 0.0
    return matched / (len(a.detections) + len(b.detections) - matched)


def _xyxy(result: DetectionResult) -> np.ndarray[Any, Any]:
    found = [(d.box.x, d.box.y, d.box.width, d.box.height) for d in result.detections]
    return np.asarray(boxes.xywh_to_xyxy(np.array(found)))


def _tensors(url: str, pictures: Sequence[Image]) -> Iterator[Any]:
    detector: Any = create("it", url, working_pixels=2_100_000)
    for picture in pictures:
        yield detector.prepared(picture)


def _reader(kind: type, name: str, tensors: Iterator[Any]) -> Any:
    """The calibration data as ONNX Runtime asks for it."""

    class Reader(kind):  # type: ignore[misc] # the library is loaded by whoever calls
        def get_next(self) -> Any:
            values = next(tensors, None)
            return None if values is None else {name: values}

    return Reader()


def _with_metadata(onnx: Any, source: Path, made: Path, target: Path) -> None:
    """Write what was made with the metadata of the source, which the libraries leave out."""
    model = onnx.load(str(made))
    onnx.helper.set_model_props(model, read(source).metadata)
    onnx.save(model, str(target))
