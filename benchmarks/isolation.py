"""What becomes of the others when native code hangs or dies: `python -m benchmarks.isolation [--hanging 4]`.

The same looks go to the service, whose children do them, and to plain servers that do them in the web process. Some
requests ask for a search of half a minute, which no thread can be stopped from doing; the service has a deadline of
three seconds here. Meanwhile others ask for `/healthz` and for a look at a small picture. Then one of several dies
of a segmentation fault.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "restapi"))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import requests  # noqa: E402

from benchmarks.http import servers  # noqa: E402
from benchmarks.pictures import encoded  # noqa: E402
from tests.live_server import LiveServer  # noqa: E402
from tests.processes import Family, busiest  # noqa: E402
from tests.slow import await_busy  # noqa: E402

DEADLINE_SECONDS = 3
WATCHED_SECONDS = 12.0
NEIGHBOURS = 2
SETTINGS = {
    "IMGDETECT_SLOTS": "2",
    "IMGDETECT_CACHE_URL": "none:",
    "IMGDETECT_LOG_LEVEL": "error",
    "IMGDETECT_MIN_SCALE_FACTOR": "1.02",
    "IMGDETECT_MAX_WINDOWS": "100000000000",
    "IMGDETECT_WORKING_PIXELS": "25000000",
}
ENDLESS = {"scale_factor": "1.02", "rotations": "0,30,60,90,120,150,180,210"}


class Side(NamedTuple):
    """A server under measurement."""

    url: str  # where looks are sent
    health_url: str
    parameters: dict[str, str]  # of every look
    crash: Callable[[requests.Session], object]  # makes a look die
    one_of_them: bool  # the look that dies is one of those under way, not one more


class Watched(NamedTuple):
    """What somebody who asks again and again got; an answer that did not come counts as long as it was waited for."""

    answered: int
    times_ms: list[float]

    def said(self) -> str:
        """For the table."""
        worst = sorted(self.times_ms)[int(0.99 * len(self.times_ms))]
        over = "over " if worst > 900 * WATCHED_SECONDS else ""
        return f"{self.answered} of {len(self.times_ms)}, p99 {over}{worst:.0f} ms"


def noise(width: int, height: int) -> bytes:
    """A picture in which a cascade finds much to look at twice."""
    blobs = np.random.default_rng(1).integers(0, 255, (height // 10, width // 10, 3), dtype=np.uint8)
    return encoded(cv2.resize(blobs, (width, height)))


LARGE, MEDIUM, SMALL = noise(1600, 1200), noise(900, 675), noise(320, 240)


def look(side: Side, picture: bytes, patience_seconds: float = WATCHED_SECONDS, **parameters: str) -> int:
    """Ask for a look; returns the status, 0 for none."""
    try:
        headers = {"Content-Type": "image/jpeg", "Connection": "close"}
        asked = side.parameters | parameters
        return requests.post(side.url, picture, params=asked, headers=headers, timeout=patience_seconds).status_code
    except requests.RequestException:
        return 0


def watch(until: float, ask: Callable[[], bool]) -> Watched:
    """Ask again and again."""
    answered, times = 0, []
    while time.monotonic() < until:
        started = time.perf_counter()
        answered += ask()
        times.append((time.perf_counter() - started) * 1000)
        time.sleep(0.05)
    return Watched(answered, times)


def together(*calls: Callable[[], object]) -> list[object]:
    """Run several at the same time."""
    results: list[object] = [None] * len(calls)

    def run(index: int) -> None:
        results[index] = calls[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def health(side: Side) -> bool:
    """Whether /healthz answered."""
    try:
        return requests.get(side.health_url, timeout=WATCHED_SECONDS).ok
    except requests.RequestException:
        return False


def hanging(side: Side, count: int) -> tuple[str, str, str]:
    """What became of those that hang, of /healthz and of the neighbours."""
    for _ in range(3):
        look(side, SMALL)
    started = time.monotonic()
    until = started + WATCHED_SECONDS

    def hang() -> tuple[int, float]:
        return look(side, LARGE, **ENDLESS), time.monotonic() - started

    def later(ask: Callable[[], bool]) -> Callable[[], Watched]:
        def run() -> Watched:
            time.sleep(0.5)  # those that hang are first
            return watch(until, ask)

        return run

    neighbour = later(lambda: look(side, SMALL) == 200)
    *others, probe = together(*[hang] * count, *[neighbour] * NEIGHBOURS, later(lambda: health(side)))
    ends = [end for end in others[:count] if isinstance(end, tuple)]
    answered = [end for end in ends if end[0]]
    said = f"{len(answered)} of {count}"
    if answered:
        said += (
            f": {', '.join(sorted({str(status) for status, _ in answered}))} within {max(s for _, s in answered):.0f} s"
        )
    neighbours = [seen for seen in others[count:] if isinstance(seen, Watched)]
    both = Watched(sum(n.answered for n in neighbours), [t for n in neighbours for t in n.times_ms])
    assert isinstance(probe, Watched)
    return said, probe.said(), both.said()


def dying(side: Side, count: int) -> str:
    """How many other looks are lost when one dies."""

    def some() -> int:
        return look(side, MEDIUM, 120, scale_factor="1.05")

    def kill() -> int:
        time.sleep(0.3)
        with requests.Session() as session:
            side.crash(session)
        return 200

    statuses = together(*[some] * (count + side.one_of_them), kill)[:-1]
    return f"{sum(status != 200 for status in statuses) - side.one_of_them} of {count}"


@contextmanager
def ours(deadline_seconds: int = DEADLINE_SECONDS):
    """The service, one web process and two children."""
    with LiveServer(**SETTINGS, IMGDETECT_DEADLINE_SECONDS=str(deadline_seconds)) as server:

        def crash(_session: requests.Session) -> None:
            await_busy(server)
            os.kill(busiest(Family.of(server).children).pid, signal.SIGSEGV)

        yield Side(f"{server.api}/detect", f"{server.url}/healthz", {"detector": "slow"}, crash, True)


@contextmanager
def plain(*arguments: str):
    """The application that looks in its web processes."""
    with servers.in_process(*arguments) as url:

        def crash(session: requests.Session) -> None:
            try:
                session.post(f"{url}/crash", timeout=WATCHED_SECONDS)
            except requests.RequestException:
                return

        yield Side(f"{url}/detect", f"{url}/healthz", {}, crash, False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hanging", type=int, default=4, help="requests that hang at once")
    count = parser.parse_args().hanging
    threads, processes = ("-k", "gthread", "--threads", str(count)), ("-k", "sync", "-w", str(count))
    # Where looks die there has to be time for them; where they hang gunicorn may end a worker that seems dead.
    sides: dict[str, tuple[AbstractContextManager[Side], AbstractContextManager[Side]]] = {
        "imgdetect: 2 children": (ours(), ours(60)),
        f"gthread, 1 worker of {count} threads": (plain(*threads, "--timeout", "5"), plain(*threads)),
        f"{count} sync workers": (plain(*processes, "--timeout", "30"), plain(*processes)),
    }
    print(
        f"{os.cpu_count()} cores, {count} requests hang, {NEIGHBOURS} neighbours, watched for {WATCHED_SECONDS:g} s\n"
    )
    print(
        "| | of those that hang were answered | `/healthz` answered | neighbours answered | lost beside one that dies |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (for_hanging, for_dying) in sides.items():
        with for_hanging as running:
            cells = hanging(running, count)
        with for_dying as running:
            print(f"| {name} | {' | '.join(cells)} | {dying(running, count - 1)} |", flush=True)


if __name__ == "__main__":
    main()
