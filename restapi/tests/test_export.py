"""GET /export: stored detections as COCO, YOLO and Pascal VOC."""

import io
import json
import tempfile
import time
import unittest
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import cv2
import yaml

from imgdetect import config, exports
from imgdetect.web import export
from tests import onnx_models as models
from tests.app import API, AppTest, astronaut, jpeg
from tests.test_onnx import picture

ALICE, ALICE_ENTRY = config.make_api_key("alice")
BOB, BOB_ENTRY = config.make_api_key("bob")
HEADERS = {"alice": {"x-api-key": ALICE}, "bob": {"x-api-key": BOB}}


class ExportTest(AppTest):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        models.build(Path(folder.name) / "segments.onnx", "yolov8", masks=True)
        cls.settings = {
            "detectors": f"segments=onnx:{folder.name}/segments.onnx",
            "api_keys": f"{ALICE_ENTRY} {BOB_ENTRY}",
        }
        super().setUpClass()

    def setUp(self):
        super().setUp()
        for owner in HEADERS:
            for record in self.service.records.page(owner, 100, None):
                self.service.records.delete(record.id, owner)

    def keep(self, data, owner="alice", **parameters):
        return self.uploaded(data, headers=HEADERS[owner], **parameters)

    def export(self, query="", owner="alice"):
        answer = self.client.get(f"{API}/export{query}", headers=HEADERS[owner])
        self.assertEqual(answer.status_code, 200, answer.data[:300])
        answer.close()  # as a server does when the last byte is sent; it gives the next one its turn
        return answer

    def archive(self, kind, query=""):
        answer = self.export(f"?format={kind}{query}")
        self.assertEqual(answer.mimetype, "application/zip")
        opened = zipfile.ZipFile(io.BytesIO(answer.data))
        self.assertIsNone(opened.testzip())
        return {name: opened.read(name).decode() for name in opened.namelist()}

    def test_coco_has_every_image_box_and_class_of_the_owner_and_no_other(self):
        face = self.keep(astronaut(), filename="me.jpg")
        empty = self.keep(jpeg(), filename="me.jpg")
        self.keep(astronaut(), "bob")
        answer = self.export()
        self.assertIn("attachment", answer.headers["Content-Disposition"])
        self.assertNotIn("Link", answer.headers)
        self.assertEqual(self.app.extensions["imgdetect"].downloads._value, 4)
        coco = answer.get_json()
        self.assertEqual(
            [image["imgdetect_id"] for image in coco["images"]], [empty["image"]["id"], face["image"]["id"]]
        )
        (found,), (box,) = coco["annotations"], face["detections"]
        self.assertEqual(found["bbox"], [box["box"][side] for side in ("x", "y", "width", "height")])
        self.assertEqual((found["image_id"], found["score"], found["segmentation"]), (2, box["score"], []))
        self.assertEqual(coco["categories"], [{"id": 1, "name": "face", "supercategory": "object"}])
        self.assertEqual(len(self.export(owner="bob").get_json()["images"]), 1)

    def test_nothing_stored_is_an_empty_document_and_archive(self):
        self.assertEqual(self.export().get_json()["annotations"], [])
        self.assertEqual(set(self.archive("yolo")), {"classes.txt", "data.yaml"})
        self.assertEqual(set(self.archive("voc")), {"classes.txt"})

    def test_a_mask_is_in_the_segmentation(self):
        data = cv2.imencode(".png", picture(300, 200, (60, 40, 190, 171), "blue"))[1].tobytes()
        kept = self.keep(data, detector="segments")["detections"][0]
        found = self.export().get_json()["annotations"][0]
        self.assertEqual(found["segmentation"], kept["segmentation"]["polygons"])
        self.assertLessEqual(found["area"], found["bbox"][2] * found["bbox"][3])
        self.assertGreater(found["area"], 0)

    def test_yolo_has_lines_in_parts_of_the_size(self):
        face = self.keep(astronaut())
        files = self.archive("yolo")
        number, *parts = files[f"labels/{face['image']['id']}.txt"].split()
        x, y, width, height = (float(part) * 512 for part in parts)
        box = face["detections"][0]["box"]
        self.assertEqual(number, "0")
        expected = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"], box["height"]
        for got, wanted in zip((x, y, width, height), expected, strict=True):
            self.assertAlmostEqual(got, wanted, places=2)
        self.assertEqual(yaml.safe_load(files["data.yaml"])["names"], {0: "face"})
        self.assertEqual(files["classes.txt"], "face\n")

    def test_voc_has_an_xml_file_for_each_image(self):
        face = self.keep(astronaut())
        tree = ElementTree.fromstring(self.archive("voc")[f"Annotations/{face['image']['id']}.xml"])
        box = face["detections"][0]["box"]
        edges = [int(tree.findtext(f"object/bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax")]
        self.assertEqual(edges, [box["x"] + 1, box["y"] + 1, box["x"] + box["width"], box["y"] + box["height"]])
        self.assertEqual((tree.findtext("size/width"), tree.findtext("object/name")), ("512", "face"))

    def test_parts_follow_each_other_without_gap_or_overlap(self):
        ids = [self.keep(jpeg(seed=seed))["image"]["id"] for seed in range(5)]
        seen, path = [], f"{API}/export?limit=2&format=coco"
        while path:
            answer = self.export(path.removeprefix(f"{API}/export"))
            seen += [image["imgdetect_id"] for image in answer.get_json()["images"]]
            path = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
        self.assertEqual(seen, ids[::-1])

    def test_times_and_classes_choose(self):
        self.keep(astronaut(), detector="face,eye")
        both = self.export().get_json()
        self.assertEqual({one["name"] for one in both["categories"]}, {"face", "eye"})
        eyes = self.export("?classes=nose,eye").get_json()
        self.assertEqual([one["name"] for one in eyes["categories"]], ["nose", "eye"])
        self.assertEqual({one["category_id"] for one in eyes["annotations"]}, {2})
        hour = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
        later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        self.assertEqual(len(self.export(f"?since={hour}&until={later}").get_json()["images"]), 1)
        self.assertEqual(self.export(f"?until={hour}").get_json()["images"], [])
        self.assertEqual(self.export(f"?since={later}").get_json()["images"], [])

    def test_an_image_that_is_deleted_meanwhile_is_passed_over(self):
        one, two = (self.keep(jpeg(seed=seed))["image"]["id"] for seed in (1, 2))
        read = export._items(self.service, [two, "0" * 32, one], "alice")
        self.assertEqual([record.id for record, _ in read], [two, one])

    def test_wrong_parameters_are_refused(self):
        for query in (
            "format=csv",
            "limit=0",
            "limit=10001",
            "cursor=x",
            "since=yesterday",
            "since=2025-01-01T00:00:00",
            "x=1",
        ):
            with self.subTest(query=query):
                answer = self.client.get(f"{API}/export?{query}", headers=HEADERS["alice"])
                self.assertProblem(answer, 400, "invalid-request")
        answer = self.client.get(
            f"{API}/export?since=2025-01-02T00:00:00Z&until=2025-01-01T00:00:00Z", headers=HEADERS["alice"]
        )
        self.assertProblem(answer, 400, "invalid-request")
        self.assertProblem(self.client.get(f"{API}/export"), 401, "unauthorized")

    def test_names_of_classes_may_hold_anything(self):
        self.keep(astronaut())
        record = self.service.records.page("alice", 1, None)[0]
        record.result["detections"][0]["class_name"] = 'a <b> & "c": \x01\n'
        classes = exports.Classes(None)
        document = json.loads(b"".join(exports.coco([(record, [])], classes)))
        self.assertEqual(document["categories"][0]["name"], 'a <b> & "c": \x01\n')
        made = zipfile.ZipFile(io.BytesIO(b"".join(exports.voc([(record, [])], classes, (2025, 1, 1, 0, 0, 0)))))
        tree = ElementTree.fromstring(made.read(f"Annotations/{record.id}.xml"))
        self.assertEqual(tree.findtext("object/name"), 'a <b> & "c": ')
        made = zipfile.ZipFile(io.BytesIO(b"".join(exports.yolo([(record, [])], classes, (2025, 1, 1, 0, 0, 0)))))
        self.assertEqual(yaml.safe_load(made.read("data.yaml"))["names"], {0: 'a <b> & "c": \x01\n'})


if __name__ == "__main__":
    unittest.main()
