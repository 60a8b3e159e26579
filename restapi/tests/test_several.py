"""Several detectors in one request, and the filters on what they find."""

import tempfile
import unittest
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from werkzeug.datastructures import FileStorage

from imgdetect import boxes
from imgdetect.detection import DetectOptions
from tests import onnx_models as models
from tests.app import API, AppTest, astronaut, jpeg
from tests.test_onnx import picture

BOX = (60, 40, 190, 171)


def networks_picture(colour="green"):
    return cv2.imencode(".png", picture(300, 200, BOX, colour))[1].tobytes()


class SeveralTest(AppTest):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        models.build(Path(folder.name) / "boxes.onnx", "yolox")
        models.build(Path(folder.name) / "colours.onnx", "classification", size_wh=(224, 224))
        urls = " ".join(f"{name}=onnx:{folder.name}/{name}.onnx" for name in ("boxes", "colours"))
        cls.settings = {"detectors": urls}
        super().setUpClass()

    def refused(self, field, **parameters):
        """The message about a parameter that is refused."""
        body = self.assertProblem(self.upload(astronaut(), **parameters), 400, "invalid-request")
        self.assertIn(field, {error["field"] for error in body["errors"]})
        return " ".join(error["message"] for error in body["errors"])

    def test_the_boxes_of_all_come_in_one_order_and_name_their_detector(self):
        alone = [self.uploaded(astronaut(), detector=name) for name in ("face", "eye")]
        self.assertTrue(all(one["found"] for one in alone))
        both = self.uploaded(astronaut(), detector="eye, face")
        self.assertEqual(both["detector"], "eye,face")
        self.assertEqual(both["found"], sum(one["found"] for one in alone))
        expected = sorted(
            (d for one in alone for d in one["detections"]), key=lambda d: (d["neighbors"], d["score"]), reverse=True
        )
        self.assertEqual(both["detections"], expected)
        self.assertEqual({d["detector"] for d in both["detections"]}, {"face", "eye"})
        kept = self.client.get(both["image"]["links"]["detections"]).get_json()
        self.assertEqual(kept["detections"], expected)
        again = self.uploaded(astronaut(), detector="eye,face")
        self.assertTrue(again["cached"])
        best = self.uploaded(astronaut(), detector="eye,face", max_detections=1)
        self.assertEqual((best["detections"], best["found"]), (expected[:1], both["found"]))

    def test_the_defaults_are_each_ones_own_and_told_where_all_agree(self):
        told = self.uploaded(jpeg(), detector="face,smile")["parameters"]
        face, smile = (self.uploaded(jpeg(), detector=name)["parameters"] for name in ("face", "smile"))
        self.assertNotEqual(face["min_neighbors"], smile["min_neighbors"])
        self.assertIsNone(told["min_neighbors"])
        self.assertEqual(told["scale_factor"], face["scale_factor"])

    def test_near_misses_are_told_when_none_found_anything_and_name_whose_they_are(self):
        nothing = self.uploaded(jpeg(200, 200), detector="face,cat_face")
        self.assertIn(nothing["near_misses"]["detector"], ("face", "cat_face"))
        one = self.uploaded(astronaut(), detector="face,licence_plate")
        self.assertEqual((one["found"], one["near_misses"]), (1, None))

    def test_a_network_and_a_cascade_look_together(self):
        answer = self.uploaded(networks_picture(), detector="face,boxes")
        self.assertEqual([d["detector"] for d in answer["detections"]], ["boxes"])
        self.assertEqual(answer["engine"].split(",")[1], "onnxruntime")
        message = self.refused("confidence", detector="face,boxes", confidence="0.5")
        self.assertIn("detector: face", message)
        self.assertIn("detector: boxes", self.refused("min_neighbors", detector="face,boxes", min_neighbors=3))

    def test_names_that_do_not_go_together_are_refused(self):
        self.assertIn("twice", self.refused("detector", detector="face,face"))
        self.assertIn("separated by commas", self.refused("detector", detector="face,,smile"))
        self.assertIn("'fase'", self.refused("detector", detector="face,fase"))
        self.assertIn("alone", self.refused("detector", detector="face,colours"))
        self.refused("detector", detector=",".join(f"d{n}" for n in range(9)))

    def test_together_they_may_not_cost_more_than_one_may(self):
        wide = jpeg(1200, 900)
        limit = self.service.settings.max_windows
        names = ("face", "profile_face", "upper_body", "full_body", "cat_face", "eye", "smile", "lower_body")
        costs = {}
        for name in names:
            detector, _ = self.service.several((name,))
            options = detector.resolve(DetectOptions(name))
            costs[name] = detector.cost((1200, 900), options)
        detector, _ = self.service.several(names)
        self.assertEqual(detector.cost((1200, 900), DetectOptions(",".join(names))), sum(costs.values()))
        self.service.settings = self.service.settings.model_copy(update={"max_windows": sum(costs.values()) - 1})
        try:
            answer = self.upload(wide, detector=",".join(names))
        finally:
            self.service.settings = self.service.settings.model_copy(update={"max_windows": limit})
        self.assertProblem(answer, 400, "too-much-work")

    def test_boxes_are_kept_by_their_area(self):
        everything = self.uploaded(astronaut(), detector="face,upper_body", min_neighbors=1)
        areas = sorted(d["box"]["width"] * d["box"]["height"] for d in everything["detections"])
        self.assertGreater(len(set(areas)), 2)
        least, most = areas[0] + 1, areas[-1] - 1
        between = self.uploaded(astronaut(), detector="face,upper_body", min_neighbors=1, min_area=least, max_area=most)
        expected = [d for d in everything["detections"] if least <= d["box"]["width"] * d["box"]["height"] <= most]
        self.assertEqual((between["detections"], between["found"]), (expected, len(expected)))
        one = self.uploaded(
            astronaut(), detector="face,upper_body", min_neighbors=1, min_area=least, max_area=most, max_detections=1
        )
        self.assertEqual((one["detections"], one["found"]), (expected[:1], len(expected)))
        kept = self.client.get(between["image"]["links"]["detections"]).get_json()
        self.assertEqual((kept["parameters"]["min_area"], kept["detections"]), (least, expected))

    def test_boxes_are_kept_whose_centre_lies_in_the_polygon(self):
        (found,) = self.uploaded(astronaut())["detections"]
        box = found["box"]
        x, y = box["x"] + box["width"] // 2, box["y"] + box["height"] // 2
        around = f"{x - 9},{y - 9};{x + 9},{y - 9};{x},{y + 12}"
        inside = self.uploaded(astronaut(), mask=around)
        self.assertEqual(inside["detections"], [found])
        self.assertEqual(inside["parameters"]["mask"], [x - 9, y - 9, x + 9, y - 9, x, y + 12])
        outside = self.uploaded(astronaut(), mask=f"0,0;{box['x']},0;0,{box['y']}")
        self.assertEqual((outside["found"], outside["near_misses"]), (0, None))

    def test_a_class_may_have_a_threshold_of_its_own(self):
        sure = models.SCORE
        higher = self.uploaded(networks_picture(), detector="boxes", class_confidence=f"green:{sure + 0.02:.3f}")
        self.assertEqual(higher["found"], 0)
        others = self.uploaded(networks_picture(), detector="boxes", class_confidence=f"blue:{sure + 0.02:.3f}")
        self.assertEqual(others["found"], 1)
        lower = f"green:{sure - 0.02:.3f}"
        saved = self.uploaded(networks_picture(), detector="boxes", confidence=0.99, class_confidence=lower)
        self.assertEqual(saved["found"], 1)
        self.assertEqual(saved["parameters"]["class_confidence"], {"green": round(sure - 0.02, 3)})

    def test_filters_that_make_no_sense_are_refused(self):
        for field, value in (
            ("mask", "0,0;9,9"),
            ("mask", "0,0;1,1;2,2"),
            ("mask", "a,b;c,d;e,f"),
            ("class_confidence", "person"),
            ("class_confidence", "person:2"),
            ("class_confidence", "person:0.5,person:0.6"),
            ("min_area", "0"),
        ):
            with self.subTest(field=field, value=value):
                self.refused(field, **{field: value})
        self.assertIn("larger", self.refused("parameters", min_area=10, max_area=9))
        self.assertIn("detector: face", self.refused("class_confidence", class_confidence="face:0.5"))
        self.assertIn("'cat'", self.refused("class_confidence", detector="boxes", class_confidence="cat:0.5"))
        self.assertIn("no boxes", self.refused("mask", detector="colours", mask="0,0;9,0;0,9"))

    def test_a_job_and_a_batch_look_with_all_of_them_and_filter(self):
        job = self.upload(astronaut(), detector="face,cat_face", min_area=5, headers={"Prefer": "respond-async"})
        done = self.client.get(job.headers["Location"]).get_json()
        self.assertEqual(done["state"], "done", done)
        record = self.client.get(done["links"]["image"] + "/detections").get_json()
        self.assertEqual((record["detector"], record["found"]), ("face,cat_face", 1))
        form = {"images": FileStorage(BytesIO(astronaut()), "a.jpg"), "detector": "face,nothing"}
        self.assertProblem(self.post_form(f"{API}/batch", form), 400, "invalid-request")


class PolygonTest(unittest.TestCase):
    def test_the_inside_of_a_polygon_is_what_a_filled_picture_shows(self):
        rng = np.random.default_rng(5)
        ys, xs = np.mgrid[0:60, 0:60]
        points = np.column_stack([xs.ravel() + 0.5, ys.ravel() + 0.5])
        for corners in (3, 4, 7, 12):
            polygon = rng.integers(0, 60, (corners, 2))
            inside = boxes.inside_polygon(points, polygon.astype(np.float64)).reshape(60, 60)
            # OpenCV fills by the same rule, and the pixels of the outline as well.
            filled = cv2.fillPoly(np.zeros((60, 60), np.uint8), [polygon.astype(np.int32)], 1) > 0
            outline = cv2.polylines(np.zeros((60, 60), np.uint8), [polygon.astype(np.int32)], True, 1, 3) > 0
            np.testing.assert_array_equal(inside[~outline], filled[~outline])


if __name__ == "__main__":
    unittest.main()
