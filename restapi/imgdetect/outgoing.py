"""One HTTP request to a URL that a client gave: only to addresses that are admitted, bounded in time and size."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple

from imgdetect.addresses import Network, Target, resolve


class NoAnswer(Exception):
    """Nobody answered, not in time, or not in HTTP; the text says which."""


class Answer(NamedTuple):
    """What came back; redirects are answers like any other."""

    status: int
    headers: Mapping[str, str]  # by lower-case name
    body: bytes  # of the first `max_bytes`
    whole: bool  # whether that is all of it


def exchange(
    target: Target,
    method: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    *,
    allowed: tuple[Network, ...],
    seconds: float,
    max_bytes: int,
) -> Answer:
    """Send a request and read its answer.

    Args:
        headers: without Host.
        allowed: networks besides the public ones.
        seconds: for everything together.
        max_bytes: of the answer's body; more is not read.
    Raises:
        AddressRefused, NameUnknown: as `addresses.resolve`.
        NoAnswer: as it says.
    """
    until = time.monotonic() + seconds
    addresses = resolve(target, allowed, seconds)
    try:
        with _connected(target, addresses, until) as connection:
            # The address was chosen above; the client must never look for one itself.
            client = http.client.HTTPConnection(target.host, target.port)
            client.auto_open = 0
            client.sock = connection
            client.request(method, target.path, body, {"Host": target.authority, "Connection": "close", **headers})
            with client.getresponse() as answer:
                received = answer.read(max_bytes + 1)
                told = {name.lower(): value for name, value in answer.getheaders()}
                if time.monotonic() >= until:  # what was cut looks like an answer that ends
                    raise TimeoutError
                whole = len(received) <= max_bytes and not (answer.length or 0)
                return Answer(answer.status, told, received[:max_bytes], whole)
    except ssl.SSLError as error:
        raise NoAnswer(f"TLS failed: {error.reason or 'closed'}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        late = time.monotonic() >= until
        raise NoAnswer("no answer in time" if late else "no connection, or no answer in HTTP") from error


@contextmanager
def _connected(target: Target, addresses: list[str], until: float) -> Iterator[socket.socket]:
    """A connection to one of the addresses, for https with TLS, that is cut when the time is up."""
    connection = _first(addresses, target.port, until)
    try:
        if target.scheme == "https":
            context = ssl.create_default_context()
            connection = context.wrap_socket(connection, server_hostname=target.host, do_handshake_on_connect=False)
        # Time limits of sockets count from byte to byte; whoever sends one a second would never meet them.
        watch = threading.Timer(max(0.0, until - time.monotonic()), _cut, [connection])
        watch.daemon = True
        watch.start()
        try:
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            yield connection
        finally:
            watch.cancel()
    finally:
        connection.close()


def _first(addresses: list[str], port: int, until: float) -> socket.socket:
    """A connection to the first address that takes one."""
    trouble: OSError = TimeoutError()
    for address in addresses:
        left = until - time.monotonic()
        if left <= 0:
            break
        try:
            return socket.create_connection((address, port), left)
        except OSError as error:
            trouble = error
    raise trouble


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        # Not the method of a TLS socket, which is for the thread that reads from it.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
