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
        """Hand over a job id.

        Raises:
            errors.Busy: the queue is full; the job is not taken.
            errors.BackendUnavailable: the broker does not answer; the id is handed over again later.
        """
        ...

    def check(self) -> None:
        """Raise `errors.BackendUnavailable` when ids cannot be handed over now."""
        ...

    def work(self) -> None:
        """Start whatever runs the jobs in this process, if they run in it, and return."""
        ...

    def close(self) -> None:
        """Finish the running jobs, leave the waiting ones to the database."""
        ...
