"""What the rows of feedback have to do, on every database."""

import unittest

from tests.test_database import DatabaseContract, InAFile, InMemory, InPostgres


class FeedbackContract(DatabaseContract):
    def setUp(self):
        super().setUp()
        self.rows = self.database.feedback

    def test_reports_come_back_as_they_were_to_their_owner_only(self):
        report = "{'a': \"ä\"}\n\t" + "x" * 20_000
        self.rows.add("0" * 32, "anna", report)
        self.assertEqual((self.rows.newest("anna", 9), self.rows.count("anna")), ([report], 1))
        for owner in ("", "bert", "ANNA", "%"):
            self.assertEqual((self.rows.newest(owner, 9), self.rows.count(owner)), ([], 0))

    def test_beyond_so_many_the_oldest_are_removed(self):
        self.rows.add("b" * 32, "bert", "his")
        for number in range(5):
            self.rows.add(f"{number:032x}", "anna", str(number), most=3)
        self.assertEqual((self.rows.newest("anna", 9), self.rows.newest("anna", 1)), (["4", "3", "2"], ["4"]))
        self.assertEqual(self.rows.newest("bert", 9), ["his"])


class MemoryFeedbackTest(InMemory, FeedbackContract, unittest.TestCase):
    pass


class FileFeedbackTest(InAFile, FeedbackContract, unittest.TestCase):
    pass


class PostgresFeedbackTest(InPostgres, FeedbackContract, unittest.TestCase):
    pass


if __name__ == "__main__":
    unittest.main()
