"""Makes the Postman collection from openapi.yaml: one request per operation, in an order that can be run, with tests.

Usage: python scripts/make_postman.py [FILE]        default postman/imgdetect.postman_collection.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
COLLECTION = ROOT / "postman" / "imgdetect.postman_collection.json"
SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
FILES = {"image": "test_images/input/astronaut.jpg", "cascade": "postman/bright_block.xml"}

# Variables of the collection; the ids are filled in by the requests that make something.
VARIABLES = {
    "baseUrl": "http://127.0.0.1:8000",
    "apiKey": "",
    "id": "",
    "job_id": "0" * 32,  # none, until a job is made
    "n": "0",
    "name": "face",
    "own_name": "bright_block",
    "image_id": "astronaut",
    "batch_id": "0" * 32,
    "filename": "astronaut.jpg",
}
# Where an answer's own words go on into later requests.
CHAINED = {
    ("upload_image", 200): ("id", "pm.response.json().image.id"),
    ("upload_image", 202): ("job_id", "pm.response.json().id"),
    ("upload_batch", 200): ("batch_id", 'pm.response.headers.get("Location").split("/").pop()'),
}
# A job may well have ended before it can be cancelled; a server without keys takes no cascades; not every server has a
# classifier; and there is no film among the test pictures to send.
ALSO_RIGHT = {
    "cancel_job": [409],
    "upload_cascade": [403],
    "delete_detector": [404],
    "upload_video": [400, 501],
    "job_detections": [404],
    "job_video": [404],
    "job_original": [404],
    "classifier_health": [503],
    "classifier_info": [503],
    "classify": [503],
    "classify_batch": [503],
    "inference_model": [404],
    "inference_model_ready": [404],
    "inference_infer": [404],
}
# Fields of forms and of JSON, and headers, that are sent rather than only offered.
FILLED = {
    "give_feedback": {"verdict": "correct"},
    "process_again": {"style": "pixelate"},
    "page_upload": {"api_key": "{{apiKey}}"},
    "upload_cascade": {"name": "{{own_name}}"},
    "upload_batch": {"images": FILES["image"]},
    "analysis_process_image": {"file": FILES["image"]},
    "analysis_detect": {"file": FILES["image"]},
    "images_process_image": {"image_id": "{{image_id}}"},
    "images_predict": {"image_id": "{{image_id}}"},
    "classify": {"file": FILES["image"]},
    "classify_batch": {"files": FILES["image"]},
}
HEADERS = {"page_upload": {"Accept": "text/html"}, "upload_batch": {"Prefer": "wait"}}


def main() -> None:
    """Write the collection."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else COLLECTION
    path.parent.mkdir(exist_ok=True)
    path.write_text(collection(yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))), encoding="utf-8")


def collection(contract: dict[str, Any]) -> str:
    """The collection of a contract, as the text of its file."""
    return json.dumps(Collection(contract).document(), indent=1, ensure_ascii=False) + "\n"


