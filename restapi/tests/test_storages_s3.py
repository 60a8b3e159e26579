"""Artifacts in an object store: the contract, the addresses given to clients, uploads in parts, wrong settings."""

import os
import re
import unittest
from io import BytesIO
from unittest import mock

import boto3
import requests

from imgdetect import backends, errors, storages
from imgdetect.storages import s3
from tests.s3_server import CREDENTIALS, MotoTest, Proxy
from tests.test_storages import KEY, StorageContract, Trickle

PART = 5 << 20  # the smallest that S3 takes


class S3Case(MotoTest):
    def open_store(self, target="//pictures/some/where", **parameters):
        return s3.create(target, {"endpoint_url": self.endpoint, "timeout_seconds": "20"} | parameters)

    def client(self):
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1")

    def unfinished(self):
        return self.client().list_multipart_uploads(Bucket="pictures").get("Uploads", [])


class S3StorageTest(StorageContract, S3Case):
    tick_seconds = 1.1  # S3's times are in whole seconds

    def create(self):
        return self.open_store()

    def test_an_object_lies_below_the_prefix_with_its_media_type(self):
        self.storage.put(KEY, b"x", "image/webp")
        head = self.client().head_object(Bucket="pictures", Key=f"some/where/{KEY}")
        self.assertEqual((head["ContentType"], head["ContentLength"]), ("image/webp", 1))
        self.open_store("//pictures").put(KEY, b"xy", "image/webp")
        self.assertEqual(self.client().head_object(Bucket="pictures", Key=KEY)["ContentLength"], 2)

    def test_objects_of_others_are_neither_listed_nor_taken_for_ours(self):
        self.storage.put(KEY, b"x", "image/jpeg")
        for name in ("other.txt", "some/where/README", "some/where/deep/abcd.jpg", "some/whereabcd.jpg"):
            self.client().put_object(Bucket="pictures", Key=name, Body=b"not ours")
        self.assertEqual(self.stored_keys(), {KEY})

    def test_the_list_goes_on_over_pages(self):
        for number in range(7):
            self.client().put_object(Bucket="pictures", Key=f"some/where/{number:04d}.x", Body=b"x")
        paginate = self.storage._clients.patient.get_paginator
        with mock.patch.object(self.storage._clients.patient, "get_paginator") as patched:
            patched.side_effect = lambda name: mock.Mock(
                paginate=lambda **where: paginate(name).paginate(**where, PaginationConfig={"PageSize": 3})
            )
            self.assertEqual(len(list(self.storage.keys())), 7)

    def test_a_stream_goes_up_in_parts_and_leaves_no_upload_open(self):
        data = os.urandom(2 * PART + 17)
        with mock.patch.object(s3, "PART_BYTES", PART):
            self.storage.put(KEY, BytesIO(data), "video/mp4")
        head = self.client().head_object(Bucket="pictures", Key=f"some/where/{KEY}")
        self.assertRegex(head["ETag"], '-3"$')
        self.assertEqual(head["ContentType"], "video/mp4")
        self.assertEqual((self.read(KEY), self.unfinished()), (data, []))

    def test_a_stream_never_lies_in_memory_as_a_whole(self):
        asked = []

        class Endless:
            def read(self, size):
                asked.append(size)
                return b"x" * size if len(asked) < 6 else b""

        with mock.patch.object(s3, "PART_BYTES", PART):
            self.storage.put(KEY, Endless(), "video/mp4")
        self.assertEqual(max(asked), PART)
        self.assertEqual([stored.size for stored in self.storage.keys()], [5 * PART])

    def test_an_upload_in_parts_that_breaks_is_aborted(self):
        with mock.patch.object(s3, "PART_BYTES", PART), self.assertRaises(EOFError):
            self.storage.put(KEY, Trickle(b"x" * (2 * PART + 5), EOFError()), "video/mp4")
        self.assertEqual((self.unfinished(), self.stored_keys()), ([], set()))

    def test_an_upload_that_was_never_completed_is_listed_and_can_be_removed(self):
        upload = self.client().create_multipart_upload(Bucket="pictures", Key=f"some/where/{KEY}")["UploadId"]
        self.client().create_multipart_upload(Bucket="pictures", Key="of/others.jpg")
        (leftover,) = self.storage.keys()
        self.assertEqual((leftover.key, leftover.size), (f"tmp-{KEY}/{upload}", 0))
        for call in (self.storage.open, self.storage.locate, self.link):
            self.assertRaises(ValueError, call, leftover.key)
        self.storage.delete(leftover.key)
        self.storage.delete(leftover.key)
        self.assertEqual([entry["Key"] for entry in self.unfinished()], ["of/others.jpg"])

    def test_a_bucket_that_is_not_there_is_a_storage_that_cannot_be_used(self):
        wrong = self.open_store("//nowhere")
        for call in (wrong.check, lambda: list(wrong.keys()), lambda: wrong.open(KEY), lambda: wrong.delete(KEY)):
            with self.assertRaises(errors.BackendUnavailable):
                call()
        with self.assertRaises(errors.BackendUnavailable):
            wrong.put(KEY, b"x", "image/jpeg")

    def test_the_seam_finds_it_by_its_url(self):
        url = backends.parse(f"s3://pictures/p?endpoint_url={self.endpoint}&region=eu-central-1&timeout_seconds=20")
        storage = backends.module(storages, url).create(url.target, url.parameters)
        storage.put(KEY, b"x", "image/jpeg")
        self.assertEqual(self.client().head_object(Bucket="pictures", Key=f"p/{KEY}")["ContentLength"], 1)


