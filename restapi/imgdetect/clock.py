"""The time of day in the rows' unit, and the timer of a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


def now_us() -> int:
    """Microseconds since the epoch, as rows keep times."""
    return time.time_ns() // 1000


@contextmanager
def timed(step: str, timings_ms: dict[str, float]) -> Iterator[None]:
    """Add the time the block takes to `timings_ms[step]`, milliseconds."""
    started = time.perf_counter()
    try:
        yield
    finally:
        elapsed_ms = (time.perf_counter() - started) * 1000
        timings_ms[step] = round(timings_ms.get(step, 0.0) + elapsed_ms, 3)
