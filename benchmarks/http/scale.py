"""Rate and times against users, by workers and replicas: `python -m benchmarks.http.scale [--quick] [--plots FOLDER]`.

Locust's users upload, list, download and delete (benchmarks/locustfile.py) without a pause. Replicas share one
PostgreSQL and one folder of pictures, behind one nginx.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "restapi"))

from benchmarks.http import servers  # noqa: E402
from benchmarks.http.__main__ import head, row  # noqa: E402

USERS = (1, 2, 4, 8, 16, 32, 64)


class Setup(NamedTuple):
    """What serves."""

    name: str
    workers: int
    replicas: int


SETUPS = (
    Setup("1 worker", 1, 1),
    Setup("2 workers", 2, 1),
    Setup("2 replicas of 1 worker", 1, 2),
    Setup("4 replicas of 1 worker", 1, 4),
)


class Point(NamedTuple):
    """What so many users met."""

    users: int
    uploads_per_second: float  # answered well
    refused_per_second: float
    p50_ms: float  # of uploads that were answered, as the next two
    p95_ms: float
    p99_ms: float


@contextmanager
def serving(setup: Setup) -> Iterator[str]:
    """The address of what a setup says."""
    with ExitStack() as stack:
        if setup.replicas == 1:
            yield stack.enter_context(servers.service(setup.workers)).url
        else:
            yield stack.enter_context(servers.replicas(setup.replicas, setup.workers))


def measure(url: str, users: int, seconds: float) -> Point:
    """Let so many users work for a time."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "locust", "-f", str(ROOT / "benchmarks" / "locustfile.py"), "--headless"]
        command += ["-u", str(users), "-r", str(users), "-t", f"{seconds:g}s", "--stop-timeout", "60", "--host", url]
        command += ["--csv", f"{folder}/run", "--only-summary", "--exit-code-on-error", "0", "--loglevel", "ERROR"]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=os.environ | {"PAUSE": "0"})
        with Path(folder, "run_stats.csv").open(encoding="utf-8") as file:
            found = next(line for line in csv.DictReader(file) if line["Name"] == "upload")
    total, failed = int(found["Request Count"]), int(found["Failure Count"])
    rate = float(found["Requests/s"])
    served = rate * (total - failed) / total
    times = (float(found[column]) for column in ("50%", "95%", "99%"))
    return Point(users, served, max(0.0, rate - served), *times)


def plot(curves: dict[str, list[Point]], folder: Path) -> None:
    """Two pictures: rate against users, and p50, p95 and p99 against users."""
    import matplotlib  # noqa: PLC0415 - only here

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, points in curves.items():
        axes.plot([p.users for p in points], [p.uploads_per_second for p in points], marker="o", label=name)
    _finish(figure, axes, "uploads per second", folder / "performance-rate.png")
    figure, axes = pyplot.subplots(figsize=(7, 4))
    points = curves[SETUPS[1].name] if SETUPS[1].name in curves else next(iter(curves.values()))
    for quantile in ("p50_ms", "p95_ms", "p99_ms"):
        axes.plot([p.users for p in points], [getattr(p, quantile) for p in points], marker="o", label=quantile[:3])
    axes.set_yscale("log")
    _finish(figure, axes, "milliseconds of an upload", folder / "performance-times.png")


def _finish(figure, axes, what: str, path: Path) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(USERS, [str(users) for users in USERS])
    axes.set_xlabel("users")
    axes.set_ylabel(what)
    axes.set_ylim(bottom=0 if axes.get_yscale() == "linear" else None)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two setups and few users, to see that it works")
    parser.add_argument("--plots", type=Path, help="draw two pictures into this folder")
    arguments = parser.parse_args()
    users, seconds, setups = (USERS, 12.0, SETUPS)
    if arguments.quick:
        users, seconds, setups = (1, 4), 4.0, (SETUPS[0], SETUPS[2])
    curves: dict[str, list[Point]] = {}
    head("what serves, users", "uploads/s", "refused/s", "p50 ms", "p95 ms", "p99 ms")
    for setup in setups:
        with serving(setup) as url:
            measure(url, 2, 3)
            curves[setup.name] = []
            for number in users:
                point = measure(url, number, seconds)
                curves[setup.name].append(point)
                row(
                    f"{setup.name}, {number}",
                    *(f"{value:.1f}" for value in point[1:3]),
                    *(f"{value:.0f}" for value in point[3:]),
                )
    if arguments.plots:
        plot(curves, arguments.plots)


if __name__ == "__main__":
    main()
