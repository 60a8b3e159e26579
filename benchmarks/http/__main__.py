"""The service under load over HTTP: `python -m benchmarks.http [--quick] [peers cached downloads overload]`.

Each table's rates are measured in rounds in which the sides take turns, because machines are shared and noisy; the
ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "restapi"))

import requests  # noqa: E402

from benchmarks.http import probes, servers  # noqa: E402
from benchmarks.http.load import Load, get, post  # noqa: E402
from benchmarks.http.servers import API  # noqa: E402
from benchmarks.pictures import SIZE_WH, commented, encoded, photographs  # noqa: E402
from benchmarks.service import bare_rate  # noqa: E402

CLIENTS = 8


def picture() -> bytes:
    """The astronaut, in which there is a face."""
    return encoded(photographs()[0])


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def head(*cells: str) -> None:
    print()
    row(*cells)
    row(*["---", *["---:"] * (len(cells) - 1)])


def turns(sides: dict[str, Callable[[], Load | float]], rounds: int) -> dict[str, list[float]]:
    """The rates of several sides, round by round."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            found = run()
            rate = found if isinstance(found, float) else found.per_second
            if not rate:
                raise RuntimeError(f"{name}: nothing was answered, or nothing well")
            rates[name].append(rate)
    return rates


def ratio(rates: dict[str, list[float]], of: str, to: str) -> float:
    return statistics.median(a / b for a, b in zip(rates[of], rates[to], strict=True))


def peers(rounds: int, seconds: float) -> None:
    """Uploads, cache off: the service behind nginx, two plain peers without, and a bare loop of the same engine."""
    jpeg = picture()
    with ExitStack() as stack:
        ours = stack.enter_context(servers.service())
        flask, fastapi = stack.enter_context(servers.flask_peer()), stack.enter_context(servers.fastapi_peer())
        sides: dict[str, Callable[[], Load | float]] = {
            "imgdetect behind nginx": lambda: post(ours.url, f"{API}/image", jpeg, seconds, CLIENTS, distinct=True),
            "Flask and gunicorn": lambda: post(flask, "/image", jpeg, seconds, CLIENTS, distinct=True),
            "FastAPI and uvicorn": lambda: post(fastapi, "/image", jpeg, seconds, CLIENTS, distinct=True),
            "bare loop, two processes": lambda: bare_rate(2, seconds),
        }
        for run in list(sides.values())[:3]:
            run()
        rates = turns(sides, rounds)
    head("uploads, cache off", "pictures/s", "imgdetect has")
    us = next(iter(sides))
    for name in sides:
        share = ratio(rates, us, name)
        said = "" if name == us else f"{100 * share:.0f} %" if name.startswith("bare") else f"{share:.1f} times as many"
        row(name, f"{statistics.median(rates[name]):.1f}", said)


def cached(rounds: int, seconds: float) -> None:
    """The same picture again and again; beside the uploads a bare view that syncs two files and commits a row."""
    jpeg = picture()
    with servers.service(cache=True) as ours, servers.bare_views(26) as bare:
        post(ours.url, f"{API}/detect", jpeg, 1, CLIENTS, distinct=False)
        post(ours.url, f"{API}/image", jpeg, 1, CLIENTS, distinct=False)
        rates = turns(
            {
                "POST /detect, a hit": lambda: post(ours.url, f"{API}/detect", jpeg, seconds, CLIENTS, distinct=False),
                "POST /image, a hit": lambda: post(ours.url, f"{API}/image", jpeg, seconds, CLIENTS, distinct=False),
                "a bare view that keeps as much": lambda: post(
                    bare.url, "/keep", jpeg, seconds, CLIENTS, distinct=False
                ),
            },
            rounds,
        )
    head("cached repeats, through nginx", "per second", "")
    share = 100 * ratio(rates, "POST /image, a hit", "a bare view that keeps as much")
    for name, values in rates.items():
        row(name, f"{statistics.median(values):.0f}", f"{share:.0f} % of the bare view" if "image" in name else "")


def downloads(rounds: int, seconds: float) -> None:
    """The annotated picture and the original, handed to nginx; beside it a bare view that does no more than that."""
    jpeg = picture()
    with servers.service() as ours, servers.bare_views(26) as bare:
        made = requests.post(f"{ours.url}{API}/image", jpeg, headers={"Content-Type": "image/jpeg"}, timeout=60).json()
        address = f"{ours.url}{API}/image/{made['image']['id']}"
        stored = requests.get(f"{address}/processed", timeout=60).content
        (Path(bare.folder) / "picture.jpg").write_bytes(stored)
        Path(bare.folder).chmod(0o755)
        rates = turns(
            {
                "GET /image/{id}": lambda: get(address, seconds, 32),
                "GET /image/{id}/processed": lambda: get(f"{address}/processed", seconds, 32),
                "a bare view that hands over a file": lambda: get(f"{bare.url}/file/picture.jpg", seconds, 32),
            },
            rounds,
        )
    head("downloads through nginx", "per second", "of the bare view")
    last = list(rates)[-1]
    for name, values in rates.items():
        row(name, f"{statistics.median(values):.0f}", f"{100 * ratio(rates, name, last):.0f} %" if name != last else "")


