"""Asynchronous work: a row is queued, a worker claims it and does what its kind asks for.

The state of a job lives in the database alone. A worker claims a job for one attempt under a lease that it renews
while it works; a job whose lease ran out is submitted again, by any process, until its attempts are used up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, BinaryIO

from imgdetect import logs, metrics, queues
from imgdetect.attempts import LEASE_SECONDS, Attempt, AttemptLost, Handler, Made
from imgdetect.backends import module, parse
from imgdetect.clock import now_us
from imgdetect.detection import DetectOptions, Job, Upload, VideoOptions, detect_options_from_dict
from imgdetect.errors import BackendUnavailable, Busy, Conflict, InternalError, NotFound, Problem
from imgdetect.queues import JobQueue
from imgdetect.records import Idempotency, new_id, new_record
from imgdetect.service import DetectionService
from imgdetect.videos import VideoWork, original_key

log = logs.get_logger(__name__)
MAX_ATTEMPTS = 3
# A queued job is handed to the queue at once; one that is still waiting after this long may have been lost there.
RESUBMIT_AFTER_SECONDS = 60.0


class Jobs:
    """Takes jobs in and runs them.

    Args:
        service: does the work.
        queue_url: who calls `run`, for example `threads:?workers=1`.
        handlers: what does jobs of further kinds.
    Raises:
        ValueError: the URL names no queue.
    """

    def __init__(
        self, service: DetectionService, queue_url: str, handlers: Mapping[str, Handler] | None = None
    ) -> None:
        self._service = service
        self._rows = service.database.jobs
        work = VideoWork(service)
        self.videos = work.videos
        self._handlers = {"image": self._look, "video": work.run} | dict(handlers or {})
        self._closing = threading.Event()
        self.queue = create_queue(queue_url, self.run)

    def submit(
        self,
        upload: Upload,
        options: DetectOptions,
        owner: str,
        *,
        keep_original: bool = True,
        callback_url: str | None = None,
        idempotency: Idempotency | None = None,
    ) -> Job:
        """Take a picture in; where the same request came at once before, the job that it made.

        Raises:
            Problem: the options do not fit the upload, or there is no room for another job.
        """
        self._service.admit(upload, options, owner)
        original = self._service.records.new_original(upload)
        job = new_job(
            owner,
            filename=upload.filename,
            media_type=upload.media_type,
            original_key=original.key,
            options=asdict(options),
            keep_original=keep_original,
            callback_url=callback_url,
            idempotency_key=idempotency.key if idempotency else None,
            request_hash=idempotency.request_hash if idempotency else None,
        )
        original.write()
        return self.add(job)

    def submit_video(
        self,
        stream: BinaryIO,
        filename: str,
        options: VideoOptions,
        owner: str,
        *,
        keep_original: bool = False,
        callback_url: str | None = None,
        idempotency: Idempotency | None = None,
    ) -> Job:
        """Take a video in; where the same request came at once before, the job that it made.

        Args:
            stream: the whole file, which can be sought.
        Raises:
            Problem: this server does not take it, or there is no room for another job.
        """
        header = self.videos.admit(stream, options, owner).header
        job = new_job(
            owner,
            kind="video",
            filename=filename,
            media_type=header.media_type,
            original_key=None,
            options=asdict(options),
            keep_original=keep_original,
            callback_url=callback_url,
            total=header.frames,
            done=0,
            failed=0,
            idempotency_key=idempotency.key if idempotency else None,
            request_hash=idempotency.request_hash if idempotency else None,
        )
        job = replace(job, original_key=original_key(job.id, job.media_type))
        stream.seek(0)
        self._service.storage.put(str(job.original_key), stream, job.media_type)
        return self.add(job)

    def add(self, job: Job, children: Sequence[Job] = ()) -> Job:
        """Add a job whose originals are stored, and hand it to the queue.

        Args:
            children: where it is a batch, its pictures.
        Returns:
            The job as it is now; where its owner used its idempotency key before, the earlier one.
        Raises:
            Problem: there is no room for it; nothing is left of it then.
        """
        written = [row.original_key for row in (job, *children)]
        try:
            kept = self._rows.add(job, children)
        except Problem as problem:
            if not problem.may_be_done:  # as in Records.store
                self._service.records.forget(*written)
            raise
        if kept.id != job.id:
            self._service.records.forget(*written)
            return kept
        try:
            self._hand_over(job)
        except BackendUnavailable:
            # The job is safe in the database, and `recover` hands it over when the broker is back.
            log.warning("job waits for the broker", job_id=job.id)
        except Problem:
            if self._rows.take_back(job.id):
                self._service.records.forget(*written)
                raise
        return self.get(job.id, job.owner)

    def get(self, job_id: str, owner: str) -> Job:
        """The job of an id."""
        if job := self._rows.get(job_id, owner):
            return job
        raise NotFound("There is no job with this id.")

    def cancel(self, job_id: str, owner: str) -> None:
        """Cancel a job; of a batch, what was not begun.

        Raises:
            Conflict: it has ended already.
        """
        cancelled = self._rows.cancel(job_id, owner)
        if not cancelled:
            raise Conflict(f"The job is {self.get(job_id, owner).state} and cannot be cancelled any more.")
        for job in cancelled:
            self._ended(job)

    def run(self, job_id: str) -> None:
        """Claim a job and do it; never raises. A job that somebody else has claimed or ended is left alone."""
        try:
            job = self._rows.claim(job_id, LEASE_SECONDS, MAX_ATTEMPTS)
            if job is not None:
                with self._renewed(job) as attempt:
                    self._attempt(attempt)
                if job.parent_id and (following := self._rows.next_in_lane(job)):
                    self.queue.submit(following)
        except (Busy, BackendUnavailable) as problem:
            log.warning("left for later", job_id=job_id, cause=str(problem))
        except Exception:
            log.exception("job left for another attempt", job_id=job_id)

    def close(self) -> None:
        """Let no job begin, give long ones back to the queue, and wait a bounded time for the others."""
        self._closing.set()
        self.queue.close()

    def recover(self) -> None:
        """Submit lost jobs again and end those that have used up their attempts; every process does so now and then."""
        for job in self._rows.fail_exhausted(MAX_ATTEMPTS):
            self._ended(job)
        try:
            self.queue.check()  # before jobs are taken that could not be handed over
            before = now_us() - int(RESUBMIT_AFTER_SECONDS * 1e6)
            lost = self._rows.take_lost(100, before, RESUBMIT_AFTER_SECONDS)
            for batch_id in self._rows.take_idle_batches(10, before, RESUBMIT_AFTER_SECONDS):
                lost += self._rows.heads(batch_id)
            for job_id in lost:
                self.queue.submit(job_id)
        except Problem as problem:
            log.warning("lost jobs are submitted later", cause=str(problem))

    def _hand_over(self, job: Job) -> None:
        if job.kind != "batch":
            self.queue.submit(job.id)
            return
        for child_id in self._rows.heads(job.id):
            self.queue.submit(child_id)

    def _look(self, attempt: Attempt) -> Made:
        """Look at the one picture of a job, and keep what was seen."""
        service, job = self._service, attempt.job
        with service.storage.open(str(job.original_key)) as stream:
            data = stream.read()
        upload = service.read_upload(data, job.filename)
        outcome = service.look(upload, detect_options_from_dict(job.options), job.owner).outcome
        record = new_record(upload, outcome, job.owner, original_key=job.original_key if job.keep_original else None)
        service.storage.put(str(record.processed_key), outcome.processed, outcome.processed_media_type)
        return Made(record)

    def _attempt(self, attempt: Attempt) -> None:
        job = attempt.job
        try:
            made = self._handlers[job.kind](attempt)
        except AttemptLost:
            log.info("attempt given up", job_id=job.id, attempt=job.attempts)
        except Problem as problem:
            self._failed(job, problem)
        except Exception:
            log.exception("job failed", job_id=job.id, attempt=job.attempts)
            self._failed(job, InternalError())
        else:
            artifacts = made.artifacts or None
            if self._rows.finish(job.id, job.attempts, "done", record=made.record, artifacts=artifacts):
                metrics.jobs_total.labels("done").inc()
                if job.original_key not in made.kept:
                    self._service.records.forget(job.original_key)
            else:  # cancelled, or the lease ran out and another attempt has taken over
                self._service.records.forget(*(key for key in made.keys if key != job.original_key))

    def _failed(self, job: Job, problem: Problem) -> None:
        """Give a job back while the fault is ours and attempts are left, else end it."""
        if isinstance(problem, Busy):  # nobody has looked at it: the line was full, or this process is being stopped
            self._rows.release(job.id, job.attempts, uncounted=True)
        elif problem.status >= 500 and job.attempts < MAX_ATTEMPTS:
            self._rows.release(job.id, job.attempts)
        elif self._rows.finish(job.id, job.attempts, "failed", problem=problem.document()):
            self._service.records.forget(job.original_key)
            metrics.jobs_total.labels("failed").inc()

    def _ended(self, job: Job) -> None:
        self._service.records.forget(job.original_key)
        metrics.jobs_total.labels(job.state).inc()

    @contextmanager
    def _renewed(self, job: Job) -> Iterator[Attempt]:
        """Renew the lease of a job for as long as the block runs."""
        done = threading.Event()
        attempt = Attempt(self._service.database, job, self._closing)

        def renew() -> None:
            while not done.wait(LEASE_SECONDS / 3):
                try:
                    if not attempt.renew():
                        return
                except Problem:
                    log.warning("lease not renewed", job_id=job.id)

        thread = threading.Thread(target=renew, name=f"lease-{job.id[:8]}", daemon=True)
        thread.start()
        try:
            yield attempt
        finally:
            done.set()
            thread.join()


def new_job(owner: str, **fields: Any) -> Job:
    """A job that waits; the fields are those of Job that say what it is about."""
    return Job(id=new_id(), owner=owner, created_at=now_us(), state="queued", attempts=0, lease_until=0, **fields)


def create_queue(queue_url: str, run: Callable[[str], None]) -> JobQueue:
    """The queue of a URL.

    Raises:
        ValueError: the URL names none.
    """
    url = parse(queue_url)
    queue: JobQueue = module(queues, url).create(url.target, url.parameters, run)
    return queue
