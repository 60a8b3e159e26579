"""The command line: `imgdetect --help`."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click
from tqdm import tqdm

from imgdetect import __version__, augment, config, documents, housekeeping, images, logs
from imgdetect.config import Settings
from imgdetect.dataset_commands import dataset
from imgdetect.detection import Detection, DetectOptions, VideoProgress
from imgdetect.equipment import detector_urls
from imgdetect.errors import Problem
from imgdetect.model_commands import models
from imgdetect.parameters import DetectParameters, VideoParameters, validated
from imgdetect.service import DetectionService, Look
from imgdetect.videos import Videos

GUNICORN_CONF = Path(__file__).parents[1] / "gunicorn.conf.py"
_IN_MEMORY = {"database_url": "sqlite:///:memory:", "storage_url": "memory:", "cache_url": "none:"}


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Self-hosted image detection: look at pictures here, or serve it over HTTP."""


@contextmanager
def _opened(**overrides: Any) -> Iterator[DetectionService]:
    """The service by the settings; wrong settings end the program with exit code 2."""
    settings = _settings(**overrides)
    try:
        service = DetectionService.open(settings)
    except (ValueError, Problem) as error:
        _refuse(str(error))
    try:
        yield service
    finally:
        service.close()


def _settings(**overrides: Any) -> Settings:
    try:
        # What is wrong in the environment is told, whether this command needs it or not.
        settings = config.load().model_copy(update=overrides)
        detector_urls(settings)
    except (config.SettingsError, ValueError) as error:
        _refuse(str(error))
    logs.configure(settings.log_format, "warning")
    return settings


def _refuse(message: str) -> Any:
    click.echo(f"imgdetect: {message}", err=True)
    sys.exit(2)


_LOOKING = (
    click.option("--detector", help="What looks: NAME or NAME,NAME; 'imgdetect config' names the default."),
    click.option("--scale-factor", help="Step of the image pyramid, above 1."),
    click.option("--min-neighbors", help="How many raw candidates it takes to make a detection."),
    click.option("--min-size", help="Smallest object: N or WIDTH,HEIGHT in pixels."),
    click.option("--max-size", help="Largest object: N or WIDTH,HEIGHT in pixels."),
    click.option("--equalize", is_flag=True, default=None, help="Equalize the histogram before looking."),
    click.option("--confidence", help="Leave out what the detector is less sure of, 0 to 1; not for cascades."),
    click.option("--iou-threshold", help="Overlap from which on two boxes are one object, 0 to 1; not for cascades."),
    click.option("--classes", help="Only these classes: person,dog; not for cascades."),
    click.option("--top-k", help="How many classes a classification names."),
    click.option("--rotations", help="Degrees, clockwise, to turn the picture by before looking: 0,90,180,270."),
    click.option("--roi", help="Look only inside X,Y,WIDTH,HEIGHT."),
    click.option("--max-detections", help="Keep the best N."),
    click.option("--min-area", help="Leave out boxes of fewer pixels."),
    click.option("--max-area", help="Leave out boxes of more pixels."),
    click.option("--mask", help="Keep boxes whose centre lies inside the polygon X,Y;X,Y;..."),
    click.option("--class-confidence", help="Thresholds of their own: person:0.6,dog:0.4; not for cascades."),
    click.option("--style", help="boxes, blur or pixelate."),
    click.option("--label/--no-label", default=None, help="Write names beside the boxes."),
)


