"""The forms of label files. What they say is taken as it is; `annotations` holds it against the pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from fasthaar.workshop import WorkshopError
from fasthaar.workshop.effects import Size

Box = tuple[float, float, float, float]
_MOST_BYTES = 512 * 1024 * 1024


@dataclass
class Labelled:
    """What a label file says about one picture.

    Attributes:
        label: where it says so, for messages.
        path: of the picture.
        size_wh: of the picture in pixels, where that is said.
        relative: whether boxes are in parts of the picture's size, not in pixels.
        boxes: x, y, width, height.
        ignored: for each box, whether it need not be found.
    """

    label: str
    path: Path
    size_wh: Size | None = None
    relative: bool = False
    boxes: list[Box] = field(default_factory=list)
    ignored: list[bool] = field(default_factory=list)

    def add(self, box: Iterable[Any], *, ignored: bool = False) -> None:
        """Add a box.

        Raises:
            WorkshopError: it is not four finite numbers.
        """
        try:
            x, y, width, height = (float(side) for side in box)
        except (TypeError, ValueError):
            raise WorkshopError(f"{self.label}: a box should be four numbers") from None
        if not all(map(math.isfinite, (x, y, width, height))):
            raise WorkshopError(f"{self.label}: the numbers of a box should be finite")
        self.boxes.append((x, y, width, height))
        self.ignored.append(ignored)


def read_coco(source: Path, pictures: Path, classes: Collection[str]) -> list[Labelled]:
    """COCO's JSON: `images`, `annotations`, `categories`; crowds are ignored objects."""
    try:
        data = json.loads(_text(source))
        names = {category["id"]: category["name"] for category in data.get("categories", ())}
        by_id = {
            image["id"]: Labelled(f"{source}: {image['file_name']}", pictures / image["file_name"], _coco_size(image))
            for image in data["images"]
        }
        annotations = list(data["annotations"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise WorkshopError(f"{source}: this is no COCO file; should have images, annotations, categories") from None
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, dict) or annotation.get("image_id") not in by_id:
            raise WorkshopError(f"{source}: annotation {number} is for a picture that is not among images")
        kind = annotation.get("category_id")
        if _counts(classes, kind, names.get(kind)):
            crowd = bool(annotation.get("iscrowd"))
            by_id[annotation["image_id"]].add(annotation.get("bbox") or (), ignored=crowd)
    return list(by_id.values())


def _coco_size(image: Mapping[str, Any]) -> Size | None:
    return (int(image["width"]), int(image["height"])) if "width" in image and "height" in image else None


def read_voc(sources: Sequence[Path], pictures: Path | None, classes: Collection[str]) -> list[Labelled]:
    """Pascal VOC's XML, a file for each picture; objects marked as difficult are ignored ones."""
    return [_read_voc(source, pictures or source.parent, classes) for source in sources]


def _read_voc(source: Path, pictures: Path, classes: Collection[str]) -> Labelled:
    texts, objects = _voc_texts(source)
    name = Path(texts.get("filename", "").replace("\\", "/")).name
    if not name:
        raise WorkshopError(f"{source}: this is no VOC file; should have annotation with filename and objects")
    one = Labelled(str(source), pictures / name)
    try:
        # Some tools write zeros where they did not know.
        width, height = int(texts.get("size/width", 0)), int(texts.get("size/height", 0))
        one.size_wh = (width, height) if width and height else None
        for found in objects:
            if _counts(classes, None, found.get("name")):
                left, top, right, bottom = (float(found[f"bndbox/{side}"]) for side in ("xmin", "ymin", "xmax", "ymax"))
                # Pixels are counted from 1, and the last one is part of the object.
                box = (left - 1, top - 1, right - left + 1, bottom - top + 1)
                one.add(box, ignored=found.get("difficult") == "1")
    except (KeyError, ValueError):
        raise WorkshopError(f"{source}: size and bndbox should be numbers, xmin, ymin, xmax, ymax") from None
    return one


def _voc_texts(source: Path) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The texts of a VOC file by their path, and those of every object by their path in it."""
    texts: dict[str, str] = {}
    objects: list[dict[str, str]] = []
    path: list[str] = []
    parts: list[str] = []

    def start(name: str, _: dict[str, str]) -> None:
        if len(path) > 16:
            raise WorkshopError(f"{source}: elements should be at most 16 levels deep")
        path.append(name)
        parts.clear()
        if path == ["annotation", "object"]:
            objects.append({})

    def end(_: str) -> None:
        text = "".join(parts).strip()
        if path[:2] == ["annotation", "object"]:
            objects[-1].setdefault("/".join(path[2:]), text)
        else:
            texts.setdefault("/".join(path[1:]), text)
        path.pop()
        parts.clear()

    def refuse(*_: object) -> None:
        raise WorkshopError(f"{source}: there is a document type declaration; should be none")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, parts.append
    parser.StartDoctypeDeclHandler = refuse  # no entities, no files from elsewhere
    try:
        parser.Parse(source.read_bytes(), True)
    except expat.ExpatError as error:
        raise WorkshopError(f"{source}: this is no XML ({error})") from None
    return texts, objects


def read_yolo(
    sources: Sequence[Path], folder: Path, pictures: Mapping[str, Path], classes: Collection[str]
) -> list[Labelled]:
    """YOLO's text files: `class x y width height`, the centre and size in parts of the picture's; or a polygon."""
    names_file = next(
        (p for p in (sources[0].with_name("classes.txt"), sources[0].parents[1] / "classes.txt") if p.is_file()), None
    )
    names = _text(names_file).split("\n") if names_file else []
    labelled = {}
    for source in sources:
        if source.stem not in pictures:
            raise WorkshopError(f"{source}: there is no picture {source.stem} in {folder} for it; see --pictures")
        one = labelled[source.stem] = Labelled(str(source), pictures[source.stem], relative=True)
        for number, line in enumerate(_text(source).splitlines(), 1):
            if words := line.split():
                kind, box = _yolo_line(f"{source}, line {number}", words)
                if _counts(classes, kind, names[kind].strip() if kind < len(names) else None):
                    one.add(box)
    # A picture without a file has no object.
    rest = [Labelled(str(path), path) for stem, path in pictures.items() if stem not in labelled]
    return [*labelled.values(), *rest]


def _yolo_line(label: str, words: Sequence[str]) -> tuple[int, Box]:
    try:
        kind, numbers = int(words[0]), [float(word) for word in words[1:]]
        if kind < 0 or not all(-1 <= number <= 2 for number in numbers):
            raise ValueError
        if len(numbers) >= 6 and len(numbers) % 2 == 0:  # the corners of an outline
            xs, ys = numbers[::2], numbers[1::2]
            return kind, (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
        x, y, width, height = numbers
    except ValueError:
        raise WorkshopError(f"{label}: should be class x y width height, in parts of the picture's size") from None
    return kind, (x - width / 2, y - height / 2, width, height)


def read_info(source: Path, pictures: Path) -> list[Labelled]:
    """OpenCV's list: `picture count x y width height ...` on each line, in pixels; names may have spaces."""
    labelled = []
    for number, line in enumerate(_text(source).splitlines(), 1):
        if words := line.split():
            one = _info_line(f"{source}, line {number}", words, pictures)
            labelled.append(one)
    return labelled


def _info_line(label: str, words: Sequence[str], pictures: Path) -> Labelled:
    # A name may have spaces: the count is the first word that is followed by four times as many.
    for place in range(1, len(words)):
        if words[place].isdecimal() and int(words[place]) * 4 == len(words) - place - 1:
            one = Labelled(label, pictures / " ".join(words[:place]))
            for start in range(place + 1, len(words), 4):
                one.add(words[start : start + 4])
            return one
    raise WorkshopError(f"{label}: should be picture count x y width height ..., with count boxes")


def _counts(classes: Collection[str], number: object, name: str | None) -> bool:
    return not classes or str(number) in classes or name in classes


def _text(path: Path) -> str:
    if path.stat().st_size > _MOST_BYTES:
        raise WorkshopError(f"{path}: label files should have at most {_MOST_BYTES >> 20} MiB")
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise WorkshopError(f"{path}: should be text in UTF-8") from None