class Collection:
    """Postman's form of an OpenAPI contract."""

    def __init__(self, contract: dict[str, Any]) -> None:
        self._contract = contract

    def document(self) -> dict[str, Any]:
        """The whole collection, a folder per tag."""
        folders = {tag["name"]: tag | {"item": []} for tag in self._contract["tags"]}
        for path, method, operation in self._operations():
            folder = folders[operation["tags"][0]]["item"]
            if operation["operationId"] == "get_job":
                folder.append(self._later())
            folder.append(self._item(path, method, operation))
            answers = list(self._content(operation, "200"))
            if "image/jpeg" in answers[1:] and method == "post":
                folder.append(self._item(path, method, operation, "image/jpeg"))
        info = self._contract["info"]
        return {
            "info": {"name": info["title"], "description": info["description"], "schema": SCHEMA},
            "auth": {
                "type": "apikey",
                "apikey": [
                    {"key": "key", "value": "x-api-key"},
                    {"key": "value", "value": "{{apiKey}}"},
                    {"key": "in", "value": "header"},
                ],
            },
            "variable": [{"key": key, "value": value} for key, value in VARIABLES.items()],
            "item": list(folders.values()),
        }

    def _operations(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Every operation that clients have, what deletes behind all that reads."""
        found = [
            (path, method, operation)
            for path, item in self._contract["paths"].items()
            for method, operation in item.items()
            if not operation.get("x-internal")
        ]
        # The longer path first: an annotated picture cannot be deleted any more after its image.
        return sorted(found, key=lambda o: (o[1] == "delete", -len(o[0]) if o[1] == "delete" else 0))

    def _later(self) -> dict[str, Any]:
        path = "/api/v1/objectdetection/image"
        upload = self._contract["paths"][path]["post"]
        return self._item(path, "post", upload | {"summary": "Upload an image for later"}, status="202")

    def _item(
        self, path: str, method: str, operation: dict[str, Any], accept: str = "", status: str = ""
    ) -> dict[str, Any]:
        """One request with its tests.

        Args:
            accept: a media type to ask for; the first documented one when empty.
            status: the status to expect; the first documented one when empty.
        """
        status = status or next(iter(operation["responses"]))
        name = operation["operationId"]
        content = self._content(operation, status)
        accept = accept or next(iter(content), "*/*")
        parameters = [self._resolved(p) for p in operation.get("parameters", [])]
        headers = HEADERS.get(name, {}) | {"Accept": accept} | ({"Prefer": "respond-async"} if status == "202" else {})
        request: dict[str, Any] = {
            "method": method.upper(),
            "description": operation.get("description", operation["summary"]),
            "header": [{"key": key, "value": value} for key, value in headers.items()] + _offered(parameters, "header"),
            "url": _url(
                path.replace("{name}", "{own_name}") if method == "delete" else path, _offered(parameters, "query")
            ),
        }
        if operation.get("security") == []:
            request["auth"] = {"type": "noauth"}
        if "requestBody" in operation:
            request["body"] = self._body(operation)
        tests = {"type": "text/javascript", "exec": self._tests(name, status, accept, content)}
        return {
            "name": operation["summary"]
            + (", as a picture" if accept.startswith("image/") and len(content) > 1 and method == "post" else ""),
            "protocolProfileBehavior": {"followRedirects": False},
            "request": request,
            "event": [{"listen": "test", "script": tests}],
        }

    def _body(self, operation: dict[str, Any]) -> dict[str, Any]:
        media_type, content = next(iter(operation["requestBody"]["content"].items()))
        filled = FILLED.get(operation["operationId"], {})
        if media_type == "application/json":
            return {"mode": "raw", "raw": json.dumps(filled), "options": {"raw": {"language": "json"}}}
        mode = "formdata" if media_type == "multipart/form-data" else "urlencoded"
        fields: list[dict[str, Any]] = []
        for name, schema in self._resolved(content["schema"])["properties"].items():
            binary = self._resolved(schema.get("items", schema)).get("format") == "binary"
            if binary and any(field["type"] == "file" for field in fields):
                continue  # the same file under another name
            if name in FILES or (name in filled and binary):
                fields.append({"key": name, "type": "file", "src": filled.get(name) or FILES[name]})
            elif name in filled:
                fields.append({"key": name, "type": "text", "value": filled[name]})
        return {"mode": mode, mode: fields}

    def _tests(self, name: str, status: str, accept: str, content: dict[str, Any]) -> list[str]:
        right = [int(status), *ALSO_RIGHT.get(name, [])]
        answers = " or ".join(str(code) for code in right)
        lines = [
            f'pm.test("answers {answers}", () => pm.expect(pm.response.code).to.be.oneOf({right}));',
            'pm.test("names the request", () => pm.expect(pm.response.headers.get("x-request-id")).to.be.ok);',
            f"if (pm.response.code === {status}) {{",
            '  const type = pm.response.headers.get("Content-Type");',
            f'  pm.test("is {accept}", () => pm.expect(type).to.include("{accept}"));',
        ]
        if accept == "application/json":
            schema = json.dumps(self._plain(content[accept]["schema"]), ensure_ascii=False)
            lines.append(f'  pm.test("is what the contract says", () => pm.response.to.have.jsonSchema({schema}));')
        elif accept.startswith("image/"):
            lines.append('  pm.test("has bytes", () => pm.expect(pm.response.responseSize).to.be.above(100));')
        if chained := CHAINED.get((name, int(status))):
            lines.append(f'  pm.collectionVariables.set("{chained[0]}", {chained[1]});')
        return [*lines, "}"]

    def _content(self, operation: dict[str, Any], status: str) -> dict[str, Any]:
        found: dict[str, Any] = self._resolved(operation["responses"].get(status, {})).get("content", {})
        return found

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            place: Any = self._contract
            for name in node["$ref"].removeprefix("#/").split("/"):
                place = place[name]
            node = place
        return node

    def _plain(self, node: Any) -> Any:
        """An OpenAPI schema as a JSON Schema without references, prose and `nullable`."""
        if isinstance(node, list):
            return [self._plain(value) for value in node]
        if not isinstance(node, dict):
            return node
        node = self._resolved(node)
        # A member of an object may be called description; then its value is a schema.
        prose = {key for key in ("description", "nullable") if not isinstance(node.get(key), dict)}
        plain = {key: self._plain(value) for key, value in node.items() if key not in prose}
        if node.get("nullable") is True:
            plain["type"] = [node["type"], "null"]
        return plain


def _offered(parameters: list[dict[str, Any]], place: str) -> list[dict[str, Any]]:
    """Optional parameters, there to be switched on."""
    return [
        {"key": p["name"], "value": "", "description": p["description"].strip(), "disabled": True}
        for p in parameters
        if p["in"] == place
    ]


def _url(path: str, query: list[dict[str, Any]]) -> dict[str, Any]:
    for last in ("results", "archive"):
        path = path.replace(f"/jobs/{{id}}/{last}", f"/jobs/{{batch_id}}/{last}")
    filled = path.replace("/jobs/{id}", "/jobs/{job_id}").replace("{", "{{").replace("}", "}}")
    url: dict[str, Any] = {"raw": "{{baseUrl}}" + filled, "host": ["{{baseUrl}}"], "path": filled[1:].split("/")}
    return url | ({"query": query} if query else {})


if __name__ == "__main__":
    main()
