"""GET, POST and DELETE /detectors: cascades that clients upload, whose they are, and what becomes of them."""

import unittest
from io import BytesIO
from unittest import mock

from werkzeug.datastructures import FileStorage

from imgdetect import config, metrics
from imgdetect.detectors import haar
from imgdetect.errors import DetectorFailed
from tests import cascades
from tests.app import API, AppTest, astronaut, jpeg

ALICE, ALICE_ENTRY = config.make_api_key("alice")
BOB, BOB_ENTRY = config.make_api_key("bob")
KEYS = {"alice": {"x-api-key": ALICE}, "bob": {"x-api-key": BOB}}
SQUARE = cascades.lbp_cascade((24, 24), cascades.BRIGHT_CENTER)
OTHER = cascades.lbp_cascade((30, 30), cascades.BRIGHT_CENTER)


def square_picture(width=100):
    """A picture with one bright square, at 40 to 50 in both directions; another one for each width."""
    return cascades.encoded(cascades.bright_square((width, 100), (40, 40, 10, 10)))


class CascadesTest(AppTest):
    """A server with two keys, and no detector of either's at the start of a test."""

    settings = {"api_keys": f"{ALICE_ENTRY} {BOB_ENTRY}"}

    def setUp(self):
        super().setUp()
        self.addCleanup(self.remove_all)

    def remove_all(self):
        for owner in KEYS:
            for cascade in self.service.database.detectors.all_of(owner):
                self.service.cascades.delete(cascade.name, owner)

    def send(self, xml=SQUARE, name="square", owner="alice", **form):
        data = xml.encode() if isinstance(xml, str) else xml
        form = {"cascade": FileStorage(BytesIO(data), "../own.xml"), "name": name} | form
        return self.post_form(f"{API}/detectors", form, KEYS.get(owner))

    def made(self, *arguments, **form):
        answer = self.send(*arguments, **form)
        self.assertEqual(answer.status_code, 201, answer.text)
        return answer.get_json()

    def detect(self, picture, detector="square", owner="alice", **form):
        form = {"image": FileStorage(BytesIO(picture), "a.jpg"), "detector": detector} | form
        return self.post_form(f"{API}/detect", form, KEYS.get(owner))

    def found(self, *arguments, **form):
        answer = self.detect(*arguments, **form)
        self.assertEqual(answer.status_code, 200, answer.text)
        return answer.get_json()

    def names(self, owner):
        listed = self.client.get(f"{API}/detectors", headers=KEYS[owner]).get_json()["detectors"]
        return [detector["name"] for detector in listed if detector["uploaded_at"]]

    def get(self, name, owner="alice"):
        return self.client.get(f"{API}/detectors/{name}", headers=KEYS[owner])

    def delete(self, name, owner="alice"):
        return self.client.delete(f"{API}/detectors/{name}", headers=KEYS[owner])


