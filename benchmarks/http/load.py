"""wrk, which costs the machine least of all clients."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
_runs = count(1)


class Load(NamedTuple):
    """What a run of wrk measured."""

    per_second: float  # of answers with a status below 400
    failed: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


def wrk(url: str, seconds: float, clients: int, script: str, *arguments: str) -> Load:
    """Put load on an address.

    Raises:
        RuntimeError: wrk is not installed.
    """
    if not shutil.which("wrk"):
        raise RuntimeError("wrk is not installed; as root: apt-get install wrk")
    threads = str(min(2, clients))
    command = ["wrk", "-t", threads, "-c", str(clients), "-d", f"{seconds:g}s", "--timeout", "60s", "--latency"]
    command += ["-s", str(HERE / script), url, "--", *arguments]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(printed.strip().splitlines()[-1])
    good = found["requests"] - found["failed"]
    return Load(good / found["seconds"], found["failed"], found["p50_ms"], found["p95_ms"], found["p99_ms"])


def post(url: str, path: str, jpeg: bytes, seconds: float, clients: int, *, distinct: bool) -> Load:
    """Upload a picture, or as many that differ from it in a comment only."""
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(jpeg)
        file.flush()
        return wrk(
            url, seconds, clients, "post.lua", file.name, path, "distinct" if distinct else "same", str(next(_runs))
        )


def get(url: str, seconds: float, clients: int) -> Load:
    """Fetch an address."""
    return wrk(url, seconds, clients, "get.lua")
