"""The killable children."""

import ctypes
import os
import signal
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

from structlog.testing import capture_logs

from imgdetect.errors import Busy, DetectorFailed, DetectorTooSlow, InvalidRequest
from imgdetect.nursery import Build, Limits
from imgdetect.pool import ProcessPool


class Native:
    """What a child can be asked for in these tests."""

    def __init__(self, greeting):
        self.greeting = greeting
        self.warm = False

    def warm_up(self):
        self.warm = True

    def fail(self, reason):
        raise ValueError(reason)

    def pid(self):
        return os.getpid()

    def echo(self, data):
        return self.greeting, self.warm, data

    def refuse(self):
        raise InvalidRequest.field("roi", "lies outside")

    def blunder(self):
        raise ZeroDivisionError("a library's text")

    def crash(self):
        ctypes.string_at(0)

    def hang(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
        while True:
            pass

    def work(self, seconds):
        time.sleep(seconds)
        return os.getpid()

    def wait_for(self, path):
        while not Path(path).exists():
            time.sleep(0.005)

    def fill_memory(self):
        return len(bytearray(8 << 30))


def pool(size=1, build=Build(Native, ("hello",), ("warm_up",)), **changes):  # noqa: B008 - a constant
    kept = {name: changes.pop(name) for name in ("on_replaced", "folder") if name in changes}
    limits = {"waiting_line": 4, "max_pixels": 1000, "deadline_seconds": 20, "memory_bytes": 4 << 30} | changes
    return ProcessPool(build, Limits(children=size, **limits), **kept)


class PoolTest(unittest.TestCase):
    def make(self, **changes):
        made = pool(**changes)
        self.addCleanup(made.close)
        return made

    def waiting(self, made, count):
        """Let the line grow to that length."""
        until = time.monotonic() + 10
        while made.waiting < count and time.monotonic() < until:
            time.sleep(0.002)
        self.assertEqual(made.waiting, count)

    def test_a_child_is_built_once_and_answers_large_calls(self):
        made = self.make()
        data = bytes(3_000_000)
        self.assertEqual(made.run(1, "echo", data), ("hello", True, data))
        self.assertEqual(made.run(1, "pid"), made.run(1, "pid"))
        self.assertNotEqual(made.run(1, "pid"), os.getpid())

    def test_a_problem_comes_through_whole(self):
        with self.assertRaises(InvalidRequest) as caught:
            self.make().run(1, "refuse")
        self.assertEqual(caught.exception.members["errors"], [{"field": "roi", "message": "lies outside"}])

    def test_anything_else_that_is_raised_is_a_failed_detector_without_its_text(self):
        reasons = []
        made = self.make(on_replaced=reasons.append)
        before = made.run(1, "pid")
        with self.assertRaises(DetectorFailed) as caught, capture_logs() as lines:
            made.run(1, "blunder")
        self.assertIn("ZeroDivisionError", lines[0]["cause"])
        self.assertNotEqual(made.run(1, "pid"), before)
        self.assertEqual(reasons, ["failed"])
        self.assertNotIn("library", str(caught.exception.document()))

    def test_a_crash_fails_its_own_call_only(self):
        reasons = []
        made = self.make(on_replaced=reasons.append)
        before = made.run(1, "pid")
        with self.assertRaises(DetectorFailed), capture_logs() as lines:
            made.run(1, "crash")
        self.assertEqual((lines[0]["reason"], lines[0]["exit_code"]), ("died", str(-signal.SIGSEGV)))
        after = made.run(1, "pid")
        self.assertNotEqual(after, before)
        self.assertEqual(reasons, ["died"])

    def test_a_hang_that_ignores_every_signal_is_killed_at_the_deadline(self):
        reasons = []
        made = self.make(deadline_seconds=1, on_replaced=reasons.append)
        before = made.run(1, "pid")
        with self.assertRaises(DetectorTooSlow), capture_logs() as lines:
            made.run(1, "hang")
        self.assertEqual(lines[0]["reason"], "deadline")
        with self.assertRaises(ProcessLookupError):
            os.kill(before, 0)
        self.assertNotEqual(made.run(1, "pid"), before)
        self.assertEqual(reasons, ["deadline"])

    def test_a_neighbour_goes_on_while_another_hangs(self):
        made = self.make(size=2, deadline_seconds=2)
        thread = threading.Thread(target=lambda: self.assertRaises(DetectorTooSlow, made.run, 1, "hang"))
        with capture_logs() as lines:
            thread.start()
            answers = [made.run(1, "echo", i)[2] for i in range(50)]
            self.assertTrue(thread.is_alive())
            thread.join()
        self.assertEqual(answers, list(range(50)))
        self.assertEqual([line["reason"] for line in lines], ["deadline"])

    def test_a_child_killed_while_idle_harms_nobody(self):
        made = self.make()
        killed = made.run(1, "pid")
        os.kill(killed, signal.SIGKILL)
        self.gone(killed)
        self.assertEqual(made.run(1, "echo", 2)[2], 2)
        self.assertNotEqual(made.run(1, "pid"), killed)

    def test_a_lost_nursery_is_started_again(self):
        made = self.make()
        child = made.run(1, "pid")
        nursery = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(nursery, signal.SIGKILL)
        self.assertEqual(made.run(1, "echo", 1)[2], 1)
        self.assertNotEqual(made.run(1, "pid"), child)
        self.gone(child)

    def gone(self, pid):
        """Wait until a process that is no child of ours has ended."""
        until = time.monotonic() + 10
        while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
            time.sleep(0.01)
        self.assertFalse(Path(f"/proc/{pid}").exists())

    def test_pools_that_meet_in_a_folder_share_their_children(self):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        first, second = self.make(folder=folder), self.make(folder=folder)
        child = first.run(1, "pid")
        self.assertEqual(second.run(1, "pid"), child)
        thread = threading.Thread(target=first.run, args=(1, "work", 0.3))
        thread.start()
        while not second.busy:
            time.sleep(0.001)
        self.assertEqual(second.run(1, "work", 0), child)  # waited for the other pool's call
        thread.join()
        first.close()
        self.assertEqual(second.run(1, "pid"), child)
        second.close()
        self.gone(child)

    def test_a_caller_that_dies_leaves_no_child_at_its_work(self):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        made = self.make(folder=folder)
        child = made.run(1, "pid")
        caller = os.fork()
        if caller == 0:
            try:
                made.run(1, "hang")
            finally:
                os._exit(0)
        while not made.busy:
            time.sleep(0.001)
        os.kill(caller, signal.SIGKILL)
        os.waitpid(caller, 0)
        self.assertNotEqual(made.run(1, "pid"), child)

    def test_what_cannot_be_built_is_refused_with_its_reason_and_leaves_nothing(self):
        temporary = self.enterContext(tempfile.TemporaryDirectory())
        self.enterContext(mock.patch.object(tempfile, "tempdir", temporary))
        with self.assertRaisesRegex(ValueError, "no such greeting"):
            pool(build=Build(Native, ("hello",), ("fail", "no such greeting")))
        with self.assertRaisesRegex(ValueError, "died"):
            pool(build=Build(Native, ("hello",), ("crash",)))
        self.assertEqual([*Path(temporary).iterdir()], [])

    def test_memory_is_limited(self):
        with self.assertRaises(DetectorFailed), capture_logs() as lines:
            self.make(memory_bytes=4 << 30).run(1, "fill_memory")
        self.assertIn("MemoryError", lines[0]["cause"])

    def test_something_can_be_done_while_a_child_works(self):
        made = self.make()
        seen = []
        self.assertEqual(made.run(1, "echo", 1, meanwhile=lambda: seen.append(made.busy))[2], 1)
        self.assertEqual(seen, [1])

    def test_work_ends_when_what_is_done_meanwhile_fails(self):
        made = self.make()
        child = made.run(1, "pid")
        for error in (OSError("full"), InvalidRequest()):
            with self.assertRaises(type(error)):
                made.run(1, "work", 60, meanwhile=mock.Mock(side_effect=error))
        self.assertNotEqual(made.run(1, "pid"), child)

    def test_a_full_line_is_busy_at_once(self):
        made = self.make(waiting_line=1)
        threads = [threading.Thread(target=made.run, args=(1, "work", 0.5)) for _ in range(2)]
        threads[0].start()
        while not made.busy:
            time.sleep(0.001)
        threads[1].start()
        self.waiting(made, 1)
        with self.assertRaises(Busy):
            made.run(1, "echo", 1)
        for thread in threads:
            thread.join()
        self.assertEqual(made.run(1, "echo", 1)[2], 1)

    def test_without_a_line_a_free_child_still_takes_calls(self):
        made = self.make(waiting_line=0)
        self.assertEqual([made.run(1, "echo", i)[2] for i in range(5)], list(range(5)))

    def test_waiting_ends_with_busy(self):
        made = self.make(deadline_seconds=0.6)
        thread = threading.Thread(target=made.run, args=(1, "work", 0.5))
        other = threading.Thread(target=made.run, args=(1, "work", 0.5))
        thread.start()
        while not made.busy:
            time.sleep(0.001)
        other.start()
        self.waiting(made, 1)
        with self.assertRaises(Busy):
            made.run(1, "echo", 1)
        thread.join()
        other.join()

    def test_large_pictures_wait_for_each_other_though_a_child_is_free(self):
        made = self.make(size=2, max_pixels=1000)
        order = []

        def call(name, pixels, seconds):
            made.run(pixels, "work", seconds)
            order.append(name)

        first = threading.Thread(target=call, args=("large", 900, 0.4))
        second = threading.Thread(target=call, args=("another large", 900, 0))
        first.start()
        while not made.busy:
            time.sleep(0.001)
        second.start()
        self.waiting(made, 1)
        self.assertEqual(made.busy, 1)
        first.join()
        second.join()
        self.assertEqual(order, ["large", "another large"])

    def test_a_picture_larger_than_all_is_admitted_alone(self):
        self.assertEqual(self.make().run(10**9, "echo", 1)[2], 1)

    def test_callers_are_served_in_the_order_they_came(self):
        made = self.make(waiting_line=8)
        order = []
        threads = []
        for i in range(5):
            threads.append(threading.Thread(target=lambda i=i: (made.run(1, "work", 0.05), order.append(i))))
            threads[-1].start()
            until = time.monotonic() + 5
            while made.busy + made.waiting <= i and not order and time.monotonic() < until:
                time.sleep(0.001)
        for thread in threads:
            thread.join()
        self.assertEqual(order, sorted(order))

    def test_closing_ends_children_and_callers(self):
        made = pool(size=1)
        child = made.run(1, "pid")
        seen = []

        def call():
            try:
                made.run(1, "work", 15)
            except Busy as busy:
                seen.append(busy)

        threads = [threading.Thread(target=call) for _ in range(2)]
        threads[0].start()
        while not made.busy:
            time.sleep(0.001)
        threads[1].start()
        self.waiting(made, 1)
        made.close()
        for thread in threads:
            thread.join(10)
        self.assertEqual(len(seen), 2)
        self.gone(child)


if __name__ == "__main__":
    unittest.main()
