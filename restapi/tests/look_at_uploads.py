"""Read every file of a folder as the service does, and print what each took: run in a process of its own.

Usage: python -m tests.look_at_uploads FOLDER [--decode-only]
Prints one JSON object with, by file name: status, slug, decoded (whether it got past the header), cpu_seconds,
grown_mib (how far the peak of memory moved) and size_wh.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from imgdetect import images
from imgdetect.errors import Problem

LIMITS = {"max_bytes": 25_000_000, "max_pixels": 25_000_000, "max_side": 16_384}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def look(data: bytes, decode_only: bool) -> dict[str, Any]:
    seen: dict[str, Any] = {"status": 200, "slug": "", "decoded": decode_only, "size_wh": None}
    peak, started = peak_mib(), time.process_time()
    try:
        if not decode_only:
            upload = images.read_upload(data, "photo.jpg", **LIMITS)
            seen |= {"decoded": True, "size_wh": (upload.width, upload.height)}
        images.decode(data)
    except Problem as problem:
        seen |= {"status": problem.status, "slug": problem.slug}
    return seen | {"cpu_seconds": time.process_time() - started, "grown_mib": peak_mib() - peak}


def look_apart(file: Path, decode_only: bool) -> dict[str, Any]:
    """Look at one file in a forked child, whose peak of memory starts afresh."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, json.dumps(look(file.read_bytes(), decode_only)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        seen = answer.read()
    _, status = os.waitpid(child, 0)
    return json.loads(seen) if not status else {"status": 500, "slug": f"the child ended with {status}"}


def main() -> None:
    decode_only = "--decode-only" in sys.argv
    print(json.dumps({file.name: look_apart(file, decode_only) for file in sorted(Path(sys.argv[1]).iterdir())}))


if __name__ == "__main__":
    main()
