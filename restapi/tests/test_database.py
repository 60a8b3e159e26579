"""What the rows have to do, on every database: records and leases."""

import dataclasses
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

from sqlalchemy import exc

from imgdetect import database, job_rows, schema
from imgdetect.database import Database
from imgdetect.detection import Job, Record
from tests import postgres_server

SECOND = 1_000_000
DETECTIONS = [{"class_name": "face", "box": {"x": 1, "y": 2, "width": 3, "height": 4}, "score": -1.5}]


def a_record(record_id="r1", **changes):
    record = Record(
        id=record_id,
        owner="anna",
        created_at=1_700_000_000_000_000,
        filename="ä b.jpg",
        width=640,
        height=480,
        media_type="image/jpeg",
        size_bytes=100,
        sha256="ab" * 32,
        detector="face",
        parameters={"scale_factor": 1.1, "rotations": [0, 90], "roi": None},
        result={"detections": DETECTIONS, "found": 1},
        original_key=f"{record_id}00.original.jpg",
        processed_key=f"{record_id}00.processed.jpg",
        processed_media_type="image/jpeg",
        stored_bytes=150,
    )
    return dataclasses.replace(record, **changes)


def a_job(job_id="j1", **changes):
    job = Job(
        id=job_id,
        owner="anna",
        created_at=1_700_000_000_000_000,
        state="queued",
        attempts=0,
        lease_until=0,
        filename="a.jpg",
        media_type="image/jpeg",
        original_key=f"{job_id}00.original.jpg",
        options={"detector": "face", "rotations": [0]},
        keep_original=True,
    )
    return dataclasses.replace(job, **changes)


def at_once(*calls):
    """Run calls in threads that start together; returns what they returned or raised."""
    start = threading.Barrier(len(calls))
    answers = [None] * len(calls)

    def run(number, call):
        start.wait()
        try:
            answers[number] = call()
        except Exception as error:
            answers[number] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


class DatabaseContract:
    """An empty database for each test, with a clock that stands still."""

    def create(self):
        raise NotImplementedError

    def setUp(self):
        super().setUp()
        self.now = 1_700_000_000_000_000
        for place in (database, job_rows):
            self.enterContext(mock.patch.object(place, "now_us", lambda: self.now))
        self.database = self.create()
        self.addCleanup(self.database.close)
        self.database.migrate()


