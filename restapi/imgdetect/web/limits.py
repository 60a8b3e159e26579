"""How many requests a client may send: per API key, or per address where there is none. Only probes are free.

Counted in the Redis of the cache where there is one, so that all processes and machines count together, else in each
process. When that Redis does not answer, each process counts for itself: the limit is there against the greed of some,
and refusing everybody because the counter is gone would be worse than counting too little.
"""

from __future__ import annotations

import ipaddress
import time

from flask import Flask, Response, request
from flask_limiter import Limiter, RateLimitExceeded

from imgdetect import cache, errors, metrics
from imgdetect.config import Settings
from imgdetect.web.auth import Gate
from imgdetect.web.operations import OPEN_TO_PROBES
from imgdetect.web.problems import response_of

_IPV6_PREFIX = 64  # what a provider gives to one customer


def register(app: Flask, settings: Settings, gate: Gate) -> None:
    """Limit every request but those of probes.

    Raises:
        ValueError: the cache's URL names a Redis and is wrong.
    """
    rate = "; ".join(settings.rate_limit.split())
    pool = cache.redis_pool(settings.cache_url)
    limiter = Limiter(
        lambda: _client(gate),
        app=app,
        application_limits=[rate],
        strategy="sliding-window-counter",
        storage_uri="redis://" if pool else "memory://",
        storage_options={"connection_pool": pool} if pool else {},
        in_memory_fallback=[rate] if pool else [],
        key_prefix="imgdetect",
        # flask-limiter passes over files and addresses that are not there; under one name nothing is passed over.
        request_identifier=lambda: "all",
    )
    limiter.request_filter(lambda: request.endpoint in OPEN_TO_PROBES)

    def refuse(_: RateLimitExceeded) -> Response:
        metrics.rate_limit_total.labels("refused").inc()
        problem = errors.TooManyRequests("There is a limit on the requests of one client in a time.")
        problem.retry_after_seconds = _seconds_to_wait(limiter)
        return response_of(problem)

    def count(answer: Response) -> Response:
        if limiter.limiter.storage is not limiter.storage and request.endpoint not in OPEN_TO_PROBES:
            metrics.rate_limit_total.labels("fallback").inc()
        return answer

    app.register_error_handler(RateLimitExceeded, refuse)
    app.after_request(count)


def _client(gate: Gate) -> str:
    """Who a request is counted for: the owner of its key, or its address where it has none that is known."""
    try:
        owner = gate.owner(request)
    except errors.Unauthorized:  # counted too, so that keys cannot be guessed faster than this
        owner = ""
    return f"key {owner}" if owner else f"address {_network(request.remote_addr or '')}"


def _network(address: str) -> str:
    """The address, or of IPv6 the network that belongs to one customer."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket, or a proxy that says "unknown"
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
    return str(parsed)


def _seconds_to_wait(limiter: Limiter) -> int:
    try:
        limit = limiter.current_limit
        return max(1, round(limit.reset_at - time.time())) if limit else 1
    except Exception:  # Redis went away just now
        return 1