class UploadTest(CascadesTest):
    def test_it_may_look_beside_the_servers_own(self):
        self.made()
        both = self.found(square_picture(143), detector="face,square")
        self.assertEqual({d["detector"] for d in both["detections"]}, {"square"})
        self.assertEqual(both["detections"], self.found(square_picture(143))["detections"])
        self.assertProblem(self.detect(square_picture(143), "face,square", "bob"), 400, "invalid-request")

    def test_an_uploaded_cascade_is_a_detector_at_once(self):
        answer = self.send(class_name="bright square", min_neighbors="2", min_size="24", max_size="60,70")
        self.assertEqual(answer.status_code, 201, answer.text)
        made = answer.get_json()
        self.assertEqual((made["name"], made["class_names"], made["engine"]), ("square", ["bright square"], "fasthaar"))
        self.assertEqual(made["window"], {"width": 24, "height": 24})
        expected = {"scale_factor": 1.1, "min_neighbors": 2, "min_size": [24, 24], "max_size": [60, 70]}
        self.assertEqual(made["defaults"], expected | {"equalize": False})
        self.assertEqual(self.client.get(answer.headers["Location"], headers=KEYS["alice"]).get_json(), made)
        listed = self.client.get(f"{API}/detectors", headers=KEYS["alice"]).get_json()["detectors"]
        self.assertEqual(listed[-1], made)
        self.assertEqual(len(listed), len(self.service.detectors) + 1)
        document = self.found(square_picture())
        self.assertEqual({found["class_name"] for found in document["detections"]}, {"bright square"})
        self.assertEqual((document["detector"], document["engine"]), ("square", "fasthaar"))
        self.assertEqual(document["parameters"]["min_neighbors"], 2)
        self.assertEqual(self.found(square_picture(), min_neighbors="3")["parameters"]["min_neighbors"], 3)

    def test_every_bundled_cascade_is_taken_and_finds_what_it_found_before(self):
        found = 0
        for name, bundled in haar.BUNDLED.items():
            own = f"own_{name}"
            self.made((cascades.BUNDLED_FOLDER / bundled.file).read_bytes(), own, class_name=bundled.class_name)
            options = {"min_neighbors": "3", "min_size": "24"}
            documents = [self.found(astronaut(), detector, **options) for detector in (name, own)]
            boxes = [[box | {"detector": ""} for box in document["detections"]] for document in documents]
            with self.subTest(cascade=name):
                self.assertEqual(*boxes)
            found += len(boxes[0])
            self.assertEqual(self.delete(own).status_code, 200)
        self.assertGreater(found, 15)

    def test_the_old_format_is_taken_too(self):
        old = cascades.BUNDLED_FOLDER / haar.BUNDLED["face_alt_tree"].file
        self.assertEqual(self.made(old.read_bytes(), "old")["window"], {"width": 20, "height": 20})

    def test_nothing_of_the_files_own_bytes_is_kept_or_used(self):
        marked = SQUARE.replace("<stageType>", "<!-- a mark of mine --><stageType>")
        self.made(marked)
        row = self.service.database.detectors.get("alice", "square")
        xml = self.service.database.detectors.xml(row)
        self.assertNotIn(b"mark of mine", xml)
        self.assertEqual((len(xml), row.stages), (row.size_bytes, cascades.STAGES))

    def test_its_name_and_defaults_are_checked_all_at_once(self):
        for name in ("", "..", "../face", "a/b", "a b", "-a", "a" * 65, "ä", "a\n", "a\x00", "%2e%2e"):
            with self.subTest(name=name):
                body = self.assertProblem(self.send(name=name), 400, "invalid-request")
                self.assertEqual([error["field"] for error in body["errors"]], ["name"])
        wrong = {"class_name": "<b>", "scale_factor": "1", "min_neighbors": "-1", "min_size": "x", "equalize": "2"}
        body = self.assertProblem(self.send(name="/", more="1", **wrong), 400, "invalid-request")
        self.assertEqual({error["field"] for error in body["errors"]}, {"name", "more", *wrong})
        body = self.assertProblem(self.send(min_size="50", max_size="40"), 400, "invalid-request")
        self.assertIn("min_size is larger", body["detail"])
        self.assertProblem(self.send(scale_factor="1.01"), 400, "invalid-request")
        self.assertEqual(self.names("alice"), [])

    def test_a_form_without_its_parts_is_told_what_is_missing(self):
        def post(data, query=""):
            return self.post_form(f"{API}/detectors{query}", data, KEYS["alice"])

        def file():
            return FileStorage(BytesIO(SQUARE.encode()), "a.xml")

        for data, query, field in (
            ({}, "", "cascade"),
            ({"name": "a"}, "", "cascade"),
            ({"cascade": "text", "name": "a"}, "", "cascade"),
            ({"cascade": file()}, "", "name"),
            ({"image": file(), "name": "a"}, "", "image"),
            ({"cascade": [file(), file()], "name": "a"}, "", "cascade"),
            ({"cascade": file(), "name": ["a", "b"]}, "", "name"),
            ({"cascade": file(), "name": "a"}, "?min_neighbors=3", "min_neighbors"),
        ):
            with self.subTest(data=data, query=query):
                body = self.assertProblem(post(data, query), 400, "invalid-request")
                self.assertEqual([error["field"] for error in body["errors"]], [field])

    def test_the_same_name_twice_is_a_conflict_until_the_first_is_deleted(self):
        first = self.made()
        self.assertProblem(self.send(OTHER), 409, "conflict")
        self.assertEqual(self.get("square").get_json(), first)
        self.delete("square")
        self.assertEqual(self.made(OTHER)["window"], {"width": 30, "height": 30})

    def test_the_names_of_the_server_cannot_be_taken(self):
        for name in ("face", "licence_plate_16"):
            self.assertProblem(self.send(name=name), 409, "conflict")

    def test_a_file_over_4_mib_is_too_large(self):
        body = self.assertProblem(self.send(b" " * (haar.MAX_BYTES + 1)), 413, "upload-too-large")
        self.assertEqual(body["max_bytes"], 4 * 1024 * 1024)
        self.assertProblem(self.send(b" " * haar.MAX_BYTES), 422, "unusable-cascade")

    def test_trials_of_one_key_come_one_after_the_other(self):
        database = self.service.database
        self.assertTrue(database.take_lease("cascade of alice", "another process", 60))
        answer = self.send()
        self.assertProblem(answer, 429, "too-many-requests")
        self.assertEqual(answer.headers["Retry-After"], "1")
        self.made(owner="bob")
        database.take_lease("cascade of alice", "another process", 0)
        self.made()
        self.assertProblem(self.send("<no/>", "more"), 422, "unusable-cascade")
        self.made(name="more")

    def test_without_the_engine_it_says_so(self):
        self.made()
        with mock.patch.object(haar, "MISSING", "No module named 'fasthaar'"):
            self.assertProblem(self.send(name="more"), 501, "engine-unavailable")
            # A look that no other test asks for: what is in the cache needs no engine.
            self.assertProblem(self.detect(square_picture(), max_detections="7"), 501, "engine-unavailable")
            self.assertEqual(self.names("alice"), ["square"])
            self.assertEqual(self.found(astronaut(), "face")["found"], 1)


