"""Live servers that have to be gone, with all their processes and temporary files, when they have stopped."""

import sqlite3
import tempfile
import unittest
from contextlib import closing, contextmanager
from pathlib import Path
from typing import ClassVar

import requests

from tests.app import astronaut
from tests.contract import check
from tests.live_server import LiveServer
from tests.processes import everybody_with, until


class FaultTest(unittest.TestCase):
    """Servers that have to be gone, with all their processes and temporary files, when they have stopped."""

    options: ClassVar[tuple[str, ...]] = ()  # more of gunicorn's

    @contextmanager
    def serving(self, **settings):
        temporary = self.enterContext(tempfile.TemporaryDirectory(prefix="imgdetect-test-tmp-"))
        named = {f"IMGDETECT_{name}": value for name, value in settings.items()}
        server = LiveServer(**{"IMGDETECT_SLOTS": "2", "IMGDETECT_CACHE_URL": "none:", "TMPDIR": temporary} | named)
        server.options = [*self.options]
        try:
            server.start()
            yield server
            if server.process is not None:
                self.assertEqual(server.stop(), 0, server.log()[-2000:])
            self.assertGone(server)
        finally:
            server.__exit__()

    def assertGone(self, server):
        mark = f"IMGDETECT_BIND={server.environment['IMGDETECT_BIND']}"
        self.assertTrue(until(lambda: not everybody_with(mark)), everybody_with(mark))
        self.assertEqual([*Path(server.environment["TMPDIR"]).iterdir()], [])

    def post(self, server, data, endpoint="image", headers=None, **parameters):
        files = {"image": ("image.jpg", data)}
        # A server that stops waits two seconds for connections that are kept alive.
        headers = {"Connection": "close"} | (headers or {})
        return requests.post(f"{server.api}/{endpoint}", files=files, data=parameters, headers=headers, timeout=120)

    def query(self, server, sql, *values):
        with closing(sqlite3.connect(server.data / "imgdetect.db", timeout=20)) as database, database:
            return database.execute(sql, values).fetchall()

    def rows(self, server):
        keys = self.query(server, "SELECT original_key, processed_key FROM records")
        return sorted(key for row in keys for key in row if key)

    def files(self, server):
        return sorted(path.name for path in (server.data / "images").rglob("*") if path.is_file())

    def assertRowsAndFilesAgree(self, server):
        self.assertEqual(self.rows(server), self.files(server))

    def assertProblem(self, answer, status, code):
        check(answer)
        self.assertEqual((answer.status_code, answer.json()["code"]), (status, code), answer.text)

    def assertServes(self, server):
        answer = check(self.post(server, astronaut()))
        self.assertEqual(answer.status_code, 200, answer.text)
        self.assertEqual(len(answer.json()["detections"]), 1)
