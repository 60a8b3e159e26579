"""GET and DELETE below /api/v1/objectdetection/image, and /detect, /detectors."""

import re
import unittest
from io import BytesIO

from imgdetect import images
from imgdetect.detectors.haar import BUNDLED
from tests.app import API, AppTest, astronaut, jpeg


class DownloadTest(AppTest):
    def test_the_original_comes_back_to_the_byte(self):
        data = jpeg(seed=1)
        path = self.uploaded(data, "holiday.jpg")["image"]["links"]["self"]
        answer = self.client.get(path)
        self.assertEqual((answer.status_code, answer.data, answer.mimetype), (200, data, "image/jpeg"))
        self.assertIn("immutable", answer.headers["Cache-Control"])
        self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
        self.assertIn("sandbox", answer.headers["Content-Security-Policy"])
        self.assertIn('filename="holiday.jpg"', answer.headers["Content-Disposition"])
        self.assertRegex(answer.headers["ETag"], r'^"[0-9a-f]{64}"$')

    def test_the_processed_picture_is_a_picture_of_the_same_size(self):
        path = self.uploaded(astronaut(), "astronaut.jpg")["image"]["links"]["processed"]
        answer = self.client.get(path)
        self.assertEqual((answer.status_code, answer.mimetype), (200, "image/jpeg"))
        self.assertEqual(images.decode(answer.data).shape, (512, 512, 3))
        self.assertEqual(answer.headers["Cache-Control"], "private, no-cache")
        self.assertIn("Accept", answer.headers["Vary"])

    def test_the_processed_picture_comes_in_the_format_asked_for(self):
        path = self.uploaded(jpeg(seed=2))["image"]["links"]["processed"]
        for accept, expected in (
            ("image/webp", "image/webp"),
            ("image/png", "image/png"),
            ("image/avif,image/webp,*/*;q=0.8", "image/jpeg"),
            ("*/*", "image/jpeg"),
            ("image/*", "image/jpeg"),
        ):
            with self.subTest(accept=accept):
                answer = self.client.get(path, headers={"Accept": accept})
                self.assertEqual((answer.status_code, answer.mimetype), (200, expected))
                self.assertEqual(images.decode(answer.data).shape, (48, 64, 3))
        self.assertProblem(self.client.get(path, headers={"Accept": "text/html"}), 406, "not-acceptable")
        png = self.client.get(f"{path}?format=png")
        self.assertEqual(png.mimetype, "image/png")
        self.assertNotEqual(png.headers["ETag"], self.client.get(path).headers["ETag"])
        self.assertProblem(self.client.get(f"{path}?format=bmp"), 400, "invalid-request")

    def test_ranges_and_conditions(self):
        data = jpeg(seed=3)
        links = self.uploaded(data)["image"]["links"]
        for path in (links["self"], links["processed"], f"{links['processed']}?format=png"):
            with self.subTest(path=path):
                whole = self.client.get(path)
                etag = whole.headers["ETag"]
                part = self.client.get(path, headers={"Range": "bytes=10-19"})
                self.assertEqual((part.status_code, part.data), (206, whole.data[10:20]))
                self.assertEqual(part.headers["Content-Range"], f"bytes 10-19/{len(whole.data)}")
                tail = self.client.get(path, headers={"Range": "bytes=-5"})
                self.assertEqual((tail.status_code, tail.data), (206, whole.data[-5:]))
                beyond = self.client.get(path, headers={"Range": f"bytes={len(whole.data)}-"})
                self.assertProblem(beyond, 416, "range-not-satisfiable")
                same = self.client.get(path, headers={"If-None-Match": etag})
                self.assertEqual((same.status_code, same.data, same.headers["ETag"]), (304, b"", etag))
                head = self.client.head(path)
                self.assertEqual((head.status_code, head.data, head.content_length), (200, b"", len(whole.data)))
                resumed = self.client.get(path, headers={"Range": "bytes=10-", "If-Range": etag})
                self.assertEqual((resumed.status_code, resumed.data), (206, whole.data[10:]))
                both = self.client.get(path, headers={"Range": "bytes=10-19", "If-None-Match": etag})
                self.assertEqual(both.status_code, 304)
                for match in (etag, "*", f'"other", {etag}'):
                    self.assertEqual(self.client.get(path, headers={"If-Match": match}).status_code, 200)
                other = self.client.get(path, headers={"If-Match": '"other"'})
                self.assertProblem(other, 412, "precondition-failed")
                dated = {"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}
                self.assertEqual(self.client.get(path, headers=dated).status_code, 200)
                stale = self.client.get(path, headers={"Range": "bytes=10-", "If-Range": '"other"'})
                self.assertEqual((stale.status_code, stale.data), (200, whole.data))

    def test_a_file_name_means_the_newest_upload_of_that_name(self):
        old = self.uploaded(jpeg(seed=4), "same name.jpg")["image"]
        new = self.uploaded(jpeg(seed=5), "same name.jpg")["image"]
        self.assertNotEqual(old["id"], new["id"])
        answer = self.client.get(f"{API}/image/same%20name.jpg")
        self.assertEqual(answer.data, jpeg(seed=5))
        self.assertEqual(answer.headers["Content-Location"], new["links"]["self"])
        self.assertEqual(answer.headers["Cache-Control"], "private, no-cache")
        answer = self.client.get(f"{API}/image/same%20name.jpg/processed")
        self.assertEqual(answer.headers["Content-Location"], new["links"]["processed"])
        self.assertProblem(self.client.get(f"{API}/image/other.jpg"), 404, "not-found")

    def test_names_are_header_safe(self):
        long = "x" * 4000 + ".jpg"
        for name in ('a"b;c.jpg', "../../etc/passwd.jpg", "\u202egpj.exe.jpg", "ünïcödé.jpg", long, "CON.jpg"):
            with self.subTest(name=name):
                body = self.uploaded(jpeg(seed=6), name)
                answer = self.client.get(body["image"]["links"]["self"])
                value = answer.headers["Content-Disposition"]
                self.assertRegex(value, r"^inline; filename=\"[A-Za-z0-9._ -]+\"; filename\*=UTF-8''[A-Za-z0-9._%~-]+$")
                self.assertLess(len(value), 1500)
                self.assertNotIn("%E2%80%AE", value)
                self.assertTrue(all(re.fullmatch(r"[0-9a-z.-]+", file.key) for file in self.service.storage.keys()))

    def test_odd_ids_are_not_found(self):
        for reference in ("x", "%2e%2e%2fetc", "0" * 32, "G" * 32, "a" * 5000, "..%00", "-1"):
            with self.subTest(reference=reference[:20]):
                answer = self.client.get(f"{API}/image/{reference}")
                self.assertEqual(answer.status_code, 404)


class RecordTest(AppTest):
    def test_unknown_parameters_are_refused_everywhere(self):
        links = self.uploaded(jpeg(seed=20))["image"]["links"]
        for path in (*links.values(), f"{API}/detectors", f"{API}/detectors/face"):
            body = self.assertProblem(self.client.get(f"{path}?colour=red"), 400, "invalid-request")
            self.assertEqual(body["errors"][0]["field"], "colour")
        self.assertProblem(self.client.delete(f"{links['self']}?force=1"), 400, "invalid-request")

    def test_the_record_is_what_the_upload_answered(self):
        body = self.uploaded(astronaut(), "astronaut.jpg", min_neighbors="5")
        answer = self.client.get(body["image"]["links"]["detections"])
        expected = {name: value for name, value in body.items() if name not in ("cached", "timings_ms")}
        self.assertEqual(answer.get_json(), expected)
        same = self.client.get(body["image"]["links"]["detections"], headers={"If-None-Match": answer.headers["ETag"]})
        self.assertEqual(same.status_code, 304)

    def test_a_crop_is_the_detection_and_nothing_else(self):
        body = self.uploaded(astronaut(), min_neighbors="5")
        box = body["detections"][0]["box"]
        path = f"{body['image']['links']['self']}/crops/0"
        crop = images.decode(self.client.get(f"{path}?format=png").data)
        self.assertEqual(crop.shape, (box["height"], box["width"], 3))
        whole = images.decode(astronaut())
        part = whole[box["y"] : box["y"] + box["height"], box["x"] : box["x"] + box["width"]]
        self.assertTrue((crop == part).all())
        self.assertEqual(self.client.get(path).mimetype, "image/jpeg")
        self.assertProblem(self.client.get(f"{body['image']['links']['self']}/crops/1"), 404, "not-found")

    def test_looking_again_replaces_the_processed_picture(self):
        body = self.uploaded(astronaut(), "again.jpg", min_neighbors="5")
        path = body["image"]["links"]["processed"]
        first = self.client.get(path)
        answer = self.client.post(f"{path}?style=pixelate&min_neighbors=6")
        again = answer.get_json()
        self.assertEqual((answer.status_code, again["image"]), (200, body["image"]))
        self.assertEqual((again["parameters"]["style"], again["parameters"]["min_neighbors"]), ("pixelate", 6))
        second = self.client.get(path)
        self.assertNotEqual(first.data, second.data)
        self.assertNotEqual(first.headers["ETag"], second.headers["ETag"])
        kept = [file.key for file in self.service.storage.keys() if f"{body['image']['id']}.processed" in file.key]
        self.assertEqual(len(kept), 1)

    def test_deleting_an_image_leaves_nothing(self):
        before = {file.key for file in self.service.storage.keys()}
        links = self.uploaded(jpeg(seed=11), "gone.jpg")["image"]["links"]
        answer = self.client.delete(links["self"])
        self.assertEqual((answer.status_code, answer.get_json()), (200, {"status": "OK"}))
        for path in (*links.values(), f"{API}/image/gone.jpg"):
            self.assertProblem(self.client.get(path), 404, "not-found")
        self.assertProblem(self.client.delete(links["self"]), 404, "not-found")
        self.assertEqual({file.key for file in self.service.storage.keys()}, before)

    def test_deleting_the_processed_picture_leaves_the_rest(self):
        links = self.uploaded(jpeg(seed=12))["image"]["links"]
        self.assertEqual(self.client.delete(links["processed"]).status_code, 200)
        self.assertProblem(self.client.get(links["processed"]), 404, "not-found")
        self.assertProblem(self.client.delete(links["processed"]), 404, "not-found")
        self.assertEqual(self.client.get(links["self"]).status_code, 200)
        self.assertEqual(self.client.get(links["detections"]).status_code, 200)
        self.assertEqual(self.client.post(links["processed"]).status_code, 200)
        self.assertEqual(self.client.get(links["processed"]).status_code, 200)

    def test_deleting_by_name_needs_exactly_one(self):
        first = self.uploaded(jpeg(seed=13), "twice.jpg")["image"]["id"]
        second = self.uploaded(jpeg(seed=14), "twice.jpg")["image"]["id"]
        body = self.assertProblem(self.client.delete(f"{API}/image/twice.jpg"), 409, "conflict")
        self.assertEqual(set(body["ids"]), {first, second})
        self.assertEqual(self.client.delete(f"{API}/image/{first}").status_code, 200)
        self.assertEqual(self.client.delete(f"{API}/image/twice.jpg").status_code, 200)
        self.assertProblem(self.client.delete(f"{API}/image/twice.jpg"), 404, "not-found")


class ListTest(AppTest):
    def test_pages_hold_every_image_once_newest_first(self):
        ids = [self.uploaded(jpeg(seed=i))["image"]["id"] for i in range(7)]
        seen, following, pages = [], f"{API}/image?limit=3", 0
        while following:
            body = self.client.get(following).get_json()
            seen += [record["image"]["id"] for record in body["images"]]
            following = body["next"]
            pages += 1
        self.assertEqual((seen, pages), (ids[::-1], 3))

    def test_wrong_cursors_and_limits(self):
        for query in ("limit=0", "limit=101", "cursor=nonsense", "cursor=", "cursor=%F0%9F", "page=2"):
            with self.subTest(query=query):
                self.assertProblem(self.client.get(f"{API}/image?{query}"), 400, "invalid-request")


class DetectTest(AppTest):
    def test_nothing_is_stored(self):
        before = [*self.service.storage.keys()]
        data = {"image": (BytesIO(astronaut()), "a.jpg"), "min_neighbors": "5"}
        body = self.client.post(f"{API}/detect", data=data).get_json()
        self.assertEqual((body["found"], "id" in body["image"]), (1, False))
        self.assertEqual([*self.service.storage.keys()], before)

    def test_the_annotated_picture_by_accept(self):
        for media_type in ("image/jpeg", "image/png", "image/webp"):
            answer = self.client.post(
                f"{API}/detect", data=jpeg(), content_type="image/jpeg", headers={"Accept": media_type}
            )
            self.assertEqual((answer.status_code, answer.mimetype), (200, media_type))
            self.assertEqual(images.decode(answer.data).shape, (48, 64, 3))
        answer = self.client.post(f"{API}/detect", data=jpeg(), content_type="image/jpeg", headers={"Accept": "a/b"})
        self.assertProblem(answer, 406, "not-acceptable")


class DetectorsTest(AppTest):
    def test_every_stock_cascade_is_there_by_name(self):
        body = self.client.get(f"{API}/detectors").get_json()
        names = {detector["name"] for detector in body["detectors"]}
        self.assertEqual((names, body["default"]), (set(BUNDLED), "face"))
        wanted = {"face", "face_alt2", "profile_face", "eye", "smile", "cat_face", "full_body", "upper_body"}
        self.assertLessEqual(wanted | {"licence_plate"}, names)

    def test_one_detector(self):
        body = self.client.get(f"{API}/detectors/full_body").get_json()
        self.assertEqual((body["task"], body["window"]), ("detection", {"width": 14, "height": 28}))
        self.assertEqual(body["engine"], "fasthaar")
        self.assertProblem(self.client.get(f"{API}/detectors/nobody"), 404, "not-found")


if __name__ == "__main__":
    unittest.main()
