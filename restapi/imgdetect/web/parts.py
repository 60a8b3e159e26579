"""What the views work with."""

from __future__ import annotations

from threading import Semaphore
from typing import NamedTuple, cast

from flask import current_app

from imgdetect.batches import Batches
from imgdetect.housekeeping import Housekeeping
from imgdetect.jobs import Jobs
from imgdetect.service import DetectionService
from imgdetect.web.auth import Gate


class Parts(NamedTuple):
    """Everything that `create_app` built."""

    service: DetectionService
    jobs: Jobs
    gate: Gate
    housekeeping: Housekeeping
    batches: Batches
    downloads: Semaphore  # archives that may be sent at once: each holds a thread for as long as its client takes

    def close(self) -> None:
        """Close in reverse order what `create_app` built; the job at hand is finished first."""
        self.housekeeping.close()
        self.jobs.close()
        self.service.close()


def parts() -> Parts:
    """The parts of the application that serves the request at hand."""
    return cast(Parts, current_app.extensions["imgdetect"])
