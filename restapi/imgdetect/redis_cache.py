"""The cache of results in a Redis: `redis://host:6379/0?ttl_seconds=3600`, or `rediss:` for TLS.

A Redis that does not answer in time is left alone for two seconds; requests do without it, and that is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from imgdetect import errors, logs, metrics
from imgdetect.backends import positive, refuse_unknown
from imgdetect.breaker import Breaker

log = logs.get_logger(__name__)
REST_SECONDS = 2.0
_TROUBLES = (redis.RedisError, OSError)


def create(scheme: str, target: str, parameters: dict[str, str]) -> RedisCache:
    """The cache, which is not asked yet: it may be down when the service starts.

    Raises:
        ValueError: the URL is wrong. The target is not repeated: it may hold a password.
    """
    max_value_bytes = int(positive(parameters, "max_value_bytes", 8_388_608))
    ttl_seconds = positive(parameters, "ttl_seconds", 3600)
    return RedisCache(pool(scheme, target, parameters), max_value_bytes, ttl_seconds)


def pool(scheme: str, target: str, parameters: dict[str, str]) -> redis.ConnectionPool:
    """Connections to the Redis of a URL, with timeouts.

    Raises:
        ValueError: as `create`.
    """
    own = ("ca_file",) if scheme == "rediss" else ()
    refuse_unknown(parameters, "ttl_seconds", "timeout_seconds", "max_value_bytes", *own)
    timeout_seconds = positive(parameters, "timeout_seconds", 0.5)
    if not _is_address(f"{scheme}:{target}"):
        raise ValueError(f"{scheme}: needs a host, and takes a port and a database, as in 'redis://host:6379/0'")
    ca_file = parameters.get("ca_file")
    if ca_file is not None and not Path(ca_file).is_file():
        raise ValueError(f"{scheme}: there is no file {ca_file}, which ca_file names")
    connections: redis.ConnectionPool = redis.ConnectionPool.from_url(
        f"{scheme}:{target}",
        protocol=2,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        # A connection from before a restart of Redis is replaced at once; a Redis that is slow is not asked twice.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        **({"ssl_ca_certs": ca_file} if ca_file else {}),
    )
    return connections


class RedisCache:
    """Keeps entries in a Redis that many machines may share. What Redis does not do in time is not done, and counted.

    Args:
        connections: to Redis, with timeouts.
        max_value_bytes: a larger value is not kept.
        ttl_seconds: the age at which an entry is forgotten.
    """

    def __init__(self, connections: redis.ConnectionPool, max_value_bytes: int, ttl_seconds: float) -> None:
        self._redis = redis.Redis(connection_pool=connections)
        self._max_value_bytes = max_value_bytes
        self._ttl_ms = max(1, round(ttl_seconds * 1000))
        self._breaker = Breaker(REST_SECONDS)

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._ask(self._redis.get, _named(key))
        return value

    def set(self, key: str, value: bytes) -> None:
        if len(value) > self._max_value_bytes:
            self._ask(self._redis.delete, _named(key))  # least of all is the value that it replaces kept
        else:
            self._ask(self._redis.set, _named(key), value, px=self._ttl_ms)

    def check(self) -> None:
        """Ask Redis whether it is there, also while it is left alone."""
        try:
            self._redis.ping()
        except _TROUBLES as error:
            raise errors.BackendUnavailable("Redis does not answer.") from error
        self._breaker.worked()

    def _ask(self, command: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """The answer to a command; None, counted, when there is none."""
        if not self._breaker.permits():
            metrics.cache_total.labels("error").inc()
            return None
        try:
            answer = command(*arguments, **options)
        except _TROUBLES as error:
            if not isinstance(error, redis.ResponseError):  # one that refuses, as it does when it is full, is there
                self._breaker.failed()
            metrics.cache_total.labels("error").inc()
            log.warning("Redis does not answer; going on without the cache", error=type(error).__name__)
            return None
        self._breaker.worked()
        return answer


def _named(key: str) -> str:
    return f"imgdetect:result:{key}"


def _is_address(url: str) -> bool:
    parts = urlsplit(url)
    database = parts.path.strip("/")
    try:
        good_port = parts.port != 0
    except ValueError:
        good_port = False
    return (
        url.partition(":")[2].startswith("//")
        and bool(parts.hostname)
        and good_port
        and (database.isdecimal() or not database)
    )
