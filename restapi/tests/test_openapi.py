"""openapi.yaml is valid, complete in itself, and says what the application does."""

import json
import re
import tempfile
import unittest
from collections.abc import Iterator
from typing import Any

import openapi_spec_validator
from werkzeug.test import TestResponse
from werkzeug.wrappers import Response

from imgdetect import config, errors
from imgdetect.parameters import (
    CascadeParameters,
    DetectParameters,
    FormatParameters,
    JobParameters,
    ListParameters,
    UploadParameters,
    VideoParameters,
    validated,
)
from imgdetect.web import create_app
from tests.contract import METHODS, OPENAPI, check_response, contract, faults, resolved

BASE = "/api/v1/objectdetection"
FORM = "multipart/form-data"


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method, operation."""
    for path, item in contract()["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def nodes(node: Any, where: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping of the contract with its place."""
    if isinstance(node, dict):
        yield where, node
        for key, value in node.items():
            yield from nodes(value, f"{where}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from nodes(value, f"{where}/{index}")


def leaves(kind: type[errors.Problem]) -> Iterator[type[errors.Problem]]:
    """A class and all below it."""
    yield kind
    for child in kind.__subclasses__():
        yield from leaves(child)


def query_parameters(path: str, method: str) -> dict[str, dict[str, Any]]:
    """Name -> schema of what an operation takes in the query."""
    listed = [resolved(p) for p in contract()["paths"][path][method].get("parameters", [])]
    return {p["name"]: resolved(p["schema"]) for p in listed if p["in"] == "query"}


def form_fields(path: str, method: str, media_type: str = FORM) -> dict[str, dict[str, Any]]:
    """Name -> schema of the form fields of an operation."""
    schema = resolved(contract()["paths"][path][method]["requestBody"]["content"][media_type]["schema"])
    return {name: resolved(field) for name, field in schema["properties"].items()}


class TheDocumentTest(unittest.TestCase):
    def test_it_is_valid_openapi_3_0_3(self) -> None:
        self.assertEqual(contract()["openapi"], "3.0.3")
        openapi_spec_validator.validate(contract())

    def test_its_servers_are_the_relative_root_this_machine_and_a_placeholder(self) -> None:
        urls = [server["url"] for server in contract()["servers"]]
        self.assertEqual(urls, ["/", "http://127.0.0.1:8000", "https://{host}"])

    def test_every_object_decides_about_members_it_does_not_name(self) -> None:
        objects = [(where, node) for where, node in nodes(contract()) if node.get("type") == "object"]
        undecided = [where for where, node in objects if "additionalProperties" not in node and "/value/" not in where]
        self.assertEqual(undecided, [])

    def test_every_member_that_is_required_is_described(self) -> None:
        for where, node in nodes(contract()["components"]["schemas"]):
            if isinstance(node.get("required"), list) and "properties" in node:
                self.assertLessEqual(set(node["required"]), set(node["properties"]), where)

    def test_its_examples_are_valid(self) -> None:
        checked = 0
        for where, node in nodes(contract()["paths"]):
            for name, example in node.get("examples", {}).items() if "schema" in node else ():
                with self.subTest(where=where, example=name):
                    self.assertEqual(list(faults(resolved(example)["value"], node["schema"])), [])
                    checked += 1
        for name, response in contract()["components"]["responses"].items():
            for media_type, content in response.get("content", {}).items():
                for example in content.get("examples", {}).values():
                    with self.subTest(response=name, media_type=media_type):
                        self.assertEqual(list(faults(resolved(example)["value"], content["schema"])), [])
                        checked += 1
        self.assertGreater(checked, 25)

    def test_every_json_answer_has_an_example(self) -> None:
        for path, method, operation in operations():
            for status, response in operation["responses"].items():
                content = resolved(response).get("content", {})
                for media_type in {"application/json", "application/problem+json"} & set(content):
                    if path != "/openapi.json" and "text/html" not in content:
                        self.assertTrue(content[media_type].get("examples"), f"{method} {path} {status}")

    def test_every_operation_is_named_tagged_and_summed_up(self) -> None:
        tags = {tag["name"] for tag in contract()["tags"]}
        seen = set()
        for path, method, operation in operations():
            with self.subTest(path=path, method=method):
                self.assertIn(method, METHODS)
                self.assertLessEqual(set(operation["tags"]), tags)
                self.assertTrue(operation["summary"])
                self.assertNotIn(operation["operationId"], seen)
                self.assertIn("default", operation["responses"])
                seen.add(operation["operationId"])

    def test_every_answer_carries_the_request_id(self) -> None:
        for path, method, operation in operations():
            for status, response in operation["responses"].items():
                self.assertIn("x-request-id", resolved(response)["headers"], f"{method} {path} {status}")

    def test_every_api_answer_can_be_unauthorized_and_no_other_needs_a_key(self) -> None:
        for path, method, operation in operations():
            with self.subTest(path=path, method=method):
                guarded = path.startswith("/api/") or "Dialects" in operation["tags"]
                self.assertEqual(operation.get("security"), None if guarded else [])
                self.assertEqual("401" in operation["responses"], guarded or (path, method) == ("/", "post"))

    def test_nothing_is_defined_and_never_used(self) -> None:
        used = {node["$ref"] for _, node in nodes(contract()) if "$ref" in node}
        for kind in ("parameters", "headers", "responses", "schemas", "examples"):
            for name in contract()["components"][kind]:
                self.assertIn(f"#/components/{kind}/{name}", used)

    def test_it_prefills_no_parameter(self) -> None:
        """Swagger UI would send an example or a default, in the query and in the form at once, which is an error."""
        for path, method, operation in operations():
            found = [n for _, n in nodes([resolved(p) for p in operation.get("parameters", [])])]
            for content in operation.get("requestBody", {}).get("content", {}).values():
                found += [resolved(field) for _, field in nodes(resolved(content["schema"]))]
            for node in found:
                self.assertFalse({"example", "examples", "default"} & set(node), f"{method} {path}: {node}")


class TheErrorsTest(unittest.TestCase):
    def test_every_problem_is_known_by_code(self) -> None:
        codes = contract()["components"]["schemas"]["ProblemCode"]["enum"]
        for kind in leaves(errors.Problem):
            self.assertIn(kind.slug, codes)

    def test_every_problem_fits_the_schema(self) -> None:
        for kind in leaves(errors.Problem):
            document = kind("Some detail.").document() | {"instance": "/x", "request_id": "12345678"}
            self.assertEqual(list(faults(document, {"$ref": "#/components/schemas/Problem"})), [], kind)
            without = kind("Some detail.").document()
            self.assertEqual(list(faults(without, {"$ref": "#/components/schemas/JobProblem"})), [], kind)


class NginxTest(unittest.TestCase):
    def test_every_problem_of_nginx_fits_the_schema(self) -> None:
        template = (OPENAPI.parent / "nginx" / "nginx.conf.template").read_text(encoding="utf-8")
        found = re.findall(r"""^ +\w+ '("type": "urn:imgdetect:problem:.*)';$""", template, re.MULTILINE)
        self.assertGreater(len(found), 10)
        for members in found:
            text = members.replace("$max_bytes", "1").replace("\\'", "'")
            document = json.loads(f'{{{text}, "instance": "/x", "request_id": "12345678"}}')
            self.assertEqual(list(faults(document, {"$ref": "#/components/schemas/Problem"})), [], text)


class TheParametersTest(unittest.TestCase):
    def test_query_and_form_take_the_same(self) -> None:
        for path, method in ((f"{BASE}/image", "post"), (f"{BASE}/detect", "post")):
            form = form_fields(path, method)
            del form["image"]
            self.assertEqual(query_parameters(path, method), form)
        form = form_fields(f"{BASE}/video", "post")
        del form["video"]
        self.assertEqual(query_parameters(f"{BASE}/video", "post"), form)
        form = form_fields(f"{BASE}/batch", "post")
        del form["images"], form["archive"]
        self.assertEqual(query_parameters(f"{BASE}/batch", "post"), form)
        path = BASE + "/image/{id}/processed"
        for media_type in (FORM, "application/x-www-form-urlencoded"):
            self.assertEqual(query_parameters(path, "post"), form_fields(path, "post", media_type))

    def test_the_application_takes_exactly_the_documented_ones(self) -> None:
        picture = "/image/{id}/processed"
        for path, method, model in (
            ("/image", "post", JobParameters),
            ("/batch", "post", JobParameters),
            ("/detect", "post", DetectParameters),
            ("/video", "post", VideoParameters),
            (picture, "post", DetectParameters),
            ("/image", "get", ListParameters),
            (picture, "get", FormatParameters),
            ("/image/{id}/crops/{n}", "get", FormatParameters),
        ):
            with self.subTest(path=path, method=method):
                self.assertEqual(set(query_parameters(BASE + path, method)), set(model.model_fields))

    def test_the_form_of_a_cascade_takes_exactly_its_parameters(self) -> None:
        fields = form_fields(f"{BASE}/detectors", "post")
        self.assertEqual(set(fields) - {"cascade"}, set(CascadeParameters.model_fields))
        for field, texts in {
            "name": ("a", "A-b_c.1", "a" * 64, "", "-a", ".", "a" * 65, "a b", "ä", "a/b"),
            "class_name": ("a", "stop sign", "a" * 64, "", " a", "a ", "a" * 65, "<b>"),
        }.items():
            for text in texts:
                try:
                    validated(CascadeParameters, {"name": "a", field: text})
                    taken = True
                except errors.InvalidRequest:
                    taken = False
                self.assertEqual(list(faults(text, fields[field])) == [], taken, text)

    def test_the_page_takes_what_an_upload_takes(self) -> None:
        given = set(form_fields("/", "post")) - {"file", "api_key"}
        self.assertEqual(given, set(form_fields(f"{BASE}/image", "post")) - {"callback_url"})

    def test_the_answer_echoes_every_parameter(self) -> None:
        for name, model in (("Parameters", DetectParameters), ("KeptParameters", UploadParameters)):
            echoed = contract()["components"]["schemas"][name]
            self.assertEqual(set(echoed["properties"]), set(model.model_fields))
            self.assertEqual(set(echoed["required"]), set(model.model_fields))

    def test_its_patterns_take_the_documented_forms(self) -> None:
        schemas = contract()["components"]["schemas"]
        for name, good, bad in (
            ("SizeParameter", ("40", "40,60"), ("", "40,", "40x60", "-1", "1,2,3")),
            ("RotationsParameter", ("0", "0,90,180,270", "-15,15"), ("", "90,", "1.5")),
            ("RoiParameter", ("0,0,320,240",), ("0,0,320", "-1,0,3,2")),
        ):
            for text in good:
                self.assertEqual(list(faults(text, schemas[name])), [], text)
            for text in bad:
                self.assertNotEqual(list(faults(text, schemas[name])), [], text)


class TheRoutesTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.app = create_app(config.load({"data_dir": folder}))
        self.addCleanup(self.app.extensions["imgdetect"].close)

    @staticmethod
    def shape(path: str) -> str:
        """A path without the names of its variables."""
        return re.sub(r"<[^>]*>|\{[^}]*\}", "{}", path)

    def routed(self) -> set[tuple[str, str]]:
        assets = ("static", "flasgger.static", "flasgger.oauth_redirect", "flasgger.<lambda>")
        return {
            (self.shape(rule.rule), method.lower())
            for rule in self.app.url_map.iter_rules()
            if rule.endpoint not in assets
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }

    def test_every_route_is_documented(self) -> None:
        documented = {(self.shape(path), method) for path, method, _ in operations()}
        self.assertEqual(self.routed() - documented, set())

    def test_everything_documented_has_a_route(self) -> None:
        documented = {(self.shape(path), method) for path, method, _ in operations()}
        self.assertEqual(documented - self.routed(), set())


class TheCheckerTest(unittest.TestCase):
    """`check_response` is what other tests rely on, so it must be able to fail."""

    def answer(self, **changes: Any) -> Response:
        body = changes.pop("body", '{"status": "OK"}')
        headers = {"x-request-id": "12345678"} | changes.pop("headers", {})
        return Response(body, headers=headers, **({"status": 200, "content_type": "application/json"} | changes))

    def assert_refused(self, answer: Response, part: str, path: str | None = "/healthz", method: str = "GET") -> None:
        with self.assertRaisesRegex(AssertionError, part):
            check_response(answer, path, method)

    def test_it_passes_a_right_answer_and_returns_it(self) -> None:
        answer = self.answer()
        self.assertIs(check_response(answer, "/healthz", "GET"), answer)

    def test_it_refuses_a_member_too_many(self) -> None:
        self.assert_refused(self.answer(body='{"status": "OK", "more": 1}'), "more")

    def test_it_refuses_what_is_no_json(self) -> None:
        self.assert_refused(self.answer(body="OK"), "not JSON")
        self.assert_refused(self.answer(body='{"status": NaN}'), "NaN")

    def test_it_refuses_another_content_type(self) -> None:
        self.assert_refused(self.answer(content_type="text/html"), "Content-Type")

    def test_it_refuses_a_status_that_is_not_documented(self) -> None:
        self.assert_refused(self.answer(status=201), "201")
        self.assert_refused(self.answer(status=404, content_type="application/problem+json"), "404")

    def test_it_refuses_an_answer_without_its_headers(self) -> None:
        answer = self.answer()
        del answer.headers["x-request-id"]
        self.assert_refused(answer, "x-request-id is missing")

    def test_it_refuses_a_weak_etag_on_a_picture(self) -> None:
        headers = {
            "ETag": 'W/"a"',
            "Cache-Control": "private, no-cache",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox",
        }
        answer = self.answer(body=b"\xff\xd8\xff", content_type="image/jpeg", headers=headers)
        self.assert_refused(answer, "ETag", BASE + "/image/{id}/processed")
        answer.headers["ETag"] = '"a"'
        check_response(answer, BASE + "/image/{id}/processed", "GET")
        answer.data = b"\x89PNG"
        self.assert_refused(answer, "not image/jpeg", BASE + "/image/{id}/processed")

    def test_it_refuses_a_problem_that_contradicts_itself(self) -> None:
        body = (
            '{"type": "urn:imgdetect:problem:not-found", "title": "x", "status": 404, "code": "not-found",'
            ' "request_id": "12345678"}'
        )
        problem = {"status": 404, "content_type": "application/problem+json"}
        check_response(self.answer(body=body, **problem), BASE + "/image/{id}", "GET")
        check_response(self.answer(body=body, **problem), None, "GET")
        wrong = body.replace("404", "400")
        self.assert_refused(self.answer(body=wrong, **problem), "status", BASE + "/image/{id}")
        wrong = body.replace("12345678", "87654321")
        self.assert_refused(self.answer(body=wrong, **problem), "request_id", None)

    def test_it_refuses_a_body_where_none_belongs(self) -> None:
        answer = self.answer(status=304, body="x", headers={"ETag": '"a"'})
        self.assert_refused(answer, "a body", "/openapi.yaml")
        self.assert_refused(self.answer(), "a body", "/healthz", "HEAD")

    def test_it_takes_answers_of_both_clients(self) -> None:
        self.assertTrue(hasattr(TestResponse, "data"))
        self.assertFalse(hasattr(TestResponse, "content"))
