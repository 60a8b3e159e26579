"""What every storage has to do, and what only files can get wrong."""

import errno
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from contextlib import closing
from pathlib import Path
from unittest import mock

from imgdetect import errors
from imgdetect.storages import StoredFile, file, memory

KEY = "3f9c5e00.original.jpg"
NOT_KEYS = (
    "",
    "abcd",
    "abc.jpg",
    "abcd.",
    "abcd.jpg.",
    ".jpg",
    "abcd..jpg",
    "abcd.a..b",
    "../../etc/passwd",
    "abcd.a/../../b",
    "abcd.a/b",
    "/abcd.jpg",
    "ABCD.jpg",
    "abcd.jpg\n",
    "abcd.j\0pg",
    "abcd.jpg:stream",
    "äbcd.jpg",
    "abcd.\u0661",
    "tmp-ab.jpg",
    "abcd.jpg" + "a" * 200,
)


class Trickle(io.RawIOBase):
    """Gives at most 100,000 bytes at a time, cannot seek, and ends with an error where one is given."""

    def __init__(self, data, error=None):
        self._rest = io.BytesIO(data)
        self._error = error

    def readable(self):
        return True

    def seek(self, *_):
        raise io.UnsupportedOperation("seek")

    tell = seek

    def readinto(self, buffer):
        count = self._rest.readinto(memoryview(buffer)[:100_000])
        if not count and self._error:
            raise self._error
        return count


