"""Pictures that are fetched from a URL that a client gave, within the rules for addresses."""

from __future__ import annotations

import threading
import time
from urllib.parse import unquote, urldefrag, urljoin

from imgdetect.addresses import AddressRefused, NameUnknown, Network, Target, target_of
from imgdetect.errors import Busy, InvalidRequest, RemoteFailed, RemoteTooSlow, UploadTooLarge
from imgdetect.headers import ACCEPTED
from imgdetect.outgoing import Answer, NoAnswer, exchange

MAX_REDIRECTS = 3
# For everything together, redirects included.
SECONDS = 10.0
# Each holds a thread of the server for as long as the other side takes.
_AT_ONCE = 4
_fetching = threading.BoundedSemaphore(_AT_ONCE)
_REDIRECTS = {301, 302, 303, 307, 308}
_HEADERS = {"Accept": ", ".join(ACCEPTED), "User-Agent": "imgdetect"}


def fetch(url: str, *, allowed: tuple[Network, ...], max_bytes: int, seconds: float = SECONDS) -> tuple[bytes, str]:
    """The bytes behind a URL, and the name of the file in it; every redirect is held against the rules as well.

    Args:
        allowed: networks besides the public ones.
        max_bytes: the most that is read.
        seconds: for everything together.
    Raises:
        InvalidRequest: the URL, or one that it redirects to, may not be used.
        RemoteFailed: nobody is there, or answers with anything but a file.
        RemoteTooSlow: the file did not come in time.
        UploadTooLarge: it is larger than `max_bytes`.
        Busy: as many as may be are being fetched.
    """
    if not _fetching.acquire(blocking=False):
        raise Busy("As many addresses as this server fetches from at once are being fetched from.")
    try:
        return _followed(url, allowed, max_bytes, time.monotonic() + seconds)
    finally:
        _fetching.release()


def _followed(url: str, allowed: tuple[Network, ...], max_bytes: int, until: float) -> tuple[bytes, str]:
    for _ in range(MAX_REDIRECTS + 1):
        target = _target(url)
        answer = _answer(target, allowed, max_bytes, until)
        if answer.status in _REDIRECTS and "location" in answer.headers:
            url = urldefrag(urljoin(url, answer.headers["location"]))[0]
            continue
        if answer.status != 200:
            raise RemoteFailed(f"The address answers with the status {answer.status}.")
        if len(answer.body) == max_bytes and not answer.whole:
            raise UploadTooLarge(max_bytes=max_bytes)
        if not answer.whole:
            raise RemoteFailed("The answer ended before its end.")
        return answer.body, unquote(target.path.partition("?")[0].rpartition("/")[2])
    raise RemoteFailed(f"The address redirects more than {MAX_REDIRECTS} times.")


def _target(url: str) -> Target:
    try:
        return target_of(url)
    except (AddressRefused, ValueError) as error:
        raise InvalidRequest.field("url", str(error)) from None


def _answer(target: Target, allowed: tuple[Network, ...], max_bytes: int, until: float) -> Answer:
    left = until - time.monotonic()
    try:
        if left <= 0:
            raise NoAnswer("no answer in time")
        return exchange(target, "GET", _HEADERS, allowed=allowed, seconds=left, max_bytes=max_bytes)
    except AddressRefused as error:
        raise InvalidRequest.field("url", str(error)) from None
    except NameUnknown:
        raise RemoteFailed("The host of the address is not known.") from None
    except NoAnswer as error:
        if time.monotonic() >= until:
            raise RemoteTooSlow("The picture did not come in time.") from None
        raise RemoteFailed(f"The address gives no picture: {error}.") from None
