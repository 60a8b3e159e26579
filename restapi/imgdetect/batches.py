"""Batches: many pictures in one request, looked at one by one behind its back.

A batch is taken in whole: every picture is measured and stored, and then one transaction makes the row of the batch and
one for each picture. From there on they are jobs like any other; `job_rows.py` counts them.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import NamedTuple

from imgdetect import archives, documents, metrics
from imgdetect.clock import now_us
from imgdetect.detection import DetectOptions, Job, Record, clean_filename
from imgdetect.errors import Conflict, NotFound, Problem, UnsupportedImage, UploadTooLarge
from imgdetect.headers import ACCEPTED
from imgdetect.jobs import Jobs, new_job
from imgdetect.records import Idempotency, Original
from imgdetect.service import DetectionService

_PAGE = 100
_PIECE_BYTES = 1 << 16
_WRITERS = 4


class Source(NamedTuple):
    """A picture of a batch that is still to be read."""

    filename: str
    read: Callable[[], bytes]  # raises the Problem of a picture that cannot be had


class Asked(NamedTuple):
    """What is asked for all pictures of a batch alike."""

    options: DetectOptions
    keep_original: bool = True
    callback_url: str | None = None


class Result(NamedTuple):
    """What became of a picture of a batch."""

    job: Job
    record: Record | None  # None before it is done, and once it was deleted


class Batches:
    """Takes batches in, and gives out what became of them.

    Raises (all methods): a Problem, see errors.py.
    """

    def __init__(self, service: DetectionService, jobs: Jobs) -> None:
        self._service = service
        self._jobs = jobs

    def submit(
        self, sources: Sequence[Source], asked: Asked, owner: str, idempotency: Idempotency | None = None
    ) -> Job:
        """Take a batch in; where the same request came at once before, the job that it made.

        Raises:
            UploadTooLarge: there are too many pictures.
            UnsupportedImage: there is no picture among them.
            Problem: the options are wrong, or there is no room.
        """
        settings = self._service.settings
        if len(sources) > settings.max_batch_images:
            raise UploadTooLarge(
                f"The batch has {len(sources)} images; {settings.max_batch_images} are taken at once.",
                max_bytes=settings.max_batch_bytes,
                max_images=settings.max_batch_images,
            )
        self._must_fit(asked.options, owner)
        parent = new_job(
            owner,
            kind="batch",
            filename="",
            media_type="",
            original_key=None,
            options=asdict(asked.options),
            keep_original=asked.keep_original,
            callback_url=asked.callback_url,
            idempotency_key=idempotency.key if idempotency else None,
            request_hash=idempotency.request_hash if idempotency else None,
        )
        children: list[Job] = []
        try:
            self._take_in(parent, sources, asked, children)
            if all(child.problem and child.problem["code"] == UnsupportedImage.slug for child in children):
                raise UnsupportedImage("None of the files is an image of an accepted type.", accepted=list(ACCEPTED))
        except BaseException:
            self._service.records.forget(*(child.original_key for child in children))
            raise
        failed = sum(child.state == "failed" for child in children)
        parent = replace(parent, total=len(children), done=0, failed=failed)
        if failed == len(children):
            parent = replace(parent, state="done", finished_at=now_us())
            if asked.callback_url:
                parent = replace(parent, callback_state="pending", callback_at=parent.finished_at)
        return self._jobs.add(parent, children)

    def results(self, job_id: str, owner: str, limit: int, after: int = -1) -> list[Result]:
        """What became of the pictures of a batch, in their order, from behind a position."""
        self._batch(job_id, owner)
        children = self._service.database.jobs.children(job_id, limit, after)
        records = self._service.database.get_records([c.record_id for c in children if c.record_id], owner)
        return [Result(child, records.get(child.record_id or "")) for child in children]

    def archive(self, job_id: str, owner: str) -> Iterator[bytes]:
        """A ZIP archive of the processed pictures of a batch that has ended, and results.jsonl, while it is made.

        Raises:
            Conflict: it has not ended yet.
        """
        job = self._batch(job_id, owner)
        if job.state in ("queued", "running"):
            raise Conflict(f"The batch is {job.state}; its archive can be had when it has ended.")
        made = datetime.fromtimestamp((job.finished_at or job.created_at) / 1e6, UTC)
        date = (made.year, made.month, made.day, made.hour, made.minute, made.second)
        return archives.written(self._files(job), date)

    def _must_fit(self, options: DetectOptions, owner: str) -> None:
        """Refuse at once what would be wrong with every picture."""
        detector, _ = self._service.several(options.detectors, owner)
        detector.resolve(options)

    def _take_in(self, parent: Job, sources: Sequence[Source], asked: Asked, children: list[Job]) -> None:
        """Measure and store every picture; `children` has what may be stored already whenever this raises."""
        with ThreadPoolExecutor(_WRITERS, "batch") as writers:  # a disk and a store are slow to confirm, not busy
            writing: deque[Future[None]] = deque()
            for position, source in enumerate(sources):
                child, original = self._measured(parent, position, source, asked)
                children.append(child)
                if original:
                    writing.append(writers.submit(original.write))
                if len(writing) > _WRITERS:  # no more of them in memory than that
                    writing.popleft().result()
            for written in writing:
                written.result()

    def _measured(self, parent: Job, position: int, source: Source, asked: Asked) -> tuple[Job, Original | None]:
        """One picture, and where it is to be stored; a broken one has ended already, with its problem."""
        fields = {
            "parent_id": parent.id,
            "position": position,
            "filename": clean_filename(source.filename),
            "options": parent.options,
            "keep_original": asked.keep_original,
        }
        try:
            upload = self._service.read_upload(source.read(), source.filename)
            self._service.admit(upload, asked.options, parent.owner)
        except Problem as problem:
            if problem.status >= 500:
                raise
            metrics.jobs_total.labels("failed").inc()
            ended = new_job(parent.owner, media_type="", original_key=None, problem=problem.document(), **fields)
            return replace(ended, state="failed", finished_at=ended.created_at), None
        original = self._service.records.new_original(upload)
        return new_job(parent.owner, media_type=upload.media_type, original_key=original.key, **fields), original

    def _batch(self, job_id: str, owner: str) -> Job:
        job = self._jobs.get(job_id, owner)
        if job.kind != "batch":
            raise NotFound("This job is no batch; the links of the job lead to what it made.")
        return job

    def _files(self, job: Job) -> Iterator[tuple[str, Iterator[bytes]]]:
        digits = len(str(job.total))
        for result in self._all(job):
            if result.record and result.record.processed_key:
                pieces = self._processed(result.record)
                first = next(pieces, None)
                if first is not None:  # it may have been deleted since its row was read
                    yield _name(result, digits), _chained(first, pieces)
        yield "results.jsonl", (_line(result) for result in self._all(job))

    def _all(self, job: Job) -> Iterator[Result]:
        after = -1
        while page := self.results(job.id, job.owner, _PAGE, after):
            yield from page
            after = int(page[-1].job.position or 0)

    def _processed(self, record: Record) -> Iterator[bytes]:
        """The pieces of a processed picture; none when it is gone."""
        try:
            stream = self._service.records.open(self._service.records.processed(record))
        except NotFound:
            return
        with stream:
            while piece := stream.read(_PIECE_BYTES):
                yield piece


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _name(result: Result, digits: int) -> str:
    """The name of a picture in an archive: unique by its position, and without anything that a file system minds."""
    assert result.record is not None
    stem = result.job.filename.rpartition(".")[0] or result.job.filename or "image"
    plain = re.sub(r"[^\w.() -]+", "_", stem)[:100].strip(" .") or "image"
    extension = ACCEPTED[str(result.record.processed_media_type)]
    return f"{int(result.job.position or 0) + 1:0{digits}d}-{plain}{extension}"


def _line(result: Result) -> bytes:
    return json.dumps(documents.result_document(result.job, result.record), ensure_ascii=False).encode() + b"\n"
