"""Feedback on detections: given, listed, exported, summed up, and gone with its image."""

import unittest

from imgdetect import config
from tests.app import API, AppTest, astronaut, jpeg

ALICE, ALICE_ENTRY = config.make_api_key("alice")
BOB, BOB_ENTRY = config.make_api_key("bob")
HEADERS = {"alice": {"x-api-key": ALICE}, "bob": {"x-api-key": BOB}}
SUMMARY = "/api/v1/feedback/summary"
BOX = {"x": 5, "y": 6, "width": 20, "height": 30}


class FeedbackTest(AppTest):
    settings = {"api_keys": f"{ALICE_ENTRY} {BOB_ENTRY}"}

    def setUp(self):
        super().setUp()
        for owner in HEADERS:
            for record in self.service.records.page(owner, 100, None):
                self.service.records.delete(record.id, owner)

    def keep(self, data=None, **parameters):
        return self.uploaded(data or astronaut(), headers=HEADERS["alice"], **parameters)

    def give(self, kept, owner="alice", **said):
        return self.client.post(f"{API}/image/{kept['image']['id']}/feedback", json=said, headers=HEADERS[owner])

    def given(self, kept, **said):
        answer = self.give(kept, **said)
        self.assertEqual(answer.status_code, 201, answer.text)
        return answer.get_json()["feedback"]

    def listed(self, kept):
        answer = self.client.get(f"{API}/image/{kept['image']['id']}/feedback", headers=HEADERS["alice"])
        self.assertEqual(answer.status_code, 200, answer.text)
        return answer.get_json()["feedback"]

    def summary(self, owner="alice"):
        answer = self.client.get(SUMMARY, headers=HEADERS[owner]).get_json()
        return {row.pop("detector"): row for row in answer["detectors"]}

    def test_what_is_said_is_listed_and_leaves_the_result_alone(self):
        kept = self.keep()
        (right,) = self.given(kept, verdict="correct", note="that is her")
        self.assertEqual((right["box"], right["class_name"]), (kept["detections"][0]["box"], "face"))
        (missed,) = self.given(kept, verdict="missed", box=BOX, class_name="helmet")
        self.assertEqual(missed["box"], BOX)
        self.assertEqual(self.listed(kept), [right, missed])
        path = kept["image"]["links"]["detections"]
        self.assertEqual(self.client.get(path, headers=HEADERS["alice"]).get_json()["detections"], kept["detections"])

    def test_the_last_word_on_a_detection_counts_and_correct_leaves_single_verdicts(self):
        kept = self.keep(detector="face,eye")
        self.assertGreater(kept["found"], 1)
        self.given(kept, verdict="correct", detection=0)
        self.given(kept, verdict="false_positive", detection=0)
        rest = self.given(kept, verdict="correct")
        self.assertEqual(len(rest), kept["found"] - 1)
        self.assertEqual(len(self.listed(kept)), kept["found"])
        self.assertEqual(self.given(kept, verdict="correct"), [])

    def test_the_summary_has_the_precision_of_each_detector_of_the_owner(self):
        self.assertEqual(self.summary(), {})
        one, two = self.keep(), self.keep(min_neighbors=4)
        self.given(one, verdict="correct")
        self.assertEqual(self.summary()["face"], {"correct": 1, "false_positive": 0, "missed": 0, "precision": 1.0})
        self.given(two, verdict="false_positive", detection=0)
        self.given(two, verdict="missed", box=BOX, class_name="face")
        self.assertEqual(self.summary()["face"], {"correct": 1, "false_positive": 1, "missed": 1, "precision": 0.5})
        nothing = self.keep(jpeg(), detector="smile")
        (said,) = self.given(nothing, verdict="correct")
        self.assertIsNone(said["box"])
        self.assertEqual(self.summary()["smile"], {"correct": 0, "false_positive": 0, "missed": 0, "precision": None})
        self.assertEqual(self.summary("bob"), {})
        self.client.delete(f"{API}/image/{two['image']['id']}", headers=HEADERS["alice"])
        self.assertEqual(self.summary()["face"]["precision"], 1.0)

    def test_an_export_tells_it_and_can_correct_the_boxes(self):
        kept = self.keep()
        self.given(kept, verdict="false_positive", detection=0)
        self.given(kept, verdict="missed", box=BOX, class_name="helmet")

        def exported(query):
            with self.client.get(f"{API}/export?{query}", headers=HEADERS["alice"]) as answer:
                return answer.get_json()

        plain = exported("format=coco")
        self.assertEqual([one["verdict"] for one in plain["images"][0]["feedback"]], ["false_positive", "missed"])
        self.assertEqual([one["name"] for one in plain["categories"]], ["face"])
        right = exported("format=coco&corrected=true")
        self.assertEqual([one["name"] for one in right["categories"]], ["helmet"])
        self.assertEqual([one["bbox"] for one in right["annotations"]], [[5, 6, 20, 30]])

    def test_a_form_may_say_it_too(self):
        kept = self.keep()
        form = {"verdict": "missed", "box": "5,6,20,30", "class_name": "helmet"}
        answer = self.post_form(f"{API}/image/{kept['image']['id']}/feedback", form, HEADERS["alice"])
        self.assertEqual((answer.status_code, answer.get_json()["feedback"][0]["box"]), (201, BOX))

    def test_what_makes_no_sense_is_refused(self):
        kept = self.keep()
        for said in (
            {},
            {"verdict": "wrong"},
            {"verdict": "false_positive"},
            {"verdict": "missed"},
            {"verdict": "missed", "box": BOX},
            {"verdict": "missed", "box": BOX, "class_name": "a", "detection": 0},
            {"verdict": "missed", "box": BOX | {"width": 600}, "class_name": "a"},
            {"verdict": "missed", "box": BOX | {"x": -1}, "class_name": "a"},
            {"verdict": "missed", "box": BOX, "class_name": "\ud800"},
            {"verdict": "correct", "box": BOX, "class_name": "a"},
            {"verdict": "correct", "note": "x" * 1001},
            {"verdict": "correct", "note": "\0"},
            {"verdict": "correct", "detection": -1},
            {"verdict": "correct", "colour": "red"},
        ):
            with self.subTest(said=said):
                self.assertProblem(self.give(kept, **said), 400, "invalid-request")
        self.assertProblem(self.give(kept, verdict="correct", detection=1), 404, "not-found")
        self.assertProblem(self.give(kept, "bob", verdict="correct"), 404, "not-found")
        self.assertEqual(self.listed(kept), [])


if __name__ == "__main__":
    unittest.main()
