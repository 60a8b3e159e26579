"""POST /video, and what its job made."""

import json
import time
from contextlib import contextmanager
from io import BytesIO
from unittest import mock

from werkzeug.datastructures import FileStorage

from imgdetect import job_rows, jobs, videos
from imgdetect.attempts import LEASE_SECONDS
from imgdetect.errors import BackendUnavailable
from tests.app import API, AppTest, astronaut, jpeg
from tests.films import SIZE_WH, blank, film, frames_of, with_duration, with_size

JOBS = "/api/v1/jobs"


class VideosApiTest(AppTest):
    """The queue runs jobs at once, in the request."""

    settings = {"max_video_seconds": 5, "max_pixels": 400 * 400, "max_video_bytes": 2_000_000}

    def setUp(self):
        super().setUp()
        self.jobs = self.app.extensions["imgdetect"].jobs

    def send(self, data=None, filename="face.mp4", headers=None, **parameters):
        picture = FileStorage(BytesIO(film(12) if data is None else data), filename, "video")
        return self.post_form(f"{API}/video", {"video": picture} | parameters, headers)

    def sent(self, data=None, **parameters):
        """The job that a video has become, as it is after the request."""
        answer = self.send(data, **parameters)
        self.assertEqual(answer.status_code, 202, answer.text)
        self.assertEqual(answer.headers["Location"], answer.get_json()["links"]["self"])
        return answer.get_json()

    def lost(self, data=None, **parameters):
        """A job that waits for a worker."""
        with mock.patch.object(self.jobs.queue, "submit"):
            return self.sent(data, **parameters)

    @contextmanager
    def later(self, seconds):
        """Let the clock of the rows go ahead."""
        ahead = int((time.time() + seconds) * 1e6)
        with mock.patch.object(job_rows, "now_us", lambda: ahead), mock.patch.object(jobs, "now_us", lambda: ahead):
            yield

    def job(self, body):
        return self.client.get(body["links"]["self"]).get_json()

    def files(self):
        return {file.key for file in self.service.storage.keys()}

    def test_a_video_becomes_lines_and_an_annotated_video(self):
        job = self.sent(every="3", min_neighbors="5")
        self.assertEqual((job["kind"], job["state"], job["problem"], job["attempts"]), ("video", "done", None, 1))
        self.assertEqual(job["progress"], {"total": 12, "done": 12, "failed": 0})
        summary = job["video"]
        self.assertEqual((summary["frames"], summary["looked_at"], summary["tracks"]), (12, 4, 1))
        self.assertEqual((summary["width"], summary["height"]), SIZE_WH)

        answer = self.client.get(job["links"]["detections"])
        self.assertEqual((answer.status_code, answer.mimetype), (200, "application/jsonl"))
        self.assertIn('filename="face.jsonl"', answer.headers["Content-Disposition"])
        lines = [json.loads(line) for line in answer.text.splitlines()]
        self.assertEqual([(line["frame"], len(line["detections"])) for line in lines], [(n, 1) for n in (0, 3, 6, 9)])
        self.assertEqual({line["detections"][0]["track"] for line in lines}, {1})

        answer = self.client.get(job["links"]["video"])
        self.assertEqual((answer.status_code, answer.mimetype), (200, "video/mp4"))
        self.assertEqual(len(frames_of(answer.data)), 12)
        self.assertIsNone(job["links"]["original"])

    def test_each_line_is_as_the_contract_says(self):
        from tests.contract import contract, faults

        job = self.sent(min_neighbors="5")
        schema = contract()["components"]["schemas"]["VideoLine"]
        for line in self.client.get(job["links"]["detections"]).text.splitlines():
            self.assertEqual([*faults(json.loads(line), schema)], [])

    def test_a_body_of_its_own_is_taken_too(self):
        answer = self.client.post(f"{API}/video?annotate=false", data=film(3), content_type="video/mp4")
        self.assertEqual(answer.status_code, 202, answer.text)
        job = answer.get_json()
        self.assertEqual((job["state"], job["links"]["video"], job["video"]["annotated"]), ("done", None, False))
        problem = self.assertProblem(self.client.get(f"{job['links']['self']}/video"), 404, "not-found")
        self.assertIn("annotate=false", problem["detail"])

    def test_parts_of_the_video_are_sent(self):
        job = self.sent()
        link = job["links"]["video"]
        whole = self.client.get(link)
        self.assertEqual(whole.headers["Accept-Ranges"], "bytes")
        size = len(whole.data)
        for given, start, end in (("0-99", 0, 100), ("100-199", 100, 200), ("-50", size - 50, size), ("7-", 7, size)):
            part = self.client.get(link, headers={"Range": f"bytes={given}"})
            self.assertEqual((part.status_code, part.data), (206, whole.data[start:end]))
            self.assertEqual(part.headers["Content-Range"], f"bytes {start}-{end - 1}/{size}")
        self.assertProblem(self.client.get(link, headers={"Range": f"bytes={size}-"}), 416, "range-not-satisfiable")
        unchanged = self.client.get(link, headers={"If-None-Match": whole.headers["ETag"]})
        self.assertEqual(unchanged.status_code, 304)

    def test_the_video_itself_is_kept_only_when_asked_for(self):
        before = self.files()
        job = self.sent()
        made = {key.split(".", 1)[1] for key in self.files() - before}
        self.assertEqual(made, {"detections-1.jsonl", "processed-1.mp4"})
        problem = self.assertProblem(self.client.get(f"{job['links']['self']}/original"), 404, "not-found")
        self.assertIn("keep_original", problem["detail"])
        data = film(4)
        kept = self.sent(data, keep_original="true", filename="mine.mp4")
        answer = self.client.get(kept["links"]["original"])
        self.assertEqual((answer.data, answer.mimetype), (data, "video/mp4"))
        self.assertIn('filename="mine.mp4"', answer.headers["Content-Disposition"])

    def test_what_is_wrong_is_said_at_once_and_nothing_is_kept(self):
        before = self.files()
        for data, status, code in (
            (b"", 400, "invalid-request"),
            (b"this is text", 415, "unsupported-video"),
            (astronaut(), 415, "unsupported-video"),
            (film(10)[:2000], 422, "unreadable-video"),
            (with_size(film(2), 60_000, 60_000), 422, "image-too-large"),
            (with_duration(film(2), 36_000), 422, "video-too-long"),
            (film(1) + bytes(2_000_000), 413, "upload-too-large"),
        ):
            self.assertProblem(self.send(data), status, code)
        for parameters in ({"every": "0"}, {"every": "1001"}, {"detector": "dog"}, {"style": "x"}, {"format": "png"}):
            self.assertProblem(self.send(**parameters), 400, "invalid-request")
        self.assertEqual(
            self.assertProblem(self.send(b"this is text"), 415, "unsupported-video")["accepted"][0], "video/mp4"
        )
        self.assertEqual(self.files(), before)

    def test_a_form_without_a_video_or_with_too_many_is_refused(self):
        twice = [FileStorage(BytesIO(film(1)), "a.mp4", "video"), FileStorage(BytesIO(film(1)), "b.mp4", "video")]
        for form in ({}, {"image": FileStorage(BytesIO(jpeg()), "a.jpg", "image")}, {"video": twice}):
            self.assertProblem(self.post_form(f"{API}/video", form), 400, "invalid-request")
        self.assertProblem(self.client.post(f"{API}/video"), 400, "invalid-request")

    def test_what_only_decoding_shows_fails_the_job(self):
        before = self.files()
        job = self.sent(with_duration(film(20, rate=2, paint=blank), 1))
        self.assertEqual((job["state"], job["problem"]["code"]), ("failed", "video-too-long"))
        self.assertIsNone(job["links"]["detections"])
        problem = self.assertProblem(self.client.get(f"{job['links']['self']}/detections"), 404, "not-found")
        self.assertIn("failed", problem["detail"])
        self.assertEqual(self.files(), before)

    def test_the_same_idempotency_key_returns_the_first_job(self):
        headers = {"Idempotency-Key": "video-1"}
        first = self.sent(film(3), headers=headers)
        self.assertEqual(self.sent(film(3), headers=headers)["id"], first["id"])
        self.assertProblem(self.send(film(4), headers=headers), 409, "conflict")
        self.assertProblem(self.send(film(3), headers=headers, every="2"), 409, "conflict")

    def test_a_job_that_waits_tells_its_frames_and_is_cancelled(self):
        before = self.files()
        job = self.lost(film(7))
        self.assertEqual((job["state"], job["progress"]["total"]), ("queued", 7))
        self.assertEqual({key.split(".", 1)[1] for key in self.files() - before}, {"original.mp4"})
        self.assertEqual(self.client.delete(job["links"]["self"]).status_code, 200)
        self.assertEqual(self.files(), before)

    def test_a_job_cancelled_while_it_is_looked_at_ends_its_child_and_leaves_nothing(self):
        before = self.files()
        job = self.lost(film(60))
        told = videos._Told.__call__

        def told_and_cancelled(self_, progress):
            if self.job(job)["state"] == "running":
                self.jobs.cancel(job["id"], "")
            self_._next = 0.0
            told(self_, progress)

        with mock.patch.object(videos._Told, "__call__", told_and_cancelled):
            self.jobs.run(job["id"])
        self.assertEqual(self.job(job)["state"], "cancelled")
        self.assertEqual(self.files(), before)
        self.assertEqual(self.sent(film(1))["state"], "done")

    def test_a_second_video_waits_until_the_first_is_done(self):
        first, second = self.lost(film(3)), self.lost(film(3))
        told = videos._Told.__call__
        seen = []

        def told_meanwhile(self_, progress):
            if not seen:
                seen.append(None)
                self.jobs.run(second["id"])
                seen[0] = self.job(second)
            told(self_, progress)

        with mock.patch.object(videos._Told, "__call__", told_meanwhile):
            self.jobs.run(first["id"])
        self.assertEqual((seen[0]["state"], seen[0]["attempts"]), ("queued", 0))
        self.jobs.run(second["id"])
        self.assertEqual(self.job(second)["state"], "done")

    def test_a_storage_that_fails_gives_the_job_back_and_the_next_attempt_ends_it(self):
        before = self.files()
        job = self.lost(film(3))
        with mock.patch.object(self.service.storage, "put", side_effect=BackendUnavailable()):
            self.jobs.run(job["id"])
        self.assertEqual((self.job(job)["state"], self.job(job)["attempts"]), ("queued", 1))
        self.jobs.run(job["id"])
        self.assertEqual((self.job(job)["state"], self.job(job)["attempts"]), ("done", 2))
        self.assertEqual(
            {key.split(".", 1)[1] for key in self.files() - before}, {"detections-2.jsonl", "processed-2.mp4"}
        )

    def test_an_attempt_whose_worker_is_lost_after_storing_leaves_nothing_when_the_next_has_ended(self):
        before = self.files()
        job = self.lost(film(3))
        with mock.patch.object(self.jobs._rows, "finish", side_effect=SystemExit), self.assertRaises(SystemExit):
            self.jobs.run(job["id"])
        self.assertIn("detections-1.jsonl", {key.split(".", 1)[1] for key in self.files() - before})
        with self.later(LEASE_SECONDS + 1):
            self.jobs.recover()
        self.assertEqual((self.job(job)["state"], self.job(job)["attempts"]), ("done", 2))
        self.assertEqual(
            {key.split(".", 1)[1] for key in self.files() - before}, {"detections-2.jsonl", "processed-2.mp4"}
        )

    def test_the_job_takes_what_was_made_along(self):
        before = self.files()
        job = self.sent(film(2), keep_original="true")
        self.assertEqual(len(self.files() - before), 3)
        keys = {made["key"] for made in self.jobs.get(job["id"], "").artifacts.values()}
        self.assertEqual(self.service.database.known_keys([*keys]), keys)
        gone = self.service.database.jobs.delete_older_than(time.time_ns() // 1000 + 1)
        self.assertLessEqual(keys, set(gone.keys))

    def test_nobody_else_sees_it(self):
        job = self.sent(film(2))
        self.assertProblem(self.client.get(f"{JOBS}/{'0' * 32}/video"), 404, "not-found")
        picture = self.upload(headers={"Prefer": "respond-async"}).get_json()
        for name in ("detections", "video", "original"):
            self.assertProblem(self.client.get(f"{picture['links']['self']}/{name}"), 404, "not-found")
            self.assertProblem(self.client.get(f"{job['links']['self']}/{name}?x=1"), 400, "invalid-request")


class OwnedVideosTest(AppTest):
    KEYS = ("first-key", "second-key")

    @classmethod
    def setUpClass(cls):
        from imgdetect.detection import sha256_of

        keys = " ".join(f"{key.partition('-')[0]}:{sha256_of(key.encode())}" for key in cls.KEYS)
        cls.settings = {"api_keys": keys}
        super().setUpClass()

    def test_a_job_and_all_it_made_belong_to_its_key(self):
        film_file = FileStorage(BytesIO(film(2)), "a.mp4", "video")
        mine, other = ({"x-api-key": key} for key in self.KEYS)
        job = self.post_form(f"{API}/video", {"video": film_file, "keep_original": "true"}, mine).get_json()
        for name in ("self", "detections", "video", "original"):
            self.assertEqual(self.client.get(job["links"][name], headers=mine).status_code, 200)
            self.assertProblem(self.client.get(job["links"][name], headers=other), 404, "not-found")
            self.assertProblem(self.client.get(job["links"][name]), 401, "unauthorized")


class SwitchedOffTest(AppTest):
    settings = {"video_slots": 0}

    def test_videos_are_unavailable_and_pictures_are_not(self):
        answer = self.client.post(f"{API}/video", data=film(1), content_type="video/mp4")
        self.assertProblem(answer, 501, "video-unavailable")
        self.uploaded()
