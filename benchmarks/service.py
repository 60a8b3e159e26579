"""What the service costs beyond the detector: `python -m benchmarks.service [--quick]` prints a table.

All ratios are taken within one run, rounds of the two sides alternating, because machines are shared and noisy. The
result cache is off and pictures are distinct unless a row is about the cache; connections are kept alive.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import multiprocessing
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "restapi"))

from benchmarks.pictures import SIZE_WH, distinct, mixed  # noqa: E402
from imgdetect.detection import DetectOptions  # noqa: E402
from imgdetect.pipeline import Looker  # noqa: E402
from tests.live_server import LiveServer  # noqa: E402

UPLOAD = "/api/v1/objectdetection/image"
DETECT = "/api/v1/objectdetection/detect"
NO_CACHE = {"IMGDETECT_CACHE_URL": "none:", "IMGDETECT_LOG_LEVEL": "warning"}


class Client:
    """One kept-alive connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def post(self, path: str, body: bytes) -> float:
        """Upload a body; returns milliseconds."""
        started = time.perf_counter()
        self.connection.request("POST", path, body, {"Content-Type": "image/jpeg"})
        answer = self.connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}")
        return (time.perf_counter() - started) * 1000

    def get(self, path: str) -> float:
        """Fetch; returns milliseconds."""
        started = time.perf_counter()
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}")
        return (time.perf_counter() - started) * 1000


def looker() -> Callable[[bytes], object]:
    """Decode, detect, draw and encode in this process."""
    made = Looker({"face": "haar:face"}, 2_100_000)
    options = made._detector("face").resolve(DetectOptions("face"))
    return lambda data: made.look(data, options)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def overhead(rounds: int) -> list[tuple[str, str]]:
    """HTTP, storage and database on top of the look itself, one client."""
    look = looker()
    pictures = distinct()
    bare, served = [], []
    with LiveServer(**NO_CACHE) as server:
        client = Client(server.port)
        for number in range(rounds + 2):
            data = next(pictures)
            started = time.perf_counter()
            look(data)
            bare_ms = (time.perf_counter() - started) * 1000
            served_ms = client.post(UPLOAD, data)
            if number >= 2:  # the first ones warm both sides
                bare.append(bare_ms)
                served.append(served_ms)
    added = [s - b for s, b in zip(served, bare, strict=True)]
    return [
        ("decode + detect + draw + encode in process, p50", f"{statistics.median(bare):.1f} ms"),
        ("POST /image, one client, p50", f"{statistics.median(served):.1f} ms"),
        (
            "added by HTTP, storage and database, p50 of the differences (goal: at most 8)",
            f"{statistics.median(added):.1f} ms",
        ),
    ]


def _loop(seconds: float, start: int, counts: multiprocessing.Queue) -> None:
    look, pictures = looker(), distinct(start)
    look(next(pictures))
    done, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        look(next(pictures))
        done += 1
    counts.put(done)


def bare_rate(processes: int, seconds: float) -> float:
    """Pictures per second of a bare loop in that many processes."""
    spawning = multiprocessing.get_context("spawn")  # OpenCV does not survive a fork once its threads run
    counts: multiprocessing.Queue = spawning.Queue()
    loops = [spawning.Process(target=_loop, args=(seconds, i << 32, counts)) for i in range(processes)]
    for loop in loops:
        loop.start()
    total = sum(counts.get() for _ in loops)
    for loop in loops:
        loop.join()
    return total / seconds


