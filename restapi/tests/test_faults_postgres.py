"""What happens when the PostgreSQL of a live server is down, restarted, silent, locked, full, or was never there."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.app import astronaut, jpeg
from tests.contract import check
from tests.disks import SmallDisk
from tests.fault_case import FaultTest
from tests.live_server import RESTAPI, free_port
from tests.postgres_server import PostgresServer
from tests.processes import Family, alive, until

# Three are promised; a machine with other work to do may take as many again.
SECONDS = 6


class PostgresFaultTest(FaultTest):
    """A live server of two processes on a PostgreSQL that belongs to the test class."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.postgres = cls.enterClassContext(PostgresServer())

    @contextmanager
    def serving(self, **settings):
        settings = {"WORKERS": "2"} | settings
        with self.postgres.fresh() as self.url, super().serving(DATABASE_URL=self.url, **settings) as server:
            yield server
            self.assertNotIn("s3cret", server.log())

    def query(self, server, sql):
        return self.postgres.sql(self.url, sql)

    def asks(self, server, kept):
        """Requests that need the database, as functions."""
        record = f"{server.api}/image/{kept}"

        def asking(method, url):
            return lambda: check(requests.request(method, url, timeout=60))

        return [
            asking("GET", f"{server.api}/image"),
            asking("GET", record),
            asking("GET", f"{record}/processed"),
            asking("DELETE", record),
            lambda: self.post(server, jpeg(seed=1)),
            lambda: self.post(server, jpeg(seed=2), headers={"Prefer": "respond-async"}),
            lambda: self.post(server, jpeg(seed=3), headers={"Idempotency-Key": "key"}),
        ]

    def assertUnavailable(self, answer):
        self.assertProblem(answer, 503, "backend-unavailable")
        self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
        self.assertLess(answer.elapsed.total_seconds(), SECONDS)

    def assertAlive(self, server):
        answer = requests.get(f"{server.url}/healthz", timeout=SECONDS)
        self.assertEqual((answer.status_code, answer.json()), (200, {"status": "OK"}))

    def ready(self, server):
        """What /readyz says of the database."""
        answer = check(requests.get(f"{server.url}/readyz", timeout=30))
        self.assertLess(answer.elapsed.total_seconds(), SECONDS)
        checks = answer.json()["checks"]
        self.assertEqual(answer.status_code, 200 if checks["database"] == "OK" else 503)
        self.assertEqual(checks["storage"], "OK")
        return checks["database"]

    def assertWithoutDatabase(self, server, kept):
        """Whatever needs the database is refused in time; the rest goes on."""
        for ask in self.asks(server, kept):
            for _ in range(2):
                self.assertUnavailable(ask())
        self.assertAlive(server)
        self.assertTrue(until(lambda: self.ready(server) == "failed"))
        self.assertEqual(self.post(server, astronaut(), endpoint="detect").status_code, 200)
        self.assertAlive(server)

    def assertWholeAgain(self, server, kept):
        """It is, without anything else having been done, and nothing of what was refused is there."""
        self.assertTrue(until(lambda: self.ready(server) == "OK"))
        for _ in range(4):
            self.assertTrue(until(lambda: requests.get(f"{server.api}/image", timeout=30).status_code == 200))
        self.assertEqual(requests.get(f"{server.api}/image/{kept}", timeout=30).content, jpeg())
        self.assertEqual(len(self.rows(server)), 2)
        self.assertServes(server)
        self.assertRowsAndFilesAgree(server)


