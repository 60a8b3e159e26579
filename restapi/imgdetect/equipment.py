"""What the settings name, built: detectors, storage, database, cache, dataset; and proven before anybody is served."""

from __future__ import annotations

from imgdetect import cache, detectors, storages
from imgdetect.backends import module, parse
from imgdetect.cache import Cache
from imgdetect.config import Settings
from imgdetect.database import Database
from imgdetect.datasets import Dataset
from imgdetect.detectors import Detector, haar, onnx
from imgdetect.models import Models
from imgdetect.storages import Storage

# Address space of a child; the largest picture that the settings can allow needs about half of it.
CHILD_MEMORY_BYTES = 4 << 30
# Settings that name a detector for a dialect that tells where objects are.
_FINDERS = ("deepstack_detector", "analysis_detector", "images_detector")
_DETECTOR_SETTINGS = ("default_detector", "classifier_detector", *_FINDERS)


def detector_urls(settings: Settings) -> dict[str, str]:
    """The backend URL of each detector by name: the bundled ones, the operator's folders, the operator's URLs.

    Raises:
        ValueError: an entry that is not NAME=URL, a folder that is not there.
    """
    urls = {name: f"haar:{name}" for name in haar.BUNDLED}
    if settings.cascades_dir:
        if not settings.cascades_dir.is_dir():
            raise ValueError(f"IMGDETECT_CASCADES_DIR: there is no folder {settings.cascades_dir}")
        urls |= {path.stem: f"haar:{path}" for path in sorted(settings.cascades_dir.glob("*.xml"))}
    urls |= Models(settings.effective_models_dir).urls()
    for entry in settings.detectors.split():
        name, equals, url = entry.partition("=")
        if not equals or not name:
            raise ValueError(
                f"IMGDETECT_DETECTORS: {entry!r} is not NAME=URL, for example sign=haar:/cascades/sign.xml"
            )
        urls[name] = url
    if any("," in name for name in urls):
        raise ValueError("the name of a detector may hold no comma, which separates several of them in a request")
    chosen = [(one, name) for one in _DETECTOR_SETTINGS for name in getattr(settings, one).split(",") if name]
    if missing := [(setting, name) for setting, name in chosen if name not in urls]:
        known = ", ".join(sorted(urls))
        lines = (f"IMGDETECT_{one.upper()}: there is no detector {name!r}; known: {known}" for one, name in missing)
        raise ValueError("\n".join(lines))
    return urls


def child_memory_bytes(settings: Settings) -> int:
    """Address space of a child; 0, for no limit, where networks run on a graphics card, whose driver reserves far more
    than a machine has.
    """
    networks = any(parse(url).scheme == "onnx" for url in detector_urls(settings).values())
    return 0 if networks and onnx.on_graphics_card() else CHILD_MEMORY_BYTES


def create_detectors(settings: Settings) -> dict[str, Detector]:
    """Every detector by name.

    Raises:
        ValueError: one of them is not there or broken, or does not do what a setting wants it for.
    """
    urls = detector_urls(settings).items()
    made = {name: detectors.create(name, url, working_pixels=settings.working_pixels) for name, url in urls}
    for setting in _FINDERS:
        for name in filter(None, getattr(settings, setting).split(",")):
            if made[name].task == "classification":
                raise ValueError(f"IMGDETECT_{setting.upper()}: {name} names classes and finds no objects")
    if settings.classifier_detector and made[settings.classifier_detector].task != "classification":
        raise ValueError(f"IMGDETECT_CLASSIFIER_DETECTOR: {settings.classifier_detector} is no classification")
    return made


def backends(settings: Settings) -> tuple[Storage, Database, Cache]:
    """The storage, the database and the cache, none of them asked for anything yet.

    Raises:
        ValueError: one of the URLs is wrong.
    """
    url = parse(settings.effective_storage_url)
    storage: Storage = module(storages, url).create(url.target, url.parameters)
    results = cache.create(settings.cache_url)
    database = Database(settings.effective_database_url, server_connections=settings.database_connections)
    return storage, database, results


def dataset_of(settings: Settings) -> Dataset:
    """The pictures that clients may name.

    Raises:
        ValueError: there is no such folder.
    """
    if settings.dataset_dir and not settings.dataset_dir.is_dir():
        raise ValueError(f"IMGDETECT_DATASET_DIR: there is no folder {settings.dataset_dir}")
    return Dataset(settings.effective_dataset_dir)


def engine() -> str:
    """Which engine looks with cascades unless a detector's URL names one; one line."""
    chosen = haar.engine_of()
    line = f"{chosen.name} {chosen.version}"
    return f"{line}, because fasthaar cannot be loaded: {haar.MISSING}" if haar.MISSING else line


def prove(settings: Settings) -> None:
    """See that everything the settings name is there, and bring the database up to date, before anybody is served.

    Raises:
        ValueError, Problem: something is not there.
    """
    urls = detector_urls(settings)
    dataset_of(settings)
    for name, detector in create_detectors(settings).items():
        if detector.facts.engine == onnx.ENGINE:
            memory_bytes = child_memory_bytes(settings)
            onnx.vet(name, urls[name], working_pixels=settings.working_pixels, memory_bytes=memory_bytes)
    _, database, _ = backends(settings)
    try:
        database.migrate()
    finally:
        database.close()
