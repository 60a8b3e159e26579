"""The Postman collection is the one that openapi.yaml gives."""

import importlib.util
import json
import re
import unittest
from types import ModuleType
from typing import Any

from tests.contract import contract
from tests.live_server import ROOT

SCRIPT = ROOT / "scripts" / "make_postman.py"


def make_postman() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("make_postman", SCRIPT)
    if spec is None or spec.loader is None:
        raise AssertionError(f"{SCRIPT} is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PostmanTest(unittest.TestCase):
    def setUp(self) -> None:
        self.script = make_postman()
        self.text = self.script.COLLECTION.read_text(encoding="utf-8")
        self.requests: list[dict[str, Any]] = [
            item for folder in json.loads(self.text)["item"] for item in folder["item"]
        ]

    def test_the_file_is_what_the_contract_gives(self) -> None:
        self.assertEqual(self.text, self.script.collection(contract()), "run: python scripts/make_postman.py")

    def test_every_operation_is_in_it_but_the_internal_ones(self) -> None:
        def path_of(item: dict[str, Any]) -> str:
            path = str(item["request"]["url"]["raw"]).removeprefix("{{baseUrl}}")
            return re.sub("job_id|batch_id", "id", path).replace("own_name", "name")

        made = {(path_of(item), item["request"]["method"].lower()) for item in self.requests}
        documented = {
            (path.replace("{", "{{").replace("}", "}}"), method)
            for path, operations in contract()["paths"].items()
            for method, operation in operations.items()
            if not operation.get("x-internal")
        }
        self.assertEqual(made, documented)

    def test_every_request_has_tests_and_a_name_of_its_own(self) -> None:
        for item in self.requests:
            tests = "\n".join(item["event"][0]["script"]["exec"])
            self.assertGreaterEqual(tests.count("pm.test("), 3, item["name"])
        names = [item["name"] for item in self.requests]
        self.assertEqual(len(set(names)), len(names))

    def test_what_it_uploads_is_there(self) -> None:
        sources = [
            field["src"]
            for item in self.requests
            for field in item["request"].get("body", {}).get("formdata", [])
            if field["type"] == "file"
        ]
        self.assertGreaterEqual(len(sources), 4)
        for source in sources:
            self.assertTrue((ROOT / source).is_file(), source)

    def test_the_annotated_picture_is_deleted_before_its_image(self) -> None:
        deleted = [i["request"]["url"]["raw"] for i in self.requests if i["request"]["method"] == "DELETE"]
        image = "{{baseUrl}}/api/v1/objectdetection/image/{{id}}"
        self.assertLess(deleted.index(f"{image}/processed"), deleted.index(image))
