"""A live gunicorn with nothing in front of it, whose files can be counted."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import requests

from tests.app import jpeg
from tests.live_server import LiveServerTest
from tests.wire import exchange


class HttpTest(LiveServerTest):
    """A server whose files can be counted."""

    @classmethod
    def setUpClass(cls):
        cls.temporary = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="imgdetect-test-tmp-"))
        cls.settings = {"TMPDIR": cls.temporary, "IMGDETECT_WAITING_LINE": "64"} | cls.settings
        super().setUpClass()

    def setUp(self):
        self.session = self.enterContext(requests.Session())

    def upload(self, data=None, filename="image.jpg", headers=None, **parameters):
        files = {"image": (filename, jpeg() if data is None else data)}
        return self.session.post(f"{self.server.api}/image", files=files, data=parameters, headers=headers, timeout=60)

    def uploaded(self, data=None, filename="image.jpg", **parameters):
        answer = self.upload(data, filename, **parameters)
        self.assertEqual(answer.status_code, 200, answer.text)
        return answer.json()["image"]["id"]

    def send(self, sent, **how):
        return exchange(self.server.port, sent, **how)

    def rows(self, query="SELECT original_key FROM records UNION ALL SELECT processed_key FROM records"):
        return [row[0] for row in self.query(query) if row[0]]

    def query(self, sql):
        with closing(sqlite3.connect(self.server.data / "imgdetect.db")) as database:
            return database.execute(sql).fetchall()

    def files(self):
        return [path.name for path in (self.server.data / "images").rglob("*") if path.is_file()]

    def temporary_files(self):
        """All but metrics and the meeting place of the children."""
        found = (path for path in Path(self.temporary).rglob("*") if path.is_file())
        return [str(path) for path in found if path.suffix not in (".db", ".sock", ".lock")]

    def assertProblem(self, answer, status, code):
        """Of `requests` or of our own."""
        body = answer.json()
        headers = {name.lower(): value for name, value in answer.headers.items()}
        self.assertEqual(headers["content-type"], "application/problem+json")
        given = answer.status if hasattr(answer, "status") else answer.status_code
        self.assertEqual((given, body["status"], body["code"]), (status, status, code), body)
        self.assertEqual(body["request_id"], headers["x-request-id"])
        self.assertEqual(headers["x-content-type-options"], "nosniff")
        return body

    def assertRefused(self, exchanged, status, code):
        """One problem, then the end of the connection."""
        self.assertTrue(exchanged.closed)
        self.assertEqual([answer.status for answer in exchanged.answers], [status], exchanged)
        return self.assertProblem(exchanged.answers[0], status, code)

    def assertRowsAndFilesAgree(self):
        self.assertEqual(sorted(self.rows()), sorted(self.files()))
        self.assertEqual(self.temporary_files(), [])
