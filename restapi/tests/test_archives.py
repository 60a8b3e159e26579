"""ZIP archives: read without believing them, written while they are sent."""

import io
import random
import struct
import tracemalloc
import unittest
import zipfile
import zlib

from imgdetect.archives import Archive, Limits, written
from imgdetect.errors import Problem, UnusableArchive, UploadTooLarge
from tests.archive_files import archive, end, listed, local, made, one, overlapping

LIMITS = Limits(entries=10, entry_bytes=2_000_000, total_bytes=5_000_000)


def opened(data, limits=LIMITS):
    return Archive(io.BytesIO(data), limits)


def contents(data, limits=LIMITS):
    """Names and contents; a Problem in the place of what cannot be read."""
    found = opened(data, limits)
    answers = []
    for entry in found.entries:
        try:
            answers.append((entry.name, found.read(entry)))
        except Problem as problem:
            answers.append((entry.name, type(problem)))
    return answers


class HonestTest(unittest.TestCase):
    def test_stored_and_deflated_files_come_back_in_their_order(self):
        files = [("b.jpg", b"b" * 100_000), ("sub/a.jpg", bytes(range(256)) * 9), ("ä ö.png", b"\x89PNG"), ("0", b"")]
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            self.assertEqual(contents(archive(*files, method=method)), files)

    def test_what_other_programs_write_is_read(self):
        """Large forms where they are not needed, sizes behind the data, a comment at the end."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as large:
            large.comment = b"PK\x05\x06 a comment that looks like an end"
            with large.open("a.jpg", "w", force_zip64=True) as entry:
                entry.write(b"abc" * 1000)
        self.assertEqual(contents(stream.getvalue()), [("a.jpg", b"abc" * 1000)])
        streamed = b"".join(written([("a.jpg", [b"abc"] * 500), ("b.jpg", [])], (2025, 1, 31, 12, 0, 0)))
        self.assertEqual(contents(streamed), [("a.jpg", b"abc" * 500), ("b.jpg", b"")])

    def test_folders_and_the_junk_of_file_managers_are_passed_over(self):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as other:
            other.mkdir("photos")
            for name in ("photos/a.jpg", "__MACOSX/photos/._a.jpg", "photos/.DS_Store", "photos/Thumbs.db", ".hidden"):
                other.writestr(name, name)
            other.writestr("desktop.ini", "")
        self.assertEqual(contents(stream.getvalue()), [("photos/a.jpg", b"photos/a.jpg")])

    def test_names_are_only_names(self):
        for name in ("../../etc/passwd", "/etc/passwd", "C:\\boot.ini", "a" * 4000, "a\x01b"):
            self.assertEqual(contents(archive((name, b"x")))[0][1], b"x")

    def test_files_at_the_limits_are_taken(self):
        self.assertEqual(len(contents(archive(*[(f"{n}", b"x") for n in range(10)]))), 10)
        limits = Limits(2, 1000, 2000)
        full = [("a", random.Random(1).randbytes(1000)), ("b", bytes(1000))]
        self.assertEqual(contents(archive(*full), limits), full)


class HostileTest(unittest.TestCase):
    def assertUnusable(self, data, words, kind=UnusableArchive):
        with self.assertRaises(kind) as caught:
            opened(data)
        self.assertIn(words, caught.exception.detail)

    def assertBroken(self, data, kind=UnusableArchive):
        """The archive is one, and its one entry fails alone."""
        self.assertEqual([what for _, what in contents(data)], [kind])

    def test_what_is_no_archive(self):
        good = archive(("a.jpg", b"x" * 5000))
        for name, data in {
            "nothing": b"",
            "a text": b"PK, not an archive",
            "noise": random.Random(2).randbytes(100_000),
            "cut at the front": good[10:],
            "cut at the end": good[:-1],
            "something behind it": good + b"x",
            "something before it": b"MZ" + good,
            "many ends that are none": b"PK\x05\x06" * 20_000,
        }.items():
            with self.subTest(name), self.assertRaises(UnusableArchive):
                opened(data)

    def test_an_archive_without_a_file(self):
        self.assertUnusable(archive(), "no file")
        self.assertUnusable(archive(("folder/", b""), (".DS_Store", b"x")), "no file")

    def test_too_many_files(self):
        self.assertUnusable(archive(*[(f"{n}", b"") for n in range(11)]), "holds 11 files", UploadTooLarge)
        self.assertUnusable(archive(*[(f".{n}", b"") for n in range(141)]), "more than 140 entries", UploadTooLarge)

    def test_a_list_that_is_long_is_never_read(self):
        rows = listed(b"n" * 60_000) * 50
        data = rows + end(rows, 50, 0)
        self.assertUnusable(data, "entries", UploadTooLarge)
        claimed = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 2**60, 2**60, 0, 0)
        locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
        self.assertUnusable(claimed + locator + end(b"", 0xFFFF, 0xFFFFFFFF), "entries", UploadTooLarge)

    def test_more_bytes_than_may_be(self):
        self.assertUnusable(archive(*[(f"{n}", bytes(1_500_000)) for n in range(4)]), "500 times")
        noise = random.Random(3)
        pictures = [(f"{n}", noise.randbytes(1_500_000)) for n in range(4)]
        self.assertUnusable(archive(*pictures), "larger than 5000000 bytes", UploadTooLarge)
        large = archive(("large", noise.randbytes(2_000_001)), ("small", b"x"))
        self.assertEqual(contents(large), [("large", UploadTooLarge), ("small", b"x")])

    def test_a_bomb_is_refused_by_its_ratio(self):
        self.assertUnusable(one(bytes(1_900_000)), "500 times")

    def test_sizes_that_are_lies_are_found_while_unpacking(self):
        self.assertBroken(one(b"x" * 1000, size=999))
        self.assertBroken(one(b"x" * 1000, size=1001))
        self.assertBroken(one(b"x" * 1000, size=0))
        self.assertBroken(one(b"x" * 1000, method=0, size=10))
        self.assertBroken(one(b"x" * 1000, crc=1))
        self.assertBroken(one(b"x" * 1000, packed=3))

    def test_a_bomb_that_claims_to_be_small_costs_what_it_claims(self):
        bomb = one(bytes(50_000_000), size=1000)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertBroken(bomb)
        self.assertLess(tracemalloc.get_traced_memory()[1], 3_000_000)

    def test_data_that_cannot_be_unpacked(self):
        packed = b"\xff" * 500
        data = made((local(packed, method=8), {"method": 8, "packed": 500, "size": 500}))
        self.assertBroken(data)
        nothing_comes_of_it = b"\x00\x00\x00\xff\xff" * 100_000  # empty blocks without an end
        size = len(nothing_comes_of_it)
        self.assertBroken(made((local(nothing_comes_of_it, method=8), {"method": 8, "packed": size, "size": 10})))

    def test_the_header_of_an_entry_has_to_agree_with_the_list(self):
        told = {"packed": 4, "size": 4, "crc": zlib.crc32(b"data")}
        self.assertEqual(contents(made((local(b"data"), told))), [("a.jpg", b"data")])
        self.assertBroken(made((local(b"data", method=8), told)))
        self.assertBroken(made((local(b"data", flags=1), told)))
        self.assertBroken(made((b"XX" + local(b"data")[2:], told)))

    def test_entries_that_overlap(self):
        self.assertUnusable(overlapping(5, b"kernel" * 1000), "overlap")
        told = {"packed": 4, "size": 4, "crc": zlib.crc32(b"data")}
        twice = made((local(b"data"), told), (b"", told | {"name": b"b.jpg", "offset": 0}))
        self.assertUnusable(twice, "overlap")
        # The header's own name reaches into the next entry: seen when it is read.
        long_name = local(b"data", b"n" * 500)[: -4 - 480] + b"data"
        data = made((long_name, told), (local(b"data"), told | {"name": b"b.jpg"}))
        self.assertEqual([what for _, what in contents(data)], [UnusableArchive, b"data"])

    def test_an_entry_outside_of_the_file(self):
        told = {"packed": 4, "size": 4}
        for offset in (10**6, 0xFFFFFFF0):
            self.assertUnusable(made((local(b"data"), told | {"offset": offset})), "overlap")

    def test_large_forms_that_are_lies(self):
        for extra in (b"", b"\x01\x00\x04\x00abcd", b"\x01\x00\xff\xff", b"\x02\x00\x00\x00"):
            told = {"size": 0xFFFFFFFF, "packed": 4, "extra": extra}
            self.assertUnusable(made((local(b"data"), told)), "damaged")
        huge = struct.pack("<2HQ", 1, 8, 2**63)
        told = {"size": 0xFFFFFFFF, "packed": 4, "extra": huge}
        self.assertUnusable(made((local(b"data"), told)), "500 times")

    def test_one_of_several_disks(self):
        self.assertUnusable(made((local(b"data"), {"packed": 4, "size": 4}), disk=1), "one part of several")
        self.assertUnusable(made((local(b"data"), {"packed": 4, "size": 4}), here=0), "one part of several")
        self.assertUnusable(made((local(b"data"), {"packed": 4, "size": 4, "disk": 3})), "damaged")

    def test_a_count_that_is_a_lie(self):
        entry = (local(b"data"), {"packed": 4, "size": 4})
        self.assertUnusable(made(entry, count=2), "damaged")
        self.assertUnusable(made(entry, count=0), "damaged")
        self.assertUnusable(made(entry, begin=1), "damaged")

    def test_what_needs_a_password_or_another_method(self):
        self.assertUnusable(one(b"x", flags=1), "encrypted")
        self.assertUnusable(one(b"x", flags=0x2000), "encrypted")
        for method in (1, 6, 9, 12, 14, 93, 99):
            self.assertUnusable(made((local(b"x"), {"packed": 1, "size": 1, "method": method})), f"method {method}")

    def test_two_entries_of_one_name(self):
        told = {"packed": 4, "size": 4}
        self.assertUnusable(made((local(b"data"), told), (local(b"data"), told)), "same name")

    def test_links_and_devices_fail_alone(self):
        told = {"packed": 4, "size": 4, "crc": zlib.crc32(b"data"), "made_by": 3 << 8}
        for kind, answer in (
            (0o120777, UnusableArchive),
            (0o020666, UnusableArchive),
            (0o100644, b"data"),
            (0, b"data"),
        ):
            data = made((local(b"data"), told | {"attributes": kind << 16}))
            self.assertEqual(contents(data), [("a.jpg", answer)], oct(kind))

    def test_whatever_is_broken_ends_in_an_answer(self):
        """Every byte of a small archive changed in some ways, and the whole cut everywhere."""
        good = archive(("a.jpg", b"abcdef" * 20), ("b.jpg", b"x"))
        some = random.Random(4)
        changed = [good[:n] for n in range(len(good))]
        for place in range(len(good)):
            for value in {0, 255, good[place] ^ 1, some.randrange(256)}:
                changed.append(good[:place] + bytes([value]) + good[place + 1 :])
        answers = set()
        for data in changed:
            try:
                answers.update(str(what)[:40] for _, what in contents(data))
            except Problem as problem:
                answers.add(type(problem).__name__)
        self.assertIn("UnusableArchive", answers)


class WrittenTest(unittest.TestCase):
    def test_an_archive_is_made_piece_by_piece(self):
        asked = []

        def pieces(name):
            for n in range(3):
                asked.append((name, n))
                yield bytes([n]) * 10

        stream = written(((name, pieces(name)) for name in ("a.jpg", "b.jpg")), (2025, 1, 31, 12, 0, 0))
        self.assertEqual(asked, [])
        first = next(stream)
        self.assertEqual(asked, [("a.jpg", 0)])
        whole = first + b"".join(stream)
        with zipfile.ZipFile(io.BytesIO(whole)) as read:
            self.assertIsNone(read.testzip())
            self.assertEqual([(i.filename, i.date_time[:3]) for i in read.infolist()][1], ("b.jpg", (2025, 1, 31)))
            self.assertEqual(read.read("a.jpg"), b"\0" * 10 + b"\1" * 10 + b"\2" * 10)

    def test_more_than_65535_files_take_the_large_form(self):
        whole = b"".join(written(((str(n), []) for n in range(66_000)), (2025, 1, 31, 12, 0, 0)))
        self.assertIn(b"PK\x06\x06", whole[-200:])
        with zipfile.ZipFile(io.BytesIO(whole)) as read:
            self.assertEqual(len(read.infolist()), 66_000)


if __name__ == "__main__":
    unittest.main()