def overload(rounds: int, seconds: float) -> None:
    """Ten times the clients that keep the service busy: what is served, how soon, and what the rest are told."""
    jpeg = picture()
    peak, served, p99s, waits, refused, health = [], [], [], [], [], []
    with servers.service() as ours:
        post(ours.url, f"{API}/detect", jpeg, 2, CLIENTS, distinct=True)
        for number in range(rounds):
            full = crowd(ours.url, jpeg, CLIENTS, seconds, 2 * number)
            over = crowd(ours.url, jpeg, 10 * CLIENTS, seconds, 2 * number + 1)
            peak.append(full["rate"])
            served.append(over["rate"] / full["rate"])
            p99s.append(over["p99_ms"] / full["p99_ms"])
            waits.append(over["p99_ms"])
            refused.append(over["refused_p99_ms"])
            health.append(over["health_p99_ms"])
            if full["odd"] or over["odd"]:
                raise RuntimeError(f"answers that are neither 200 nor 503: {full['odd']} {over['odd']}")
    head("at ten times the capacity", "measured", "goal")
    row("served at capacity, 8 clients", f"{statistics.median(peak):.1f}/s", "")
    row("served with 80 clients, of that", f"{100 * statistics.median(served):.0f} %", "at least 90 %")
    row("p99 of the served, times that at capacity", f"{statistics.median(p99s):.1f}", "at most 3")
    row("p99 of the served", f"{statistics.median(waits):.0f} ms", "")
    row("p99 of the refused (503)", f"{statistics.median(refused):.0f} ms", "at once")
    row("/healthz meanwhile, p99", f"{statistics.median(health):.0f} ms", "under 100 ms")


def crowd(url: str, jpeg: bytes, clients: int, seconds: float, run: int) -> dict[str, float]:
    """So many clients for a time; who is refused comes back after what Retry-After says, at most a second.

    Their first requests are spread over a second, for clients do not come, and come back, all at the same moment; and
    those of whom times are taken are in processes of their own, where they wait for no other client.
    """
    times: list[float] = []
    odd: list[int] = []
    spawning = multiprocessing.get_context("spawn")
    measured: multiprocessing.Queue = spawning.Queue()
    running = [
        spawning.Process(target=probe, args=(url, jpeg, seconds, measured))
        for probe in (probes.refusals, probes.health)
    ]
    started_at = time.monotonic()
    until = started_at + seconds + 1

    def client(index: int) -> None:
        time.sleep(index / clients)
        session = requests.Session()
        number = 0
        while time.monotonic() < until:
            number += 1
            data = commented(jpeg, (run * 1000 + index) * 10_000_000 + number)
            started = time.perf_counter()
            answer = session.post(f"{url}{API}/detect", data, headers={"Content-Type": "image/jpeg"}, timeout=60)
            took = (time.perf_counter() - started) * 1000
            if answer.status_code == 200:
                times.append(took)
            elif answer.status_code == 503:
                time.sleep(min(1.0, float(answer.headers["Retry-After"])))
            else:
                odd.append(answer.status_code)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for worker in (*threads, *running):
        worker.start()
    found = dict(measured.get() for _ in running)
    for worker in (*threads, *running):
        worker.join()
    return {
        "rate": len(times) / (time.monotonic() - started_at),
        "p99_ms": percentile(times, 0.99),
        "refused_p99_ms": percentile(found["refused"], 0.99),
        "health_p99_ms": percentile(found["health"], 0.99),
        "odd": float(len(odd)),
    }


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, to see that it works")
    parser.add_argument("only", nargs="*", help="peers, cached, downloads, overload")
    arguments = parser.parse_args()
    rounds, seconds = (1, 3.0) if arguments.quick else (5, 8.0)
    width, height = SIZE_WH
    print(f"photographs of {width}x{height}, {os.cpu_count()} cores, {CLIENTS} clients, medians of {rounds} rounds")
    parts = {"peers": peers, "cached": cached, "downloads": downloads, "overload": overload}
    for name in arguments.only or parts:
        parts[name](rounds, seconds)


if __name__ == "__main__":
    main()
