"""Downloads where pictures are kept in an object store: through the service, and by addresses of the store."""

from urllib.parse import parse_qs, urlsplit

import boto3
import requests

from imgdetect import config
from imgdetect.housekeeping import prune
from tests.app import API, AppTest, jpeg
from tests.s3_server import MotoTest

STORE_TIMEOUT = 30


class StoreCase(MotoTest, AppTest):
    parameters = ""

    @classmethod
    def served(cls):
        url = f"s3://pictures/p?endpoint_url={cls.endpoint}&timeout_seconds=20{cls.parameters}"
        cls.settings = cls.settings | {"storage_url": url}


class ProxiedTest(StoreCase):
    def test_pictures_come_through_the_service_with_its_validators(self):
        record = self.uploaded(jpeg(), filename="a.jpg")["image"]
        whole = self.client.get(f"{API}/image/{record['id']}")
        self.assertEqual((whole.status_code, whole.data), (200, jpeg()))
        etag = whole.headers["ETag"]
        for headers, status, body in (
            ({"Range": "bytes=3-9"}, 206, jpeg()[3:10]),
            ({"Range": "bytes=-5"}, 206, jpeg()[-5:]),
            ({"Range": "bytes=3-9", "If-Range": etag}, 206, jpeg()[3:10]),
            ({"If-None-Match": etag}, 304, b""),
            ({"If-Match": '"other"'}, 412, None),
            ({"Range": "bytes=9999999-"}, 416, None),
        ):
            with self.subTest(headers):
                answer = self.client.get(f"{API}/image/{record['id']}", headers=headers)
                self.assertEqual(answer.status_code, status)
                if body is not None:
                    self.assertEqual(answer.data, body)

    def test_looking_again_and_deleting_work(self):
        record = self.uploaded(jpeg())["image"]
        again = self.client.post(f"{API}/image/{record['id']}/processed")
        self.assertEqual(again.status_code, 200, again.text)
        self.assertEqual(self.client.get(f"{API}/image/{record['id']}/processed").mimetype, "image/jpeg")
        self.assertEqual(len(list(self.service.storage.keys())), 2)
        self.assertEqual(self.client.delete(f"{API}/image/{record['id']}").status_code, 200)
        self.assertEqual(list(self.service.storage.keys()), [])

    def test_the_sweep_removes_what_was_never_completed_and_nothing_else(self):
        record = self.uploaded(jpeg())["image"]
        client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1")
        # moto dates it back by years.
        client.create_multipart_upload(Bucket="pictures", Key=f"p/{record['id']}.original.mp4")
        self.assertEqual(len(list(self.service.storage.keys())), 3)
        self.assertEqual(prune(self.service).files, 1)
        self.assertNotIn("Uploads", client.list_multipart_uploads(Bucket="pictures"))
        self.assertEqual(self.client.get(f"{API}/image/{record['id']}").data, jpeg())
        self.assertEqual(self.client.get(f"{API}/image/{record['id']}/processed").status_code, 200)

    def test_an_object_that_somebody_removed_is_404(self):
        record = self.uploaded(jpeg())["image"]
        for stored in self.service.storage.keys():
            self.service.storage.delete(stored.key)
        self.assertProblem(self.client.get(f"{API}/image/{record['id']}"), 404, "not-found")


class PresignedTest(StoreCase):
    parameters = "&downloads=presigned"
    key, entry = config.make_api_key("anna")
    settings = {"api_keys": entry}

    def setUp(self):
        super().setUp()
        self.headers = {"x-api-key": self.key}
        self.id = self.uploaded(jpeg(), filename="a b ü.jpg", headers=self.headers)["image"]["id"]

    def get(self, path="", method="get", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return getattr(self.client, method)(f"{API}/image/{self.id}{path}", headers=self.headers | named)

    def test_a_client_is_sent_to_the_store_and_finds_the_picture_as_it_should_be(self):
        for path, cached in (("", "private, immutable, max-age=31536000"), ("/processed", "private, no-cache")):
            with self.subTest(path):
                answer = self.get(path)
                self.assertEqual((answer.status_code, answer.data), (307, b""))
                self.assertEqual(answer.headers["Cache-Control"], "no-store")
                there = requests.get(answer.headers["Location"], timeout=STORE_TIMEOUT)
                self.assertEqual(there.status_code, 200)
                self.assertEqual(there.headers["Content-Type"], "image/jpeg")
                self.assertEqual(there.headers["Cache-Control"], cached)
                self.assertIn("filename*=UTF-8''a%20b%20%C3%BC.jpg", there.headers["Content-Disposition"])
                self.assertNotIn("x-api-key", answer.headers["Location"].lower())
        self.assertEqual(requests.get(self.get().headers["Location"], timeout=STORE_TIMEOUT).content, jpeg())

    def test_the_address_is_good_for_minutes_only_and_for_this_file_only(self):
        parts = urlsplit(self.get().headers["Location"])
        query = parse_qs(parts.query)
        self.assertEqual(query["X-Amz-Expires"], ["300"])
        self.assertRegex(parts.path, r"^/pictures/p/[0-9a-f]{32}\.original\.jpg$")
        self.assertTrue(query["X-Amz-Signature"])

    def test_the_store_answers_ranges(self):
        answer = self.get(Range="bytes=3-9")
        self.assertEqual(answer.status_code, 307)
        there = requests.get(answer.headers["Location"], headers={"Range": "bytes=3-9"}, timeout=STORE_TIMEOUT)
        self.assertEqual((there.status_code, there.content), (206, jpeg()[3:10]))

    def test_conditions_are_judged_here_by_our_etag(self):
        etag = self.get(method="head").headers["ETag"]
        self.assertEqual(self.get(If_None_Match=etag).status_code, 304)
        self.assertEqual(self.get(If_None_Match='"other"').status_code, 307)
        matched = self.get(If_Match=etag)
        self.assertEqual((matched.status_code, matched.data), (200, jpeg()))
        self.assertProblem(self.get(If_Match='"other"'), 412, "precondition-failed")
        part = self.get(If_Range=etag, Range="bytes=0-1")
        self.assertEqual((part.status_code, part.data), (206, jpeg()[:2]))

    def test_pages_of_our_own_are_served_from_here(self):
        self.assertEqual(self.get(Sec_Fetch_Site="same-origin").data, jpeg())
        self.assertEqual(self.get(Sec_Fetch_Site="cross-site").status_code, 307)

    def test_nobody_gets_an_address_without_the_key(self):
        for headers in ({}, {"x-api-key": "wrong"}):
            answer = self.client.get(f"{API}/image/{self.id}", headers=headers)
            self.assertProblem(answer, 401, "unauthorized")
            self.assertNotIn("Location", answer.headers)

    def test_a_format_that_has_to_be_made_comes_from_here(self):
        self.assertEqual(self.get("/processed?format=png").mimetype, "image/png")
