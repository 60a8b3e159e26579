"""Small cascades and pictures for the tests of the cascade detector."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgdetect import boxes
from imgdetect.detection import DetectionResult, UploadedCascade
from imgdetect.detectors import Image
from imgdetect.detectors._cascades import parse

BUNDLED_FOLDER = Path(cv2.__file__).with_name("data")
PICTURES = Path(__file__).parents[2] / "test_images" / "input"
EVERY_CODE = range(256)
# A block that is brighter than all eight around it has the LBP code 0: no neighbour is at least as bright.
BRIGHT_CENTER = (0,)


# OpenCV compares min_neighbors with the number of stages where level weights are asked for, so it must be larger.
STAGES = 8


def _cascade(features: str, feature_type: str, window_wh: tuple[int, int], nodes: str, stages: int) -> str:
    """A cascade of equal stages of one stump each, which accept what goes to the left leaf."""
    stage = f"""<_>
    <maxWeakCount>1</maxWeakCount>
    <stageThreshold>0.</stageThreshold>
    <weakClassifiers><_>
      <internalNodes>{nodes}</internalNodes>
      <leafValues>0.75 -1.</leafValues></_></weakClassifiers></_>"""
    return f"""<?xml version="1.0"?>
<opencv_storage>
<cascade type_id="opencv-cascade-classifier">
  <stageType>BOOST</stageType>
  <featureType>{feature_type}</featureType>
  <height>{window_wh[1]}</height>
  <width>{window_wh[0]}</width>
  <stageParams><maxWeakCount>1</maxWeakCount></stageParams>
  <featureParams><maxCatCount>{256 if feature_type == "LBP" else 0}</maxCatCount></featureParams>
  <stageNum>{stages}</stageNum>
  <stages>{stage * stages}</stages>
  <features><_>{features}</_></features></cascade>
</opencv_storage>
"""


def lbp_cascade(window_wh: tuple[int, int], codes: Iterable[int]) -> str:
    """Accepts windows whose 3x3 blocks, which fill the window, have one of the LBP codes."""
    accepted = set(codes)
    words = [sum(1 << bit for bit in range(32) if word * 32 + bit in accepted) for word in range(8)]
    signed = " ".join(str(word - (1 << 32) if word >> 31 else word) for word in words)
    rect = f"<rect>0 0 {window_wh[0] // 3} {window_wh[1] // 3}</rect>"
    return _cascade(rect, "LBP", window_wh, f"0 -1 0 {signed}", STAGES)


def haar_cascade(window_wh: tuple[int, int], stages: int = STAGES) -> str:
    """Accepts windows whose upper half is darker than the lower one."""
    width, height = window_wh
    rects = f"<_>0 0 {width} {height} -1.</_><_>0 0 {width} {height // 2} 2.</_>"
    return _cascade(f"<rects>{rects}</rects><tilted>0</tilted>", "HAAR", window_wh, "0 -1 0 0.", stages)


def old_haar_cascade(window_wh: tuple[int, int]) -> str:
    """The cascade of `haar_cascade` in the format of OpenCV 1."""
    width, height = window_wh
    stage = f"""<_>
    <trees><_><_>
      <feature>
        <rects><_>0 0 {width} {height} -1.</_><_>0 0 {width} {height // 2} 2.</_></rects>
        <tilted>0</tilted></feature>
      <threshold>0.</threshold>
      <left_val>0.75</left_val>
      <right_val>-1.</right_val></_></_></trees>
    <stage_threshold>0.</stage_threshold>
    <parent>-1</parent>
    <next>-1</next></_>"""
    return f"""<?xml version="1.0"?>
<opencv_storage>
<upper_darker type_id="opencv-haar-classifier">
  <size>
    {width} {height}</size>
  <stages>{stage * STAGES}</stages></upper_darker>
</opencv_storage>
"""


def a_row(xml: str, **changes: Any) -> UploadedCascade:
    """The row of a cascade that a client uploaded."""
    file = parse(xml.encode())
    row = UploadedCascade(
        owner="anna",
        name="own",
        created_at=1_700_000_000_000_000,
        class_name="thing",
        parameters={},
        sha256=file.sha256,
        size_bytes=len(xml),
        window_width=file.window_wh[0],
        window_height=file.window_wh[1],
        stages=file.stages,
    )
    return replace(row, **changes)


def slow_cascade(trees: int = 12_000, nodes: int = 16) -> str:
    """A cascade of one huge stage that no window passes, and that every window is held against to the end.

    Within the limits of a valid file; each tree is a chain of nodes that most windows go down to its end.
    """
    text = haar_cascade((24, 24))
    start, end = text.index("<weakClassifiers>") + len("<weakClassifiers>"), text.index("</weakClassifiers>")
    chain = " ".join(f"{node + 1} {-node} 0 -9." for node in range(nodes - 1))
    leaves = "-1. " * (nodes + 1)
    tree = f"<_><internalNodes>{chain} {1 - nodes} {-nodes} 0 -9.</internalNodes><leafValues>{leaves}</leafValues></_>"
    return text[:start] + tree * trees + text[end:]


def encoded(image: Image) -> bytes:
    """A picture as a PNG."""
    return bytes(cv2.imencode(".png", image)[1].data)


def picture(name: str) -> Image:
    """One of the pictures of test_images/input, whatever its format."""
    (path,) = (path for path in PICTURES.glob(f"{name}.*") if path.suffix in (".jpg", ".png"))
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image, np.uint8)


def noise(width: int, height: int, seed: int = 3, grain: float = 0.3) -> Image:
    """Random grain over random clouds: rich in edges of every size; nothing but grain where that is 1."""
    random = np.random.default_rng(seed)
    clouds = cv2.resize(random.uniform(0, 255, (height // 24 + 2, width // 24 + 2)), (width, height))
    mixed = clouds[..., None] * (1 - grain) + random.uniform(0, 255, (height, width, 3)) * grain
    return mixed.astype(np.uint8)


def bright_square(size_wh: tuple[int, int], box: tuple[int, int, int, int]) -> Image:
    """A white square x, y, width, height on dark grey."""
    image = np.full((size_wh[1], size_wh[0], 3), 40, np.uint8)
    x, y, width, height = box
    image[y : y + height, x : x + width] = 250
    return image


def found_xywh(result: DetectionResult) -> list[tuple[int, int, int, int]]:
    """The boxes of a result, in its order."""
    return [(d.box.x, d.box.y, d.box.width, d.box.height) for d in result.detections]


def best_iou(result: DetectionResult, xywh: Iterable[float]) -> float:
    """How well the best fitting box of a result frames an object."""
    found = np.array(found_xywh(result)).reshape(-1, 4)
    wanted = np.array([list(xywh)], np.float64)
    return float(boxes.box_iou(boxes.xywh_to_xyxy(found), boxes.xywh_to_xyxy(wanted)).max(initial=0.0))


def grey(image: Image) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
