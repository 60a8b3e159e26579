"""Where a URL that a client gave may lead: to public addresses, and to networks that the operator allows.

A name is looked up once, every address of it has to be admitted, and the connection goes to one of those that were
checked: what the name means a moment later makes no difference.
"""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
from typing import NamedTuple
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_LENGTH = 2048
_URL = re.compile(r"https?://[\x21\x23-\x5b\x5d-\x7e]+", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")
# Below these, ports belong to services that speak something else: mail, for example.
_PORTS = {80, 443}
_FIRST_FREE_PORT = 1024
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# Of no use to anybody honest, or they lead to IPv4 addresses; not every version of Python knows them all.
_SPECIAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4"),
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)


class AddressRefused(Exception):
    """The URL is not one that may be used here; the text is a sentence for whoever gave it."""


class NameUnknown(Exception):
    """The name has no address, or its look-up did not end in time."""


class Target(NamedTuple):
    """The parts of a URL."""

    scheme: str  # http or https
    host: str  # a name or an address, without brackets
    port: int
    path: str  # with the query; it begins with a slash

    @property
    def authority(self) -> str:
        """What belongs into the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"


def networks(text: str) -> tuple[Network, ...]:
    """Networks separated by blanks, such as `10.1.0.0/16 fd00::/8`.

    Raises:
        ValueError: one of them is none.
    """
    return tuple(ipaddress.ip_network(part) for part in text.split())


def target_of(url: str) -> Target:
    """The parts of a URL whose form is in order; where it leads is not known then.

    Raises:
        AddressRefused: another scheme, a user name, a fragment, an unusual port, or no URL at all.
    """
    if len(url) > MAX_URL_LENGTH:
        raise AddressRefused(f"should have {MAX_URL_LENGTH} characters at most")
    if not _URL.fullmatch(url):
        raise AddressRefused("should be an http or https URL of ASCII characters without blanks")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise AddressRefused("should be a URL with a host and, if at all, a port from 1 to 65535") from None
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise AddressRefused("should hold no user name and no password")
    if "#" in url:
        raise AddressRefused("should hold no fragment (#)")
    if "%" in host or not (_HOST.fullmatch(host) or _literal(host)):
        raise AddressRefused("should hold the name or the address of a host (other alphabets as xn--...)")
    port = {"http": 80, "https": 443}[parts.scheme] if port is None else port
    if port not in _PORTS and port < _FIRST_FREE_PORT:
        raise AddressRefused(f"should use port 80, 443, or one from {_FIRST_FREE_PORT} on")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, path)


def is_admitted(address: Address, allowed: tuple[Network, ...] = ()) -> bool:
    """Whether an address is a public one, or lies in one of the networks.

    Loopback, private, link-local, shared (CGNAT), multicast, reserved and unspecified ones are not public, nor is any
    IPv6 address that stands for an IPv4 one.
    """
    if any(address in network for network in allowed):
        return True
    if any(address in network for network in _SPECIAL):
        return False
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_private)


def refuse_at_once(target: Target, allowed: tuple[Network, ...]) -> None:
    """Refuse what can be told to lead astray without looking anything up.

    Raises:
        AddressRefused: the host is an address that is not admitted, or the name of this machine.
    """
    name = target.host.lower().rstrip(".")
    address = _literal("127.0.0.1" if name == "localhost" or name.endswith(".localhost") else target.host)
    if address is not None:
        _must_be_admitted(address, allowed)


def resolve(target: Target, allowed: tuple[Network, ...], seconds: float) -> list[str]:
    """The addresses of a host, all of them admitted, each once.

    Raises:
        AddressRefused: one of them is not.
        NameUnknown: there is none, or not in time.
    """
    found: list[str] = []
    for text in _look_up(target.host, target.port, seconds):
        # An address with a zone is link-local; without it, it is refused as such.
        _must_be_admitted(ipaddress.ip_address(text.partition("%")[0]), allowed)
        if text not in found:
            found.append(text)
    return found


def _must_be_admitted(address: Address, allowed: tuple[Network, ...]) -> None:
    if not is_admitted(address, allowed):
        raise AddressRefused("should lead to a public address, or to a network that this server allows")


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _look_up(host: str, port: int, seconds: float) -> list[str]:
    """The addresses of a host by the system's resolver, which knows no time limit of its own."""
    answers: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put([str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise NameUnknown(host) from None
    if isinstance(answer, Exception) or not answer:
        raise NameUnknown(host)
    return answer
