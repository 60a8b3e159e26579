"""The service on PostgreSQL: what of its tests has most to do with the database, once more."""

import base64
import importlib
import re
import shlex
import subprocess
import tempfile
import unittest
from contextlib import closing
from pathlib import Path

from imgdetect.database import Database
from tests import (
    postgres_server,
    test_database,
    test_database_processes,
    test_detectors_api,
    test_housekeeping,
    test_http_at_once,
    test_images_api,
    test_jobs,
)
from tests.app import API, AppTest
from tests.live_server import ROOT


class InPostgres:
    """An application of this process with a database of a real server."""

    @classmethod
    def setUpClass(cls):
        cls.settings = cls.settings | {"database_url": cls.enterClassContext(postgres_server.shared().fresh())}
        super().setUpClass()


class PruneTest(InPostgres, test_housekeeping.PruneTest):
    pass


class TimerTest(InPostgres, test_housekeeping.TimerTest):
    pass


class JobsTest(InPostgres, test_jobs.JobsTest):
    pass


class RecordTest(InPostgres, test_images_api.RecordTest):
    pass


class ListTest(InPostgres, test_images_api.ListTest):
    pass


class CascadeOwnerTest(InPostgres, test_detectors_api.OwnerTest):
    pass


class NumberTest(InPostgres, test_detectors_api.NumberTest):
    pass


class AtOnceTest(test_http_at_once.AtOnceTest):
    """Two processes of a live server."""

    @classmethod
    def setUpClass(cls):
        cls.url = cls.enterClassContext(postgres_server.shared().fresh())
        cls.settings = cls.settings | {"IMGDETECT_DATABASE_URL": cls.url}
        super().setUpClass()

    def query(self, sql):
        return postgres_server.shared().sql(self.url, sql)


class TextTest(InPostgres, AppTest):
    def test_text_that_sqlite_keeps_and_postgresql_does_not_is_no_fault_of_ours(self):
        for name in ("a%00b.jpg", "%ff%fe.jpg", "%ed%a0%80.jpg", "%F0%9F%98%80.jpg"):
            for method, url in (("GET", f"{API}/image/"), ("DELETE", f"{API}/image/"), ("GET", "/api/v1/jobs/")):
                with self.subTest(method=method, url=url + name):
                    self.assertProblem(self.client.open(url + name, method=method), 404, "not-found")
        for place in (b"1:a\0b", f"{1 << 63}:{'0' * 32}".encode()):
            cursor = base64.urlsafe_b64encode(place).decode().rstrip("=")
            self.assertProblem(self.client.get(f"{API}/image?cursor={cursor}"), 400, "invalid-request")
        for name in ("a\0b.jpg", "\U0001f600.jpg"):
            kept = self.uploaded(filename=name)["image"]["id"]
            self.assertEqual(self.client.get(f"{API}/image/{kept}").status_code, 200)


class BackupTest(unittest.TestCase):
    def test_what_pg_dump_wrote_is_restored_as_the_manual_says(self):
        server = postgres_server.shared()
        manual = (ROOT / "docs" / "operations.md").read_text("utf-8")
        with server.fresh() as url, tempfile.TemporaryDirectory() as folder:
            libpq = url.replace("+psycopg", "")

            def run(program):
                """The command of the manual."""
                line = re.search(rf"^\$ ({program} --.*)$", manual, re.MULTILINE)[1]
                line = line.replace("postgresql://USER@HOST/NAME", libpq)
                command = [str(postgres_server.programs() / program), *shlex.split(line)[1:]]
                subprocess.run(command, cwd=folder, check=True, timeout=60)

            with closing(Database(url)) as database:
                database.migrate()
                kept = database.add_record(test_database.a_record())
                run("pg_dump")
                database.delete_record("r1", "anna")
                database.add_record(test_database.a_record("r2"))
            run("pg_restore")
            with closing(Database(url)) as database:
                database.migrate()
                self.assertEqual(database.list_records("anna", 9), [kept])


class ContractsTest(unittest.TestCase):
    def test_every_contract_of_the_database_is_held_by_both(self):
        for path in Path(__file__).parent.glob("test_database*.py"):
            importlib.import_module(f"tests.{path.stem}")
        contracts = [*test_database.DatabaseContract.__subclasses__()]
        contracts += test_database_processes.ProcessesContract.__subclasses__()
        self.assertGreater(len(contracts), 4)
        for contract in contracts:
            held = [kind for kind in contract.__subclasses__() if issubclass(kind, unittest.TestCase)]
            for database in ("File", "Postgres"):
                self.assertEqual(len([kind for kind in held if kind.__name__.startswith(database)]), 1, contract)


if __name__ == "__main__":
    unittest.main()
