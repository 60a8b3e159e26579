"""The Open Inference Protocol: what is asked of a network as tensors."""

import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np

from imgdetect import __version__, config
from tests import onnx_models as models
from tests.app import AppTest

KEY, ENTRY = config.make_api_key("tensors")
GETS = ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/any", "/v2/models/any/ready")


class InferenceCase(AppTest):
    settings = {}

    @classmethod
    def setUpClass(cls):
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        models.build(folder / "any.onnx", "classification", size_wh=None)
        models.build(folder / "bytes.onnx", "classification", size_wh=(8, 8), dtype="uint8")
        cls.settings = cls.settings | {"detectors": f"any=onnx:{folder}/any.onnx bytes=onnx:{folder}/bytes.onnx"}
        super().setUpClass()

    def tensor(self, side=4, **changes):
        """A green picture as the network takes it."""
        mean, std, _ = models.NUMBERS["classification"]
        green = (np.array([0, 255, 0]) - mean) / std
        data = np.repeat(green, side * side).astype(float).tolist()
        return {"name": "images", "datatype": "FP32", "shape": [1, 3, side, side], "data": data} | changes

    def infer(self, body, name="any"):
        return self.client.post(f"/v2/models/{name}/infer", json=body)

    def assertRefused(self, answer, status, part):
        self.assertEqual((answer.status_code, answer.mimetype), (status, "application/json"), answer.text)
        self.assertEqual(set(answer.get_json()), {"error"})
        self.assertIn(part, answer.get_json()["error"])


class InferenceTest(InferenceCase):
    def test_the_server_tells_what_it_is_and_that_it_works(self):
        body = self.client.get("/v2").get_json()
        self.assertEqual(body, {"name": "imgdetect", "version": __version__, "extensions": []})
        self.assertEqual(self.client.get("/v2/health/live").get_json(), {"live": True})
        self.assertEqual(self.client.get("/v2/health/ready").get_json(), {"ready": True})
        self.app.extensions["imgdetect.readiness"]._until = 0
        with patch.object(self.service.storage, "check", side_effect=OSError("gone")):
            answer = self.client.get("/v2/health/ready")
        self.app.extensions["imgdetect.readiness"]._until = 0
        self.assertEqual((answer.status_code, answer.get_json()), (503, {"ready": False}))

    def test_a_network_tells_its_tensors(self):
        body = self.client.get("/v2/models/bytes").get_json()
        self.assertEqual((body["name"], body["versions"], body["platform"]), ("bytes", ["1"], "onnxruntime_onnx"))
        self.assertEqual(body["inputs"], [{"name": "images", "datatype": "UINT8", "shape": [1, 3, 8, 8]}])
        self.assertEqual(body["outputs"], [{"name": "logits", "datatype": "FP32", "shape": [1, 3]}])
        self.assertEqual(self.client.get("/v2/models/any").get_json()["inputs"][0]["shape"], [1, 3, -1, -1])
        self.assertEqual(self.client.get("/v2/models/any/ready").get_json(), {"name": "any", "ready": True})

    def test_a_tensor_goes_through_the_network(self):
        body = self.infer({"id": "42", "inputs": [self.tensor()]}).get_json()
        self.assertEqual((body["model_name"], body["model_version"], body["id"]), ("any", "1", "42"))
        (output,) = body["outputs"]
        self.assertEqual((output["name"], output["datatype"], output["shape"]), ("logits", "FP32", [1, 3]))
        np.testing.assert_allclose(output["data"], [-1, 7, -1], atol=1e-3)
        self.assertNotIn("id", self.infer({"inputs": [self.tensor()]}).get_json())

    def test_nested_lists_and_named_outputs_are_the_same(self):
        flat = self.tensor()
        nested = flat | {"data": np.reshape(flat["data"], flat["shape"]).tolist()}
        answers = [self.infer({"inputs": [one], "outputs": [{"name": "logits"}]}).get_json() for one in (flat, nested)]
        self.assertEqual(answers[0], answers[1])

    def test_whole_numbers_have_to_be_whole_and_in_range(self):
        def sent(data):
            return self.infer({"inputs": [self.tensor(8, datatype="UINT8", data=data)]}, "bytes")

        self.assertEqual(sent([255] * 192).status_code, 200)
        for wrong in (256, -1, 1.5, "1", None, 1 << 80):
            self.assertRefused(sent([0] * 191 + [wrong]), 400, "data: should be")
        self.assertRefused(sent([True] * 192), 400, "data: should be")

    def test_what_does_not_fit_is_a_400_that_says_so(self):
        for wrong, part in (
            ({"name": "image"}, "should be one tensor, 'images'"),
            ({"datatype": "INT64"}, "datatype: should be FP32"),
            ({"datatype": None}, "datatype: should be FP32"),
            ({"shape": [1, 3, 4]}, "shape: should be [1, 3, -1, -1]"),
            ({"shape": [2, 3, 4, 4]}, "shape: should be"),
            ({"shape": [1, 3, -4, -4]}, "shape: should be"),
            ({"shape": [1, 3, True, 16]}, "shape: should be"),
            ({"shape": "1"}, "shape: should be"),
            ({"data": [1.0] * 47}, "data: has 47 numbers; this shape has 48"),
            ({"data": [[1.0], [1.0, 2.0]]}, "data: should be a list of numbers, or lists"),
            ({"data": "AAAA"}, "data: should be a list of numbers"),
            ({"data": ["a"] * 48}, "data: should be numbers"),
        ):
            self.assertRefused(self.infer({"inputs": [self.tensor(**wrong)]}), 400, part)
        for body, part in (
            ({}, "inputs: should be a list"),
            ([], "should be a JSON object"),
            ({"inputs": [self.tensor(), self.tensor()]}, "names one twice"),
            ({"inputs": []}, "should be one tensor"),
            ({"inputs": [self.tensor()], "outputs": [{"name": "x"}]}, "there is no 'x'; there are: logits"),
            ({"inputs": [self.tensor()], "id": 1}, "id: should be a text"),
        ):
            self.assertRefused(self.infer(body), 400, part)
        for data in (b"", b"{", b"\xff", b"[" * 100_000):
            self.assertRefused(self.client.post("/v2/models/any/infer", data=data), 400, "should be a JSON object")

    def test_bodies_are_bounded(self):
        data = b" " * (self.service.settings.max_upload_bytes + 100_000)
        self.assertRefused(self.client.post("/v2/models/any/infer", data=data), 413, "larger")

    def test_numbers_that_json_has_not_are_null(self):
        tensor = self.tensor(data=[1e39] * 48)  # infinite as FP32
        data = self.infer({"inputs": [tensor]}).get_json()["outputs"][0]["data"]
        self.assertIn(None, data)

    def test_only_networks_are_there(self):
        for path in ("/v2/models/face", "/v2/models/unicorn/ready"):
            self.assertRefused(self.client.get(path), 404, "there are: any, bytes")
        self.assertRefused(self.infer({"inputs": [self.tensor()]}, "face"), 404, "there is no network 'face'")


class KeysTest(InferenceCase):
    settings = {"api_keys": ENTRY}

    def test_every_address_needs_a_key(self):
        for method, path in (*(("GET", path) for path in GETS), ("POST", "/v2/models/any/infer")):
            self.assertRefused(self.client.open(path, method=method), 401, "x-api-key")
            answer = self.client.open(path, method=method, headers={"x-api-key": KEY})
            self.assertEqual(answer.status_code, 200 if method == "GET" else 400, path)
