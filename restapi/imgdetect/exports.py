"""What was found, in the forms that training programs read: COCO, YOLO and Pascal VOC. All of it is made while it is
sent; nothing is held but a page of records.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from tempfile import SpooledTemporaryFile
from typing import Any
from xml.sax.saxutils import escape

from imgdetect import masks
from imgdetect.archives import written
from imgdetect.detection import Box, Detection, Feedback, Record, result_from_dict
from imgdetect.documents import feedback_document
from imgdetect.headers import ACCEPTED

Item = tuple[Record, Sequence[Feedback]]
Date = tuple[int, int, int, int, int, int]
# What COCO's list of images may take in memory before it waits on the disk; it can only be sent after the boxes.
_SPOOLED_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16


class Classes:
    """Numbers for the names of classes: those that were asked for in their order, or any as they come."""

    def __init__(self, wanted: Iterable[str] | None) -> None:
        self._numbers = {name: number for number, name in enumerate(wanted or ())}
        self._any = wanted is None

    def number(self, name: str) -> int | None:
        """The number of a class, counted from 0; None for one that nobody asked for."""
        if name not in self._numbers and self._any:
            self._numbers[name] = len(self._numbers)
        return self._numbers.get(name)

    @property
    def names(self) -> list[str]:
        return list(self._numbers)


def corrected(item: Item) -> Item:
    """A record without the boxes that somebody called wrong, and with those that somebody missed."""
    record, said = item
    wrong = {row.what for row in said if row.verdict == "false_positive"}
    kept = [
        d
        for d in result_from_dict(record.result).detections
        if (d.detector, d.class_name, d.box.x, d.box.y, d.box.width, d.box.height) not in wrong
    ]
    for row in said:
        if row.verdict == "missed":
            box = Box(row.x or 0, row.y or 0, row.width or 1, row.height or 1)
            kept.append(Detection(row.detector, row.class_name or "", box, 1.0, 0))
    return replace(record, result=record.result | {"detections": [asdict(d) for d in kept]}), said


def coco(items: Iterable[Item], classes: Classes) -> Iterator[bytes]:
    """One JSON document with images, annotations and categories, as COCO's `instances` files have them."""
    with SpooledTemporaryFile(_SPOOLED_BYTES) as images:
        yield b'{"info": {"description": "Detections of imgdetect", "version": "1.0"}, "licenses": [], "annotations": ['
        count = 0
        for image_id, (record, said) in enumerate(items, 1):
            images.write((b",\n" if image_id > 1 else b"") + json.dumps(_coco_image(image_id, record, said)).encode())
            for detection, number in _chosen(record, classes):
                separator = b",\n" if count else b"\n"
                count += 1
                yield separator + json.dumps(_annotation(count, image_id, number + 1, detection)).encode()
        yield b'\n], "images": [\n'
        images.seek(0)
        while piece := images.read(_PIECE_BYTES):
            yield piece
    categories = [
        {"id": number, "name": name, "supercategory": "object"} for number, name in enumerate(classes.names, 1)
    ]
    yield b'\n], "categories": ' + json.dumps(categories).encode() + b"}\n"


def yolo(items: Iterable[Item], classes: Classes, date: Date) -> Iterator[bytes]:
    """A ZIP archive with a file of lines `class x y width height` for each image, in parts of its size."""

    def files() -> Iterator[tuple[str, Iterable[bytes]]]:
        for record, _ in items:
            lines = [_yolo_line(record, detection, number) for detection, number in _chosen(record, classes)]
            yield f"labels/{record.id}.txt", ["".join(lines).encode()]
        names = classes.names
        yield "classes.txt", ["".join(f"{_one_line(name)}\n" for name in names).encode()]
        # JSON is YAML; names may hold anything.
        table = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(names))
        yield (
            "data.yaml",
            [f"path: .\ntrain: images\nval: images\nnames:{' {}' if not names else ''}\n{table}".encode()],
        )

    return written(files(), date)


def voc(items: Iterable[Item], classes: Classes, date: Date) -> Iterator[bytes]:
    """A ZIP archive with an XML file for each image; edges are counted from 1 and belong to the box, as in VOC's."""

    def files() -> Iterator[tuple[str, Iterable[bytes]]]:
        for record, _ in items:
            objects = "".join(_voc_object(detection) for detection, _ in _chosen(record, classes))
            yield (
                f"Annotations/{record.id}.xml",
                [
                    f"<annotation><folder>JPEGImages</folder><filename>{_file_name(record)}</filename>"
                    f"<source><database>imgdetect</database></source><size><width>{record.width}</width>"
                    f"<height>{record.height}</height><depth>3</depth></size><segmented>0</segmented>"
                    f"{objects}</annotation>\n".encode()
                ],
            )
        yield "classes.txt", ["".join(f"{_one_line(name)}\n" for name in classes.names).encode()]

    return written(files(), date)


ARCHIVES: dict[str, Callable[[Iterable[Item], Classes, Date], Iterator[bytes]]] = {"yolo": yolo, "voc": voc}


def _chosen(record: Record, classes: Classes) -> Iterator[tuple[Detection, int]]:
    for detection in result_from_dict(record.result).detections:
        if (number := classes.number(detection.class_name)) is not None:
            yield detection, number


def _file_name(record: Record) -> str:
    """A name for the picture that no other has; `filename` is the client's and may occur twice."""
    return f"{record.id}{ACCEPTED[record.media_type]}"


def _coco_image(image_id: int, record: Record, said: Sequence[Feedback]) -> dict[str, Any]:
    return {
        "id": image_id,
        "file_name": _file_name(record),
        "width": record.width,
        "height": record.height,
        "imgdetect_id": record.id,
        "original_filename": record.filename,
        "sha256": record.sha256,
        "detector": record.detector,
        "feedback": [feedback_document(row) for row in said],
    }


def _annotation(number: int, image_id: int, category_id: int, detection: Detection) -> dict[str, Any]:
    box, mask = detection.box, detection.mask
    segmentation: Any = []
    if mask:
        rle = {"size": [mask.height, mask.width], "counts": mask.counts}
        segmentation = [list(polygon) for polygon in mask.polygons] or rle
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [box.x, box.y, box.width, box.height],
        "area": masks.area(mask) if mask else box.width * box.height,
        "iscrowd": 0,
        "segmentation": segmentation,
        "score": detection.score if detection.confidence is None else detection.confidence,
        "detector": detection.detector,
    }


def _yolo_line(record: Record, detection: Detection, number: int) -> str:
    box = detection.box
    x, y = (box.x + box.width / 2) / record.width, (box.y + box.height / 2) / record.height
    return f"{number} {x:.6f} {y:.6f} {box.width / record.width:.6f} {box.height / record.height:.6f}\n"


def _voc_object(detection: Detection) -> str:
    box = detection.box
    name = escape("".join(c for c in detection.class_name if c.isprintable()))
    return (
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
        f"<xmin>{box.x + 1}</xmin><ymin>{box.y + 1}</ymin><xmax>{box.x + box.width}</xmax>"
        f"<ymax>{box.y + box.height}</ymax></bndbox></object>"
    )


def _one_line(name: str) -> str:
    return " ".join(name.split())
