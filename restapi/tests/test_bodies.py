"""Large bodies on their way in: files without a name, bounded, gone with their request."""

import os
import tempfile
import time
import unittest
from io import BytesIO
from pathlib import Path

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.test import EnvironBuilder

from imgdetect.errors import Busy
from imgdetect.web import bodies
from tests.app import AppTest


class LargeBodiesTest(AppTest):
    @classmethod
    def setUpClass(cls):
        cls.spool = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="imgdetect-test-spool-")))
        cls.settings = {"spool_dir": cls.spool}
        super().setUpClass()

    def request(self, **how):
        """A context with a request of the application."""
        return self.app.request_context(EnvironBuilder(path="/x", method="POST", **how).get_environ())

    def form(self, *parts):
        return {"images": [(BytesIO(part), f"{number}.jpg") for number, part in enumerate(parts)], "style": "blur"}

    def test_the_files_of_a_large_form_lie_one_behind_the_other_in_a_file_without_a_name(self):
        sent = [os.urandom(size) for size in (100_000, 0, 1, 300_000)]
        with self.request(data=self.form(*sent)) as context:
            context.request.allow(500_000, 10)
            files = context.request.files.getlist("images")
            self.assertEqual([file.read() for file in files], sent)
            self.assertEqual([file.filename for file in files], ["0.jpg", "1.jpg", "2.jpg", "3.jpg"])
            files[3].seek(5)
            self.assertEqual((files[3].stream.tell(), files[3].read(10)), (5, sent[3][5:15]))
            files[0].seek(-4, 2)
            self.assertEqual(files[0].read(), sent[0][-4:])
            self.assertEqual(context.request.form["style"], "blur")
            self.assertEqual(list(self.spool.iterdir()), [])
        self.assertTrue(context.request._spool is None)

    def test_a_large_body_is_a_file(self):
        sent = os.urandom(3 << 20)
        with self.request(data=sent, content_type="application/zip") as context:
            context.request.allow(len(sent))
            body = context.request.spooled_body()
            self.assertEqual(body.read(), sent)
            self.assertEqual((body.seek(-5, 2), body.read()), (len(sent) - 5, sent[-5:]))

    def test_what_is_larger_is_refused(self):
        with self.request(data=b"a" * 200_000, content_type="application/zip") as context:
            context.request.allow(100_000)
            with self.assertRaises(RequestEntityTooLarge):
                context.request.spooled_body()
        with self.request(data=self.form(b"a" * 200_000)) as context:
            context.request.allow(100_000)
            with self.assertRaises(RequestEntityTooLarge):
                context.request.files.getlist("images")

    def test_other_bodies_stay_in_memory_and_within_the_limit_of_an_upload(self):
        with self.request(data=self.form(b"abc")) as context:
            self.assertIsInstance(context.request.files["images"].stream, BytesIO)

    def test_so_many_at_once_and_no_more(self):
        for _ in range(2):  # what was refused and what has ended leaves no trace
            contexts = [self.request(data=b"") for _ in range(bodies._LARGE_AT_ONCE + 1)]
            for context in contexts[:-1]:
                with context:
                    pass
            requests = [context.request for context in contexts]
            for request in requests[:-1]:
                with self.app.app_context():
                    request.allow(10)
            with self.app.app_context(), self.assertRaises(Busy):
                requests[-1].allow(10)
            for request in requests:
                request.close()
                request.close()

    def test_what_a_crash_left_long_ago_is_swept_at_start(self):
        old, young, other = (self.spool / name for name in ("spool-old", "spool-young", "other"))
        for path in (old, young, other):
            path.touch()
            self.addCleanup(path.unlink, missing_ok=True)
        long_ago = time.time() - bodies._LEFTOVER_SECONDS - 1
        for path in (old, other):
            os.utime(path, (long_ago, long_ago))
        bodies.sweep(self.spool)
        self.assertEqual([path.exists() for path in (old, young, other)], [False, True, True])
        bodies.sweep(self.spool / "not there")


if __name__ == "__main__":
    unittest.main()
