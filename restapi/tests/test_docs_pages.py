"""The contract's files and pages: what they say, and that nothing in them comes from elsewhere."""

import hashlib
import tempfile
import unittest
from html.parser import HTMLParser
from pathlib import Path

from flask import Flask
from werkzeug.test import TestResponse

from imgdetect.web import docs
from tests.contract import OPENAPI, contract

REDOC = Path(docs.__file__).parent / "static" / "redoc"


class Links(HTMLParser):
    """Everything that a page loads, and everything in it that a strict policy would refuse."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self._script_without_source = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._script_without_source = tag == "script" and "src" not in given
        if tag in ("script", "img", "link"):
            self.loaded += [value for name in ("src", "href") if (value := given.get(name))]
        self.inline += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        self.inline += [tag] if tag == "style" else []

    def handle_data(self, data: str) -> None:
        if self._script_without_source and data.strip():
            self.inline.append(data)


class DocsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.app = Flask("imgdetect.web", static_folder="static", static_url_path="/static")
        docs.register(self.app)
        self.client = self.app.test_client()

    def get(self, path: str, **headers: str) -> TestResponse:
        answer = self.client.get(path, headers=headers)
        self.addCleanup(answer.close)
        return answer


class TheFilesTest(DocsTest):
    def test_the_yaml_is_the_file_itself(self) -> None:
        answer = self.get("/openapi.yaml")
        self.assertEqual(answer.data, OPENAPI.read_bytes())
        self.assertEqual(answer.content_type, "application/yaml")

    def test_the_json_says_the_same(self) -> None:
        answer = self.get("/openapi.json")
        self.assertEqual(answer.json, contract())
        self.assertEqual(answer.content_type, "application/json")

    def test_both_are_sent_again_only_when_they_have_changed(self) -> None:
        for path in ("/openapi.yaml", "/openapi.json"):
            etag = self.get(path).headers["ETag"]
            self.assertRegex(etag, r'^"[0-9a-f]{32}"$')
            unchanged = self.get(path, **{"If-None-Match": etag})
            self.assertEqual((unchanged.status_code, unchanged.data), (304, b""))
            self.assertEqual(unchanged.headers["Cache-Control"], "no-cache")
            self.assertEqual(self.get(path, **{"If-None-Match": '"other"'}).status_code, 200)

    def test_they_have_etags_of_their_own(self) -> None:
        self.assertNotEqual(self.get("/openapi.yaml").headers["ETag"], self.get("/openapi.json").headers["ETag"])

    def test_another_contract_can_be_served(self) -> None:
        path = Path(self.enterContext(tempfile.TemporaryDirectory()), "other.yaml")
        path.write_text("openapi: 3.0.3\n", encoding="utf-8")
        app = Flask("imgdetect.web")
        docs.register(app, path)
        self.assertEqual(app.test_client().get("/openapi.json").json, {"openapi": "3.0.3"})

    def test_a_contract_that_is_not_there_is_told_at_start(self) -> None:
        with self.assertRaises(FileNotFoundError):
            docs.register(Flask("imgdetect.web"), OPENAPI.with_name("missing.yaml"))


class ThePagesTest(DocsTest):
    def test_docs_is_swagger_ui_too(self) -> None:
        answer, other = self.get("/docs"), self.get("/apidocs/")
        self.assertEqual((answer.status_code, answer.text), (200, other.text))
        self.assertEqual(answer.headers["Content-Security-Policy"], other.headers["Content-Security-Policy"])

    def test_both_pages_show_our_contract(self) -> None:
        for path in ("/apidocs/", "/redoc"):
            self.assertIn('data-contract="/openapi.json"', self.get(path).text)

    def test_no_page_has_anything_inline_or_from_elsewhere(self) -> None:
        for path in ("/apidocs/", "/redoc", "/apidocs/oauth2-redirect.html"):
            found = Links(self.get(path).text)
            self.assertEqual(found.inline, [], path)
            for link in found.loaded:
                self.assertRegex(link, r"^/[^/]", path)
                self.assertEqual(self.get(link).status_code, 200, link)

    def test_the_parser_would_see_what_is_inline(self) -> None:
        page = '<style>a{}</style><p style="x" onclick="y"><script>let a;</script><script src="//b/c.js"></script>'
        found = Links(page)
        self.assertEqual(found.inline, ["style", "p style", "p onclick", "let a;"])
        self.assertEqual(found.loaded, ["//b/c.js"])

    def test_every_page_has_a_strict_policy(self) -> None:
        for path in ("/apidocs/", "/redoc", "/apidocs/oauth2-redirect.html"):
            headers = self.get(path).headers
            policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
            self.assertEqual(policy["default-src"], "'none'")
            self.assertEqual(policy["script-src"], "'self'")
            self.assertEqual(policy["connect-src"], "'self'")
            self.assertEqual(policy["frame-ancestors"], "'none'")
            self.assertEqual("'unsafe-inline'" in policy["style-src"], path == "/redoc")
            self.assertNotIn("http", headers["Content-Security-Policy"])
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")

    def test_no_scraped_contract_is_served_beside_ours(self) -> None:
        self.assertEqual(self.get("/apispec_1.json").status_code, 404)
        self.assertEqual(self.get("/apidocs/?json=1").json, {"specs": [], "title": "Flasgger", "urls": []})

    def test_views_that_come_later_are_left_alone(self) -> None:
        """flasgger would otherwise rewrite `add_url_rule` of the application."""
        self.assertEqual(self.app.add_url_rule.__func__, Flask.add_url_rule)


class TheVendoredReDocTest(unittest.TestCase):
    def test_it_is_the_published_file(self) -> None:
        lines = (REDOC / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
        self.assertEqual(len(lines), 3)
        for line in lines:
            digest, name = line.split()
            self.assertEqual(hashlib.sha256((REDOC / name).read_bytes()).hexdigest(), digest, name)

    def test_its_licence_lies_beside_it(self) -> None:
        self.assertIn("MIT License", (REDOC / "LICENSE").read_text(encoding="utf-8"))