class StorageContract:
    """Inherited with unittest.TestCase by the tests of each storage."""

    tick_seconds = 0.1  # a file system's clock ticks more slowly than ours

    def create(self):
        raise NotImplementedError

    def setUp(self):
        super().setUp()
        self.storage = self.create()

    def read(self, *arguments):
        with self.storage.open(*arguments) as stream:
            return stream.read()

    def link(self, key):
        return self.storage.link(key, {})

    def stored_keys(self):
        return {stored.key for stored in self.storage.keys()}

    def test_what_was_put_comes_back(self):
        for data in (b"", b"x", bytes(range(256)) * 5000):
            with self.subTest(size=len(data)):
                self.storage.put(KEY, data, "image/jpeg")
                self.assertEqual(self.read(KEY), data)

    def test_a_stream_is_stored_from_where_it_stands_and_left_open(self):
        data = bytes(range(256)) * 50_000  # 12.8 MB: more than one piece
        stream = io.BytesIO(b"passed over" + data)
        stream.seek(len(b"passed over"))
        self.storage.put(KEY, stream, "video/mp4")
        self.assertFalse(stream.closed)
        self.assertEqual(self.read(KEY), data)
        self.storage.put(KEY, io.BytesIO(), "video/mp4")
        self.assertEqual(self.read(KEY), b"")

    def test_a_stream_that_cannot_seek_and_gives_little_at_a_time_is_stored_whole(self):
        data = bytes(range(251)) * 30_000
        trickle = Trickle(data)
        self.storage.put(KEY, trickle, "application/zip")
        self.assertEqual(self.read(KEY), data)

    def test_a_stream_that_breaks_stores_nothing_and_its_own_error_comes_out(self):
        self.storage.put(KEY, b"old", "video/mp4")
        for breaks_after in (0, 1000, 20_000_000):
            with self.subTest(bytes=breaks_after), self.assertRaisesRegex(OSError, "cable"):
                self.storage.put(KEY, Trickle(b"x" * breaks_after, OSError("somebody pulled the cable")), "video/mp4")
        self.assertEqual(self.read(KEY), b"old")
        self.assertEqual(self.stored_keys(), {KEY})

    def test_a_range_is_just_these_bytes(self):
        self.storage.put(KEY, b"0123456789", "image/jpeg")
        for start, end in (
            (0, None),
            (3, None),
            (0, 4),
            (3, 7),
            (9, 10),
            (5, 5),
            (0, 10),
            (8, 99),
            (10, None),
            (50, 60),
        ):
            with self.subTest(start=start, end=end):
                self.assertEqual(self.read(KEY, start, end), b"0123456789"[start:end])

    def test_a_range_can_be_read_in_small_pieces(self):
        self.storage.put(KEY, bytes(range(200)), "image/jpeg")
        with self.storage.open(KEY, 10, 130) as stream:
            pieces = list(iter(lambda: stream.read(50), b""))
        self.assertEqual([len(piece) for piece in pieces], [50, 50, 20])
        self.assertEqual(b"".join(pieces), bytes(range(10, 130)))

    def test_it_refuses_what_is_no_range(self):
        self.storage.put(KEY, b"0123456789", "image/jpeg")
        for start, end in ((-1, None), (-5, -1), (4, 3)):
            with self.subTest(start=start, end=end), self.assertRaises(ValueError):
                self.storage.open(KEY, start, end)

    def test_the_second_put_replaces_the_whole_of_the_first(self):
        self.storage.put(KEY, b"long" * 100, "image/jpeg")
        self.storage.put(KEY, b"short", "image/jpeg")
        self.assertEqual(self.read(KEY), b"short")
        self.assertEqual([(stored.key, stored.size) for stored in self.storage.keys()], [(KEY, 5)])

    def test_a_missing_key_is_a_missing_file(self):
        with self.assertRaises(FileNotFoundError):
            self.storage.open(KEY)
        self.storage.put(KEY, b"there", "image/jpeg")
        with self.assertRaises(FileNotFoundError):
            self.storage.open("3f9c5e00.processed.jpg")
        self.assertIsNone(self.storage.locate("3f9c5e00.processed.jpg"))

    def test_the_store_is_asked_for_no_address_by_default(self):
        self.storage.put(KEY, b"x", "image/jpeg")
        self.assertIsNone(self.storage.link(KEY, {"Content-Type": "image/jpeg"}))

    def test_deleting_is_idempotent_and_touches_nothing_else(self):
        other = "3f9c5e00.processed-1.jpg"
        for key in (KEY, other):
            self.storage.put(key, b"there", "image/jpeg")
        self.storage.delete(KEY)
        self.storage.delete(KEY)
        self.assertEqual(self.stored_keys(), {other})
        with self.assertRaises(FileNotFoundError):
            self.storage.open(KEY)

    def test_a_stream_that_is_open_outlives_its_key(self):
        self.storage.put(KEY, b"0123456789" * 1000, "image/jpeg")
        with self.storage.open(KEY) as stream:
            self.storage.delete(KEY)
            self.assertEqual(stream.read(), b"0123456789" * 1000)

    def test_the_list_holds_every_key_with_its_size_and_time(self):
        before = time.time()
        sizes = {f"{number:02x}00ff.original.jpg": number for number in range(40)}
        for key, size in sizes.items():
            self.storage.put(key, b"x" * size, "image/jpeg")
        listed = list(self.storage.keys())
        self.assertEqual({stored.key: stored.size for stored in listed}, sizes)
        self.assertEqual(len(listed), 40)
        for stored in listed:
            self.assertIsInstance(stored, StoredFile)
            self.assertTrue(before - self.tick_seconds <= stored.modified_at <= time.time() + 0.1, stored)

    def test_keys_may_be_deleted_while_they_are_listed(self):
        for number in range(60):
            self.storage.put(f"{number:02x}00ff.original.jpg", b"x", "image/jpeg")
        for stored in self.storage.keys():
            self.storage.delete(stored.key)
        self.assertEqual(self.stored_keys(), set())

    def test_it_refuses_a_text_that_is_no_key(self):
        for key in NOT_KEYS:
            for call in (self.storage.open, self.storage.locate, self.link, self.storage.delete):
                with self.subTest(key=key, call=call.__name__), self.assertRaises(ValueError):
                    call(key)
            with self.subTest(key=key, call="put"), self.assertRaises(ValueError):
                self.storage.put(key, b"x", "image/jpeg")
        self.assertEqual(self.stored_keys(), set())

    def test_the_check_passes_and_leaves_nothing(self):
        self.storage.check()
        self.assertEqual(self.stored_keys(), set())

    def test_readers_see_whole_old_or_whole_new_bytes(self):
        bodies = [bytes([letter]) * 300_000 for letter in b"ab"]
        self.storage.put(KEY, bodies[0], "image/jpeg")
        seen, errors_seen, stop = set(), [], threading.Event()

        def read():
            while not stop.is_set():
                try:
                    seen.add(self.read(KEY))
                except Exception as error:
                    errors_seen.append(error)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        for number in range(40):
            self.storage.put(KEY, bodies[number % 2], "image/jpeg")
        stop.set()
        for reader in readers:
            reader.join()
        self.assertEqual(errors_seen, [])
        self.assertLessEqual(seen, set(bodies))
        self.assertTrue(seen)

    def test_many_threads_may_write_at_once(self):
        keys = [f"{number:04x}aa.original.jpg" for number in range(48)]

        def write(some):
            for key in some:
                self.storage.put(key, key.encode(), "image/jpeg")

        writers = [threading.Thread(target=write, args=(keys[number::6],)) for number in range(6)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        self.assertEqual({key: self.read(key) for key in keys}, {key: key.encode() for key in keys})
        self.assertEqual(self.stored_keys(), set(keys))


class MemoryStorageTest(StorageContract, unittest.TestCase):
    def create(self):
        return memory.create("", {})

    def test_there_is_no_file_to_locate(self):
        self.storage.put(KEY, b"x", "image/jpeg")
        self.assertIsNone(self.storage.locate(KEY))

    def test_it_is_full_at_its_limit_and_takes_more_when_there_is_room_again(self):
        storage = memory.create("", {"max_bytes": "10"})
        storage.put("aaaa.x", b"123456", "")
        with self.assertRaises(errors.StorageFull):
            storage.put("bbbb.x", b"12345", "")
        self.assertEqual([stored.key for stored in storage.keys()], ["aaaa.x"])
        storage.put("aaaa.x", b"1234567890", "")  # what it replaces does not count
        storage.delete("aaaa.x")
        storage.put("bbbb.x", b"12345", "")

    def test_a_stream_that_does_not_fit_is_not_read_to_its_end(self):
        endless = mock.Mock(read=lambda size: b"x" * size)
        with self.assertRaises(errors.StorageFull):
            memory.create("", {"max_bytes": "3000000"}).put(KEY, endless, "video/mp4")

    def test_it_refuses_wrong_settings(self):
        for target, parameters in (("x", {}), ("", {"size": "1"}), ("", {"max_bytes": "0"}), ("", {"max_bytes": "a"})):
            with self.subTest(target=target, parameters=parameters), self.assertRaises(ValueError):
                memory.create(target, parameters)


class FileStorageTest(StorageContract, unittest.TestCase):
    def create(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        return file.create(str(self.folder / "deep" / "images"), {})

    def all_files(self):
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())

    def child(self, code):
        """Run Python code on the same storage in another process; returns its exit status and what it printed."""
        head = f"from imgdetect.storages import file; storage = file.create({str(self.storage.root)!r}, {{}})\n"
        path = os.pathsep.join(sys.path)
        done = subprocess.run(
            [sys.executable, "-c", head + code],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"PYTHONPATH": path},
            check=False,
        )
        return done.returncode, done.stdout.strip() or done.stderr

    def test_the_file_lies_below_the_first_two_characters_of_its_key(self):
        self.storage.put(KEY, b"x", "image/jpeg")
        path = self.storage.root / "3f" / KEY
        self.assertEqual(self.storage.locate(KEY), path)
        self.assertEqual(path.read_bytes(), b"x")
        self.assertTrue(self.storage.root.is_absolute())

    def test_another_process_sees_it(self):
        self.storage.put(KEY, b"shared", "image/jpeg")
        self.assertEqual(self.child(f"print(storage.open({KEY!r}).read())"), (0, "b'shared'"))

    def test_a_file_is_readable_by_the_server_in_front_unless_the_umask_says_otherwise(self):
        before = os.umask(0o022)
        self.addCleanup(os.umask, before)
        self.storage.put(KEY, b"x", "image/jpeg")
        self.assertEqual(self.storage.locate(KEY).stat().st_mode & 0o777, 0o644)

    def test_a_process_killed_before_the_rename_leaves_no_key_but_something_to_sweep(self):
        kill = f"import os, pathlib; pathlib.Path.replace = lambda *_: os.kill(os.getpid(), {signal.SIGKILL:d})\n"
        status, _ = self.child(f"{kill}storage.put({KEY!r}, b'x' * 100_000, 'image/jpeg')")
        self.assertEqual(status, -signal.SIGKILL)
        with self.assertRaises(FileNotFoundError):
            self.storage.open(KEY)
        (leftover,) = self.storage.keys()
        self.assertRegex(leftover.key, r"^tmp-3f-[0-9a-f]{16}$")
        self.assertEqual(leftover.size, 100_000)
        for call in (self.storage.open, self.storage.locate):
            self.assertRaises(ValueError, call, leftover.key)
        self.storage.delete(leftover.key)
        self.storage.delete(leftover.key)
        self.assertEqual(self.all_files(), [])

    def test_a_write_that_the_system_refuses_halfway_is_full_and_leaves_nothing(self):
        self.storage.put(KEY, b"old", "image/jpeg")
        limited = (
            "import resource, signal; from imgdetect import errors\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
            f"try: storage.put({KEY!r}, b'x' * 100_000, 'image/jpeg')\n"
            "except errors.StorageFull: print('full')\n"
        )
        self.assertEqual(self.child(limited), (0, "full"))
        self.assertEqual(self.all_files(), [KEY])
        self.assertEqual(self.read(KEY), b"old")

    def test_each_error_of_the_system_has_its_answer_and_leaves_nothing(self):
        answers = {errno.ENOSPC: errors.StorageFull, errno.EDQUOT: errors.StorageFull}
        answers |= dict.fromkeys((errno.EIO, errno.EROFS, errno.EACCES, errno.EMFILE), errors.BackendUnavailable)
        self.storage.put(KEY, b"old", "image/jpeg")
        for call in ("os.open", "os.write", "os.fsync", "pathlib.Path.replace"):
            for number, answer in answers.items():
                failing = mock.patch(call, side_effect=OSError(number, "no", "/secret"))
                with self.subTest(call=call, errno=number), failing, self.assertRaises(answer) as caught:
                    self.storage.put(KEY, b"new", "image/jpeg")
                self.assertNotIn("secret", str(caught.exception))
                self.assertEqual((self.all_files(), self.read(KEY)), ([KEY], b"old"))
        self.storage.put(KEY, b"new", "image/jpeg")
        self.assertEqual(self.read(KEY), b"new")

    def test_a_stream_that_breaks_leaves_no_file(self):
        with self.assertRaises(EOFError):
            self.storage.put(KEY, Trickle(b"x" * 3_000_000, EOFError()), "video/mp4")
        self.assertEqual(self.all_files(), [])

    def test_an_interrupted_write_leaves_nothing(self):
        with mock.patch("os.fsync", side_effect=KeyboardInterrupt), self.assertRaises(KeyboardInterrupt):
            self.storage.put(KEY, b"new", "image/jpeg")
        self.assertEqual(self.all_files(), [])

    def test_a_system_that_writes_less_than_asked_is_asked_again(self):
        real = os.write
        with mock.patch("os.write", side_effect=lambda descriptor, data: real(descriptor, data[:1000])):
            self.storage.put(KEY, bytes(range(256)) * 20, "image/jpeg")
        self.assertEqual(self.read(KEY), bytes(range(256)) * 20)

    def test_file_and_folder_are_synced_before_a_put_is_acknowledged(self):
        self.storage.put(KEY, b"x", "image/jpeg")
        log = []
        sync, rename = os.fsync, Path.replace

        def note_sync(descriptor):
            log.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name[:4]}")
            sync(descriptor)

        def note_rename(path, target):
            log.append("rename")
            return rename(path, target)

        with mock.patch("os.fsync", note_sync), mock.patch("pathlib.Path.replace", note_rename):
            self.storage.put("3fff0000.original.jpg", b"x", "image/jpeg")
            self.assertEqual(log, ["sync tmp-", "rename", "sync 3f"])
            log.clear()
            self.storage.put("77ff0000.original.jpg", b"x", "image/jpeg")
        self.assertEqual(log, ["sync imag", "sync tmp-", "rename", "sync 77"])

    def test_a_folder_that_somebody_removed_is_made_again(self):
        self.storage.put(KEY, b"x", "image/jpeg")
        self.storage.delete(KEY)
        (self.storage.root / "3f").rmdir()
        self.storage.put(KEY, b"y", "image/jpeg")
        self.assertEqual(self.read(KEY), b"y")

    def test_files_of_others_are_neither_listed_nor_removed(self):
        self.storage.put(KEY, b"x", "image/jpeg")
        for name in ("README", "3f/notes.TXT", "3f/aa00.original.jpg", "lost+found/abcd.jpg", "3f/tmp-77-" + "0" * 16):
            path = self.storage.root / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("not ours")
        (self.storage.root / "3f" / "3f00.folder").mkdir()
        (self.storage.root / "3f" / "3f00.link").symlink_to("/etc/passwd")
        self.assertEqual(self.stored_keys(), {KEY})

    def test_a_storage_that_is_gone_does_not_answer(self):
        self.storage.root.rmdir()
        self.storage.root.write_text("a file in its place")
        for call in (self.storage.check, lambda: list(self.storage.keys()), lambda: self.storage.delete(KEY)):
            self.assertRaises(errors.BackendUnavailable, call)
        with self.assertRaises(errors.BackendUnavailable):
            self.storage.put(KEY, b"x", "image/jpeg")

    def test_the_check_notices_other_bytes_than_were_written(self):
        with mock.patch("imgdetect.storages.file._write_all"), self.assertRaises(errors.BackendUnavailable):
            self.storage.check()
        self.assertEqual(self.all_files(), [])

    def test_the_check_notices_that_what_was_written_is_gone(self):
        with mock.patch.object(self.storage, "put"), self.assertRaises(errors.BackendUnavailable):
            self.storage.check()

    def test_a_storage_whose_folder_was_removed_is_not_an_empty_one(self):
        self.storage.root.rmdir()
        with self.assertRaises(errors.BackendUnavailable):
            list(self.storage.keys())

    def test_a_bounded_stream_closes_its_file(self):
        self.storage.put(KEY, b"0123456789", "image/jpeg")
        before = len(list(Path("/proc/self/fd").iterdir()))
        with closing(self.storage.open(KEY, 2, 5)) as stream:
            self.assertEqual(stream.read(2), b"23")
        self.assertEqual(len(list(Path("/proc/self/fd").iterdir())), before)

    def test_it_refuses_wrong_settings(self):
        (self.folder / "file").write_text("")
        for target, parameters in (("", {}), (str(self.folder), {"depth": "2"}), (str(self.folder / "file" / "x"), {})):
            with self.subTest(target=target, parameters=parameters), self.assertRaises(ValueError):
                file.create(target, parameters)


if __name__ == "__main__":
    unittest.main()
