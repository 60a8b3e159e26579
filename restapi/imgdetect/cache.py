"""The cache of results, chosen by a URL: `memory:?max_bytes=67108864&ttl_seconds=3600` or `none:`.

A cache may forget anything at any time and never fails a request. Values are bytes under keys of our own making.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from cachetools import TTLCache

from imgdetect.backends import parse, refuse_unknown

# What an entry takes besides its value: the key, the links and the slots of the dicts (about 500 bytes, measured).
_ENTRY_BYTES = 512


class Cache(Protocol):
    """Remembers bytes for a while."""

    def get(self, key: str) -> bytes | None:
        """What was set; None when it is not there any more."""
        ...

    def set(self, key: str, value: bytes) -> None:
        """Remember a value as long as there is room."""
        ...


def create(url: str) -> Cache:
    """The cache that a URL names.

    Raises:
        ValueError: an unknown scheme, or an unknown or wrong parameter.
    """
    scheme, target, parameters = parse(url)
    if scheme not in _KINDS:
        raise ValueError(f"there is no cache {scheme!r}; known here: {', '.join(sorted(_KINDS))}")
    return _KINDS[scheme](target, parameters)


class NoCache:
    """Remembers nothing."""

    def get(self, key: str) -> bytes | None:
        return None

    def set(self, key: str, value: bytes) -> None:
        pass


class MemoryCache:
    """The least recently used entries go first, and every entry when it is too old. Safe for many threads.

    Args:
        max_bytes: the most all entries together take, bookkeeping included.
        ttl_seconds: the age at which an entry is forgotten.
        timer: a clock in seconds that never goes back.
    """

    def __init__(self, max_bytes: int, ttl_seconds: float, timer: Callable[[], float] | None = None) -> None:
        clock = {"timer": timer} if timer else {}
        self._entries: TTLCache[str, bytes] = TTLCache(max_bytes, ttl_seconds, getsizeof=_entry_bytes, **clock)
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        with self._lock:
            return self._entries.get(key)

    def set(self, key: str, value: bytes) -> None:
        with self._lock:
            self._entries.pop(key, None)
            with suppress(ValueError):  # larger than the whole cache: not kept
                self._entries[key] = value


def _entry_bytes(value: bytes) -> int:
    return len(value) + _ENTRY_BYTES


def _none(target: str, parameters: dict[str, str]) -> Cache:
    _refuse_target(target)
    refuse_unknown(parameters)
    return NoCache()


def _memory(target: str, parameters: dict[str, str]) -> Cache:
    _refuse_target(target)
    refuse_unknown(parameters, "max_bytes", "ttl_seconds")
    max_bytes = int(parameters.get("max_bytes", 67_108_864))
    ttl_seconds = float(parameters.get("ttl_seconds", 3600))
    if max_bytes < 1 or not 0 < ttl_seconds < float("inf"):
        raise ValueError("max_bytes and ttl_seconds of the cache must be positive")
    return MemoryCache(max_bytes, ttl_seconds)


def _refuse_target(target: str) -> None:
    if target:
        raise ValueError(f"this cache takes no target, but was given {target!r}")


_KINDS: dict[str, Callable[[str, dict[str, str]], Cache]] = {"memory": _memory, "none": _none}