class TrialTest(CascadesTest):
    def refused(self, xml, code="unusable-cascade"):
        body = self.assertProblem(self.send(xml), 422, code)
        self.assertEqual(self.names("alice"), [])
        self.assertNotRegex(body["detail"], r"/(tmp|work|usr|home)|Traceback|\n")
        return body["detail"]

    def test_what_is_no_cascade_is_refused(self):
        deep = b"<opencv_storage>" + b"<a>" * 50_000
        for data in (
            b"",
            b"\x00" * 100,
            jpeg(),
            b'{"cascade": {"stageType": "BOOST"}}',
            b"%YAML:1.0\ncascade: !!opencv-cascade-classifier\n  stageType: BOOST\n",
            b"<html/>",
            deep,
            SQUARE.encode("utf-16"),
            SQUARE.replace("BOOST", "BO\x00ST").encode(),
            SQUARE.replace("<opencv_storage>", '<!DOCTYPE a [<!ENTITY b "c">]><opencv_storage>').encode(),
            SQUARE.replace("LBP", "HOG").encode(),
        ):
            with self.subTest(data=data[:60]):
                self.refused(data)

    def test_the_first_broken_rule_is_named(self):
        for before, after in (
            ("<width>24", "<width>4"),
            ("0 -1 0 ", "0 -1 9 "),
            ("0 -1 0 ", "0 -7 0 "),
            ("0 -1 0 ", "1 -1 0 "),
            ("0.75 -1.", "0.75"),
            ("0.75 -1.", "nan -1."),
            ("<rect>0 0 8 8", "<rect>0 0 9 9"),
            ("<rect>0 0 8 8", "<rect>-1 0 8 8"),
            ("<maxCatCount>256", "<maxCatCount>99999"),
        ):
            with self.subTest(change=after):
                self.assertIn(before, SQUARE)
                self.assertGreater(len(self.refused(SQUARE.replace(before, after))), 20)
        good = cascades.haar_cascade((24, 24))
        endless = good.replace("0 -1 0 0.", "1 0 0 0. 1 -1 0 0.").replace("0.75 -1.", "0.75 -1. 0.")  # 1 leads to 1
        self.assertGreater(len(self.refused(endless)), 20)
        rects = "<_>0 0 24 24 -1.</_>"
        self.assertGreater(len(self.refused(good.replace(rects, rects * 3))), 20)

    def test_one_that_accepts_everything_is_refused(self):
        self.assertIn("accepts more than", self.refused(cascades.lbp_cascade((24, 24), cascades.EVERY_CODE)))

    def test_one_that_takes_for_ever_is_refused(self):
        self.assertIn("more than 2 s", self.refused(cascades.slow_cascade(), "detector-too-slow"))

    def test_one_that_kills_the_child_costs_its_own_request(self):
        with mock.patch.object(self.service.pool, "run", side_effect=DetectorFailed()):
            self.assertProblem(self.send(), 422, "detector-failed")
        self.made()

    def test_a_reason_repeats_nothing_strange_and_little(self):
        detail = self.refused(SQUARE.replace("<stageType>BOOST", "<stageType>" + "\u202e&#10;" + "x" * 5000))
        self.assertLess(len(detail), 400)
        self.assertTrue(detail.isprintable())


