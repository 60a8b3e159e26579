"""The curl scripts against a stand-in server: what they accept, and above all what they must not accept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path
from typing import Any

import flask
from werkzeug.serving import WSGIRequestHandler, make_server

from imgdetect import images
from imgdetect.augment import Image

ROOT = Path(__file__).parents[2]
IMAGE_URL = "/api/v1/objectdetection/image"
NAME = "a café & 2 cats; 100 %, #1?.jpg"
BOX = {"x": 10, "y": 20, "width": 100, "height": 50}


def jpeg() -> bytes:
    image: Image = images.np.full((8, 8, 3), 127, images.np.uint8)
    return images.encode(image, "image/jpeg")


class Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        pass


class CurlScriptCase(unittest.TestCase):
    """Copies of the scripts in a folder of their own, with one picture and a stand-in server."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="a folder with 'spaces' ")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for script in ("test_curl_upload.sh", "test_curl_download.sh"):
            shutil.copy(ROOT / script, self.folder)
        self.input = self.folder / "test_images" / "input"
        self.input.mkdir(parents=True)
        (self.input / NAME).write_bytes(jpeg())
        self.expect([[10, 20, 100, 50]])
        self.requests: list[flask.Request] = []
        self.answer: Any = self.answer_with([BOX])
        self.status = 200
        self.picture: tuple[bytes, str] = (jpeg(), "image/jpeg")
        self.serve()

    def expect(self, boxes: list[list[int]], *more: dict[str, Any]) -> None:
        entry = {"file": NAME, "query": "detector=face&min_neighbors=5", "min_iou": 0.5, "boxes": boxes}
        lines = ",\n".join(json.dumps(e, ensure_ascii=False) for e in (entry, *more))
        (self.folder / "test_images" / "expected.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")

    def answer_with(self, boxes: list[dict[str, int]], **more: Any) -> dict[str, Any]:
        detections = [{"detector": "face", "box": box, "score": -0.5, "neighbors": 4} for box in boxes]
        image = {"id": "0123456789abcdef" * 2, "filename": NAME, "links": {"self": 'a "quoted", {odd} [one]\\'}}
        return {"status": "OK", "image": image, "detector": "face", "detections": detections, **more}

    def serve(self) -> None:
        app = flask.Flask(__name__)

        def keep() -> None:
            self.requests.append(flask.request._get_current_object())

        def upload() -> flask.Response:
            self.uploaded = flask.request.files["image"]
            self.uploaded_bytes = self.uploaded.read()
            text = self.answer if isinstance(self.answer, str) else json.dumps(self.answer, indent=2)
            return flask.Response(text, self.status, content_type="application/json")

        def processed(name: str) -> flask.Response:
            self.asked_name = name
            data, media_type = self.picture
            return flask.Response(data, self.status, content_type=media_type)

        app.before_request(keep)
        app.add_url_rule("/healthz", "healthz", lambda: "ok")
        app.add_url_rule(IMAGE_URL, "upload", upload, methods=["POST"])
        app.add_url_rule(f"{IMAGE_URL}/<name>/processed", "processed", processed)
        server = make_server("127.0.0.1", 0, app, threaded=False, request_handler=Quiet)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        self.base = f"http://127.0.0.1:{server.port}"

    def run_script(self, script: str, base: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if k not in {"API_KEY", "CURL_OPTS"}}
        return subprocess.run(
            [str(self.folder / script), base or self.base],
            cwd="/",
            env=kept | environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=60,
        )


