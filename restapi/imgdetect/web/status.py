"""The few addresses of a process that serves no clients: is it alive, is it ready, what has it done."""

from __future__ import annotations

import threading
from typing import Any

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server


class StatusServer:
    """Serves an application to probes, in threads of this process.

    Args:
        bind: HOST:PORT to listen on.
    Raises:
        ValueError: that is no address, or it is taken.
    """

    def __init__(self, app: Flask, bind: str) -> None:
        host, _, port = bind.rpartition(":")
        try:
            self._server = make_server(host.strip("[]"), int(port), app, threaded=True, request_handler=_Quietly)
        except (OSError, OverflowError, ValueError) as error:
            raise ValueError(f"cannot listen on {bind!r}: {error}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Quietly(WSGIRequestHandler):
    """Probes come too often for the log."""

    def log_request(self, *unused: Any) -> None:
        """Leave it."""
