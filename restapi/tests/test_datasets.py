"""The folder of pictures that clients may name."""

import os
import tempfile
import unittest
from pathlib import Path

from imgdetect.datasets import Dataset
from imgdetect.errors import NotFound, UploadTooLarge


class DatasetTest(unittest.TestCase):
    def setUp(self):
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.folder = self.root / "pictures"
        self.folder.mkdir()
        self.dataset = Dataset(self.folder)

    def add(self, *names, data=b"data"):
        for name in names:
            (self.folder / name).write_bytes(data)

    def age(self, seconds=60):
        """Make the folder look as if nothing had changed for a while."""
        past = self.folder.stat().st_mtime - seconds
        os.utime(self.folder, (past, past))

    def assertMissing(self, name):
        with self.assertRaises(NotFound):
            self.dataset.read(name, 100)

    def test_it_lists_pictures_in_order_and_nothing_else(self):
        self.add("b.png", "a.JPG", "c.txt", ".hidden.jpg", "jpg", "d.jpg.part", "ä.tiff")
        (self.folder / "folder.jpg").mkdir()
        os.mkfifo(self.folder / "pipe.jpg")
        (self.folder / os.fsdecode(b"\xff.jpg")).touch()
        self.assertEqual(list(self.dataset.names()), ["a.JPG", "b.png", "ä.tiff"])
        self.assertEqual(self.dataset.read("b.png", 100), b"data")

    def test_a_folder_that_is_missing_has_none_until_it_comes(self):
        self.folder.rmdir()
        self.assertEqual(list(self.dataset.names()), [])
        with self.assertRaisesRegex(NotFound, "imgdetect dataset fetch"):
            self.dataset.any_name()
        self.folder.mkdir()
        self.add("a.jpg")
        self.assertEqual(self.dataset.any_name(), "a.jpg")

    def test_any_name_is_any_of_them(self):
        names = {f"{n}.jpg" for n in range(5)}
        self.add(*names)
        self.assertEqual({self.dataset.any_name() for _ in range(300)}, names)

    def test_no_name_leads_out_of_the_folder(self):
        (self.root / "secret.jpg").write_bytes(b"secret")
        self.add("a.jpg")
        outside = str(self.root / "secret.jpg")
        for name in (
            "../secret.jpg",
            outside,
            "./a.jpg",
            "a.jpg/",
            "a.jpg\0",
            "\0",
            "",
            ".",
            "..",
            "a" * 5000,
            "\ud800",
        ):
            self.assertMissing(name)

    def test_links_are_followed_inside_the_folder_only(self):
        (self.root / "secret.jpg").write_bytes(b"secret")
        (self.folder / "deeper").mkdir()
        self.add("deeper/a.jpg")
        links = {
            "out": "../secret.jpg",
            "absolute": self.root / "secret.jpg",
            "gone": "nothing.jpg",
            "circle": "circle.jpg",
        }
        for name, target in (links | {"in": "deeper/a.jpg"}).items():
            (self.folder / f"{name}.jpg").symlink_to(target)
        self.assertEqual(list(self.dataset.names()), ["in.jpg"])
        self.assertEqual(self.dataset.read("in.jpg", 100), b"data")
        for name in links:
            self.assertMissing(f"{name}.jpg")

    def test_what_takes_the_place_of_a_listed_picture_is_looked_at_again(self):
        (self.root / "secret.jpg").write_bytes(b"secret")
        self.add("a.jpg", "b.jpg", "c.jpg")
        self.age()
        self.assertEqual(len(self.dataset.names()), 3)
        changed = self.folder.stat()
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            (self.folder / name).unlink()
        (self.folder / "a.jpg").symlink_to("../secret.jpg")
        os.mkfifo(self.folder / "b.jpg")
        os.utime(self.folder, ns=(changed.st_atime_ns, changed.st_mtime_ns))
        self.assertEqual(len(self.dataset.names()), 3)  # the list is the old one
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            self.assertMissing(name)

    def test_a_picture_that_is_too_large_is_refused(self):
        self.add("a.jpg", data=b"x" * 101)
        with self.assertRaises(UploadTooLarge):
            self.dataset.read("a.jpg", 100)
        self.assertEqual(len(self.dataset.read("a.jpg", 101)), 101)

    def test_the_list_follows_the_folder(self):
        for number in range(3):
            self.add(f"{number}.jpg")
            self.assertEqual(len(self.dataset.names()), number + 1)
        self.age()
        self.assertIs(self.dataset.names()["0.jpg"], None)
        (self.folder / "0.jpg").unlink()
        self.assertNotIn("0.jpg", self.dataset.names())

    def test_an_id_is_a_name_or_a_number_as_coco_writes_it(self):
        self.add("000000000144.jpg", "000000000145.jpg", "145.jpg", "cat.jpg", "146.png")
        for image_id, name in (
            ("144", "000000000144.jpg"),
            ("000000000144", "000000000144.jpg"),
            ("145", "145.jpg"),
            ("cat", "cat.jpg"),
            ("146", None),
            ("", None),
            ("../144", None),
        ):
            self.assertEqual(self.dataset.named(image_id), name)


if __name__ == "__main__":
    unittest.main()
