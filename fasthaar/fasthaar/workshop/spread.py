"""The same work for many numbers, by several processes, in order and with a bar that shows how far it is."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
_work: list[Callable[[int], Any]] = []  # of a child process: what it was started for


def spread(work: Callable[[int], T], numbers: range, processes: int, what: str) -> Iterator[T]:
    """`work(number)` for each number, in the order of the numbers whatever the number of processes.

    Args:
        work: can be pickled; its answer depends on the number alone.
        numbers: what it is done for.
        processes: 1 works in this process.
        what: the name beside the bar, on standard error where that is a terminal.

    Raises:
        Exception: what `work` raises.
    """
    with tqdm(total=len(numbers), desc=what, disable=None, leave=False) as bar:
        for answer in _answers(work, numbers, min(processes, len(numbers))):
            bar.update()
            yield answer


def _answers(work: Callable[[int], T], numbers: range, processes: int) -> Iterator[T]:
    if processes <= 1:
        yield from map(work, numbers)
        return
    # Fresh interpreters: what is forked inherits locks that threads of this process may hold.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, fresh, _start, (work,)) as pool:
        try:
            yield from pool.map(_do, numbers, chunksize=max(1, min(64, len(numbers) // (4 * processes))))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start(work: Callable[[int], Any]) -> None:
    _work[:] = [work]


def _do(number: int) -> Any:
    return _work[0](number)