class OutageTest(PostgresFaultTest):
    def test_while_it_is_down_requests_get_503_and_when_it_is_back_all_is_well(self):
        with self.serving() as server:
            kept = self.post(server, jpeg()).json()["image"]["id"]
            before = Family.of(server)
            self.postgres.stop()
            try:
                self.assertWithoutDatabase(server, kept)
                self.assertRegex(server.log(), "part failed .*Connection refused")
                # A process that dies now is replaced by one that does not need the database to start.
                os.kill(before.workers[0].pid, signal.SIGKILL)
                self.assertTrue(until(lambda: len(Family.of(server).workers) == 2 and not alive(before.workers[0])))
                self.assertWithoutDatabase(server, kept)
            finally:
                self.postgres.start()
            self.assertWholeAgain(server, kept)
            self.assertEqual(Family.of(server).master, before.master)
            self.assertIn(before.workers[1], Family.of(server).workers)

    def test_while_it_is_silent_nobody_waits_long_and_when_it_speaks_again_all_is_well(self):
        with self.serving(WORKERS="1") as server, ThreadPoolExecutor(24) as threads:
            kept = self.post(server, jpeg()).json()["image"]["id"]
            self.postgres.suspend()
            try:
                # More at once than there are connections: some wait for the deadline, and nobody longer.
                pending = [threads.submit(ask) for ask in self.asks(server, kept) for _ in range(8)]
                for future in pending:
                    self.assertProblem(future.result(), 503, "backend-unavailable")
                self.assertWithoutDatabase(server, kept)
            finally:
                self.postgres.resume()
            self.assertWholeAgain(server, kept)

    def test_a_table_locked_by_somebody_else_is_503_and_the_lock_is_no_longer_waited_for_once_it_is_gone(self):
        with self.serving() as server, self.postgres.connect(self.url) as other:
            kept = self.post(server, jpeg()).json()["image"]["id"]
            with other.transaction():
                other.execute("LOCK TABLE records")
                for ask in self.asks(server, kept)[:5]:
                    self.assertUnavailable(ask())
                self.assertAlive(server)
                self.assertEqual(self.ready(server), "OK")
                # What has to do with other tables goes on.
                accepted = self.post(server, jpeg(seed=2), headers={"Prefer": "respond-async"})
                self.assertEqual(accepted.status_code, 202, accepted.text)
            done = f"{server.url}{accepted.headers['Location']}"
            # Where its end met the lock too, its lease has to run out before the next attempt.
            self.assertTrue(until(lambda: requests.get(done, timeout=30).json()["state"] == "done", 90))
            self.assertServes(server)
            self.assertLessEqual(set(self.rows(server)), set(self.files(server)))

    def test_with_every_connection_in_use_requests_get_503(self):
        with self.serving(DATABASE_CONNECTIONS="1", WORKERS="1") as server, ThreadPoolExecutor(8) as threads:
            kept = self.post(server, jpeg()).json()["image"]["id"]
            with self.postgres.connect(self.url) as other, other.transaction():
                other.execute("LOCK TABLE records")
                answers = list(threads.map(lambda _: requests.get(f"{server.api}/image", timeout=60), range(8)))
            for answer in answers:
                self.assertUnavailable(answer)
            self.assertIn("Every connection to the database is in use.", [a.json()["detail"] for a in answers])
            self.assertWholeAgain(server, kept)

    def test_no_session_outlives_its_process(self):
        def sessions():
            counted = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'imgdetect'"
            return self.postgres.sql("postgres", counted)[0][0]

        with self.serving(DATABASE_CONNECTIONS="3") as server, ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda n: self.post(server, jpeg(seed=n)), range(48)))
            self.assertTrue(1 <= sessions() <= 2 * 3, sessions())
            os.kill(Family.of(server).workers[0].pid, signal.SIGKILL)
            self.assertTrue(until(lambda: sessions() <= 2 * 3))
            self.assertServes(server)
            self.assertEqual(server.stop(), 0)
            self.assertTrue(until(lambda: sessions() == 0), sessions())


class RestartTest(PostgresFaultTest):
    def test_uploads_acknowledged_before_and_during_restarts_are_all_there(self):
        acknowledged, others, done = {}, [], threading.Event()

        def upload(number):
            turn = 0
            while not done.is_set():
                turn += 1
                data = jpeg(seed=10_000 * number + turn)
                answer = self.post(server, data)
                if answer.status_code == 200:
                    acknowledged[answer.json()["image"]["id"]] = data
                else:
                    others.append(answer)

        def more():
            enough = len(acknowledged) + 20
            self.assertTrue(until(lambda: len(acknowledged) >= enough, 60), server.log()[-2000:])

        with self.serving() as server:
            with ThreadPoolExecutor(4) as threads:
                uploading = [threads.submit(upload, number) for number in range(4)]
                try:
                    for mode in ("immediate", "fast", "immediate"):
                        more()
                        self.postgres.restart(mode)
                    more()
                finally:
                    done.set()
            for future in uploading:
                future.result()
            for answer in others:
                self.assertProblem(answer, 503, "backend-unavailable")
            stored = {row[0] for row in self.query(server, "SELECT id FROM records")}
            self.assertEqual(set(acknowledged) - stored, set())
            for record, data in acknowledged.items():
                self.assertEqual(requests.get(f"{server.api}/image/{record}", timeout=30).content, data)
            # Rows that came without an answer are of uploads that heard 503; every row has its files.
            self.assertLessEqual(len(stored), len(acknowledged) + len(others))
            self.assertLessEqual(set(self.rows(server)), set(self.files(server)))


