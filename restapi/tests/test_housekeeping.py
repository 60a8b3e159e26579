"""Retention, the sweep and the timer."""

import time
import unittest
from unittest import mock

from sqlalchemy import text

from imgdetect import housekeeping
from tests.app import API, AppTest, jpeg

DAY = 86_400


class PruneTest(AppTest):
    settings = {"retention_days": 2, "max_stored_bytes": 20_000}

    def setUp(self):
        super().setUp()
        for record in self.service.database.list_records("", 1000, None):
            self.service.records.delete(record.id, "")

    def ids(self):
        return [record["image"]["id"] for record in self.client.get(f"{API}/image").get_json()["images"]]

    def test_old_records_go_and_young_ones_stay(self):
        old, young = self.uploaded(jpeg(seed=1)), self.uploaded(jpeg(seed=2))
        self.age(old["image"]["id"], days=3)
        done = housekeeping.prune(self.service)
        self.assertEqual((done.records, self.ids()), (1, [young["image"]["id"]]))
        self.assertEqual(len([*self.service.storage.keys()]), 2)

    def age(self, record_id, days):
        """Make a record older than it is."""
        with self.service.database._transaction(writes=True) as connection:
            connection.execute(
                text("UPDATE records SET created_at = created_at - :us WHERE id = :id"),
                {"us": int(days * DAY * 1e6), "id": record_id},
            )

    def test_the_oldest_go_when_there_is_too_much(self):
        made = [self.uploaded(jpeg(120, 120, seed=i))["image"]["id"] for i in range(6)]
        before = self.service.database.total_stored_bytes()
        self.assertGreater(before, 20_000)
        done = housekeeping.prune(self.service)
        after = self.service.database.total_stored_bytes()
        self.assertLessEqual(after, 20_000)
        self.assertEqual(self.ids(), made[done.records :][::-1])
        self.assertGreater(done.records, 0)
        stored = sum(file.size for file in self.service.storage.keys())
        self.assertEqual(stored, after)

    def test_files_without_a_row_go_when_they_are_an_hour_old(self):
        kept = self.uploaded(jpeg(seed=9))
        self.service.storage.put("0" * 32 + ".original.jpg", b"x", "image/jpeg")
        self.assertEqual(housekeeping.prune(self.service).files, 0)
        hour_later = time.time() + 3700
        with mock.patch.object(housekeeping.time, "time", return_value=hour_later):
            self.assertEqual(housekeeping.prune(self.service).files, 1)
        self.assertEqual(self.client.get(kept["image"]["links"]["self"]).status_code, 200)

    def test_an_empty_database_is_no_reason_to_remove_every_picture(self):
        self.service.storage.put("1" * 32 + ".original.jpg", b"x", "image/jpeg")
        self.addCleanup(self.service.storage.delete, "1" * 32 + ".original.jpg")
        with mock.patch.object(housekeeping.time, "time", return_value=time.time() + 3700):
            self.assertEqual(housekeeping.prune(self.service).files, 0)

    def test_the_original_of_a_waiting_job_is_not_swept(self):
        jobs = self.app.extensions["imgdetect"].jobs
        self.uploaded(jpeg(seed=11))
        with mock.patch.object(jobs.queue, "submit"):
            job = self.upload(jpeg(seed=10), headers={"Prefer": "respond-async"}).get_json()
        with mock.patch.object(housekeeping.time, "time", return_value=time.time() + 3700):
            self.assertEqual(housekeeping.prune(self.service).files, 0)
        jobs.run(job["id"])
        self.assertEqual(self.client.get(job["links"]["self"]).get_json()["state"], "done")


class TimerTest(AppTest):
    def test_one_of_several_processes_prunes(self):
        calls = []
        jobs = self.app.extensions["imgdetect"].jobs
        self.service.database.take_lease("prune", "somebody else", -1)
        with mock.patch.object(housekeeping, "prune", calls.append):
            timers = [housekeeping.Housekeeping(self.service, jobs) for _ in range(3)]
            for timer in timers:
                timer.start()
            for timer in timers:
                timer.close()
        self.assertLessEqual(len(calls), 1)

    def test_a_failure_does_not_end_the_timer(self):
        jobs = self.app.extensions["imgdetect"].jobs
        calls = []

        def fail():
            calls.append(1)
            raise ZeroDivisionError

        with mock.patch.object(jobs, "recover", fail), mock.patch.object(housekeeping, "RECOVER_EVERY_SECONDS", 0.01):
            timer = housekeeping.Housekeeping(self.service, jobs)
            timer.start()
            until = time.monotonic() + 5
            while len(calls) < 3 and time.monotonic() < until:
                time.sleep(0.01)
            timer.close()
        self.assertGreaterEqual(len(calls), 3)


if __name__ == "__main__":
    unittest.main()
