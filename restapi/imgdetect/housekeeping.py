"""What is done now and then: retention, the sweep of files without a row, lost jobs."""

from __future__ import annotations

import secrets
import threading
import time
from itertools import islice
from typing import NamedTuple

from imgdetect import logs, metrics
from imgdetect.callbacks import Callbacks
from imgdetect.clock import now_us
from imgdetect.detection import Record
from imgdetect.jobs import Jobs
from imgdetect.service import DetectionService

log = logs.get_logger(__name__)
RECOVER_EVERY_SECONDS = 15.0
PRUNE_EVERY_SECONDS = 600.0
ORPHAN_AGE_SECONDS = 3600.0
ENDED_JOB_DAYS = 7.0
_DAY_US = 86_400_000_000


class Pruned(NamedTuple):
    """What a pruning removed."""

    records: int
    files: int
    jobs: int


def prune(service: DetectionService) -> Pruned:
    """Remove records by retention, files without a row, and jobs that ended long ago."""
    settings, database = service.settings, service.database
    records = 0
    if settings.retention_days:
        limit_us = now_us() - int(settings.retention_days * _DAY_US)
        while old := database.records_older_than(limit_us, 100):
            records += _delete(service, old)
    if settings.max_stored_bytes:
        while (excess := database.total_stored_bytes() - settings.max_stored_bytes) > 0:
            oldest = database.oldest_records(100)
            if not oldest:
                break
            records += _delete(service, _enough(oldest, excess))
    files = _sweep(service)
    # What jobs made is no record, but what is kept shorter than a job is not to live on in one.
    days = min(ENDED_JOB_DAYS, settings.retention_days or ENDED_JOB_DAYS)
    gone = database.jobs.delete_older_than(now_us() - int(days * _DAY_US))
    service.records.forget(*gone.keys)
    for what, count in (("records", records), ("files", files + len(gone.keys)), ("jobs", gone.jobs)):
        metrics.pruned_total.labels(what).inc(count)
    return Pruned(records, files + len(gone.keys), gone.jobs)


def _enough(oldest: list[Record], excess: int) -> list[Record]:
    """As many of the oldest records as it takes to free so many bytes."""
    chosen = []
    for record in oldest:
        if excess <= 0:
            break
        chosen.append(record)
        excess -= record.stored_bytes
    return chosen


def _delete(service: DetectionService, records: list[Record]) -> int:
    deleted = 0
    for record in records:
        if service.database.delete_record(record.id, record.owner):
            service.records.forget(record.original_key, record.processed_key)
            deleted += 1
    return deleted


def _sweep(service: DetectionService) -> int:
    """Remove files without a row, older than any request that may still be about to write its row."""
    if not service.database.oldest_records(1):
        return 0  # an empty database beside pictures is more likely the wrong one than a sign to remove them all
    age_seconds = max(ORPHAN_AGE_SECONDS, 10 * service.settings.deadline_seconds)
    before = time.time() - age_seconds
    removed = 0
    stored = service.storage.keys()
    old = (file for file in stored if file.modified_at < before)
    while files := list(islice(old, 500)):
        known = service.database.known_keys([f.key for f in files])
        for file in files:
            if file.key not in known:
                service.records.forget(file.key)
                removed += 1
    return removed


class Housekeeping:
    """The timer. Every process recovers jobs; one of them, by a lease in the database, prunes."""

    def __init__(self, service: DetectionService, jobs: Jobs) -> None:
        self._service = service
        self._jobs = jobs
        self.callbacks = Callbacks(service)
        self._holder = secrets.token_hex(8)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Start the timer, and the delivery of callbacks."""
        self._thread.start()
        self.callbacks.start()

    def close(self) -> None:
        """Stop the timer and wait for what it is doing."""
        self._stop.set()
        self.callbacks.close()
        self._thread.join()

    def _run(self) -> None:
        next_prune = 0.0
        while True:
            try:
                self._jobs.recover()
                if time.monotonic() >= next_prune:
                    next_prune = time.monotonic() + PRUNE_EVERY_SECONDS
                    # The lease is a little shorter than the interval, so that its holder finds it free next time.
                    if self._service.database.take_lease("prune", self._holder, PRUNE_EVERY_SECONDS * 0.9):
                        prune(self._service)
            except Exception:
                log.exception("housekeeping failed; it is tried again")
            if self._stop.wait(RECOVER_EVERY_SECONDS):
                return
