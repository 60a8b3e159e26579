"""POST /api/v1/objectdetection/image."""

import hashlib
import unittest
from io import BytesIO

from imgdetect import images
from tests.app import API, AppTest, astronaut, jpeg


class UploadTest(AppTest):
    def test_it_finds_the_face_of_the_astronaut(self):
        answer = self.upload(astronaut(), "astronaut.jpg", min_neighbors="5")
        body = answer.get_json()
        self.assertEqual(answer.status_code, 200)
        self.assertEqual(answer.headers["Location"], f"{API}/image/{body['image']['id']}")
        self.assertEqual(body["status"], "OK")
        image = body["image"]
        self.assertEqual(
            (image["filename"], image["width"], image["height"], image["media_type"], image["sha256"]),
            ("astronaut.jpg", 512, 512, "image/jpeg", hashlib.sha256(astronaut()).hexdigest()),
        )
        self.assertEqual(len(body["detections"]), 1)
        detection = body["detections"][0]
        self.assertEqual((detection["detector"], detection["class_name"]), ("face", "face"))
        box = detection["box"]
        self.assertLess(abs(box["x"] + box["width"] / 2 - 222), 20, box)
        self.assertLess(abs(box["y"] + box["height"] / 2 - 115), 25, box)
        self.assertIsNone(detection["confidence"])
        self.assertGreater(detection["neighbors"], 5)
        self.assertLessEqual({"decode", "detect", "annotate", "encode", "store", "total"}, set(body["timings_ms"]))

    def test_parameters_are_echoed_as_used(self):
        given = {
            "detector": "cat_face",
            "scale_factor": "1.2",
            "min_size": "30,40",
            "max_size": "200",
            "equalize": "true",
            "rotations": "0,90",
            "roi": "1,2,50,40",
            "max_detections": "3",
            "style": "blur",
            "label": "false",
            "keep_original": "true",
        }
        used = self.uploaded(**given)["parameters"]
        self.assertEqual(
            used,
            {
                "detector": "cat_face",
                "scale_factor": 1.2,
                "min_neighbors": 3,
                "min_size": [30, 40],
                "max_size": [200, 200],
                "equalize": True,
                "confidence": None,
                "iou_threshold": None,
                "classes": None,
                "top_k": None,
                "rotations": [0, 90],
                "roi": [1, 2, 50, 40],
                "max_detections": 3,
                "min_area": None,
                "max_area": None,
                "mask": None,
                "class_confidence": None,
                "style": "blur",
                "label": False,
                "keep_original": True,
            },
        )

    def test_defaults_are_those_of_the_face_cascade(self):
        used = self.uploaded()["parameters"]
        self.assertEqual(
            (used["detector"], used["scale_factor"], used["min_neighbors"], used["min_size"], used["max_size"]),
            ("face", 1.1, 3, [20, 20], None),
        )

    def test_parameters_may_stand_in_the_query(self):
        answer = self.client.post(f"{API}/image?min_neighbors=7", data={"image": (BytesIO(jpeg()), "a.jpg")})
        self.assertEqual(answer.get_json()["parameters"]["min_neighbors"], 7)

    def test_the_body_may_be_the_image_itself(self):
        answer = self.client.post(f"{API}/image?min_neighbors=5", data=astronaut(), content_type="image/jpeg")
        body = answer.get_json()
        self.assertEqual((answer.status_code, body["image"]["filename"], body["found"]), (200, "", 1))

    def test_near_misses_tell_why_nothing_was_found(self):
        body = self.uploaded(jpeg(200, 100))
        self.assertEqual(body["detections"], [])
        self.assertEqual(body["near_misses"]["window"], {"width": 24, "height": 24})
        self.assertIn("brightness", body["near_misses"])
        self.assertIsNone(self.uploaded(astronaut(), min_neighbors="5")["near_misses"])

    def test_every_upload_is_its_own_record_even_from_the_cache(self):
        first, second = self.uploaded(jpeg(seed=5)), self.uploaded(jpeg(seed=5))
        self.assertNotEqual(first["image"]["id"], second["image"]["id"])
        self.assertEqual((first["cached"], second["cached"]), (False, True))
        self.assertEqual(first["detections"], second["detections"])

    def test_other_parameters_are_not_answered_from_the_cache(self):
        self.uploaded(jpeg(seed=6))
        self.assertFalse(self.uploaded(jpeg(seed=6), style="blur")["cached"])

    def test_a_picture_without_its_original(self):
        body = self.uploaded(jpeg(seed=7), keep_original="false")
        path = body["image"]["links"]["self"]
        self.assertProblem(self.client.get(path), 404, "not-found")
        self.assertEqual(self.client.get(f"{path}/processed").status_code, 200)
        kept = [file.key for file in self.service.storage.keys() if body["image"]["id"] in file.key]
        self.assertEqual(len(kept), 1)

    def test_the_same_idempotency_key_returns_the_first_record(self):
        headers = {"Idempotency-Key": "k-1"}
        first = self.uploaded(jpeg(seed=8), headers=headers)
        again = self.uploaded(jpeg(seed=8), headers=headers)
        self.assertEqual(first["image"]["id"], again["image"]["id"])
        self.assertProblem(self.upload(jpeg(seed=9), headers=headers), 409, "conflict")
        self.assertProblem(self.upload(jpeg(seed=8), headers=headers, style="blur"), 409, "conflict")
        self.assertProblem(self.upload(headers={"Idempotency-Key": "with blank"}), 400, "invalid-request")

    def test_large_images_are_scaled_down_for_detection_and_the_answer_says_so(self):
        body = self.uploaded(jpeg(2500, 1500), min_size="200")
        size = body["working_size"]
        self.assertLessEqual(size["width"] * size["height"], self.service.settings.working_pixels)
        self.assertEqual((body["image"]["width"], body["image"]["height"]), (2500, 1500))


