"""Backend URLs, values and the log."""

import io
import json
import logging
import unittest
from contextlib import redirect_stderr
from dataclasses import asdict

import structlog

from imgdetect import backends, errors, logs, queues, storages
from imgdetect.detection import Box, ClassScore, Detection, DetectionResult, Mask, clean_filename, result_from_dict


class BackendUrlTest(unittest.TestCase):
    def test_a_url_has_a_scheme_a_target_and_parameters(self):
        self.assertEqual(backends.parse("memory:"), ("memory", "", {}))
        self.assertEqual(backends.parse("file:./a/b"), ("file", "./a/b", {}))
        self.assertEqual(
            backends.parse("haar:face?min_neighbors=5&class_name=a+b"),
            ("haar", "face", {"min_neighbors": "5", "class_name": "a b"}),
        )
        self.assertEqual(backends.parse("celery+redis://host/0").scheme, "celery")

    def test_what_is_no_backend_url_is_refused_with_an_example(self):
        for url in ("", "file", ":x", "haar:face?x", "haar:face?a=1&a=2"):
            with self.subTest(url=url), self.assertRaises(ValueError):
                backends.parse(url)

    def test_an_unknown_backend_is_answered_with_the_known_ones(self):
        with self.assertRaisesRegex(ValueError, "known here: file, memory"):
            backends.module(storages, backends.parse("ftp:x"))
        with self.assertRaisesRegex(ValueError, "known here: celery, inline, threads"):
            backends.module(queues, backends.parse("_private:x"))

    def test_unknown_parameters_are_refused_with_the_known_ones(self):
        with self.assertRaisesRegex(ValueError, "colour; known here: size"):
            backends.refuse_unknown({"colour": "red", "size": "1"}, "size")
        backends.refuse_unknown({"size": "1"}, "size")


class ValuesTest(unittest.TestCase):
    def test_a_result_survives_json(self):
        result = DetectionResult(
            (Detection("face", "face", Box(1, 2, 3, 4), 1.5, 7, None, 90),),
            (ClassScore("cat", 3, 0.5),),
            2,
            (640, 480),
            {"hint": "x"},
        )
        self.assertEqual(result_from_dict(json.loads(json.dumps(asdict(result)))), result)

    def test_masks_survive_json(self):
        mask = Mask(3, 4, "x", ((0.0, 1.0, 2.0, 3.5, 4.0, 5.0),))
        result = DetectionResult((Detection("seg", "cat", Box(1, 2, 3, 4), 0.5, 1, 0.5, 0, mask),))
        self.assertEqual(result_from_dict(json.loads(json.dumps(asdict(result)))), result)

    def test_file_names_lose_folders_and_what_cannot_be_seen(self):
        for given, kept in (
            ("../../etc/passwd", "passwd"),
            ("C:\\pictures\\a.jpg", "a.jpg"),
            ("\u202egpj.exe", "gpj.exe"),
            ("a\x00b\r\n.jpg", "ab.jpg"),
            ("\udcff.jpg", ".jpg"),
            ("é ß.jpg", "é ß.jpg"),
            ("x" * 300, "x" * 255),
        ):
            self.assertEqual(clean_filename(given), kept)


class ProblemsTest(unittest.TestCase):
    def kinds(self):
        todo = [errors.Problem]
        while todo:
            kind = todo.pop()
            todo += kind.__subclasses__()
            if not kind.__name__.startswith("_"):  # a backend's own name for what it raises
                yield kind

    def test_every_problem_has_a_status_a_code_and_a_sentence_of_its_own(self):
        kinds = [kind for kind in self.kinds() if kind is not errors.InternalError]
        self.assertEqual(len({kind.slug for kind in kinds}), len(kinds))
        for kind in kinds:
            self.assertTrue(400 <= kind.status < 600 and kind.title.endswith("."), kind)
            self.assertIn(f"{kind.status}", errors.__doc__)
            self.assertEqual(kind.status >= 503, kind.retry_after_seconds is not None and kind.status != 429, kind)


class LogTest(unittest.TestCase):
    def setUp(self):
        kept = structlog.get_config()
        root = logging.getLogger()
        self.addCleanup(structlog.configure, **kept)
        self.addCleanup(root.handlers.__setitem__, slice(None), list(root.handlers))
        self.addCleanup(root.setLevel, root.level)

    def logged(self, form, level="info"):
        with redirect_stderr(io.StringIO()) as written:
            logs.configure(form, level)
            logs.bind_request("request-1")
            structlog.get_logger("a").info("hello", count=3)
            logging.getLogger("library").warning("watch %s", "out")
            try:
                raise ZeroDivisionError("why")
            except ZeroDivisionError:
                structlog.get_logger("a").exception("failed")
        return written.getvalue()

    def test_json_lines_carry_the_request_and_libraries_log_alike(self):
        lines = [json.loads(line) for line in self.logged("json").splitlines()]
        self.assertEqual([line["event"] for line in lines], ["hello", "watch out", "failed"])
        self.assertEqual({line["request_id"] for line in lines}, {"request-1"})
        self.assertEqual((lines[0]["count"], lines[0]["level"]), (3, "info"))
        self.assertIn("ZeroDivisionError: why", lines[2]["exception"])

    def test_plain_lines_are_for_people(self):
        text = self.logged("plain")
        self.assertIn("hello", text)
        self.assertIn("request_id=request-1", text)

    def test_the_level_is_kept(self):
        lines = [json.loads(line) for line in self.logged("json", "warning").splitlines()]
        self.assertEqual([line["event"] for line in lines], ["watch out", "failed"])


if __name__ == "__main__":
    unittest.main()