def _looking(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the parameters of a look."""
    for option in reversed(_LOOKING):
        command = option(command)
    return command


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line for each file.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Write annotated pictures here.")
@_looking
def detect(files: tuple[Path, ...], as_json: bool, output: Path | None, **given: Any) -> None:
    """Look at pictures, without a server and without keeping anything."""
    with _opened(**_IN_MEMORY, waiting_line=max(16, len(files)), slots=config.usable_cores()) as service:
        settings = service.settings
        try:
            asked = validated(DetectParameters, _texts(given))
            options = asked.options(settings.default_detector, settings.min_scale_factor)
            service.several(options.detectors)
        except Problem as problem:
            _refuse(_sentence(problem))
        if output:
            output.mkdir(parents=True, exist_ok=True)
        failed = 0
        with ThreadPoolExecutor(settings.effective_slots) as threads:
            looks = threads.map(lambda path: _look(service, path, options), files)
            for path, look in tqdm(
                zip(files, looks, strict=True), total=len(files), unit="image", disable=None, leave=False
            ):
                failed += isinstance(look, str)
                tqdm.write(_line(path, look, as_json))
                if output and not isinstance(look, str):
                    (output / path.with_suffix(".jpg").name).write_bytes(look[1].outcome.processed)
    sys.exit(1 if failed else 0)


def _texts(given: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in given.items() if value is not None}


def _look(service: DetectionService, path: Path, options: DetectOptions) -> Any:
    """The upload and the look at one file, or why there is none."""
    try:
        upload = service.read_upload(path.read_bytes(), path.name)
        return upload, service.look(upload, options)
    except Problem as problem:
        return _sentence(problem)
    except OSError as error:
        return error.strerror or str(error)


def _sentence(problem: Problem) -> str:
    """What went wrong, in words."""
    return f"{problem.title} {problem.detail}".strip()


def _line(path: Path, look: Any, as_json: bool) -> str:
    """What is printed of one file."""
    if isinstance(look, str):
        return json.dumps({"file": str(path), "error": look}) if as_json else f"{path}: {look}"
    upload, seen = look
    outcome = seen.outcome
    if as_json:
        total_ms = sum(outcome.timings_ms.values())
        document = documents.look_document(upload, outcome, cached=seen.cached, total_ms=total_ms)
        return json.dumps({"file": str(path)} | document)
    return "\n".join([f"{path}: {_summary(seen)}", *_classes(seen), *_boxes(seen)])


def _summary(look: Look) -> str:
    found = look.outcome.result.found
    if look.outcome.result.classes:
        return look.outcome.result.classes[0].class_name
    if not found and look.outcome.result.near_misses:
        return f"nothing found. {look.outcome.result.near_misses.get('hint', '')}".strip()
    return f"{found} found"


def _classes(look: Look) -> list[str]:
    return [f"  {c.class_name}, confidence {c.confidence:.3f}" for c in look.outcome.result.classes]


def _boxes(look: Look) -> list[str]:
    return [
        f"  {d.class_name} at x={d.box.x} y={d.box.y} width={d.box.width} height={d.box.height}, {_certainty(d)}"
        for d in look.outcome.result.detections
    ]


def _certainty(found: Detection) -> str:
    if found.confidence is None:
        return f"{found.neighbors} neighbors, score {found.score:.2f}"
    return f"confidence {found.confidence:.2f}"


@main.command("video")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Write what is made here."
)
@click.option("--every", help="Look at every Nth frame.")
@click.option("--annotate/--no-annotate", default=None, help="Make an annotated video too.")
@_looking
def video_command(file: Path, output: Path, **given: Any) -> None:
    """Look at a video: NAME.jsonl has the detections of each frame, NAME.mp4 is the annotated video."""
    with _opened(**_IN_MEMORY, slots=1, video_slots=1) as service:
        settings, videos = service.settings, Videos(service)
        try:
            asked = validated(VideoParameters, _texts(given))
            options = asked.video_options(settings.default_detector, settings.min_scale_factor)
            output.mkdir(parents=True, exist_ok=True)
            if file.resolve() == (output / f"{file.stem}.mp4").resolve():
                _refuse(f"{file} would be overwritten; choose another --output")
            with file.open("rb") as source, _made(output, file.stem) as (lines, film):
                admitted = videos.admit(source, options)
                with tqdm(total=None, unit="frame", disable=None, leave=False) as bar:
                    summary = videos.watch(admitted, source, lines, film, lambda progress: _advance(bar, progress))
        except Problem as problem:
            _refuse(f"{file}: {_sentence(problem)}")
        except OSError as error:
            _refuse(error.strerror or str(error))
    click.echo(
        f"{file}: {summary.detections} found on {summary.looked_at} of {summary.frames} frames, {summary.tracks} tracks"
    )


@contextmanager
def _made(folder: Path, stem: str) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The files to be made of a video; they get their names when all went well, and an empty one none."""
    temporary = [Path(folder, f".{stem}.{os.getpid()}{extension}") for extension in (".jsonl", ".mp4")]
    try:
        with temporary[0].open("w+b") as lines, temporary[1].open("w+b") as film:
            yield lines, film
        for path in temporary:
            if path.stat().st_size or path.suffix == ".jsonl":
                path.replace(folder / f"{stem}{path.suffix}")
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def _advance(bar: Any, progress: VideoProgress) -> None:
    bar.total = progress.total
    bar.update(progress.done - bar.n)


@main.command("augment")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Write them here.")
def augment_command(files: tuple[Path, ...], output: Path) -> None:
    """Make test pictures from pictures: rotated, flipped, blurred, noisy, moved, zoomed."""
    settings = _settings()
    output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path in tqdm(files, unit="image", disable=None, leave=False):
        try:
            images.read_upload(
                path.read_bytes(),
                path.name,
                max_bytes=settings.max_upload_bytes,
                max_pixels=settings.max_pixels,
                max_side=config.MAX_SIDE,
            )
            image = images.decode(path.read_bytes())
        except Problem as problem:
            failed += 1
            tqdm.write(f"{path}: {_sentence(problem)}")
            continue
        for name, picture, _ in augment.augmented(image):
            target = output / f"{path.stem}_{name}.jpg"
            target.write_bytes(images.encode(picture, "image/jpeg"))
            tqdm.write(str(target))
    sys.exit(1 if failed else 0)


@main.command()
def serve() -> None:
    """Serve over HTTP with gunicorn; the settings say where and with how many processes."""
    arguments = [sys.executable, "-m", "gunicorn", "-c", str(GUNICORN_CONF), "imgdetect.wsgi:app"]
    os.execv(sys.executable, arguments)  # noqa: S606 - our own interpreter, no shell


@main.command("worker")
@click.option("--concurrency", type=click.IntRange(1, 64), help="Jobs at once; by default one for each slot.")
@click.option("--bind", help="HOST:PORT of /healthz, /readyz and /metrics; nowhere by default.")
def worker_command(concurrency: int | None, bind: str | None) -> None:
    """Do the jobs that servers hand to a broker: IMGDETECT_QUEUE_URL=celery+redis://HOST:6379/0."""
    settings = _settings()
    if config.share_folder():
        os.execv(sys.executable, [sys.executable, "-m", "imgdetect", *sys.argv[1:]])  # noqa: S606 - as above
    from imgdetect import worker  # noqa: PLC0415 - with Flask it takes longer to import than the other commands run

    try:
        worker.run(settings, concurrency or settings.effective_slots, bind)
    except (ValueError, Problem) as error:
        _refuse(str(error))
    finally:
        config.remove_shared_folder()


@main.command()
def check() -> None:
    """Prove that every part works: settings, database, storage, cache, and each detector on a blank picture."""
    with _opened(slots=1) as service:
        service.database.check()
        click.echo("database  OK")
        service.storage.check()
        click.echo("storage   OK")
        service.results.check()
        click.echo("cache     OK")
        failed = 0
        for name in sorted(service.detectors):
            try:
                service.pool.run(1, "warm_up", name)
                facts = service.detectors[name].facts
                click.echo(f"detector  OK  {name} ({facts.engine} {facts.engine_version})")
            except Problem as problem:
                failed += 1
                click.echo(f"detector  FAILED  {name}: {_sentence(problem)}")
    sys.exit(1 if failed else 0)


@main.command()
def prune() -> None:
    """Remove what retention says, and files that no record points at."""
    with _opened(slots=1) as service:
        done = housekeeping.prune(service)
    click.echo(f"removed {done.records} records, {done.files} files without a record, {done.jobs} old jobs")


@main.command("config")
def config_command() -> None:
    """Print every setting: its name, value and meaning."""
    settings = _settings()
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        shown = "(set)" if name in config.SECRETS and value != field.default else value
        click.echo(f"{config.PREFIX}{name.upper()}={'' if shown is None else shown}\n    {field.description}")


main.add_command(models)
main.add_command(dataset)


@main.group()
def keys() -> None:
    """API keys."""


@keys.command("add")
@click.argument("name")
def keys_add(name: str) -> None:
    """Make a key for NAME. The key goes to its user, the line into IMGDETECT_API_KEYS (or its file)."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        _refuse("a name is 1 to 64 letters, digits, dots, dashes and underscores")
    key, entry = config.make_api_key(name)
    click.echo(f"key, shown only now:         {key}")
    click.echo(f"entry of IMGDETECT_API_KEYS: {entry}")
