"""The application in this process, for tests: everything in memory, one child."""

import functools
import unittest
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from imgdetect import config
from imgdetect.web import create_app
from tests.contract import CheckingClient

INPUT = Path(__file__).parents[2] / "test_images" / "input"
API = "/api/v1/objectdetection"
IN_MEMORY = {"database_url": "sqlite:///:memory:", "storage_url": "memory:", "queue_url": "inline:", "slots": 1}


@functools.cache
def astronaut() -> bytes:
    """A photograph with one face."""
    return (INPUT / "astronaut.jpg").read_bytes()


def jpeg(width: int = 64, height: int = 48, seed: int = 0) -> bytes:
    """A small picture in which there is nothing to find; another one for each seed."""
    noise = np.random.default_rng(seed).integers(0, 60, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


class AppTest(unittest.TestCase):
    """A test class whose tests share one application."""

    settings: ClassVar[dict[str, Any]] = {}
    client: FlaskClient

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.app = create_app(config.load(IN_MEMORY | cls.settings))
        cls.app.test_client_class = CheckingClient  # every answer is held against openapi.yaml
        cls.addClassCleanup(cls.app.extensions["imgdetect"].close)
        cls.service = cls.app.extensions["imgdetect"].service

    def setUp(self) -> None:
        self.client = self.app.test_client()

    def upload(self, data: bytes | None = None, filename: str = "image.jpg", **parameters: Any) -> TestResponse:
        """Upload a picture by multipart; parameters go into the form, but `headers` are headers."""
        headers = parameters.pop("headers", {})
        picture = FileStorage(BytesIO(jpeg() if data is None else data), filename, "image")
        return self.post_form(f"{API}/image", {"image": picture} | parameters, headers)

    def post_form(self, path: str, form: dict[str, Any], headers: dict[str, str] | None = None) -> TestResponse:
        """Send a form by multipart; the client itself would leave the temporary file of a large one open."""
        boundary, body = encode_multipart(form)
        content_type = f"multipart/form-data; boundary={boundary}"
        return self.client.post(path, data=body, content_type=content_type, headers=headers)

    def uploaded(self, data: bytes | None = None, filename: str = "image.jpg", **parameters: Any) -> dict[str, Any]:
        """The document of an upload that succeeds."""
        answer = self.upload(data, filename, **parameters)
        self.assertEqual(answer.status_code, 200, answer.text)
        return answer.get_json()

    def assertProblem(self, answer: TestResponse, status: int, code: str) -> dict[str, Any]:
        """The problem document of an answer, which must be one."""
        self.assertEqual((answer.status_code, answer.mimetype), (status, "application/problem+json"), answer.text[:300])
        body = answer.get_json(force=True)
        self.assertEqual((body["status"], body["code"]), (status, code), body)
        self.assertEqual(body["request_id"], answer.headers["X-Request-ID"])
        return body
