"""OpenCV and fasthaar on the same pictures: by cascade, by scale factor, by size."""

from __future__ import annotations

import platform
import statistics
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import cv2.data
import numpy as np

import fasthaar
from benchmarks.lbp import lbp_cascade
from benchmarks.paired import Pair, head, pair_row, paired
from pictures import Image, photograph, resized

SIZE_WH = (979, 551)
LBP = "LBP, made for this"
CASCADES = (*sorted(path.name for path in Path(cv2.data.haarcascades).glob("*.xml")), LBP)
USUAL = ("haarcascade_frontalface_default.xml", "haarcascade_frontalface_alt2.xml", "haarcascade_eye.xml", LBP)


def print_machine() -> None:
    """One line about what was measured on what."""
    versions = f"fasthaar {fasthaar.__version__}, OpenCV {cv2.__version__}, Python {platform.python_version()}"
    print(f"\n{_processor()}, target {fasthaar.target()}, {versions}, NumPy {np.__version__}")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    return f"{fields['model name']} (family {fields.get('cpu family')}, model {fields.get('model')})"


def stem(name: str) -> str:
    """How a table names a cascade."""
    return name.removeprefix("haarcascade_").removesuffix(".xml")


@cache
def greys(size_wh: tuple[int, int] = SIZE_WH) -> list[Image]:
    """Two photographs in a size, grey, shape (height, width)."""
    names = ("astronaut", "rocket")
    colours = (resized(photograph(name), size_wh) for name in names)
    return [np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8) for image in colours]


def cascade_xml(name: str) -> bytes:
    """The file of a cascade."""
    if name == LBP:
        return _lbp_xml()
    return (Path(cv2.data.haarcascades) / name).read_bytes()


@cache
def _lbp_xml() -> bytes:
    return lbp_cascade(greys())


def classifiers(name: str) -> tuple[cv2.CascadeClassifier, fasthaar.CascadeClassifier]:
    """OpenCV's and fasthaar's classifier of a cascade."""
    cv2.setNumThreads(1)
    xml = cascade_xml(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cascade.xml"
        path.write_bytes(xml)
        return cv2.CascadeClassifier(str(path)), fasthaar.CascadeClassifier(xml)


def compare(name: str, images: list[Image], rounds: int, *arguments: Any, **named: Any) -> Pair:
    """Both engines on all images, one thread; they must find the same."""
    theirs, ours = classifiers(name)
    for image in images:
        right = np.array(theirs.detectMultiScale(image, *arguments, **named))
        if not np.array_equal(right, np.array(ours.detectMultiScale(image, *arguments, **named))):
            raise RuntimeError(f"{name}: fasthaar does not find what OpenCV finds")

    def run(classifier: Any) -> None:
        for image in images:
            classifier.detectMultiScale(image, *arguments, **named)

    times = paired(lambda: run(theirs), lambda: run(ours), rounds)
    return times._replace(first_ms=times.first_ms / len(images), second_ms=times.second_ms / len(images))


COLUMNS = ("OpenCV ms", "fasthaar ms", "ratio", "quartiles")


def speed(rounds: int) -> None:
    """Every cascade with cv2's default parameters; milliseconds for one picture, the mean of two."""
    print(f"Scale factor 1.1, {SIZE_WH[0]}x{SIZE_WH[1]}, one thread; medians of {rounds} rounds.\n")
    head("cascade", *COLUMNS)
    ratios = {}
    for name in CASCADES:
        times = compare(name, greys(), rounds)
        pair_row(stem(name), times)
        ratios[name] = times.ratio
    lbp = ratios.pop(LBP)
    mean, least = statistics.geometric_mean(ratios.values()), min(ratios.values())
    print(f"\nHAAR: geometric mean {mean:.2f}, least {least:.2f}. LBP: {lbp:.2f}.")


def scales(rounds: int) -> None:
    """How the ratio depends on the scale factor."""
    head("cascade, scale factor", *COLUMNS)
    for name in USUAL:
        for factor in (1.05, 1.1, 1.2, 1.3, 1.5):
            pair_row(f"{stem(name)}, {factor}", compare(name, greys(), rounds, factor))


def sizes(rounds: int) -> None:
    """How the ratio depends on the size of the picture; it should never be below 1."""
    head("cascade, picture", *COLUMNS)
    small = ((24, 24), (32, 32), (48, 48), (64, 64), (96, 96), (160, 120), (320, 240), (640, 480))
    large = ((1280, 720), (1920, 1080), (4000, 30), (30, 4000), (4000, 3000))
    ratios = []
    for name in USUAL:
        for size_wh in (*small, *large) if name == USUAL[0] else small:
            times = compare(name, greys(size_wh), rounds if size_wh in small else max(3, rounds // 4))
            pair_row(f"{stem(name)}, {size_wh[0]}x{size_wh[1]}", times)
            ratios.append(times.ratio)
    print(f"\nLeast ratio: {min(ratios):.2f}")