def served_rate(port: int, clients: int, seconds: float, numbers: itertools.count) -> tuple[float, float]:
    """Uploads per second by that many clients, and the share of one core that the clients took."""
    until = time.monotonic() + seconds
    done = [0] * clients

    def upload(index: int) -> None:
        client, pictures = Client(port), distinct(next(numbers) << 32)
        while time.monotonic() < until:
            client.post(UPLOAD, next(pictures))
            done[index] += 1

    used = time.process_time()
    started = time.monotonic()
    threads = [threading.Thread(target=upload, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - started
    return sum(done) / took, (time.process_time() - used) / took


def throughput(rounds: int, seconds: float) -> list[tuple[str, str]]:
    """Two workers on two cores against a bare loop of two processes."""
    ratios, bare, served, client_cpu = [], [], [], []
    numbers = itertools.count(1000)
    with LiveServer(IMGDETECT_WORKERS="2", **NO_CACHE) as server:
        served_rate(server.port, 8, 2, numbers)
        for _ in range(rounds):
            b = bare_rate(2, seconds)
            s, cpu = served_rate(server.port, 8, seconds, numbers)
            bare.append(b)
            served.append(s)
            client_cpu.append(cpu)
            ratios.append(s / b)
    return [
        ("bare loop, two processes", f"{statistics.median(bare):.2f} pictures/s"),
        ("POST /image, two workers, eight clients", f"{statistics.median(served):.2f} pictures/s"),
        ("share of the bare loop (goal: at least 90 %)", f"{100 * statistics.median(ratios):.0f} %"),
        ("taken by the clients", f"{100 * statistics.median(client_cpu):.1f} % of a core"),
    ]


def cache_hits(count: int) -> list[tuple[str, str]]:
    """The same picture again and again."""
    with LiveServer(IMGDETECT_LOG_LEVEL="warning") as server:
        client, data = Client(server.port), next(distinct())
        client.post(DETECT, data)
        detect = [client.post(DETECT, data) for _ in range(count)]
        client.post(UPLOAD, data)
        upload = [client.post(UPLOAD, data) for _ in range(count)]
    return [
        ("cache hit, POST /detect, p95 (goal: under 10 ms)", f"{percentile(detect, 0.95):.1f} ms"),
        ("cache hit, POST /image (a record and two files of its own), p95", f"{percentile(upload, 0.95):.1f} ms"),
    ]


def health(seconds: float) -> list[tuple[str, str]]:
    """/healthz while every slot is busy and requests wait."""
    numbers = itertools.count(5000)
    with LiveServer(**NO_CACHE) as server:
        load = threading.Thread(target=served_rate, args=(server.port, 8, seconds, numbers))
        load.start()
        client, times = Client(server.port), []
        while load.is_alive():
            times.append(client.get("/healthz"))
            time.sleep(0.01)
        load.join()
    return [
        (
            f"/healthz while every slot is busy, p99 of {len(times)} (goal: under 100)",
            f"{percentile(times, 0.99):.1f} ms",
        )
    ]


def memory_of_server(folder: str, master: int) -> list[tuple[int, str]]:
    """Resident MiB and role of every process of the server whose data lies in a folder."""
    parents, found = {}, []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if folder.encode() in (entry / "environ").read_bytes():
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    for pid, parent in parents.items():
        command = Path(f"/proc/{pid}/cmdline").read_text()
        if "nursery" in command:
            role = "child" if parent in parents else "nursery"
        else:
            role = "master" if pid == master else "worker"
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        found.append((pages * os.sysconf("SC_PAGE_SIZE") >> 20, role))
    return sorted(found, reverse=True)


def memory(uploads: int) -> list[tuple[str, str]]:
    """Resident memory of each process after many uploads of up to 2 megapixels."""
    with LiveServer(**NO_CACHE) as server:
        numbers = itertools.count()

        def upload() -> None:
            client = Client(server.port)
            while (number := next(numbers)) < uploads:
                client.post(UPLOAD, mixed(number))

        threads = [threading.Thread(target=upload) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = memory_of_server(server.folder.name, server.process.pid)
    text = ", ".join(f"{role} {mib}" for mib, role in found)
    return [
        (f"resident memory after {uploads} mixed uploads, MiB", text),
        ("largest process (goal: under 250)", f"{found[0][0]} MiB"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, to see that it works")
    parser.add_argument("only", nargs="*", help="overhead, throughput, cache_hits, health, memory")
    arguments = parser.parse_args()
    quick = arguments.quick
    parts: dict[str, Callable[[], list[tuple[str, str]]]] = {
        "overhead": lambda: overhead(6 if quick else 60),
        "throughput": lambda: throughput(1 if quick else 12, 5 if quick else 6),
        "cache_hits": lambda: cache_hits(50 if quick else 500),
        "health": lambda: health(4 if quick else 20),
        "memory": lambda: memory(60 if quick else 2000),
    }
    width, height = SIZE_WH
    print(f"photographs of {width}x{height}, {os.cpu_count()} cores\n\n| what | measured |\n| --- | --- |")
    for name in arguments.only or parts:
        for what, value in parts[name]():
            print(f"| {what} | {value} |", flush=True)


if __name__ == "__main__":
    main()
