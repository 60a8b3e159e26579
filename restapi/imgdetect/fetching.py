"""Download a large file: what was cut off goes on where it ended, and nothing is believed before its checksum is."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import requests

_CHUNK = 1 << 14  # so much is lost where a connection is cut
_TIMEOUTS = 10, 60  # seconds to connect, and between two pieces
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def fetch(
    url: str,
    path: Path,
    *,
    max_bytes: int,
    sha256: str = "",
    tries: int = 5,
    pause_seconds: float = 1.0,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> str:
    """Download a file; what arrived stays beside it as `.part` until it is whole, for this call or the next.

    Args:
        path: where it goes; it appears there whole and with the right checksum, or not at all.
        max_bytes: a longer file is refused.
        sha256: what it has to be, hexadecimal; empty: whatever it is.
        tries: how often a connection may fail without anything new.
        pause_seconds: the wait after a failure.
        progress: told the bytes that are there, and all there will be, None where the server does not say.
    Returns:
        Its SHA-256.
    Raises:
        ValueError: it cannot be had, is too large, or is another file; one line.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise ValueError(f"{url}: files are fetched over https only")
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    left = tries
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _more(url, part, max_bytes, progress)
            break
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            grown = part.exists() and part.stat().st_size > before
            left = tries if grown else left - 1
            if left <= 0:
                reason = type(error).__name__
                raise ValueError(f"{url}: the connection failed {tries} times ({reason}); try again later") from None
            time.sleep(pause_seconds)
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 and found != sha256:
        part.unlink()
        raise ValueError(
            f"{url}: this is another file: its SHA-256 is {found} and should be {sha256}; nothing was kept"
        )
    part.replace(path)
    return found


def _more(url: str, part: Path, max_bytes: int, progress: Callable[[int, int | None], None]) -> None:
    """Append what is missing of a file.

    Raises:
        requests' errors: the connection failed; what came stays.
    """
    done = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUTS) as answer:
        if answer.status_code == 416:  # the part is whole already, or of another file
            total = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("Content-Range", ""))
            if total and int(total[1]) == done:
                return
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("the file has changed")
        if answer.status_code >= 500 or answer.status_code == 429:
            raise requests.ConnectionError(f"answer {answer.status_code}")
        if answer.status_code not in (200, 206):
            raise ValueError(f"{url}: the server answered {answer.status_code}")
        goes_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        if answer.status_code == 206 and not goes_on:
            raise ValueError(f"{url}: the server sent another part than was asked for")
        done = done if goes_on else 0
        length = answer.headers.get("Content-Length", "")
        total_bytes = done + int(length) if length.isdecimal() else None
        if (total_bytes or 0) > max_bytes:
            raise ValueError(f"{url}: has {total_bytes} bytes, more than the {max_bytes} that it may have")
        with part.open("ab" if goes_on else "wb") as file:
            for chunk in answer.iter_content(_CHUNK):
                done += len(chunk)
                if done > max_bytes:
                    file.truncate(0)
                    raise ValueError(f"{url}: is longer than the {max_bytes} bytes that it may have")
                file.write(chunk)
                progress(done, total_bytes)
    if total_bytes is not None and done < total_bytes:
        raise requests.ConnectionError("cut off")
