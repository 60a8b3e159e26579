"""Labelled pictures: COCO's JSON, Pascal VOC's XML, YOLO's text files, OpenCV's info.dat, told apart by themselves."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasthaar.workshop import WorkshopError
from fasthaar.workshop.effects import Size
from fasthaar.workshop.label_files import Labelled, read_coco, read_info, read_voc, read_yolo
from fasthaar.workshop.pictures import SUFFIXES, find_pictures, read_size

# What a box may reach over its picture's edge: tools round.
_ROUNDING_PX = 1.5
_LIST_SUFFIXES = (".txt", ".dat", ".info")


@dataclass(frozen=True)
class Annotated:
    """One picture with the objects in it.

    Attributes:
        path: of the picture.
        size_wh: of the upright picture, pixels.
        boxes: float64 (N, 4), x, y, width, height, inside the picture.
        ignored: bool (N,), objects that may be found but need not: crowds, and what is marked as difficult.
    """

    path: Path
    size_wh: Size
    boxes: NDArray[np.float64]
    ignored: NDArray[np.bool_]


def read_annotations(
    source: Path, pictures: Path | None = None, classes: Collection[str] = (), *, clip: bool = False
) -> list[Annotated]:
    """Read labels in any of the known forms.

    Args:
        source: COCO: the .json file. VOC: a folder with .xml files, or one of them. YOLO: a folder with .txt files, or
            one with the folders images and labels. OpenCV: a text file with `picture count x y width height ...`.
        pictures: the folder that the pictures are in; without it, where the form says or beside the labels.
        classes: names or numbers of those that count; empty for all.
        clip: cut boxes at the edge of their picture instead of refusing them.

    Returns:
        One for each picture, those without objects as well; sorted by path.

    Raises:
        WorkshopError: what is wrong and where.
        OSError: a file cannot be read.
    """
    labelled = _read(source, pictures, classes)
    if not labelled:
        raise WorkshopError(f"{source}: there are no labels in it")
    annotated = [_checked(one, clip=clip) for one in labelled]
    if classes and not any(len(one.boxes) for one in annotated):
        raise WorkshopError(f"{source}: there is no object of class {' or '.join(sorted(classes))} in it")
    return sorted(annotated, key=lambda one: one.path)


def _read(source: Path, pictures: Path | None, classes: Collection[str]) -> list[Labelled]:
    if source.is_dir():
        return _read_folder(source, pictures, classes)
    if not source.is_file():
        raise WorkshopError(f"{source}: there is no such file or folder")
    suffix = source.suffix.lower()
    if suffix == ".json":
        return read_coco(source, pictures or source.parent, classes)
    if suffix == ".xml":
        return read_voc([source], pictures, classes)
    if suffix in _LIST_SUFFIXES:
        return read_info(source, pictures or source.parent)
    raise WorkshopError(f"{source}: should be COCO (.json), VOC (.xml), OpenCV's list (.txt, .dat), or a folder")


def _read_folder(source: Path, pictures: Path | None, classes: Collection[str]) -> list[Labelled]:
    labels = next((source / name for name in ("labels", "Annotations") if (source / name).is_dir()), source)
    if voc := sorted(labels.glob("*.xml")):
        beside = source / "JPEGImages"
        return read_voc(voc, pictures or (beside if beside.is_dir() else None), classes)
    if texts := sorted(path for path in labels.glob("*.txt") if path.stem not in ("classes", "obj.names")):
        beside = next((p for p in (source / "images", source.parent / "images") if p.is_dir()), source)
        folder = pictures or beside
        by_stem = {path.stem: path for path in find_pictures(folder)}
        return read_yolo(texts, folder, by_stem, classes)
    if coco := sorted(source.glob("*.json")):
        return read_coco(coco[0], pictures or source, classes)
    raise WorkshopError(f"{source}: there are no labels in this folder (.xml, .txt or .json)")


def _checked(one: Labelled, *, clip: bool) -> Annotated:
    if one.path.suffix.lower() not in SUFFIXES or not one.path.is_file():
        raise WorkshopError(f"{one.label}: there is no picture {one.path} for it; name their folder with --pictures")
    width, height = read_size(one.path)
    if one.size_wh and one.size_wh != (width, height):
        declared = f"{one.size_wh[0]}x{one.size_wh[1]}"
        raise WorkshopError(
            f"{one.label}: it is for a picture of {declared} pixels, but {one.path} has {width}x{height}"
        )
    boxes = np.array(one.boxes, np.float64).reshape(-1, 4)
    if one.relative:
        boxes = boxes * (width, height, width, height)
    outer = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    inner = np.clip(outer, 0, (width, height, width, height))
    outside: NDArray[np.bool_] = np.any(np.abs(outer - inner) > _ROUNDING_PX, axis=1)
    empty: NDArray[np.bool_] = np.any(inner[:, 2:] - inner[:, :2] <= 0, axis=1)
    for place in () if clip else np.flatnonzero(outside | empty):
        text = ", ".join(f"{side:g}" for side in boxes[place])
        problem = "reaches out of" if outside[place] else "has no area in"
        raise WorkshopError(
            f"{one.label}: the box ({text}) {problem} the picture, which has {width}x{height} pixels; --clip cuts it"
        )
    kept = ~empty
    inner[:, 2:] -= inner[:, :2]
    return Annotated(one.path, (width, height), inner[kept], np.array(one.ignored, bool)[kept])
