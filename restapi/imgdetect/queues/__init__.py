"""The queue seam: one file per engine, chosen by the scheme of a URL such as `threads:`.

Each file exposes `create(target, parameters, run) -> JobQueue`; `run(job_id)` does one job and never raises.
A queue carries job ids and nothing else: the state of a job lives in the database, so an id that is lost is
submitted again from there and one that is delivered twice finds nothing to claim.
"""

from __future__ import annotations

from typing import Protocol


class JobQueue(Protocol):
    """Brings job ids to whoever runs them."""

    def submit(self, job_id: str) -> None:
        """Hand over a job id; raises `errors.Busy` when the queue is full. An id already waiting is not doubled."""
        ...

    def work(self) -> None:
        """Start whatever runs the jobs in this process, and return."""
        ...

    def close(self) -> None:
        """Finish the running jobs, leave the waiting ones to the database."""
        ...