class FullTest(PostgresFaultTest):
    def test_a_full_disk_under_the_database_is_507_and_leaves_no_file_without_a_row(self):
        with SmallDisk(24) as disk:
            if disk.mounted:
                shutil.chown(disk.folder, self.postgres.user)
                self.postgres.sql("postgres", f"CREATE TABLESPACE small LOCATION '{disk.folder}'")
            with self.serving() as server:
                if disk.mounted:
                    # Not the whole database: what it keeps besides its tables has to stay where there is room.
                    self.query(server, "ALTER TABLE records SET TABLESPACE small")
                kept = self.post(server, jpeg()).json()["image"]["id"]
                self.make_full(server, disk)
                # What has been written before leaves room for some more rows.
                failed = [answer for answer in (self.post(server, jpeg(seed=n)) for n in range(60)) if not answer.ok]
                self.assertGreater(len(failed), 0)
                for answer in failed:
                    self.assertProblem(answer, 507, "storage-full")
                self.assertRowsAndFilesAgree(server)
                self.assertEqual(requests.get(f"{server.api}/image/{kept}", timeout=30).content, jpeg())
                self.assertEqual(self.post(server, astronaut(), endpoint="detect").status_code, 200)
                self.make_room(server, disk)
                self.assertServes(server)
                self.assertRowsAndFilesAgree(server)
            if disk.mounted:
                self.postgres.sql("postgres", "DROP TABLESPACE small")

    def make_full(self, server, disk):
        """Where nothing can be mounted, let the server say what it says of a full disk."""
        if disk.mounted:
            disk.fill(server)
            return
        self.query(
            server,
            "CREATE FUNCTION full() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;"
            "CREATE TRIGGER full BEFORE INSERT ON records EXECUTE FUNCTION full()",
        )

    def make_room(self, server, disk):
        if disk.mounted:
            disk.clear(server)
        else:
            self.query(server, "DROP TRIGGER full ON records")


class RefusedTest(unittest.TestCase):
    def test_a_start_without_the_database_ends_with_code_2_and_one_line_without_a_password(self):
        with PostgresServer() as postgres, tempfile.TemporaryDirectory() as folder:
            right = postgres.url("postgres")
            nobody = free_port()
            cases = {
                right.replace(f":{postgres.port}/", f":{nobody}/"): (f"port {nobody}", "refused"),
                right.replace("s3cret", "wrong-s3cret"): ("password authentication failed",),
                right.replace("postgresql+psycopg", "postgresql").replace("/postgres", "/nothing"): (
                    "nothing",
                    "exist",
                ),
                right.replace("%40", "@"): ("%40",),
            }
            ours = ("IMGDETECT_", "PROMETHEUS_", "PYTHONWARN")
            kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
            kept |= {"PYTHONPATH": str(RESTAPI), "TMPDIR": folder, "IMGDETECT_DATA_DIR": f"{folder}/data"}

            def start(url_and_command):
                url, command = url_and_command
                return subprocess.run(
                    [sys.executable, "-m", "imgdetect", command],
                    env=kept | {"IMGDETECT_DATABASE_URL": url, "IMGDETECT_BIND": f"127.0.0.1:{free_port()}"},
                    capture_output=True,
                    text=True,
                    timeout=120,
                    check=False,
                )

            asked = [*((url, "serve") for url in cases), (next(iter(cases)), "check")]
            with ThreadPoolExecutor(4) as threads:
                ended = list(threads.map(start, asked))
            for (url, command), done in zip(asked, ended, strict=True):
                with self.subTest(url=url, command=command):
                    self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
                    self.assertRegex(done.stderr, r"\Aimgdetect: [^\n]+\n\Z")
                    for named in cases[url]:
                        self.assertIn(named, done.stderr)
                    self.assertNotIn("s3cret", done.stderr)
            self.assertEqual([path.name for path in Path(folder).iterdir() if path.name != "data"], [])


if __name__ == "__main__":
    unittest.main()
