"""`fasthaar samples`: what a training starts from, out of labelled pictures, templates or a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from fasthaar._cascade import SIDE_RANGE
from fasthaar.workshop.effects import Size
from fasthaar.workshop.option_types import ColourType, Real, SizeType, options

_PATH = click.Path(path_type=Path)
_CORES = len(os.sched_getaffinity(0))


WINDOW = SizeType(*SIDE_RANGE)


LABELS = options(
    click.option("--pictures", type=_PATH, help="Folder of the pictures.  [default: as the labels say]"),
    click.option("--class", "classes", multiple=True, help="Name or number of a class; repeatable.  [default: all]"),
    click.option("--clip", is_flag=True, help="Cut boxes at the edge of their picture instead of refusing them."),
)
_RENDERED = options(
    click.option("--recipe", help="A built-in object: stop-sign."),
    click.option(
        "--template", "templates", multiple=True, type=_PATH, help="A cut-out picture of the object; repeatable."
    ),
    click.option("--background-colour", type=ColourType(), help="Of templates without transparency, as RRGGBB."),
    click.option(
        "--tolerance",
        default=40,
        show_default=True,
        help="How far colours may be from it.",
        type=click.IntRange(0, 255),
    ),
    click.option("--backgrounds", type=_PATH, help="Folder of pictures without the object.  [default: drawn streets]"),
    click.option("--yaw", default=35.0, show_default=True, help="Of templates, at most; degrees.", type=Real(0, 70)),
    click.option("--pitch", default=15.0, show_default=True, help="As --yaw.", type=Real(0, 70)),
    click.option("--roll", default=8.0, show_default=True, help="As --yaw.", type=Real(0, 180)),
)
_RUN = options(
    click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="The same seed, the same files."),
    click.option(
        "--processes",
        default=_CORES,
        show_default=True,
        type=click.IntRange(1, 64),
        help="Answers do not depend on it.",
    ),
)
_WINDOWS = options(
    click.option("--size", "window_wh", type=WINDOW, default="24x24", show_default=True, help="Of a sample."),
    click.option("--sheet", type=_PATH, help="Also write a PNG with samples to look at."),
)
_CUT = options(
    click.option(
        "--margin",
        default=0.06,
        show_default=True,
        type=Real(-0.4, 2),
        help="Around the box on each side, in parts of it.",
    ),
    click.option(
        "--jitter",
        default=0.02,
        show_default=True,
        type=Real(0, 0.3),
        help="Deviation of place and size, in parts of the window.",
    ),
)


@click.group()
def samples() -> None:
    """Make samples of an object, pictures without it, and scenes to judge a cascade with.

    Samples are written as .npz (the uint8 array `samples`, count x height x width) or as OpenCV's .vec.
    """


@samples.command()
@click.argument("source", type=_PATH)
@click.argument("out", type=_PATH)
@LABELS
@_WINDOWS
@_CUT
@click.option(
    "--copies",
    default=1,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Samples of each object; the first has no jitter.",
)
@click.option("--mirror", is_flag=True, help="Every second copy is mirrored.")
@click.option("--from-size", type=WINDOW, help="Of the samples in a .vec SOURCE, if they are not square.")
@_RUN
def crop(**asked: Any) -> None:
    """Cut samples out of labelled pictures.

    SOURCE is COCO's .json, a folder with Pascal VOC's .xml or YOLO's .txt, OpenCV's list of pictures and boxes, or a
    file of samples (.vec, .npz), which are resized. OUT is the file to write.
    """
    from fasthaar.workshop import sampling  # noqa: PLC0415 - not for --help

    sampling.crop(**asked)


@samples.command()
@click.argument("out", type=_PATH)
@click.option("--count", default=1000, show_default=True, type=click.IntRange(1, 1_000_000), help="Of samples.")
@_RENDERED
@_WINDOWS
@_CUT
@_RUN
def render(**asked: Any) -> None:
    """Render samples from a recipe, or from templates."""
    from fasthaar.workshop import sampling  # noqa: PLC0415

    sampling.render(**asked)


@samples.command()
@click.argument("out", type=_PATH)
@click.option("--count", default=100, show_default=True, type=click.IntRange(1, 100_000), help="Of pictures.")
@click.option(
    "--scene-size", "scene_wh", type=SizeType(64, 4096), default="800x600", show_default=True, help="Of a picture."
)
@click.option(
    "--format", "form", type=click.Choice(("yolo", "coco")), default="yolo", show_default=True, help="Of the labels."
)
@_RENDERED
@_RUN
def scenes(**asked: Any) -> None:
    """Render whole pictures with the object, and labels, into a new folder OUT."""
    from fasthaar.workshop import sampling  # noqa: PLC0415

    sampling.scenes(**asked)


@samples.command()
@click.argument("out", type=_PATH)
@click.option("--from", "source", type=_PATH, help="A folder of pictures, or labels as for crop.")
@click.option(
    "--count", default=500, show_default=True, type=click.IntRange(1, 1_000_000), help="Of pictures, or of windows."
)
@click.option(
    "--scene-size",
    "scene_wh",
    type=SizeType(64, 4096),
    default="800x600",
    show_default=True,
    help="Of a rendered picture.",
)
@LABELS
@_RENDERED
@_WINDOWS
@_RUN
def negatives(**asked: Any) -> None:
    """Make pictures without the object: rendered, or parts of pictures in which no object is labelled.

    OUT is a new folder of pictures, for training; or an .npz or .vec of windows of any size, reduced to --size.
    """
    from fasthaar.workshop import sampling  # noqa: PLC0415

    sampling.negatives(**asked)


@samples.command()
@click.argument("source", type=_PATH)
@click.argument("sheet", type=_PATH)
@click.option("--size", "window_wh", type=WINDOW, help="Of the samples in a .vec file, if they are not square.")
def show(source: Path, sheet: Path, window_wh: Size | None) -> None:
    """Write a PNG with the samples of a file."""
    from fasthaar.workshop import sampling  # noqa: PLC0415

    sampling.show(source, sheet, window_wh)
