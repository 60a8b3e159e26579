"""What the subcommands of `fasthaar samples` do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from fasthaar.workshop import WorkshopError, recipes
from fasthaar.workshop.annotations import Annotated, read_annotations
from fasthaar.workshop.effects import Bytes, Size
from fasthaar.workshop.negatives import Mined, Negatives, Rendered, refuse_small, window_of
from fasthaar.workshop.pictures import contact_sheet, find_pictures, png, read_grey, read_size, resized
from fasthaar.workshop.render import Box, Renderer, cut, draw_shift, positives
from fasthaar.workshop.sample_files import SUFFIXES, check_name, read_samples, write_samples
from fasthaar.workshop.spread import spread
from fasthaar.workshop.templates import TemplateRenderer, read_template
from fasthaar.workshop.whole import new_folder, write_whole

_MOST_PHOTOGRAPHS = 400
_LONGEST_SIDE = 1600  # of photographs that backgrounds are taken from, pixels


def crop(
    source: Path,
    out: Path,
    *,
    pictures: Path | None,
    classes: Sequence[str],
    clip: bool,
    window_wh: Size,
    sheet: Path | None,
    margin: float,
    jitter: float,
    copies: int,
    mirror: bool,
    from_size: Size | None,
    seed: int,
    processes: int,
) -> None:
    """Cut samples out of labelled pictures; see `fasthaar samples crop`.

    Raises:
        WorkshopError: what is wrong with the labels, the pictures or the names.
        OSError: something cannot be read or written.
    """
    check_name(out)
    if source.suffix in SUFFIXES:
        ready = read_samples(source, from_size)
        refuse_small((ready.shape[2], ready.shape[1]), window_wh, str(source))
        _write(out, sheet, np.array([resized(sample, window_wh) for sample in ready]), {"source": source.name})
        return
    annotated = read_annotations(source, pictures, classes, clip=clip)
    counted = [one for one in annotated if (~one.ignored).any()]
    if not counted:
        raise WorkshopError(f"{source}: there are no objects in it to make samples of")
    work = partial(_crop_one, counted, window_wh, margin, jitter, copies, mirror, seed)
    parts = list(spread(work, range(len(counted)), processes, "pictures"))
    found = np.concatenate(parts)
    boxes = [box for one in counted for box in one.boxes[~one.ignored].tolist() for _ in range(copies)]
    small = sum(max(box[2] / window_wh[0], box[3] / window_wh[1]) * (1 + 2 * margin) < 1 for box in boxes)
    if small == len(boxes):
        largest = max(max(box[2:]) for box in boxes)
        raise WorkshopError(
            f"{source}: the window of {_wh(window_wh)} is larger than all objects, of {largest:g} pixels at most; "
            "should be a smaller --size"
        )
    _write(out, sheet, found, {"source": source.name, "margin": margin, "boxes": boxes})
    if small:
        click.echo(f"{small} of {len(found)} samples were enlarged: their objects are smaller than the window")


def _crop_one(
    annotated: Sequence[Annotated],
    window_wh: Size,
    margin: float,
    jitter: float,
    copies: int,
    mirror: bool,
    seed: int,
    number: int,
) -> Bytes:
    one = annotated[number]
    picture = read_grey(one.path)
    found = []
    for place, box in enumerate(one.boxes[~one.ignored].tolist()):
        for copy in range(copies):
            shift = draw_shift((seed, 6, number, place, copy), jitter) if copy else (0, 0, 0)
            sample = cut(picture, tuple(box), window_wh, margin, shift)
            found.append(sample[:, ::-1] if mirror and copy % 2 else sample)
    return np.array(found)


def render(
    out: Path,
    *,
    count: int,
    window_wh: Size,
    sheet: Path | None,
    margin: float,
    jitter: float,
    seed: int,
    processes: int,
    **look: Any,
) -> None:
    """Render samples; see `fasthaar samples render`.

    Raises:
        WorkshopError: what is wrong with the recipe, the templates, the backgrounds or the names.
        OSError: something cannot be read or written.
    """
    check_name(out)
    renderer = _renderer(seed, (800, 600), **look)
    work = partial(_render_one, renderer, window_wh, margin, jitter, seed)
    found = np.array(list(spread(work, range(count), processes, "samples")))
    _write(out, sheet, found, {"recipe": look["recipe"], "seed": seed, "margin": margin, "jitter": jitter})


def _render_one(renderer: Renderer, window_wh: Size, margin: float, jitter: float, seed: int, number: int) -> Bytes:
    found: Bytes = positives(renderer, range(number, number + 1), seed, window_wh, margin, jitter)[0]
    return found


def scenes(out: Path, *, count: int, scene_wh: Size, form: str, seed: int, processes: int, **look: Any) -> None:
    """Render whole pictures with labels into a new folder; see `fasthaar samples scenes`.

    Raises:
        WorkshopError: what is wrong with the recipe, the templates, the backgrounds or the folder.
        OSError: something cannot be read or written; the folder is not there then.
    """
    renderer = _renderer(seed, scene_wh, **look)
    name = look["recipe"] or "object"
    with new_folder(out) as folder:
        (folder / "images").mkdir()
        coco: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": name}]}
        if form == "yolo":
            (folder / "labels").mkdir()
            (folder / "classes.txt").write_text(f"{name}\n", "utf-8")
        total = 0
        for number, (picture, boxes) in enumerate(spread(renderer.scene, range(count), processes, "scenes")):
            stem, (width, height) = f"{number:06}", scene_wh
            (folder / "images" / f"{stem}.png").write_bytes(png(picture))
            inside = [_inside(box, scene_wh) for box in boxes]
            coco["images"].append({"id": number, "file_name": f"images/{stem}.png", "width": width, "height": height})
            for box in inside:
                total += 1
                area = box[2] * box[3]
                coco["annotations"].append(
                    {"id": total, "image_id": number, "category_id": 1, "bbox": box, "area": area, "iscrowd": 0}
                )
            if form == "yolo":
                (folder / "labels" / f"{stem}.txt").write_text("".join(_yolo(box, scene_wh) for box in inside), "utf-8")
        if form == "coco":
            (folder / "annotations.json").write_text(json.dumps(coco), "utf-8")
    click.echo(f"{out}: {count} pictures with {total} objects")


def _inside(box: Box, size_wh: Size) -> list[float]:
    low = [min(max(side, 0.0), float(most)) for side, most in zip(box[:2], size_wh, strict=True)]
    high = [min(max(box[i] + box[i + 2], 0.0), float(size_wh[i])) for i in (0, 1)]
    return [round(number, 2) for number in (*low, high[0] - low[0], high[1] - low[1])]


def _yolo(box: Sequence[float], size_wh: Size) -> str:
    x, y, width, height = box
    parts = ((x + width / 2) / size_wh[0], (y + height / 2) / size_wh[1], width / size_wh[0], height / size_wh[1])
    return f"0 {' '.join(f'{part:.6f}' for part in parts)}\n"


def negatives(
    out: Path,
    *,
    source: Path | None,
    count: int,
    scene_wh: Size,
    pictures: Path | None,
    classes: Sequence[str],
    clip: bool,
    window_wh: Size,
    sheet: Path | None,
    seed: int,
    processes: int,
    **look: Any,
) -> None:
    """Make pictures or windows without the object; see `fasthaar samples negatives`.

    Raises:
        WorkshopError: what is wrong with the pictures, the labels, the recipe or the names.
        OSError: something cannot be read or written.
    """
    if (source is None) == (not look["recipe"] and not look["templates"]):
        raise WorkshopError("name either pictures (--from) or what to render (--recipe, --template)")
    windows = out.suffix in SUFFIXES
    if windows:
        check_name(out)
    make: Negatives
    if source is None:
        make = Rendered(_renderer(seed, scene_wh, **look))
    else:
        make = Mined(_free_pictures(source, pictures, classes, clip=clip), window_wh, seed)
    if windows:
        work = partial(window_of, make, window_wh, seed)
        _write(out, sheet, np.array(list(spread(work, range(count), processes, "windows"))), {"seed": seed})
        return
    with new_folder(out) as folder:
        for number, picture in enumerate(spread(make.picture, range(count), processes, "pictures")):
            (folder / f"{number:06}.png").write_bytes(png(picture))
    click.echo(f"{out}: {count} pictures")


def _free_pictures(source: Path, pictures: Path | None, classes: Sequence[str], *, clip: bool) -> list[Annotated]:
    labelled = source.is_file() or any(
        next(source.glob(kind), None) for kind in ("*.xml", "*.txt", "*.json", "labels", "Annotations")
    )
    if labelled:
        return read_annotations(source, pictures, classes, clip=clip)
    none = np.zeros(0, bool)
    return [Annotated(path, read_size(path), np.zeros((0, 4)), none) for path in find_pictures(source)]


def show(source: Path, sheet: Path, window_wh: Size | None) -> None:
    """Write a contact sheet of a file of samples."""
    write_whole(sheet, png(contact_sheet(read_samples(source, window_wh))))


def _renderer(
    seed: int,
    scene_wh: Size,
    *,
    recipe: str | None,
    templates: Sequence[Path],
    background_colour: tuple[int, int, int] | None,
    tolerance: int,
    backgrounds: Path | None,
    yaw: float,
    pitch: float,
    roll: float,
) -> Renderer:
    if bool(recipe) == bool(templates):
        raise WorkshopError("name either a recipe (--recipe) or templates (--template)")
    photographs = _read_photographs(backgrounds) if backgrounds else []
    if recipe:
        return recipes.load(recipe, seed, photographs, scene_wh)
    read = [read_template(path, background_colour, tolerance) for path in templates]
    return TemplateRenderer(read, seed, photographs, scene_wh, (yaw, pitch, roll))


def _read_photographs(folder: Path) -> list[Bytes]:
    found = find_pictures(folder)
    read = []
    for path in found[:: -(-len(found) // _MOST_PHOTOGRAPHS)]:
        picture = read_grey(path)
        scale = _LONGEST_SIDE / max(picture.shape)
        if scale < 1:
            size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
            picture = resized(picture, size)
        read.append(picture)
    return read


def _write(out: Path, sheet: Path | None, found: Bytes, meta: dict[str, Any]) -> None:
    write_samples(out, found, meta)
    if sheet:
        write_whole(sheet, png(contact_sheet(found)))
    click.echo(f"{out}: {len(found)} samples of {_wh((found.shape[2], found.shape[1]))} pixels")


def _wh(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"
