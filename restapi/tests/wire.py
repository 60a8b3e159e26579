"""HTTP by hand: what no proper client would send, and exactly what comes back."""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple

HOST = b"Host: 127.0.0.1\r\n"


class Answer(NamedTuple):
    """One answer of a server."""

    status: int
    headers: dict[str, str]  # names in small letters
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Exchange(NamedTuple):
    """What came back on a connection."""

    answers: list[Answer]
    closed: bool  # by the server, within the time


def exchange(port: int, sent: bytes, *, then_close: bool = False, seconds: float = 10) -> Exchange:
    """Send bytes and read until the server closes.

    Args:
        then_close: say that nothing more will come (half-close).
        seconds: how long to wait for another byte.
    """
    received, closed = b"", False
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            connection.sendall(sent)
            if then_close:
                connection.shutdown(socket.SHUT_WR)
            while some := connection.recv(1 << 16):
                received += some
            closed = True
        except TimeoutError:
            pass
        except ConnectionError:
            closed = True
    return Exchange(parsed(received), closed)


def parsed(received: bytes) -> list[Answer]:
    """The answers in a stream; each has to tell its length."""
    answers = []
    while received:
        head, blank, rest = received.partition(b"\r\n\r\n")
        assert blank, f"half an answer: {received[:200]!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        status = int(first.split()[1])
        length = 0 if status in (100, 204, 304) else int(headers["content-length"])
        assert len(rest) >= length, f"a short answer: {received[:300]!r}"
        if status != 100:
            answers.append(Answer(status, headers, rest[:length]))
        received = rest[length:]
    return answers


def request(line: str, *headers: str, body: bytes = b"", host: bytes = HOST) -> bytes:
    """A request that is well-formed unless its parts are not."""
    return (
        line.encode("latin-1")
        + b"\r\n"
        + host
        + b"".join(h.encode("latin-1") + b"\r\n" for h in headers)
        + b"\r\n"
        + body
    )


def chunked(*pieces: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def part(content: bytes, disposition: str, *headers: str) -> bytes:
    """One part of a multipart body with the boundary `edge`."""
    lines = (f"Content-Disposition: form-data; {disposition}", *headers)
    return b"--edge\r\n" + "".join(f"{line}\r\n" for line in lines).encode("utf-8") + b"\r\n" + content + b"\r\n"


MULTIPART = "Content-Type: multipart/form-data; boundary=edge"
END = b"--edge--\r\n"
