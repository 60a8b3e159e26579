"""A stand-in for the service behind nginx: it notes what reaches it and answers as the path says."""

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Seen(NamedTuple):
    """A request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Upstream:
    """Listens on a port of its own; use it as a context manager.

    `/accel/PATH` answers with X-Accel-Redirect to `/_files/PATH`, `/bare` without any header that nginx could repeat,
    `/slow` after two seconds, `/script.js` with a long script; everything else with 200 and `{}`.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                upstream.seen.append(Seen(self.command, self.path, self.headers.items(), body))
                if self.path == "/slow":
                    time.sleep(2)
                headers, content = _answer_to(self.path)
                with suppress(ConnectionError):  # nginx has lost patience
                    self.send_response(200)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_DELETE = do_OPTIONS = answer

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Upstream":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _answer_to(path: str) -> tuple[dict[str, str], bytes]:
    own = {
        "Content-Type": "application/json",
        "X-Request-ID": "the-upstreams-own",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": "default-src 'self'",
        "Cache-Control": "no-store",
    }
    if path.startswith("/accel/"):
        file = "/_files/" + path.removeprefix("/accel/")
        return own | {"X-Accel-Redirect": file, "ETag": '"etag"', "Cache-Control": "private, immutable"}, b""
    if path == "/bare":
        return {"Content-Type": "text/plain"}, b"bare"
    if path == "/script.js":
        return own | {"Content-Type": "text/javascript"}, b"'a long script';" * 1000
    return own, json.dumps({}).encode()
