"""What the rows of processed pictures have to do, on every database."""

import unittest

from sqlalchemy import func, select

from imgdetect import schema
from tests.test_database import DatabaseContract, InAFile, InMemory, InPostgres, at_once


class ProcessedContract(DatabaseContract):
    def setUp(self):
        super().setUp()
        self.rows = self.database.processed

    def count(self):
        with self.database._transaction() as connection:
            return connection.scalar(select(func.count()).select_from(schema.processed_images))

    def test_the_last_factor_of_a_picture_counts(self):
        self.assertIsNone(self.rows.scale("anna", "a.jpg"))
        for scale in (0.5, 0.25, 1.0):
            self.rows.put("anna", "a.jpg", scale)
            self.assertEqual(self.rows.scale("anna", "a.jpg"), scale)
        self.assertEqual(self.count(), 1)

    def test_a_picture_is_processed_for_its_owner_only(self):
        self.rows.put("anna", "ä.jpg", 0.5)
        for owner in ("", "bert", "ANNA", "%"):
            self.assertIsNone(self.rows.scale(owner, "ä.jpg"))
        self.rows.put("", "ä.jpg", 0.25)
        self.assertEqual((self.rows.scale("anna", "ä.jpg"), self.rows.scale("", "ä.jpg")), (0.5, 0.25))

    def test_beyond_so_many_the_oldest_are_forgotten(self):
        self.rows.put("bert", "0.jpg", 1)
        for number in range(5):
            self.rows.put("anna", f"{number}.jpg", 1, most=3)
        self.assertEqual([n for n in range(5) if self.rows.scale("anna", f"{n}.jpg")], [2, 3, 4])
        self.rows.put("anna", "2.jpg", 0.5, most=3)  # the newest now
        self.rows.put("anna", "5.jpg", 1, most=3)
        self.assertEqual([n for n in range(6) if self.rows.scale("anna", f"{n}.jpg")], [2, 4, 5])
        self.assertEqual(self.rows.scale("bert", "0.jpg"), 1)

    def test_several_that_process_a_picture_at_once_all_succeed(self):
        scales = [0.25, 0.5, 0.75, 1.0]
        answers = at_once(*(lambda scale=scale: self.rows.put("anna", "a.jpg", scale) for scale in scales))
        self.assertEqual(answers, [None] * 4)
        self.assertIn(self.rows.scale("anna", "a.jpg"), scales)
        self.assertEqual(self.count(), 1)


class MemoryProcessedTest(InMemory, ProcessedContract, unittest.TestCase):
    pass


class FileProcessedTest(InAFile, ProcessedContract, unittest.TestCase):
    pass


class PostgresProcessedTest(InPostgres, ProcessedContract, unittest.TestCase):
    pass


if __name__ == "__main__":
    unittest.main()
