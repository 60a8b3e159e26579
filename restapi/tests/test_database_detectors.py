"""What the rows of uploaded cascades have to do, on every database."""

import dataclasses
import unittest

from imgdetect import schema
from imgdetect.detection import UploadedCascade
from imgdetect.errors import Conflict
from tests.test_database import DatabaseContract, InAFile, InMemory, InPostgres, at_once

XML = "<opencv_storage>ä</opencv_storage>".encode()


def a_cascade(name="stop", **changes):
    cascade = UploadedCascade(
        owner="anna",
        name=name,
        created_at=1_700_000_000_000_000,
        class_name="stop sign",
        parameters={"min_neighbors": 5, "min_size": [24, 30]},
        sha256="ab" * 32,
        size_bytes=len(XML),
        window_width=24,
        window_height=30,
        stages=12,
    )
    return dataclasses.replace(cascade, **changes)


class DetectorsContract(DatabaseContract):
    def setUp(self):
        super().setUp()
        self.rows = self.database.detectors

    def test_a_cascade_comes_back_as_it_was(self):
        cascade = a_cascade()
        self.rows.add(cascade, XML, 20)
        self.assertEqual(self.rows.get("anna", "stop"), cascade)
        self.assertEqual(self.rows.get("anna", "stop").defaults, {"min_neighbors": 5, "min_size": (24, 30)})
        self.assertEqual(self.rows.xml(cascade), XML)

    def test_a_cascade_is_seen_and_removed_by_its_owner_only(self):
        cascade = a_cascade()
        self.rows.add(cascade, XML, 20)
        for owner in ("", "bert", "ANNA", "%"):
            self.assertIsNone(self.rows.get(owner, "stop"))
            self.assertEqual(self.rows.all_of(owner), [])
            self.assertIsNone(self.rows.xml(dataclasses.replace(cascade, owner=owner)))
            self.assertFalse(self.rows.delete(owner, "stop"))
        self.assertEqual(self.rows.all_of("anna"), [cascade])

    def test_those_of_an_owner_come_by_name(self):
        for name in ("b", "c", "a"):
            self.rows.add(a_cascade(name), XML, 20)
            self.rows.add(a_cascade(name, owner="bert"), XML, 20)
        self.assertEqual([cascade.name for cascade in self.rows.all_of("bert")], ["a", "b", "c"])

    def test_a_name_is_taken_once_until_it_is_removed(self):
        self.rows.add(a_cascade(), XML, 20)
        for call in (lambda: self.rows.add(a_cascade(), b"other", 20), lambda: self.room("stop")):
            with self.assertRaisesRegex(Conflict, "already"):
                call()
        self.assertTrue(self.rows.delete("anna", "stop"))
        self.assertFalse(self.rows.delete("anna", "stop"))
        self.rows.add(a_cascade(sha256="cd" * 32), b"other", 20)
        self.assertEqual(self.rows.xml(a_cascade(sha256="cd" * 32)), b"other")

    def room(self, name):
        self.rows.must_have_room("anna", name, 2)

    def test_the_xml_is_that_of_the_cascade_that_was_read_or_none(self):
        first = a_cascade()
        self.rows.add(first, XML, 20)
        self.rows.delete("anna", "stop")
        self.assertIsNone(self.rows.xml(first))
        self.rows.add(a_cascade(sha256="cd" * 32), b"other", 20)
        self.assertIsNone(self.rows.xml(first))

    def test_an_owner_has_so_many_and_no_more(self):
        self.room("a")
        self.rows.add(a_cascade("a"), XML, 2)
        self.rows.add(a_cascade("b"), XML, 2)
        for call in (lambda: self.rows.add(a_cascade("c"), XML, 2), lambda: self.room("c")):
            with self.assertRaisesRegex(Conflict, "may have 2"):
                call()
        self.rows.add(a_cascade("c", owner="bert"), XML, 2)

    def test_of_many_that_take_a_name_at_once_one_has_it(self):
        made = [a_cascade(sha256=f"{number:064}") for number in range(6)]
        answers = at_once(*(lambda cascade=cascade: self.rows.add(cascade, XML, 20) for cascade in made))
        self.assertEqual(sorted(type(answer).__name__ for answer in answers), ["Conflict"] * 5 + ["NoneType"])
        self.assertEqual(self.rows.all_of("anna"), [made[answers.index(None)]])

    def test_columns_are_the_fields_of_the_dataclass_and_the_cascade_itself(self):
        fields = [field.name for field in dataclasses.fields(UploadedCascade)]
        self.assertEqual([column.name for column in schema.detectors.columns], [*fields, "xml"])


class MemoryDetectorsTest(InMemory, DetectorsContract, unittest.TestCase):
    pass


class FileDetectorsTest(InAFile, DetectorsContract, unittest.TestCase):
    pass


class PostgresDetectorsTest(InPostgres, DetectorsContract, unittest.TestCase):
    pass


if __name__ == "__main__":
    unittest.main()