class OwnerTest(CascadesTest):
    def test_another_key_sees_and_touches_nothing(self):
        self.made()
        for answer in (self.get("square", "bob"), self.delete("square", "bob")):
            self.assertProblem(answer, 404, "not-found")
        body = self.assertProblem(self.detect(square_picture(), owner="bob"), 400, "invalid-request")
        self.assertEqual(body["errors"][0]["field"], "detector")
        self.assertEqual((self.names("alice"), self.names("bob")), (["square"], []))

    def test_two_keys_may_use_one_name(self):
        self.made()
        self.made(OTHER, owner="bob")
        self.assertEqual(self.get("square").get_json()["window"]["width"], 24)
        self.assertEqual(self.get("square", "bob").get_json()["window"]["width"], 30)
        self.assertEqual(self.delete("square", "bob").status_code, 200)
        self.assertEqual((self.names("alice"), self.names("bob")), (["square"], []))

    def test_names_that_try_to_be_paths_lead_nowhere(self):
        for name in ("..%2fface", "%2e%2e", "..%5cface", "a" * 3000, "%00", "%ff"):
            for answer in (self.get(name), self.delete(name)):
                self.assertProblem(answer, 404, "not-found")

    def test_an_unknown_one_is_answered_with_those_that_the_key_has(self):
        self.made()
        body = self.assertProblem(self.detect(square_picture(), "squares"), 400, "invalid-request")
        self.assertIn("square", body["detail"])
        self.assertNotIn("square", self.assertProblem(self.get("none", "bob"), 404, "not-found")["detail"])

    def test_metrics_do_not_repeat_what_clients_call_things(self):
        self.made(name="secret_name", class_name="secret class")
        self.assertGreater(self.found(square_picture(), "secret_name")["found"], 0)
        exposed = metrics.exposition().decode()
        self.assertIn('detector="uploaded"', exposed)
        self.assertNotIn("secret", exposed)

    def test_one_whose_name_the_server_takes_later_is_hidden_and_can_be_deleted(self):
        self.made()
        square = haar.create("square", "face", {}, working_pixels=10_000)
        with mock.patch.dict(self.service.detectors, {"square": square}):
            self.assertEqual(self.names("alice"), [])
            self.assertEqual(self.get("square").get_json()["class_names"], ["face"])
            self.assertEqual(self.delete("square").status_code, 200)
            self.assertProblem(self.delete("square"), 403, "forbidden")


class DeletedTest(CascadesTest):
    def test_it_is_gone_at_once(self):
        self.made()
        self.assertEqual(self.delete("square").status_code, 200)
        for answer in (self.get("square"), self.delete("square")):
            self.assertProblem(answer, 404, "not-found")
        self.assertProblem(self.detect(square_picture()), 400, "invalid-request")
        self.assertEqual(self.names("alice"), [])

    def test_the_detectors_of_the_server_stay(self):
        self.assertProblem(self.delete("face"), 403, "forbidden")
        self.assertEqual(self.get("face").status_code, 200)

    def test_no_remembered_answer_hides_a_deleted_or_a_new_one(self):
        picture = square_picture(101)
        self.made()
        self.assertFalse(self.found(picture)["cached"])
        first = self.found(picture)
        self.assertTrue(first["cached"])
        self.delete("square")
        self.assertProblem(self.detect(picture), 400, "invalid-request")
        self.made(OTHER)
        second = self.found(picture)
        self.assertFalse(second["cached"])
        self.assertNotEqual(second["detections"], first["detections"])
        self.delete("square")
        self.made(class_name="other")
        third = self.found(picture)
        self.assertEqual({found["class_name"] for found in third["detections"]}, {"other"})

    def test_records_of_it_stay_and_can_be_looked_at_again_with_others(self):
        self.made()
        record = self.uploaded(square_picture(), detector="square", headers=KEYS["alice"])
        path = record["image"]["links"]["self"]
        again = self.client.post(f"{path}/processed", data={"detector": "square"}, headers=KEYS["alice"])
        self.assertEqual(again.get_json()["detections"], record["detections"])
        self.delete("square")
        kept = self.client.get(f"{path}/detections", headers=KEYS["alice"]).get_json()
        self.assertEqual((kept["detector"], kept["detections"]), ("square", record["detections"]))
        again = self.client.post(f"{path}/processed", data={"detector": "square"}, headers=KEYS["alice"])
        self.assertProblem(again, 400, "invalid-request")
        again = self.client.post(f"{path}/processed", data={"detector": "eye"}, headers=KEYS["alice"])
        self.assertEqual(again.get_json()["detector"], "eye")

    def test_a_look_that_has_begun_keeps_its_copy(self):
        self.made()
        run = self.service.pool.run

        def deleted_meanwhile(*arguments, **named):
            self.assertEqual(self.delete("square").status_code, 200)
            return run(*arguments, **named)

        with mock.patch.object(self.service.pool, "run", deleted_meanwhile):
            self.assertGreater(self.found(square_picture(102))["found"], 0)
        self.assertProblem(self.detect(square_picture()), 400, "invalid-request")

    def test_one_that_goes_between_two_glances_is_unknown(self):
        self.made()
        with mock.patch.object(self.service.database.detectors, "xml", return_value=None):
            body = self.assertProblem(self.detect(square_picture(103)), 400, "invalid-request")
        self.assertIn("deleted", body["detail"])

    def test_a_queued_job_whose_detector_is_deleted_fails_with_the_reason(self):
        self.made()
        jobs = self.app.extensions["imgdetect"].jobs
        headers = KEYS["alice"] | {"Prefer": "respond-async"}
        with mock.patch.object(jobs.queue, "submit"):
            job = self.upload(square_picture(), detector="square", headers=headers).get_json()
        self.delete("square")
        jobs.run(job["id"])
        ended = self.client.get(job["links"]["self"], headers=KEYS["alice"]).get_json()
        self.assertEqual((ended["state"], ended["problem"]["code"]), ("failed", "invalid-request"))
        self.assertIn("there is no detector 'square'", ended["problem"]["detail"])

    def test_a_job_uses_its_owners_detector(self):
        self.made()
        headers = KEYS["alice"] | {"Prefer": "respond-async"}
        job = self.upload(square_picture(), detector="square", headers=headers).get_json()
        ended = self.client.get(job["links"]["self"], headers=KEYS["alice"]).get_json()
        self.assertEqual(ended["state"], "done", ended)
        headers = KEYS["bob"] | {"Prefer": "respond-async"}
        self.assertProblem(self.upload(square_picture(), detector="square", headers=headers), 400, "invalid-request")