class RecordsContract(DatabaseContract):
    """Inherited with unittest.TestCase by the tests of each database."""

    def add(self, *records):
        for record in records:
            self.database.add_record(record)

    def test_a_record_comes_back_as_it_was(self):
        for record in (
            a_record("r1"),
            a_record("r2", owner="", original_key=None, processed_key=None, processed_media_type=None),
            a_record("r3", idempotency_key="key", request_hash="ff", size_bytes=2**40, result={"near_misses": None}),
        ):
            with self.subTest(record=record.id):
                self.assertEqual(self.database.add_record(record), record)
                self.assertEqual(self.database.get_record(record.id, record.owner), record)

    def test_a_record_is_seen_and_changed_by_its_owner_only(self):
        record = a_record()
        self.add(record)
        for owner in ("", "bert", "ANNA", "%"):
            self.assertIsNone(self.database.get_record("r1", owner))
            self.assertIsNone(self.database.latest_named("ä b.jpg", owner))
            self.assertEqual(self.database.ids_named("ä b.jpg", owner, 9), [])
            self.assertEqual(self.database.list_records(owner, 9), [])
            self.assertIsNone(self.database.set_processed("r1", owner, None, None, {}, {}, 0))
            self.assertIsNone(self.database.delete_record("r1", owner))
        self.assertEqual(self.database.get_record("r1", "anna"), record)

    def test_two_records_never_have_one_id(self):
        self.add(a_record())
        with self.assertRaises(exc.IntegrityError):
            self.database.add_record(a_record(owner="bert"))

    def test_the_same_idempotency_key_gives_the_first_record(self):
        first = a_record("r1", idempotency_key="key", request_hash="aa")
        self.add(first, a_record("r2", owner="bert", idempotency_key="key"), a_record("r3"), a_record("r4"))
        self.assertEqual(self.database.add_record(a_record("r5", idempotency_key="key", request_hash="bb")), first)
        self.assertIsNone(self.database.get_record("r5", "anna"))
        self.assertEqual(self.database.find_idempotent("anna", "key"), first)
        self.assertIsNone(self.database.find_idempotent("carl", "key"))
        self.assertIsNone(self.database.find_idempotent("anna", "other"))

    def test_of_many_records_with_one_idempotency_key_at_once_one_is_kept(self):
        made = [a_record(f"r{number}", idempotency_key="key") for number in range(8)]
        answers = at_once(*(lambda record=record: self.database.add_record(record) for record in made))
        (kept,) = self.database.list_records("anna", 99)
        self.assertEqual(answers, [kept] * 8)

    def test_the_newest_of_a_name_is_found(self):
        self.add(a_record("r1"), a_record("r3", created_at=self.now + 5), a_record("r2", created_at=self.now + 5))
        self.add(a_record("r4", filename="b.jpg", created_at=self.now + 9))
        self.assertEqual(self.database.latest_named("ä b.jpg", "anna").id, "r3")
        self.assertEqual(self.database.ids_named("ä b.jpg", "anna", 9), ["r3", "r2", "r1"])
        self.assertEqual(self.database.ids_named("ä b.jpg", "anna", 2), ["r3", "r2"])
        self.assertIsNone(self.database.latest_named("c.jpg", "anna"))

    def test_pages_hold_every_record_once_newest_first(self):
        made = [a_record(f"r{number}", created_at=self.now + number // 3) for number in range(10)]
        self.add(*made, a_record("other", owner="bert"))
        expected = [record.id for record in sorted(made, key=lambda r: (r.created_at, r.id), reverse=True)]
        for size in (1, 3, 4, 10, 11):
            seen, before = [], None
            while page := self.database.list_records("anna", size, before):
                self.assertLessEqual(len(page), size)
                seen += [record.id for record in page]
                before = (page[-1].created_at, page[-1].id)
            with self.subTest(size=size):
                self.assertEqual(seen, expected)

    def test_setting_a_processed_picture_returns_the_record_from_before(self):
        record = a_record()
        self.add(record, a_record("r2"))
        new = {"processed_key": "new.png", "processed_media_type": "image/png", "stored_bytes": 7}
        new |= {"parameters": {"a": 1}, "result": {"found": 0}}
        self.assertEqual(self.database.set_processed("r1", "anna", **new), record)
        expected = dataclasses.replace(record, **new)
        self.assertEqual(self.database.get_record("r1", "anna"), expected)
        self.assertEqual(self.database.set_processed("r1", "anna", **new, detector="eye"), expected)
        self.assertEqual(self.database.get_record("r1", "anna"), dataclasses.replace(expected, detector="eye"))
        self.assertEqual(self.database.get_record("r2", "anna"), a_record("r2"))
        self.assertIsNone(self.database.set_processed("nobody", "anna", **new))

    def test_a_processed_picture_can_be_taken_away(self):
        record = a_record()
        self.add(record)
        self.assertEqual(
            self.database.set_processed("r1", "anna", None, None, record.parameters, record.result, 100), record
        )
        bare = dataclasses.replace(record, processed_key=None, processed_media_type=None, stored_bytes=100)
        self.assertEqual(self.database.get_record("r1", "anna"), bare)

    def test_of_many_that_set_a_picture_at_once_each_gets_another_one_to_remove(self):
        self.add(a_record())
        keys = [f"{number:04}.processed.jpg" for number in range(8)]
        before = at_once(
            *(lambda key=key: self.database.set_processed("r1", "anna", key, "image/jpeg", {}, {}, 1) for key in keys)
        )
        removed = [record.processed_key for record in before]
        left = self.database.get_record("r1", "anna").processed_key
        self.assertEqual({*removed, left}, {"r100.processed.jpg", *keys})
        self.assertEqual(len(set(removed)), 8)

    def test_a_record_is_deleted_once(self):
        self.add(a_record(), a_record("r2"))
        answers = at_once(*[lambda: self.database.delete_record("r1", "anna")] * 4)
        self.assertEqual([answer for answer in answers if answer is not None], [a_record()])
        self.assertEqual([record.id for record in self.database.list_records("anna", 9)], ["r2"])

    def test_old_records_of_all_owners_are_found_oldest_first(self):
        self.add(*(a_record(f"r{number}", created_at=number, owner=f"o{number % 2}") for number in (4, 2, 3, 1)))
        self.assertEqual([record.id for record in self.database.records_older_than(3, 9)], ["r1", "r2"])
        self.assertEqual([record.id for record in self.database.records_older_than(9, 3)], ["r1", "r2", "r3"])
        self.assertEqual([record.id for record in self.database.oldest_records(2)], ["r1", "r2"])

    def test_the_sum_of_the_stored_bytes_is_a_plain_number(self):
        self.assertEqual(self.database.total_stored_bytes(), 0)
        self.add(a_record("r1", stored_bytes=2**40), a_record("r2", owner="bert", stored_bytes=5))
        total = self.database.total_stored_bytes()
        self.assertEqual((total, type(total)), (2**40 + 5, int))

    def test_keys_are_known_while_a_record_or_an_unfinished_job_points_at_them(self):
        self.add(a_record("r1"), a_record("r2", owner="bert", processed_key=None))
        for number, state in enumerate(("queued", "running", "done", "failed", "cancelled")):
            self.database.jobs.add(a_job(f"j{number}", state=state))
        asked = [f"{name}00.{kind}.jpg" for name in ("r1", "r2", "r3") for kind in ("original", "processed")]
        asked += [f"j{number}00.original.jpg" for number in range(5)]
        known = {"r100.original.jpg", "r100.processed.jpg", "r200.original.jpg"}
        known |= {"j000.original.jpg", "j100.original.jpg"}
        self.assertEqual(self.database.known_keys(asked), known)
        self.assertEqual(self.database.known_keys([]), set())
        many = [f"{number:06}.original.jpg" for number in range(40_000)]
        self.assertEqual(self.database.known_keys([*many, "r100.original.jpg"]), {"r100.original.jpg"})

    def test_a_lease_has_one_holder_until_it_runs_out(self):
        answers = at_once(*(lambda name=name: self.database.take_lease("prune", name, 10) for name in "abcdefgh"))
        self.assertEqual(sorted(answers), [False] * 7 + [True])
        holder = "abcdefgh"[answers.index(True)]
        self.now += 9 * SECOND
        self.assertTrue(self.database.take_lease("prune", holder, 10))
        self.now += 10 * SECOND
        self.assertFalse(self.database.take_lease("prune", "other", 10))
        self.assertTrue(self.database.take_lease("another", "other", 10))
        self.now += 1
        self.assertTrue(self.database.take_lease("prune", "other", 10))
        self.assertFalse(self.database.take_lease("prune", holder, 10))

    def test_the_check_passes_again_and_again(self):
        for _ in range(3):
            self.database.check()
        self.assertEqual([answer for answer in at_once(*[self.database.check] * 6) if answer], [])

    def test_columns_are_the_fields_of_the_dataclasses(self):
        for table, dataclass in ((schema.records, Record), (schema.jobs, Job)):
            self.assertEqual([c.name for c in table.columns], [field.name for field in dataclasses.fields(dataclass)])


class InMemory:
    """A database that ends with the test."""

    def create(self):
        return Database("memory:")


class InAFile:
    """A database in a folder that ends with the test."""

    def create(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Database(f"sqlite:///{Path(folder.name) / 'new folder' / 'rows.db'}")


class InPostgres:
    """A database of a real server; it ends with the test."""

    def create(self):
        return Database(self.enterContext(postgres_server.shared().fresh()))


class MemoryRecordsTest(InMemory, RecordsContract, unittest.TestCase):
    pass


class FileRecordsTest(InAFile, RecordsContract, unittest.TestCase):
    pass


class PostgresRecordsTest(InPostgres, RecordsContract, unittest.TestCase):
    pass


if __name__ == "__main__":
    unittest.main()
