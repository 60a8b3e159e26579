"""Whether a server grows with what it has done: `python -m benchmarks.soak [--requests 10000]` prints a table.

Eight clients send a mixture of everything to two web processes: pictures of 0.05 to 2 megapixels to be kept and not,
downloads, lists, deletions, jobs, looks at stored pictures, files that are no pictures, and files that mean harm. The
memory of each process is its proportional set size, so that the sum over the processes counts every page once. What it
grows by is the slope of a line by least squares through all samples after the first 3,000 requests (or half of fewer
than 6,000).
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "restapi"))

import requests  # noqa: E402

from benchmarks.pictures import commented, mixed  # noqa: E402
from tests.hostile import HOSTILE  # noqa: E402
from tests.live_server import LiveServer  # noqa: E402
from tests.processes import PROC, Family, Process  # noqa: E402

CLIENTS = 8
KEPT = 100  # records that are there at a time
WARM = 3_000  # requests before the line begins: until then allocators and caches fill
GOAL_MIB = 1.0  # for each 1,000 requests
SAMPLES = 200
SETTINGS = {
    "IMGDETECT_WORKERS": "2",
    "IMGDETECT_SLOTS": "2",
    "IMGDETECT_LOG_LEVEL": "error",
    "IMGDETECT_CACHE_URL": "memory:?max_bytes=8000000",  # full before the line begins
}


class Sample(NamedTuple):
    """What the server had at some moment."""

    done: int  # requests
    mib: dict[str, float]  # by role, all processes of the role together
    descriptors: int
    threads: int


class Mixture:
    """The requests.

    Args:
        server: where they go.
        count: how many.
    """

    def __init__(self, server: LiveServer, count: int) -> None:
        self._server = server
        self._numbers = itertools.count()
        self._count = count
        self._pictures = [mixed(number) for number in range(10)]
        self._hostile = [(make(), statuses) for make, statuses in HOSTILE.values() if len(make()) < 1 << 20]
        self._kept: deque[str] = deque()
        self._lock = threading.Lock()
        self.done = 0
        self.statuses: Counter[int] = Counter()
        self.odd: list[str] = []

    def client(self) -> None:
        """One of the clients, until all requests are sent."""
        kinds: list[tuple[Callable[[requests.Session, int], requests.Response], int]] = [
            *((self._upload, 20), (self._detect, 15), (self._repeat, 5), (self._job, 5), (self._again, 5)),
            *((self._download, 20), (self._list, 5), (self._wrong, 10), (self._harm, 15)),
        ]
        calls, weights = zip(*kinds, strict=True)
        with requests.Session() as session:
            while (number := next(self._numbers)) < self._count:
                draw = random.Random(number)
                answer = draw.choices(calls, weights)[0](session, number)
                answer.content  # noqa: B018 - read it
                with self._lock:
                    self.statuses[answer.status_code] += 1
                    self.done += 1
                    if answer.status_code >= 500 and answer.status_code != 503:
                        self.odd.append(f"{answer.request.method} {answer.request.url}: {answer.text[:200]}")

    def _post(self, session: requests.Session, path: str, data: bytes, **headers: str) -> requests.Response:
        headers |= {"Content-Type": "image/jpeg"}
        return session.post(f"{self._server.api}/{path}", data, headers=headers, timeout=120)

    def _picture(self, number: int) -> bytes:
        return commented(self._pictures[number % len(self._pictures)], number)

    def _upload(self, session: requests.Session, number: int) -> requests.Response:
        answer = self._post(session, "image", self._picture(number))
        if answer.ok:
            self._keep(session, answer.json()["image"]["id"])
        return answer

    def _keep(self, session: requests.Session, record: str) -> None:
        """Let the oldest go for a new one."""
        with self._lock:
            self._kept.append(record)
            gone = self._kept.popleft() if len(self._kept) > KEPT else ""
        if gone:
            session.delete(f"{self._server.api}/image/{gone}", timeout=120).raise_for_status()

    def _some(self, number: int) -> str:
        with self._lock:
            return self._kept[number % len(self._kept)] if self._kept else "0" * 32

    def _detect(self, session: requests.Session, number: int) -> requests.Response:
        return self._post(session, "detect", self._picture(number))

    def _repeat(self, session: requests.Session, number: int) -> requests.Response:
        return self._post(session, "detect", self._pictures[number % 3], Accept="image/jpeg")

    def _job(self, session: requests.Session, number: int) -> requests.Response:
        answer = self._post(session, "image?keep_original=false", self._picture(number), Prefer="respond-async")
        while answer.status_code == 202:
            job = session.get(f"{self._server.url}{answer.headers['Location']}", timeout=120).json()
            if job["state"] == "done":
                self._keep(session, job["links"]["image"].rpartition("/")[2])
            if job["state"] not in ("queued", "running"):
                break
            time.sleep(0.05)
        return answer

    def _again(self, session: requests.Session, number: int) -> requests.Response:
        url = f"{self._server.api}/image/{self._some(number)}/processed"
        return session.post(url, data={"style": ("boxes", "blur", "pixelate")[number % 3]}, timeout=120)

    def _download(self, session: requests.Session, number: int) -> requests.Response:
        end = ("", "/processed", "/detections", "/processed?format=png")[number % 4]
        return session.get(f"{self._server.api}/image/{self._some(number)}{end}", timeout=120)

    def _list(self, session: requests.Session, number: int) -> requests.Response:
        return session.get(f"{self._server.api}/image?limit={number % 100 + 1}", timeout=120)

    def _wrong(self, session: requests.Session, number: int) -> requests.Response:
        if number % 2:
            return self._post(session, "image?min_neighbors=many", self._picture(number))
        return session.post(
            f"{self._server.api}/image", files={"image": ("a.jpg", b"no picture " * number)}, timeout=120
        )

    def _harm(self, session: requests.Session, number: int) -> requests.Response:
        data, statuses = self._hostile[number % len(self._hostile)]
        answer = session.post(f"{self._server.api}/image", files={"image": ("a.jpg", data)}, timeout=120)
        if answer.status_code not in statuses | {503}:
            self.odd.append(f"hostile file {number % len(self._hostile)}: {answer.status_code}")
        if answer.ok:
            self._keep(session, answer.json()["image"]["id"])
        return answer


def pss_mib(process: Process) -> float:
    """A process's share of the memory that it uses, pages of several divided among them."""
    lines = (PROC / str(process.pid) / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def sample(server: LiveServer, done: int) -> Sample | None:
    """How the server is; None where a process ended while it was asked."""
    family = Family.of(server)
    roles = {"master": [family.master], "web processes": family.workers, "nursery": family.nurseries}
    roles["children"] = family.children
    try:
        mib = {role: sum(map(pss_mib, processes)) for role, processes in roles.items()}
        folders = [PROC / str(process.pid) for process in family.everybody]
        descriptors = sum(len(os.listdir(folder / "fd")) for folder in folders)  # noqa: PTH208
        threads = sum(len(os.listdir(folder / "task")) for folder in folders)  # noqa: PTH208
    except (OSError, StopIteration):
        return None
    return Sample(done, mib, descriptors, threads)


def slope(samples: list[Sample], value: Callable[[Sample], float]) -> float:
    """Growth for each 1,000 requests, by least squares."""
    return 1000 * statistics.linear_regression([s.done for s in samples], [value(s) for s in samples]).slope


def soak(count: int) -> tuple[list[Sample], Mixture, int, int]:
    """Send the requests; returns the samples, what was answered, and the files and rows' keys in the end."""
    with tempfile.TemporaryDirectory() as temporary, LiveServer(**SETTINGS, TMPDIR=temporary) as server:
        mixture = Mixture(server, count)
        clients = [threading.Thread(target=mixture.client) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        samples = []
        while any(client.is_alive() for client in clients):
            wanted = (len(samples) + 1) * count // SAMPLES
            if mixture.done >= wanted and (found := sample(server, mixture.done)):
                samples.append(found)
            time.sleep(0.02)
        images = server.data / "images"
        files = sum(1 for path in images.rglob("*") if path.is_file())
        with closing(sqlite3.connect(server.data / "imgdetect.db")) as database:
            counted = "SELECT COUNT(original_key) + COUNT(processed_key) FROM records"
            named = int(database.execute(counted).fetchone()[0])
    return samples, mixture, files, named


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


def report(samples: list[Sample], mixture: Mixture, files: int, named: int) -> None:
    """The table."""
    warm = [s for s in samples if s.done >= min(WARM, samples[-1].done / 2)]
    print("\nanswers: " + ", ".join(f"{status}: {n}" for status, n in sorted(mixture.statuses.items())))
    print(f"answers that should not have been: {mixture.odd or 'none'}")
    print(f"files in the end: {files}, of which records name {named}\n")
    row("what", "when warm", "in the end", "more for each 1,000 requests")
    row("---", "---:", "---:", "---:")
    for role in warm[0].mib:
        row(
            f"memory of {role}, MiB",
            *(f"{s.mib[role]:.1f}" for s in (warm[0], warm[-1])),
            f"{slope(warm, lambda s, r=role: s.mib[r]):+.2f}",
        )

    def total(s: Sample) -> float:
        return sum(s.mib.values())

    tenths = [samples[min(len(samples) - 1, len(samples) * n // 10)] for n in range(11)]
    print("all, MiB, tenth by tenth: " + " ".join(f"{total(s):.0f}" for s in tenths), file=sys.stderr)
    grows = slope(warm, total)
    row(
        "memory of all, MiB",
        f"{total(warm[0]):.1f}",
        f"{total(warm[-1]):.1f}",
        f"{grows:+.2f} (goal: under {GOAL_MIB})",
    )
    for what in ("descriptors", "threads"):
        values = [float(getattr(s, what)) for s in (warm[0], warm[-1])]
        row(what, *(f"{v:.0f}" for v in values), f"{slope(warm, lambda s, w=what: float(getattr(s, w))):+.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    arguments = parser.parse_args()
    started = time.monotonic()
    found = soak(arguments.requests)
    report(*found)
    print(f"\n{arguments.requests} requests by {CLIENTS} clients in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