class LinkTest(S3Case):
    HEADERS = {"Content-Type": "image/png", "Content-Disposition": 'inline; filename="a\'b.png"', "Cache-Control": "x"}

    def test_an_address_needs_no_key_and_carries_the_headers(self):
        storage = self.open_store(downloads="presigned")
        storage.put(KEY, b"0123456789", "image/jpeg")
        link = storage.link(KEY, self.HEADERS)
        answer = requests.get(link, headers={"Range": "bytes=2-4"}, timeout=30)
        self.assertEqual((answer.status_code, answer.content), (206, b"234"))
        self.assertLessEqual(self.HEADERS.items(), dict(answer.headers).items() | self.lowered(answer))
        self.assertIn("X-Amz-Algorithm=AWS4-HMAC-SHA256", link)
        self.assertIn(f"X-Amz-Expires={s3.LINK_SECONDS}", link)
        self.assertNotIn(CREDENTIALS["AWS_SECRET_ACCESS_KEY"] + "&", link.replace("Credential=S3RVER", ""))

    def lowered(self, answer):
        return {(name.title(), value) for name, value in answer.headers.items()}

    def test_clients_may_know_the_store_by_another_address(self):
        storage = self.open_store(downloads="presigned", public_endpoint_url="https://s3.example")
        self.assertTrue(storage.link(KEY, {}).startswith(f"https://s3.example/pictures/some/where/{KEY}?"))


class ResumeTest(S3Case):
    """A store that stops in the middle of a file."""

    def test_the_rest_is_asked_for_and_the_bytes_are_whole(self):
        data = os.urandom(300_000)
        self.open_store().put(KEY, data, "image/jpeg")
        with Proxy(int(self.endpoint.rpartition(":")[2])) as proxy:
            storage = self.open_store(endpoint_url=f"http://127.0.0.1:{proxy.port}")
            proxy.cut_after = 100_000
            for start, end in ((0, None), (1000, 299_000)):
                proxy.become("cut", bad_left=2)
                with storage.open(KEY, start, end) as stream:
                    self.assertEqual(stream.read(), data[start:end])
                self.assertEqual(proxy.requests, 3)

    def test_bytes_of_another_file_are_never_put_behind_it(self):
        self.open_store().put(KEY, b"a" * 300_000, "image/jpeg")
        with Proxy(int(self.endpoint.rpartition(":")[2])) as proxy:
            storage = self.open_store(endpoint_url=f"http://127.0.0.1:{proxy.port}")
            proxy.cut_after = 100_000
            proxy.become("cut", bad_left=1)
            with storage.open(KEY) as stream:
                self.assertEqual(stream.read(1000), b"a" * 1000)
                self.open_store().put(KEY, b"b" * 300_000, "image/jpeg")
                for _ in range(2):  # what was given up is not at its end
                    with self.assertRaises(errors.BackendUnavailable):
                        stream.read()


class SettingsTest(unittest.TestCase):
    def setUp(self):
        self.enterContext(mock.patch.dict(os.environ, CREDENTIALS))

    def test_it_refuses_wrong_settings_and_repeats_no_secret(self):
        for target, parameters, said in (
            ("", {}, "s3://bucket/prefix"),
            ("bucket", {}, "s3://bucket/prefix"),
            ("//", {}, "s3://bucket/prefix"),
            ("//AKIA:hunter2@bucket", {}, "s3://bucket/prefix"),
            ("//bucket/hunter2?", {}, "s3://bucket/prefix"),
            ("//bucket", {"colour": "red"}, "unknown parameter colour"),
            ("//bucket", {"endpoint_url": "s3.example"}, "endpoint_url"),
            ("//bucket", {"endpoint_url": "https://me:hunter2@s3.example"}, "without credentials"),
            ("//bucket", {"public_endpoint_url": "ftp://s3.example"}, "public_endpoint_url"),
            ("//bucket", {"timeout_seconds": "0"}, "timeout_seconds"),
            ("//bucket", {"timeout_seconds": "nan"}, "timeout_seconds"),
            ("//bucket", {"timeout_seconds": "soon"}, "soon"),
            ("//bucket", {"downloads": "maybe"}, "proxied"),
        ):
            with self.subTest(target=target, parameters=parameters), self.assertRaises(ValueError) as caught:
                s3.create(target, parameters)
            self.assertRegex(str(caught.exception), re.escape(said))
            self.assertNotIn("hunter2", str(caught.exception))

    def test_it_says_where_credentials_may_come_from(self):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del os.environ[name]
        with self.assertRaisesRegex(ValueError, "AWS_SHARED_CREDENTIALS_FILE"):
            s3.create("//bucket", {})


if __name__ == "__main__":
    unittest.main()
