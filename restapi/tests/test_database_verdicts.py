"""What the rows of feedback have to do, on every database."""

import dataclasses
import unittest

from imgdetect.detection import Feedback
from imgdetect.errors import Conflict, NotFound
from tests.test_database import DatabaseContract, InAFile, InMemory, InPostgres, a_record, at_once


def a_piece(record_id="r1", **changes):
    piece = Feedback(
        id="f1",
        owner="anna",
        record_id=record_id,
        created_at=1_700_000_000_000_000,
        verdict="correct",
        detector="face",
        class_name="face",
        x=1,
        y=2,
        width=3,
        height=4,
        note="ä",
    )
    return dataclasses.replace(piece, **changes)


class VerdictsContract(DatabaseContract):
    def setUp(self):
        super().setUp()
        self.rows = self.database.verdicts
        self.database.add_record(a_record())

    def test_it_comes_back_as_it_was_to_its_owner_only(self):
        pieces = [a_piece(), a_piece(id="f2", class_name=None, x=None, y=None, width=None, height=None, note=None)]
        self.rows.add(pieces, 9)
        self.assertEqual(self.rows.of(["r1", "r2"], "anna"), pieces)
        self.assertEqual(self.rows.of(["r1"], "bert"), [])
        self.assertEqual(self.rows.counts("bert"), [])

    def test_of_the_same_box_the_last_word_counts(self):
        self.rows.add([a_piece(), a_piece(id="f2", x=9)], 9)
        self.rows.add([a_piece(id="f3", verdict="false_positive")], 9)
        self.assertEqual({piece.id for piece in self.rows.of(["r1"], "anna")}, {"f2", "f3"})
        self.assertEqual(self.rows.counts("anna"), [("face", "correct", 1), ("face", "false_positive", 1)])

    def test_there_is_a_limit_for_each_record(self):
        self.rows.add([a_piece(id=str(n), x=n) for n in range(4)], 4)
        with self.assertRaises(Conflict):
            self.rows.add([a_piece(id="more", x=100)], 4)
        self.rows.add([a_piece(id="other", x=3)], 4)
        self.assertEqual(len(self.rows.of(["r1"], "anna")), 4)

    def test_it_goes_with_its_record(self):
        self.rows.add([a_piece()], 9)
        self.assertIsNone(self.database.delete_record("r1", "bert"))
        self.assertEqual(len(self.rows.of(["r1"], "anna")), 1)
        self.database.delete_record("r1", "anna")
        self.assertEqual(self.rows.of(["r1"], "anna"), [])
        for piece in (a_piece(), a_piece("r2")):
            with self.assertRaises(NotFound):
                self.rows.add([piece], 9)

    def test_none_outlives_a_record_that_is_deleted_at_the_same_moment(self):
        for number in range(8):
            record_id = f"x{number}"
            self.database.add_record(a_record(record_id))
            at_once(
                lambda r=record_id: self.rows.add([a_piece(r, id=r)], 9),
                lambda r=record_id: self.database.delete_record(r, "anna"),
            )
            self.assertIsNone(self.database.get_record(record_id, "anna"))
            self.assertEqual(self.rows.of([record_id], "anna"), [])


class MemoryVerdictsTest(InMemory, VerdictsContract, unittest.TestCase):
    pass


class FileVerdictsTest(InAFile, VerdictsContract, unittest.TestCase):
    pass


class PostgresVerdictsTest(InPostgres, VerdictsContract, unittest.TestCase):
    pass


if __name__ == "__main__":
    unittest.main()