class RefusalTest(AppTest):
    def refused(self, code="invalid-request", **parameters):
        return self.assertProblem(self.upload(**parameters), 400, code)

    def test_it_names_every_wrong_parameter_at_once(self):
        body = self.refused(scale_factor="1.0", min_neighbors="-1", style="circle", sclae="2")
        self.assertEqual(
            {error["field"] for error in body["errors"]}, {"scale_factor", "min_neighbors", "style", "sclae"}
        )

    def test_wrong_values(self):
        for name, value in (
            ("scale_factor", "nan"),
            ("scale_factor", "1.01"),
            ("scale_factor", "9"),
            ("scale_factor", ""),
            ("min_neighbors", "2.5"),
            ("min_size", "0"),
            ("min_size", "1,2,3"),
            ("min_size", "99999999999999"),
            ("max_size", "x"),
            ("equalize", "perhaps"),
            ("confidence", "1.1"),
            ("confidence", "nan"),
            ("iou_threshold", "-0.1"),
            ("classes", "a,,b"),
            ("classes", "a,a"),
            ("top_k", "0"),
            ("rotations", "0,,90"),
            ("rotations", "0,360"),
            ("rotations", "361"),
            ("rotations", ",".join("0123456789ABCDEFGHIJ")),
            ("roi", "1,2,3"),
            ("roi", "0,0,0,5"),
            ("max_detections", "0"),
            ("max_detections", "1001"),
            ("label", "2"),
            ("keep_original", "x"),
        ):
            with self.subTest(name=name, value=value):
                self.assertEqual(self.refused(**{name: value})["errors"][0]["field"], name)

    def test_a_cascade_refuses_what_only_networks_have(self):
        body = self.refused(confidence="0.5", iou_threshold="0.4", classes="face", top_k="3")
        fields = {error["field"] for error in body["errors"]}
        self.assertEqual(fields, {"confidence", "iou_threshold", "classes", "top_k"})
        self.assertIn("min_neighbors says how strict", body["detail"])

    def test_sizes_that_contradict_each_other(self):
        self.assertIn("min_size", self.refused(min_size="50", max_size="40,60")["detail"])

    def test_a_roi_outside_the_image(self):
        self.assertIn("64", self.refused(roi="100,0,10,10")["detail"])

    def test_an_unknown_detector(self):
        body = self.refused(detector="dog")
        self.assertEqual(body["errors"][0]["field"], "detector")
        self.assertIn("cat_face", body["detail"])

    def test_a_parameter_given_twice(self):
        data = {"image": (BytesIO(jpeg()), "a.jpg"), "style": ["blur", "boxes"]}
        self.assertProblem(self.client.post(f"{API}/image", data=data), 400, "invalid-request")
        data = {"image": (BytesIO(jpeg()), "a.jpg"), "style": "blur"}
        self.assertProblem(self.client.post(f"{API}/image?style=blur", data=data), 400, "invalid-request")

    def test_no_image_two_images_and_an_unknown_part(self):
        self.assertProblem(self.client.post(f"{API}/image"), 400, "invalid-request")
        self.assertProblem(self.client.post(f"{API}/image", data={"image": "text"}), 400, "invalid-request")
        two = {"image": [(BytesIO(jpeg()), "a.jpg"), (BytesIO(jpeg()), "b.jpg")]}
        self.assertProblem(self.client.post(f"{API}/image", data=two), 400, "invalid-request")
        other = {"image": (BytesIO(jpeg()), "a.jpg"), "mask": (BytesIO(jpeg()), "b.jpg")}
        body = self.assertProblem(self.client.post(f"{API}/image", data=other), 400, "invalid-request")
        self.assertEqual(body["errors"][0]["field"], "mask")

    def test_too_much_work(self):
        body = self.refused(
            "too-much-work", data=jpeg(1400, 1400), scale_factor="1.05", rotations="0,10,20,30,40,50,60,70,80,90,100"
        )
        self.assertIn("50,000,000", body["detail"])

    def test_a_client_that_does_not_take_json(self):
        self.assertProblem(self.upload(headers={"Accept": "text/html"}), 406, "not-acceptable")

    def test_nothing_is_left_of_a_refused_upload(self):
        before = [*self.service.storage.keys()], self.service.database.list_records("", 100, None)
        self.upload(b"GIF89a")
        self.upload(b"not an image")
        self.upload(data=images.encode(images.decode(jpeg()), "image/png")[:-30])
        self.upload(style="circle")
        self.assertEqual(before, ([*self.service.storage.keys()], self.service.database.list_records("", 100, None)))


if __name__ == "__main__":
    unittest.main()