class TheUploadScript(CurlScriptCase):
    def run_upload(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run_script("test_curl_upload.sh", **environment)

    def assert_missed(self, *words: str) -> None:
        run = self.run_upload()
        self.assertEqual(1, run.returncode, run.stdout + run.stderr)
        for word in ("MISS", *words):
            self.assertIn(word, run.stdout)

    def test_it_passes_when_every_box_is_where_it_should_be(self) -> None:
        run = self.run_upload()
        self.assertEqual((0, ""), (run.returncode, run.stderr), run.stdout)
        row = run.stdout.splitlines()[1]
        self.assertIn(NAME, row)
        self.assertEqual(["200", "0123456789abcdef" * 2, "1", "1", "1.00", "ok"], row.removeprefix(NAME).split())

    def test_it_sends_the_file_under_its_name_with_the_parameters_of_its_entry(self) -> None:
        self.run_upload()
        self.assertEqual(NAME, self.uploaded.filename)
        self.assertEqual(jpeg(), self.uploaded_bytes)
        self.assertEqual({"detector": "face", "min_neighbors": "5"}, self.requests[-1].args.to_dict())

    def test_it_sends_the_key_and_the_callers_curl_options(self) -> None:
        self.run_upload(API_KEY='se"cr\\et', CURL_OPTS="--user-agent 'two words'")
        self.assertEqual('se"cr\\et', self.requests[-1].headers["x-api-key"])
        self.assertEqual("two words", self.requests[-1].headers["user-agent"])

    def test_it_sends_no_key_when_there_is_none(self) -> None:
        self.run_upload()
        self.assertNotIn("x-api-key", self.requests[-1].headers)

    def test_it_reads_an_answer_on_one_line_as_well(self) -> None:
        self.answer = json.dumps(self.answer, separators=(",", ":"))
        self.assertEqual(0, self.run_upload().returncode)

    def test_it_measures_the_overlap(self) -> None:
        self.answer = self.answer_with([BOX | {"x": 30}])  # 80 of 120 columns in common
        run = self.run_upload()
        self.assertEqual(0, run.returncode)
        self.assertIn("0.67", run.stdout)

    def test_it_misses_a_box_that_lies_elsewhere(self) -> None:
        self.answer = self.answer_with([BOX | {"x": 50}])  # 60 of 140
        self.assert_missed("0.43", "a box lies elsewhere")

    def test_it_misses_a_box_that_touches_nothing(self) -> None:
        self.answer = self.answer_with([BOX | {"x": 500, "y": 500}])
        self.assert_missed("0.00")

    def test_it_misses_a_box_too_many(self) -> None:
        self.answer = self.answer_with([BOX, BOX | {"x": 300}])
        self.assert_missed("not the expected number of boxes")

    def test_it_misses_when_nothing_was_found(self) -> None:
        self.answer = self.answer_with([])
        self.assert_missed("not the expected number of boxes")

    def test_it_does_not_match_one_box_with_two_expected_ones(self) -> None:
        self.expect([[10, 20, 100, 50], [12, 20, 100, 50]])
        self.answer = self.answer_with([BOX, BOX | {"x": 400}])
        self.assert_missed("a box lies elsewhere")

    def test_it_does_not_take_near_misses_for_detections(self) -> None:
        self.expect([])
        self.answer = self.answer_with([], near_misses={"detections": [{"box": BOX}], "brightness": 0.5})
        run = self.run_upload()
        self.assertEqual(0, run.returncode, run.stdout)

    def test_it_misses_an_answer_without_detections(self) -> None:
        self.expect([])
        del self.answer["detections"]
        self.assert_missed("not of the agreed form")

    def test_it_misses_a_wrong_id_and_a_wrong_name(self) -> None:
        for member, wrong in (("id", "17"), ("id", "Z" * 32), ("filename", "other.jpg")):
            with self.subTest(member=member, wrong=wrong):
                self.answer = self.answer_with([BOX])
                self.answer["image"][member] = wrong
                self.assert_missed()

    def test_it_misses_a_refusal_and_shows_it(self) -> None:
        self.status = 422
        self.answer = {"title": "The image is damaged and cannot be read."}
        self.assert_missed("422", "The image is damaged")

    def test_it_misses_what_is_not_json(self) -> None:
        whole = json.dumps(self.answer)
        for text in ("<html>", "", whole[:-1], whole.replace("}]}", "}}}"), whole.replace("-0.5", "half"), whole + "}"):
            with self.subTest(text=text):
                self.answer = text
                self.assert_missed("not JSON")

    def test_it_misses_a_picture_without_an_entry(self) -> None:
        (self.input / "unknown.jpg").write_bytes(jpeg())
        self.assert_missed("unknown.jpg", "no entry in expected.json")

    def test_it_misses_an_entry_without_a_picture(self) -> None:
        self.expect([[10, 20, 100, 50]], {"file": "gone.jpg", "query": "", "min_iou": 0.5, "boxes": []})
        self.assert_missed("2 entries for 1 pictures")

    def test_it_says_in_one_line_that_no_server_answers(self) -> None:
        for script in ("test_curl_upload.sh", "test_curl_download.sh"):
            run = self.run_script(script, base="http://127.0.0.1:1")
            self.assertEqual(2, run.returncode)
            self.assertEqual(1, len(run.stderr.splitlines()), run.stderr)
            self.assertIn("no server answers at http://127.0.0.1:1", run.stderr)


class TheDownloadScript(CurlScriptCase):
    def setUp(self) -> None:
        super().setUp()
        self.output = self.folder / "test_images" / "output" / NAME

    def run_download(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run_script("test_curl_download.sh", **environment)

    def assert_missed(self) -> None:
        run = self.run_download()
        self.assertEqual(1, run.returncode, run.stdout + run.stderr)
        self.assertIn("MISS", run.stdout)
        self.assertFalse(self.output.exists())

    def test_it_keeps_the_processed_picture_under_the_name_of_the_upload(self) -> None:
        run = self.run_download(API_KEY="secret")
        self.assertEqual((0, ""), (run.returncode, run.stderr), run.stdout)
        self.assertEqual(jpeg(), self.output.read_bytes())
        self.assertEqual(NAME, self.asked_name)
        self.assertEqual("secret", self.requests[-1].headers["x-api-key"])
        self.assertEqual("image/jpeg", self.requests[-1].headers["accept"])

    def test_it_asks_for_the_type_that_the_name_promises(self) -> None:
        (self.input / NAME).rename(self.input / "one.PNG")
        self.run_download()
        self.assertEqual("image/png", self.requests[-1].headers["accept"])

    def test_it_misses_what_is_not_there_and_removes_what_an_earlier_run_left(self) -> None:
        self.output.parent.mkdir()
        self.output.write_bytes(jpeg())
        self.status = 404
        self.assert_missed()

    def test_it_misses_a_page_in_place_of_a_picture(self) -> None:
        for answer in ((b"<html>welcome</html>", "text/html"), (b"<html></html>", "image/jpeg"), (b"", "image/jpeg")):
            with self.subTest(answer=answer):
                self.picture = answer
                self.assert_missed()

    def test_it_misses_a_picture_of_another_type(self) -> None:
        self.picture = (jpeg(), "image/png")
        self.assert_missed()
