"""One attempt at a job: what its handler is given, and what it gives back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from imgdetect.database import Database
from imgdetect.detection import Job, Record
from imgdetect.errors import Busy

LEASE_SECONDS = 30.0


class AttemptLost(Exception):
    """The job was cancelled, or its lease ran out and another attempt has taken over: nobody wants this one's work."""


class Attempt:
    """One attempt at a job, for the handler that makes it."""

    def __init__(self, database: Database, job: Job, closing: threading.Event) -> None:
        self.job = job
        self.lost = False  # whether the work is wanted no more; known within a third of the lease at the latest
        self._database = database
        self._closing = closing  # set when this process is to stop

    def report(self, *, done: int, failed: int = 0, total: int | None = None) -> None:
        """Say how far the job is, which also renews its lease.

        Args:
            total: None leaves it as it is.
        Raises:
            AttemptLost: the job was cancelled, or is another attempt's by now.
            Busy: this process is to stop; the job goes back to the queue.
        """
        if self._closing.is_set():
            raise Busy("The server is shutting down.")
        progress = {"done": done, "failed": failed} | ({} if total is None else {"total": total})
        if not self.renew(progress):
            raise AttemptLost(self.job.id)

    def renew(self, progress: dict[str, int] | None = None) -> bool:
        """Keep the lease; False when the attempt is not the running one any more."""
        if not self._database.jobs.renew(self.job.id, self.job.attempts, LEASE_SECONDS, progress):
            self.lost = True
        return not self.lost


@dataclass(frozen=True)
class Made:
    """What a handler made of its job; its files are in the storage already, and their keys begin with the job's id."""

    record: Record | None = None
    artifacts: dict[str, Any] = field(default_factory=dict)  # as Job.artifacts

    @property
    def keys(self) -> list[str | None]:
        """The files that are of no use unless the job ends as done."""
        return [self.record.processed_key if self.record else None, *(a["key"] for a in self.artifacts.values())]

    @property
    def kept(self) -> set[str | None]:
        """Every file that a row points at once the job has ended as done."""
        return {*self.keys, self.record.original_key if self.record else None}


# Does a job of its kind, or raises the Problem that it fails with; what it has stored by then, it removes itself.
Handler = Callable[[Attempt], Made]
