"""Asynchronous uploads: the original is kept, a row is queued, and a worker does the same `look` later.

The state of a job lives in the database alone. A worker claims a job for one attempt under a lease that it renews
while it works; a job whose lease ran out is submitted again, by any process, until its attempts are used up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from imgdetect import logs, metrics, queues
from imgdetect.backends import module, parse
from imgdetect.database import now_us
from imgdetect.detection import DetectOptions, Job, Upload
from imgdetect.errors import Busy, Conflict, InternalError, NotFound, Problem
from imgdetect.queues import JobQueue
from imgdetect.records import Idempotency, new_id, new_record
from imgdetect.service import DetectionService

log = logs.get_logger(__name__)
LEASE_SECONDS = 30.0
MAX_ATTEMPTS = 3
# A queued job is handed to the queue at once; one that is still waiting after this long may have been lost there.
RESUBMIT_AFTER_SECONDS = 60.0


class Jobs:
    """Takes jobs in and runs them.

    Args:
        service: does the work.
        queue_url: who calls `run`, for example `threads:?workers=1`.
    Raises:
        ValueError: the URL names no queue.
    """

    def __init__(self, service: DetectionService, queue_url: str) -> None:
        self._service = service
        self._database = service.database
        self.queue = create_queue(queue_url, self.run)

    def submit(
        self,
        upload: Upload,
        options: DetectOptions,
        owner: str,
        *,
        keep_original: bool = True,
        idempotency: Idempotency | None = None,
    ) -> Job:
        """Take a job in; where the same request came at once before, the job that it made.

        Raises:
            Problem: the options do not fit the upload, or there is no room for another job.
        """
        self._service.admit(upload, options, owner)
        original = self._service.records.new_original(upload)
        job = Job(
            id=new_id(),
            owner=owner,
            created_at=now_us(),
            state="queued",
            attempts=0,
            lease_until=0,
            filename=upload.filename,
            media_type=upload.media_type,
            original_key=original.key,
            options=asdict(options),
            keep_original=keep_original,
            idempotency_key=idempotency.key if idempotency else None,
            request_hash=idempotency.request_hash if idempotency else None,
        )
        original.write()
        try:
            kept = self._database.add_job(job)
        except Problem as problem:
            if not problem.may_be_done:  # as in Records.store
                self._service.records.forget(job.original_key)
            raise
        if kept.id != job.id:
            self._service.records.forget(job.original_key)
            return kept
        try:
            self.queue.submit(job.id)
        except Problem:
            self._database.delete_job(job.id)
            self._service.records.forget(job.original_key)
            raise
        return self.get(job.id, owner)

    def get(self, job_id: str, owner: str) -> Job:
        """The job of an id."""
        if job := self._database.get_job(job_id, owner):
            return job
        raise NotFound("There is no job with this id.")

    def cancel(self, job_id: str, owner: str) -> None:
        """Cancel a job.

        Raises:
            Conflict: it has ended already.
        """
        job = self._database.cancel_job(job_id, owner)
        if job is None:
            raise Conflict(f"The job is {self.get(job_id, owner).state} and cannot be cancelled any more.")
        self._service.records.forget(job.original_key)
        metrics.jobs_total.labels("cancelled").inc()

    def run(self, job_id: str) -> None:
        """Claim a job and do it; never raises. A job that somebody else has claimed or ended is left alone."""
        try:
            job = self._database.claim_job(job_id, LEASE_SECONDS, MAX_ATTEMPTS)
            if job is not None:
                with self._renewed(job):
                    self._attempt(job)
        except Exception:
            log.exception("job left for another attempt", job_id=job_id)

    def recover(self) -> None:
        """Submit lost jobs again and end those that have used up their attempts; every process does so now and then."""
        for job in self._database.fail_exhausted(MAX_ATTEMPTS):
            self._ended(job, "failed")
        for job_id in self._database.resubmittable(100, now_us() - int(RESUBMIT_AFTER_SECONDS * 1e6)):
            self.queue.submit(job_id)

    def _attempt(self, job: Job) -> None:
        service = self._service
        try:
            with service.storage.open(str(job.original_key)) as stream:
                data = stream.read()
            upload = service.read_upload(data, job.filename)
            outcome = service.look(upload, options_from_dict(job.options), job.owner).outcome
            key = job.original_key if job.keep_original else None
            record = new_record(upload, outcome, job.owner, original_key=key)
            service.storage.put(str(record.processed_key), outcome.processed, outcome.processed_media_type)
        except Problem as problem:
            self._failed(job, problem)
        except Exception:
            log.exception("job failed", job_id=job.id, attempt=job.attempts)
            self._failed(job, InternalError())
        else:
            if self._database.finish_job(job.id, job.attempts, "done", record=record):
                metrics.jobs_total.labels("done").inc()
                if not job.keep_original:
                    service.records.forget(job.original_key)
            else:  # cancelled, or the lease ran out and another attempt has taken over
                service.records.forget(record.processed_key)

    def _failed(self, job: Job, problem: Problem) -> None:
        """Give a job back while the fault is ours and attempts are left, else end it."""
        if isinstance(problem, Busy):  # nobody has looked at it: the line was full, or this process is being stopped
            self._database.release_job(job.id, job.attempts, uncounted=True)
        elif problem.status >= 500 and job.attempts < MAX_ATTEMPTS:
            self._database.release_job(job.id, job.attempts)
        elif self._database.finish_job(job.id, job.attempts, "failed", problem=problem.document()):
            self._ended(job, "failed")

    def _ended(self, job: Job, state: str) -> None:
        self._service.records.forget(job.original_key)
        metrics.jobs_total.labels(state).inc()

    @contextmanager
    def _renewed(self, job: Job) -> Iterator[None]:
        """Renew the lease of a job for as long as the block runs."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(LEASE_SECONDS / 3):
                try:
                    if not self._database.renew_lease(job.id, job.attempts, LEASE_SECONDS):
                        return
                except Problem:
                    log.warning("lease not renewed", job_id=job.id)

        thread = threading.Thread(target=renew, name=f"lease-{job.id[:8]}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def create_queue(queue_url: str, run: Callable[[str], None]) -> JobQueue:
    """The queue of a URL.

    Raises:
        ValueError: the URL names none.
    """
    url = parse(queue_url)
    queue: JobQueue = module(queues, url).create(url.target, url.parameters, run)
    return queue


def options_from_dict(data: dict[str, Any]) -> DetectOptions:
    """The inverse of `asdict` for DetectOptions that went through JSON, where tuples become lists."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
    return DetectOptions(**values)