class BudgetTest(CascadesTest):
    def test_a_look_that_gives_too_many_candidates_is_too_slow_for_its_own_request_only(self):
        self.made()
        noise = cascades.encoded(cascades.noise(900, 700, grain=1.0))
        body = self.assertProblem(self.detect(noise, min_size="24"), 422, "detector-too-slow")
        self.assertIn("candidates", body["detail"])
        headers = KEYS["alice"] | {"Prefer": "respond-async"}
        job = self.upload(noise, detector="square", headers=headers).get_json()
        ended = self.client.get(job["links"]["self"], headers=KEYS["alice"]).get_json()
        self.assertEqual((ended["state"], ended["problem"]["code"]), ("failed", "detector-too-slow"))
        self.assertGreater(self.found(square_picture())["found"], 0)


class NumberTest(CascadesTest):
    settings = CascadesTest.settings | {"max_cascades_per_key": 2}

    def test_a_key_has_so_many_and_no_more(self):
        self.made(name="a")
        self.made(name="b")
        body = self.assertProblem(self.send(name="c"), 409, "conflict")
        self.assertIn("2", body["detail"])
        self.made(name="c", owner="bob")
        self.delete("a")
        self.made(name="c")


class NoneAtAllTest(CascadesTest):
    settings = CascadesTest.settings | {"max_cascades_per_key": 0}

    def test_the_operator_can_switch_uploading_off(self):
        self.assertProblem(self.send(), 403, "forbidden")


class OpenServerTest(CascadesTest):
    settings = {}

    def test_a_server_without_keys_takes_none(self):
        body = self.assertProblem(self.send(owner=""), 403, "forbidden")
        self.assertIn("API key", body["detail"])
        listed = self.client.get(f"{API}/detectors").get_json()["detectors"]
        self.assertEqual({detector["uploaded_at"] for detector in listed}, {None})
        self.assertProblem(self.client.delete(f"{API}/detectors/face"), 403, "forbidden")
        self.assertProblem(self.client.delete(f"{API}/detectors/none"), 404, "not-found")

    def test_every_detector_names_its_engine(self):
        for detector in self.client.get(f"{API}/detectors").get_json()["detectors"]:
            self.assertEqual(detector["engine"], "fasthaar")
            self.assertRegex(detector["engine_version"], r"^\d[\w.]*\+(avx512|avx2|sse4|neon|scalar)$")


if __name__ == "__main__":
    unittest.main()
