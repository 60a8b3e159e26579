"""Times of two sides that alternate within one process, so that what disturbs the machine disturbs both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Pair(NamedTuple):
    """Medians of the rounds: milliseconds of each side, and how many times the second is faster, with quartiles."""

    first_ms: float
    second_ms: float
    ratio: float
    quartiles: tuple[float, float]


def paired(first: Callable[[], object], second: Callable[[], object], rounds: int) -> Pair:
    """Call both in turn, once to warm up and then so often.

    Args:
        first, second: what is measured; a call that takes less than a millisecond is repeated within its round.
        rounds: pairs of measurements, at least 2.
    """
    repeats = [max(1, min(200, int(0.002 / max(_seconds(side, 1), 1e-6)))) for side in (first, second)]
    times = []
    for number in range(rounds):
        # Who comes first alternates as well.
        pair = [0.0, 0.0]
        for side in (0, 1) if number % 2 else (1, 0):
            pair[side] = _seconds((first, second)[side], repeats[side])
        times.append(pair)
    ratios = [slow / fast for slow, fast in times]
    low, _, high = statistics.quantiles(ratios, n=4)
    firsts, seconds = zip(*times, strict=True)
    return Pair(
        statistics.median(firsts) * 1000, statistics.median(seconds) * 1000, statistics.median(ratios), (low, high)
    )


def _seconds(call: Callable[[], object], repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats


def head(*names: str) -> None:
    """Print the head of a table, the first column to the left and numbers to the right."""
    row(*names)
    row("---", *["---:"] * (len(names) - 1))


def row(*cells: str) -> None:
    """Print one row of a table at once: a table takes minutes."""
    print(f"| {' | '.join(cells)} |", flush=True)


def pair_row(label: str, times: Pair) -> None:
    """Print a pair as the row of a table."""
    low, high = times.quartiles
    row(label, f"{times.first_ms:.3g}", f"{times.second_ms:.3g}", f"{times.ratio:.2f}", f"{low:.2f} to {high:.2f}")
