"""`imgdetect dataset`."""

import io
import re
import unittest
import zipfile
from unittest.mock import patch

from click.testing import CliRunner

from imgdetect.catalogue import DATASETS, Offer
from imgdetect.cli import main
from imgdetect.detection import sha256_of
from tests.app import jpeg
from tests.test_models import FetchCase


def zipped(**files):
    """A ZIP archive of files by name, `__` in a name for a slash."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


class DatasetCommandsTest(FetchCase):
    def setUp(self):
        super().setUp()
        files = {"set__images__1.jpg": jpeg(), "set__images__2.jpg": jpeg(seed=1), "set__labels__1.txt": b"0 0 0 1 1"}
        self.offer(zipped(**files))

    def offer(self, content, verified=True):
        """Serve an archive, and have the catalogue name it."""
        self.server.content = content
        offer = Offer("some", "dataset", "ours", "us", self.url, 0, sha256_of(content) if verified else "")
        self.enterContext(patch.dict(DATASETS, {"some": offer}, clear=True))

    def run_command(self, *arguments, code=0):
        environment = {"IMGDETECT_DATA_DIR": str(self.folder)}
        done = CliRunner(env=environment).invoke(main, ["dataset", *arguments])
        self.assertEqual(done.exit_code, code, done.output)
        return done.output

    def found(self):
        """What lies in the folder."""
        return sorted(path.name for path in (self.folder / "dataset").iterdir() if path.name != ".fetched")

    def test_fetch_puts_the_pictures_into_the_folder_and_list_counts_them(self):
        self.assertRegex(self.run_command("list"), r"here: \d+ pictures in .*test_images/input\n")
        self.assertIn(
            f"some: 2 pictures in {self.folder}/dataset, 1 other files left out", self.run_command("fetch", "some")
        )
        self.assertEqual(self.found(), ["1.jpg", "2.jpg"])
        self.assertEqual((self.folder / "dataset" / "1.jpg").read_bytes(), jpeg())
        self.assertEqual(list((self.folder / "dataset" / ".fetched").iterdir()), [])
        self.assertIn(f"here: 2 pictures in {self.folder}/dataset\n", self.run_command("list"))
        self.run_command("fetch", "some")  # again does no harm
        self.assertEqual(self.found(), ["1.jpg", "2.jpg"])

    def test_a_wrong_file_is_never_taken(self):
        self.server.content = zipped(other__jpg=b"")
        self.assertIn("this is another file", self.run_command("fetch", "some", code=2))
        self.assertEqual(self.found(), [])

    def test_what_is_unverified_needs_a_person(self):
        self.offer(self.server.content, verified=False)
        self.assertIn("unverified: no checksum is known", self.run_command("list"))
        self.assertIn("--sha256 HEX, or --accept-unverified", self.run_command("fetch", "some", code=2))
        self.assertEqual(self.server.asked, [])
        self.assertIn("should be", self.run_command("fetch", "some", "--sha256", "0" * 64, code=2))
        self.assertIn(f"has the SHA-256 {self.sha256}", self.run_command("fetch", "some", "--accept-unverified"))
        self.assertNotIn("unverified", self.run_command("fetch", "some", "--sha256", self.sha256))

    def test_an_unknown_name_is_answered_with_the_known_ones(self):
        self.assertIn("the catalogue has no 'x'; it has some", self.run_command("fetch", "x", code=2))

    def test_what_is_no_archive_of_pictures_leaves_nothing(self):
        contents = b"no archive", zipped(a__txt=b"a"), zipped(**{"1.jpg": b"no picture"})
        for content in contents:
            self.offer(content)
            self.run_command("fetch", "some", code=2)
            self.assertEqual(self.found(), [])

    def test_no_name_of_an_archive_leads_out_of_the_folder(self):
        names = "../out.jpg", "/abs.jpg", "a\\..\\b.jpg", "x/../../up.jpg", ".hidden.jpg"
        self.offer(zipped(**dict.fromkeys(names, jpeg())))
        self.run_command("fetch", "some")
        self.assertEqual(self.found(), ["abs.jpg", "b.jpg", "out.jpg", "up.jpg"])
        self.assertEqual([path.name for path in self.folder.glob("*.jpg")], [])


class CatalogueTest(unittest.TestCase):
    def test_every_dataset_has_an_https_address_and_no_checksum_that_is_none(self):
        self.assertEqual(list(DATASETS), ["coco128", "coco-val"])
        for offer in DATASETS.values():
            self.assertTrue(offer.url.startswith("https://"))
            self.assertRegex(offer.sha256, "^([0-9a-f]{64})?$")
            self.assertTrue(re.search(r"\S", offer.licence) and offer.publisher)


if __name__ == "__main__":
    unittest.main()
