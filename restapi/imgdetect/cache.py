"""The cache of results, chosen by a URL: `memory:?max_bytes=67108864`, `redis://host:6379/0?ttl_seconds=3600`, `none:`.

A cache may forget anything at any time and never fails a request. Values are bytes under keys of our own making.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any, Protocol

from cachetools import TTLCache

from imgdetect.backends import parse, positive, refuse_unknown

# What an entry takes besides its value: the key, the links and the slots of the dicts (about 500 bytes, measured).
_ENTRY_BYTES = 512
_REDIS = ("redis", "rediss")


class Cache(Protocol):
    """Remembers bytes for a while."""

    def get(self, key: str) -> bytes | None:
        """What was set; None when it is not there any more."""
        ...

    def set(self, key: str, value: bytes) -> None:
        """Remember a value as long as there is room."""
        ...

    def check(self) -> None:
        """Raise BackendUnavailable when the cache cannot do its work at the moment."""
        ...


def create(url: str) -> Cache:
    """The cache that a URL names.

    Raises:
        ValueError: an unknown scheme, or an unknown or wrong parameter.
    """
    scheme, target, parameters = parse(url)
    if scheme in _REDIS:
        cache: Cache = _redis_module(scheme).create(scheme, target, parameters)
        return cache
    if scheme not in _KINDS:
        raise ValueError(f"there is no cache {scheme!r}; known here: {', '.join(sorted((*_KINDS, *_REDIS)))}")
    return _KINDS[scheme](target, parameters)


def redis_pool(url: str) -> Any:
    """Connections to the Redis of a cache, for what else is to be shared there; None where the URL names another kind.

    Raises:
        ValueError: as `create`.
    """
    scheme, target, parameters = parse(url)
    return _redis_module(scheme).pool(scheme, target, parameters) if scheme in _REDIS else None


class NoCache:
    """Remembers nothing."""

    def get(self, key: str) -> bytes | None:
        return None

    def set(self, key: str, value: bytes) -> None:
        pass

    def check(self) -> None:
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

    def check(self) -> None:
        pass


def _entry_bytes(value: bytes) -> int:
    return len(value) + _ENTRY_BYTES


def _redis_module(scheme: str) -> ModuleType:
    """The module of the Redis cache, whose library only those need who name one."""
    try:
        return importlib.import_module("imgdetect.redis_cache")
    except ModuleNotFoundError as error:
        extra = "pip install 'imgdetect[redis]'"
        raise ValueError(f"the cache {scheme!r} needs the package {error.name!r}; {extra} installs it") from None


def _none(target: str, parameters: dict[str, str]) -> Cache:
    _refuse_target(target)
    refuse_unknown(parameters)
    return NoCache()


def _memory(target: str, parameters: dict[str, str]) -> Cache:
    _refuse_target(target)
    refuse_unknown(parameters, "max_bytes", "ttl_seconds")
    max_bytes = int(parameters.get("max_bytes", 67_108_864))
    if max_bytes < 1:
        raise ValueError("max_bytes of the cache must be positive")
    return MemoryCache(max_bytes, positive(parameters, "ttl_seconds", 3600))


def _refuse_target(target: str) -> None:
    if target:
        raise ValueError(f"this cache takes no target, but was given {target!r}")


_KINDS: dict[str, Callable[[str, dict[str, str]], Cache]] = {"memory": _memory, "none": _none}
