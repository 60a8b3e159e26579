"""`imgdetect models`: networks in the folder of models, each of them a detector by its name."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from imgdetect import config, images
from imgdetect.catalogue import CATALOGUE, Offer
from imgdetect.config import Settings
from imgdetect.detectors import onnx
from imgdetect.equipment import CHILD_MEMORY_BYTES
from imgdetect.errors import Problem
from imgdetect.fetching import fetch
from imgdetect.images import Image
from imgdetect.models import Model, Models

_LIMITS = {"memory_bytes": CHILD_MEMORY_BYTES, "seconds": 120.0}
_MOST_BYTES = 2_000_000_000


def refuse(message: str) -> Any:
    """End the program with exit code 2."""
    click.echo(f"imgdetect: {message}", err=True)
    sys.exit(2)


def settings_or_exit() -> Settings:
    """The settings; wrong ones end the program."""
    try:
        return config.load()
    except config.SettingsError as error:
        refuse(str(error))
        raise


def _models() -> Models:
    return Models(settings_or_exit().effective_models_dir)


@click.group()
def models() -> None:
    """Networks: fetch, add, list, remove, and make them smaller. A server takes them up when it starts."""


@models.command("list")
def list_command() -> None:
    """Print the models that are here, and those that can be fetched."""
    try:
        here = _models().all()
    except ValueError as error:
        refuse(str(error))
    click.echo("here:" if here else "here: none")
    for model in here:
        licence = model.licence or "licence not given"
        click.echo(f"  {model.name:20} {model.task:15} {licence:15} {_megabytes(model.size_bytes)}")
    click.echo("can be fetched:")
    names = {model.name for model in here}
    for offer in CATALOGUE.values():
        if offer.name not in names:
            state = "" if offer.verified else "  unverified: no checksum is known"
            size = _megabytes(offer.size_bytes) if offer.size_bytes else "?"
            click.echo(f"  {offer.name:20} {offer.task:15} {offer.licence:15} {size}{state}")


@models.command("fetch")
@click.argument("name")
@click.option("--sha256", default="", help="What its SHA-256 has to be, where the catalogue does not know it.")
@click.option("--accept-unverified", is_flag=True, help="Take it without a checksum; prints what came.")
@click.option("--labels", default="", help="File of its class names, one a line or JSON; or coco80, coco81, coco91.")
def fetch_command(name: str, sha256: str, accept_unverified: bool, labels: str) -> None:
    """Download a model of the catalogue, check it and try it out. What was cut off goes on where it ended."""
    offer = CATALOGUE.get(name)
    if offer is None:
        refuse(f"the catalogue has no {name[:64]!r}; it has {', '.join(CATALOGUE)}")
    assert offer is not None
    if sha256 and offer.verified and sha256 != offer.sha256:
        refuse(f"--sha256 is not that of the catalogue, which is {offer.sha256}")
    if not (offer.verified or sha256 or accept_unverified):
        refuse(f"no checksum of {name} is known; give --sha256 HEX, or --accept-unverified to take what comes")
    folder = settings_or_exit().effective_models_dir
    there = Models(folder)
    if any(model.name == name for model in _listed(there)):
        refuse(f"there is a model {name} already; remove it first")
    file = folder / ".fetched" / f"{name}.onnx"
    try:
        found = downloaded(offer, file, offer.sha256 or sha256)
        if not (offer.verified or sha256):
            click.echo(f"unverified: {name} has the SHA-256 {found}")
        model, seen = there.add(
            file, name, offer.parameters, labels=labels, licence=offer.licence, source=offer.url, limits=_LIMITS
        )
    except (ValueError, OSError) as error:
        refuse(str(error))
    file.unlink(missing_ok=True)
    _tell(model, seen)


def _listed(there: Models) -> list[Model]:
    try:
        return there.all()
    except ValueError as error:
        refuse(str(error))
        raise


def downloaded(offer: Offer, file: Path, sha256: str) -> str:
    """Download something, with a bar; returns its SHA-256."""
    with tqdm(total=offer.size_bytes or None, unit="B", unit_scale=True, desc=offer.name, disable=None) as bar:

        def progress(done: int, total: int | None) -> None:
            bar.total = total or bar.total
            bar.update(done - bar.n)

        most = offer.size_bytes or _MOST_BYTES
        return fetch(offer.url, file, max_bytes=most, sha256=sha256, progress=progress)


@models.command("add")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="What its detector is called; the file's name when left out.")
@click.option("--family", help="What kind of network it is; the metadata's when left out.")
@click.option("--form", help="torchvision, zoo or tensorflow; of ssd and fasterrcnn.")
@click.option("--transform", help="torchvision or keras_resnet50; of classification.")
@click.option("--size", help="N or WIDTH,HEIGHT of an input that may vary.")
@click.option("--confidence", help="Less sure detections are left out, 0 to 1.")
@click.option("--iou-threshold", help="Overlap from which on two boxes are one object, 0 to 1.")
@click.option("--top-k", help="How many classes a classification names.")
@click.option("--labels", default="", help="File of its class names, one a line or JSON; or coco80, coco81, coco91.")
@click.option("--licence", default="", help="Under which licence you have it; kept beside it.")
@click.option("--replace", is_flag=True, help="It may take the place of one of the same name.")
def add_command(
    file: Path, name: str | None, labels: str, licence: str, replace: bool, **parameters: str | None
) -> None:
    """Try a model of your own in a process of its own, and keep a copy."""
    given = {key: value for key, value in parameters.items() if value is not None}
    try:
        model, seen = _models().add(
            file,
            name or file.stem,
            given,
            labels=labels,
            licence=licence,
            source=file.name,
            replace=replace,
            limits=_LIMITS,
        )
    except (ValueError, OSError) as error:
        refuse(str(error))
    _tell(model, seen)


@models.command("remove")
@click.argument("name")
def remove_command(name: str) -> None:
    """Remove a model."""
    try:
        _models().remove(name)
    except (ValueError, OSError) as error:
        refuse(str(error))
    click.echo(f"removed {name}")


@models.command("optimize")
@click.argument("name")
@click.option("--as", "target", help="What the new model is called; NAME_int8 or NAME_fused when left out.")
@click.option("--pictures", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of pictures.")
@click.option("--no-int8", is_flag=True, help="Fuse the graph only.")
@click.option("--replace", is_flag=True, help="It may take the place of one of the same name.")
def optimize_command(name: str, target: str | None, pictures: Path | None, no_int8: bool, replace: bool) -> None:
    """Make a smaller and quicker model of one, and tell what that costs.

    With --pictures, some dozens like those it will see, int8 gets its ranges from them (static quantisation), and both
    models are compared on them. Without, only matrices become int8 (dynamic quantisation), and noise is compared.
    """
    there = _models()
    try:
        model = there.get(name)
        target = target or f"{name}_{'fused' if no_int8 else 'int8'}"
        seen = _pictures(pictures) if pictures else []
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "made.onnx"
            onnx.optimise(there.path(name), made, there.url(model), pictures=seen, quantise=not no_int8)
            names = Path(folder) / "labels"
            names.write_text(json.dumps(model.labels), "utf-8")
            new, vetted = there.add(
                made,
                target,
                model.parameters,
                labels=str(names) if model.labels else "",
                licence=model.licence,
                source=f"made of {name}",
                replace=replace,
                limits=_LIMITS,
            )
        compared = onnx.compare(there.url(model), there.url(new), seen or onnx.noise())
    except (ValueError, OSError, Problem) as error:
        refuse(str(error))
    _tell(new, vetted)
    (before, after), (slow, quick) = compared.size_bytes, compared.look_ms
    click.echo(f"  size       {_megabytes(before)} -> {_megabytes(after)}")
    click.echo(f"  a look     {slow:.1f} ms -> {quick:.1f} ms")
    on = "of your pictures" if seen else "pictures of noise, which say little"
    click.echo(f"  agreement  {compared.agreement:.1%} on {compared.pictures} {on}")


def _pictures(folder: Path) -> list[Image]:
    """Every picture of a folder, upright.

    Raises:
        ValueError: there is none.
    """
    settings = settings_or_exit()
    found = []
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        content = path.read_bytes()
        try:
            images.read_upload(
                content,
                path.name,
                max_bytes=settings.max_upload_bytes,
                max_pixels=settings.max_pixels,
                max_side=config.MAX_SIDE,
            )
            found.append(images.downscale(images.decode(content), settings.working_pixels)[0])
        except Problem as problem:
            click.echo(f"{path}: {problem.title} Left out.", err=True)
    if not found:
        raise ValueError(f"there are no pictures in {folder}")
    return found


def _tell(model: Model, seen: onnx.Vetted) -> None:
    click.echo(f"{model.name}: {model.task}, {seen.classes} classes, {_megabytes(model.size_bytes)}")
    click.echo(f"  a look takes {seen.look_ms:g} ms here, the first one with loading {seen.load_ms:g} ms")
    click.echo("  a server has it as a detector after its next start")


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.3g} MB"
