"""The one place where things meet: what can be done with an upload and with what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

from imgdetect import images, metrics, nursery
from imgdetect.cache import Cache
from imgdetect.cascades import Cascades, Limits
from imgdetect.clock import timed
from imgdetect.config import MAX_SIDE, Settings, usable_cores
from imgdetect.database import Database
from imgdetect.detection import (
    RESULT_VERSION,
    Box,
    DetectOptions,
    Outcome,
    Record,
    Upload,
    UploadedCascade,
    clean_filename,
    result_from_dict,
    sha256_of,
)
from imgdetect.detectors import Detector
from imgdetect.equipment import (
    backends,
    child_memory_bytes,
    create_detectors,
    dataset_of,
    detector_urls,
)
from imgdetect.errors import InvalidRequest, NotFound, TooMuchWork
from imgdetect.pipeline import Looker, UploadedDetector
from imgdetect.pool import ProcessPool
from imgdetect.records import Idempotency, Records
from imgdetect.several import Several
from imgdetect.storages import Storage

# What metrics call every uploaded cascade and what it finds: their labels are not for clients to choose.
_UPLOADED = "uploaded"


class Admitted(NamedTuple):
    """A look that this server is willing to do."""

    detector: Detector
    options: DetectOptions  # resolved
    cascades: tuple[UploadedCascade, ...]  # of those among the detectors that a client uploaded


class Look(NamedTuple):
    """One look at an upload."""

    outcome: Outcome
    cached: bool


class DetectionService:
    """Everything a way in (HTTP, command line, worker) can ask for. It knows nothing of any of them.

    Every method that takes an owner sees and touches only what belongs to that owner.

    Raises (all methods): a Problem, see errors.py.
    """

    def __init__(
        self, settings: Settings, database: Database, storage: Storage, results: Cache, pool: ProcessPool
    ) -> None:
        self.settings = settings
        self.database = database
        self.storage = storage
        self.records = Records(database, storage)
        self.pool = pool
        self.results = results
        self.detectors = create_detectors(settings)
        self.dataset = dataset_of(settings)
        limits = Limits(
            cascades_per_key=settings.max_cascades_per_key,
            min_scale_factor=settings.min_scale_factor,
            working_pixels=settings.working_pixels,
            trial_seconds=2 * settings.deadline_seconds + 10,
        )
        self.cascades = Cascades(database, pool, self.detectors.keys(), limits)

    @classmethod
    def open(cls, settings: Settings, *, proven: bool = False) -> DetectionService:
        """Build the service and the parts that the settings name.

        Args:
            proven: `prove` has seen to the database, which need not answer just now.
        Raises:
            ValueError: a setting names something that is not there.
            BackendUnavailable: the database does not answer.
        """
        storage, database, results = backends(settings)
        if not proven:
            database.migrate()
        pool = ProcessPool(
            nursery.Build(
                Looker,
                (detector_urls(settings), settings.working_pixels, max(1, usable_cores() // settings.effective_slots)),
                ("prepare", settings.default_detector),
            ),
            nursery.Limits(
                children=settings.effective_slots,
                waiting_line=settings.waiting_line,
                max_pixels=settings.max_pixels,
                deadline_seconds=settings.deadline_seconds,
                memory_bytes=child_memory_bytes(settings),
                watchers=settings.video_slots,
            ),
            settings.pool_dir,
            on_replaced=lambda reason: metrics.children_replaced_total.labels(reason).inc(),
        )
        return cls(settings, database, storage, results, pool)

    def close(self) -> None:
        """End the children and close the database."""
        self.pool.close()
        self.database.close()

    def detector(self, name: str, owner: str = "") -> tuple[Detector, UploadedCascade | None]:
        """The detector of a name, and its row where the owner uploaded it."""
        if name in self.detectors:
            return self.detectors[name], None
        if own := self.cascades.find(name, owner):
            return own.detector, own.cascade
        known = [*sorted(self.detectors), *(own.cascade.name for own in self.cascades.all_of(owner))]
        raise NotFound(f"there is no detector {name[:64]!r}; known here: {', '.join(known)}")

    def several(self, names: Sequence[str], owner: str = "") -> tuple[Several, tuple[UploadedCascade, ...]]:
        """The detectors of some names as one, and the rows of those that the owner uploaded.

        Raises:
            InvalidRequest: one of them is not there.
        """
        try:
            found = [self.detector(name, owner) for name in names]
        except NotFound as problem:
            raise InvalidRequest.field("detector", problem.detail) from None
        return Several([detector for detector, _ in found]), tuple(cascade for _, cascade in found if cascade)

    def read_upload(self, data: bytes, filename: str) -> Upload:
        """Sniff and measure received bytes, without decoding them."""
        upload = images.read_upload(
            data,
            clean_filename(filename),
            max_bytes=self.settings.max_upload_bytes,
            max_pixels=self.settings.max_pixels,
            max_side=MAX_SIDE,
        )
        metrics.upload_bytes.observe(len(data))
        return upload

    def admit(self, upload: Upload, options: DetectOptions, owner: str = "") -> Admitted:
        """Check that this server is willing to do a look."""
        return self.admit_size((upload.width, upload.height), options, owner)

    def admit_size(self, size_wh: tuple[int, int], options: DetectOptions, owner: str = "") -> Admitted:
        """Check that this server is willing to look at a picture of some size, width and height in pixels."""
        detector, cascades = self.several(options.detectors, owner)
        options = detector.resolve(options)
        windows = detector.cost(size_wh, options)
        limit = self.settings.max_windows
        if windows > limit:
            raise TooMuchWork(
                f"These parameters ask for about {windows:,} windows on this image; this server does {limit:,}."
                " Raise scale_factor or min_size, give a roi, or fewer rotations."
            )
        return Admitted(detector, options, cascades)

    def look(
        self,
        upload: Upload,
        options: DetectOptions,
        owner: str = "",
        meanwhile: Callable[[], None] | None = None,
    ) -> Look:
        """Detect and annotate; nothing is stored.

        Args:
            meanwhile: called once a child is at work, before its answer is waited for; not called on a cache hit.
        """
        detector, options, cascades = self.admit(upload, options, owner)
        key = self._cache_key(owner, upload.sha256, detector, options)
        if (kept := self.results.get(key)) is not None and (earlier := _unpack(kept)):
            metrics.cache_total.labels("hit").inc()
            return Look(replace(earlier, timings_ms={}), cached=True)
        metrics.cache_total.labels("miss").inc()
        uploaded = self.uploaded(cascades)
        own = {cascade.name for cascade in cascades}
        labels = {name: _UPLOADED if name in own else name for name in options.detectors}
        started = time.perf_counter()
        try:
            outcome: Outcome = self.pool.run(upload.pixels, "look", upload.data, options, uploaded, meanwhile=meanwhile)
        except Exception as error:
            for label in labels.values():
                metrics.looks_total.labels(label, getattr(error, "slug", "error")).inc()
            raise
        worked_ms = sum(outcome.timings_ms.values())
        wait_ms = (time.perf_counter() - started) * 1000 - worked_ms
        outcome.timings_ms["wait"] = round(max(0.0, wait_ms), 3)
        metrics.observe_steps(outcome.timings_ms)
        successful = {detection.detector for detection in outcome.result.detections}
        for name, label in labels.items():
            found = name in successful or outcome.result.classes
            metrics.looks_total.labels(label, "found" if found else "nothing").inc()
        for detection in outcome.result.detections:
            label = labels[detection.detector]
            metrics.detections_total.labels(label, label if label == _UPLOADED else detection.class_name).inc()
        self.results.set(key, _pack(outcome))
        return Look(outcome, cached=False)

    def uploaded(self, cascades: Sequence[UploadedCascade]) -> tuple[UploadedDetector, ...]:
        """All that a child needs to look with detectors that a client uploaded."""
        return tuple(UploadedDetector(cascade, self.cascades.xml(cascade)) for cascade in cascades)

    def detect(
        self,
        upload: Upload,
        options: DetectOptions,
        owner: str = "",
        *,
        keep_original: bool = True,
        idempotency: Idempotency | None = None,
    ) -> tuple[Record, bool]:
        """Look at an upload and keep the result.

        Returns:
            The record, and whether the look came from the cache.
        """
        original = self.records.new_original(upload) if keep_original else None
        try:
            # The disk works while the detector does.
            look = self.look(upload, options, owner, meanwhile=original.write if original else None)
        except BaseException:
            self.records.forget(original.key if original else None)
            raise
        with timed("store", look.outcome.timings_ms):
            record = self.records.store(upload, look.outcome, owner, original=original, idempotency=idempotency)
        metrics.observe_steps({"store": look.outcome.timings_ms["store"]})
        return record, look.cached

    def again(self, record: Record, options: DetectOptions) -> tuple[Record, bool]:
        """Look at a stored original again and replace its annotated picture."""
        upload = self.read_upload(self.records.read(self.records.original(record)), record.filename)
        look = self.look(upload, options, record.owner)
        return self.records.replace_processed(record, look.outcome), look.cached

    def transcoded(self, record: Record, media_type: str) -> bytes:
        """The annotated picture in another format."""
        return self.encoded(self.records.read(self.records.processed(record)), record.width * record.height, media_type)

    def encoded(self, picture: bytes, pixels: int, media_type: str) -> bytes:
        """A picture in another format."""
        encoded: bytes = self.pool.run(pixels, "transcode", picture, media_type)
        return encoded

    def crop_etag(self, record: Record, index: int) -> str:
        """The ETag of a detection's picture, without quotes."""
        return sha256_of(f"{record.sha256} {self._found(record, index)}".encode())[:32]

    def crop(self, record: Record, index: int, media_type: str) -> bytes:
        """The picture of one detection, cut out of the original."""
        box = self._found(record, index)
        data = self.records.read(self.records.original(record))
        cut: bytes = self.pool.run(record.width * record.height, "crop", data, box, media_type)
        return cut

    def _found(self, record: Record, index: int) -> Box:
        found = result_from_dict(record.result).detections
        if not 0 <= index < len(found):
            raise NotFound(f"This image has {len(found)} detections, counted from 0.")
        return found[index].box

    def _cache_key(self, owner: str, sha256: str, detector: Detector, options: DetectOptions) -> str:
        parts = (RESULT_VERSION, owner, sha256, detector.fingerprint, options.key())
        return sha256_of(json.dumps(parts).encode())


def _pack(outcome: Outcome) -> bytes:
    """One line of JSON, then the annotated picture."""
    head = asdict(outcome)
    del head["processed"]
    return json.dumps(head).encode() + b"\n" + outcome.processed


def _unpack(kept: bytes) -> Outcome | None:
    """What `_pack` packed; None for anything else, since others may write into a cache that is shared."""
    line, _, processed = kept.partition(b"\n")
    try:
        head = json.loads(line)
        head["result"] = result_from_dict(head["result"])
        if head["processed_media_type"] not in images.ACCEPTED:
            raise ValueError("no picture")
        return Outcome(**head, processed=processed)
    except (ValueError, TypeError, KeyError, AttributeError):
        metrics.cache_total.labels("error").inc()
        return None
