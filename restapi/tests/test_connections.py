"""What happens to the database's file between threads, processes, crashes and full disks."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from contextlib import closing
from pathlib import Path
from unittest import mock

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, exc

from imgdetect import errors, migrations, schema
from imgdetect.connections import Connections
from imgdetect.database import Database
from tests.test_database import a_job, a_record

HEAD_OF_A_CHILD = """
import os, signal, sys, time
from imgdetect.database import Database
from tests.test_database import a_job, a_record
database = Database(sys.argv[1])
"""


class FileTest(unittest.TestCase):
    """A test with a database in a file, and with other processes that use the same file."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "rows.db"
        self.url = f"sqlite:///{self.file}"
        self.database = self.opened()

    def opened(self, busy_seconds=5.0):
        database = Database(self.url, busy_seconds)
        self.addCleanup(database.close)
        return database

    def raw(self):
        """A connection of somebody else."""
        connection = sqlite3.connect(self.file, isolation_level=None, timeout=0)
        self.addCleanup(connection.close)
        return connection

    def child(self, code):
        """Start Python code beside this process; `database` is there."""
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD_OF_A_CHILD + code, self.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def children(self, number, code):
        """What some processes print that begin their work at the same moment."""
        wait = "print('ready', flush=True)\nsys.stdin.readline()\n"
        processes = [self.child(wait + code) for _ in range(number)]
        self.assertEqual([process.stdout.readline() for process in processes], ["ready\n"] * number)
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=60) for process in processes]
        self.assertEqual([process.returncode for process in processes], [0] * number, answers)
        return [printed.strip() for printed, _ in answers]


class OpeningTest(FileTest):
    def test_every_connection_keeps_acknowledged_rows_and_lets_readers_go_on(self):
        for writes in (False, True):
            with self.database._transaction(writes=writes) as connection:
                settings = [
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
                ]
            self.assertEqual(settings, ["wal", 2, 1, 5000])

    def test_a_writing_transaction_takes_the_lock_at_its_beginning(self):
        connections = Connections(self.url, 5)
        self.addCleanup(connections.close)
        begun = []

        @event.listens_for(connections._engine, "before_cursor_execute")
        def note(connection, cursor, statement, *rest):
            begun.append(statement)

        with connections.transaction(), connections.transaction(writes=True):
            pass
        self.assertEqual([statement for statement in begun if "BEGIN" in statement], ["BEGIN", "BEGIN IMMEDIATE"])

    def test_a_new_file_that_another_process_is_writing_is_waited_for_but_not_for_ever(self):
        other = self.raw()  # a file that is not in WAL mode yet, as when processes make it at once
        other.execute("CREATE TABLE something (number INTEGER)")
        other.execute("BEGIN IMMEDIATE")
        self.assertRaises(errors.BackendUnavailable, self.opened(busy_seconds=0.1).list_records, "anna", 1)
        migrating = threading.Thread(target=self.database.migrate)
        migrating.start()
        migrating.join(0.2)
        self.assertTrue(migrating.is_alive())
        other.execute("COMMIT")
        migrating.join(10)
        self.database.check()

    def test_it_refuses_an_address_that_is_none_and_never_repeats_a_password(self):
        for url, said in (
            ("nonsense", "is not one"),
            ("", "is not one"),
            ("postgresql://anna:secret@:secret/x", "is not one"),
            ("oracle://anna:secret@host/x", "known here: postgresql, sqlite"),
            ("postgresql+nothing://anna:secret@host/x", "no driver"),
            (f"sqlite:///{__file__}/below/a/file.db", "cannot make the folder"),
        ):
            with self.subTest(url=url), self.assertRaisesRegex(ValueError, said) as caught:
                Database(url)
            self.assertNotIn("secret", str(caught.exception))

    def test_a_driver_that_is_not_installed_is_named(self):
        with mock.patch.dict(sys.modules, {"psycopg2": None}), self.assertRaisesRegex(ValueError, "psycopg2"):
            Database("postgresql+psycopg2://anna:secret@host/x")

    def test_a_file_that_is_no_database_does_not_answer(self):
        self.file.write_bytes(b"no database at all" * 1000)
        for call in (self.database.migrate, self.database.check, lambda: self.database.get_record("r1", "anna")):
            self.assertRaises(errors.BackendUnavailable, call)

    def test_a_pool_without_a_free_connection_does_not_answer(self):
        engine = self.database._connections._engine
        with mock.patch.object(type(engine.pool), "connect", side_effect=exc.TimeoutError()):
            self.assertRaises(errors.BackendUnavailable, self.database.check)


class MigrationTest(FileTest):
    def test_several_processes_migrate_a_new_database_at_once(self):
        self.assertEqual(self.children(4, "database.migrate(); database.check(); print('good')"), ["good"] * 4)
        self.assertEqual(self.raw().execute("SELECT * FROM alembic_version").fetchall(), [(schema.HEAD,)])

    def test_a_start_that_finds_nothing_to_migrate_does_not_load_alembic(self):
        self.database.migrate()
        code = "database.migrate(); database.check(); print('alembic' in sys.modules)"
        head = HEAD_OF_A_CHILD.replace("from tests.test_database import a_job, a_record", "")
        with mock.patch.dict(globals(), {"HEAD_OF_A_CHILD": head}):
            self.assertEqual(self.children(1, code), ["False"])

    def test_a_database_of_a_newer_version_is_refused_and_left_alone(self):
        self.database.migrate()
        with closing(self.raw()) as other:
            other.execute("UPDATE alembic_version SET version_num = '9999'")
        for _ in range(2):
            with self.assertRaisesRegex(ValueError, "revision 9999.*newer version"):
                self.database.migrate()
        self.assertEqual(self.raw().execute("SELECT * FROM alembic_version").fetchall(), [("9999",)])

    def test_a_process_killed_in_mid_migration_leaves_a_database_that_can_be_migrated(self):
        code = """
from alembic import op
op.create_index = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
database.migrate()
"""
        child = self.child(code)
        child.communicate(timeout=60)
        self.assertEqual(child.returncode, -signal.SIGKILL)
        self.assertEqual(self.raw().execute("SELECT name FROM sqlite_master").fetchall(), [])
        self.database.migrate()
        self.database.check()

    def test_rows_of_the_first_version_are_there_after_the_migrations(self):
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        with self.database._transaction(writes=True) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
        self.database.add_record(a_record())
        self.assertNotIn(("detectors",), self.raw().execute("SELECT name FROM sqlite_master").fetchall())
        self.database.migrate()
        self.assertEqual(self.database.get_record("r1", "anna"), a_record())
        self.assertEqual(self.database.detectors.all_of("anna"), [])

    def test_the_migrations_make_the_tables_that_the_program_works_with(self):
        self.database.migrate()
        with self.database._transaction() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            self.assertEqual(compare_metadata(context, schema.metadata), [])
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        self.assertEqual(ScriptDirectory.from_config(config).get_heads(), [schema.HEAD])


class CrowdTest(FileTest):
    def setUp(self):
        super().setUp()
        self.database.migrate()

    def test_several_processes_write_at_once_and_lose_nothing(self):
        code = """
from threading import Thread
def add(thread):
    for number in range(15):
        database.add_record(a_record(f"r{os.getpid()}-{thread}-{number}"))
threads = [Thread(target=add, args=(number,)) for number in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
        self.children(3, code)
        self.assertEqual(len(self.database.list_records("anna", 999)), 180)

    def test_of_several_processes_that_claim_a_job_one_gets_it(self):
        for number in range(20):
            self.database.add_job(a_job(f"j{number}"))
        code = "print([number for number in range(20) if database.claim_job(f'j{number}', 60)])"
        claimed = [number for printed in self.children(3, code) for number in eval(printed)]
        self.assertEqual(sorted(claimed), list(range(20)))

    def test_while_another_process_writes_reading_goes_on_and_writing_gives_up_in_time(self):
        self.database.add_record(a_record())
        hasty = self.opened(busy_seconds=0.2)
        other = self.raw()
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM records")
        for call in (lambda: hasty.add_record(a_record("r2")), hasty.check, lambda: hasty.claim_job("j1", 1)):
            started = time.monotonic()
            with self.assertRaises(errors.BackendUnavailable) as caught:
                call()
            self.assertGreaterEqual(time.monotonic() - started, 0.19)
            self.assertEqual((caught.exception.status, caught.exception.retry_after_seconds), (503, 5))
            self.assertEqual(hasty.get_record("r1", "anna"), a_record())
        other.execute("COMMIT")
        hasty.add_record(a_record("r2"))
        self.assertEqual([record.id for record in hasty.list_records("anna", 9)], ["r2"])

    def test_a_writer_waits_for_another_process_within_its_time(self):
        other = self.raw()
        other.execute("BEGIN IMMEDIATE")
        adding = threading.Thread(target=self.database.add_record, args=(a_record(),))
        adding.start()
        adding.join(0.2)
        self.assertTrue(adding.is_alive())
        other.execute("COMMIT")
        adding.join(10)
        self.assertIsNotNone(self.database.get_record("r1", "anna"))

    def test_a_writer_gives_up_in_time_behind_another_thread(self):
        hasty = self.opened(busy_seconds=0.1)
        answers = []

        def add():
            try:
                hasty.check()
            except errors.BackendUnavailable as error:
                answers.append(str(error))

        with hasty._transaction(writes=True):
            thread = threading.Thread(target=add)
            thread.start()
            thread.join(10)
            self.assertEqual(hasty.list_records("anna", 9), [])
        self.assertEqual(answers, ["The database is busy."])
        hasty.check()


class FaultTest(FileTest):
    def setUp(self):
        super().setUp()
        self.database.migrate()
        self.database.add_record(a_record())

    def assert_whole(self):
        self.assertEqual(self.raw().execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        self.database.check()

    def test_a_process_killed_in_mid_transaction_leaves_a_good_database(self):
        code = """
from sqlalchemy import insert
from imgdetect import schema
with database._transaction(writes=True) as connection:
    connection.exec_driver_sql("PRAGMA cache_spill = 1")
    for number in range(3000):
        connection.execute(insert(schema.records), vars(a_record(f"x{number}", result={"much": "x" * 1000})))
    print("ready", flush=True)
    time.sleep(60)
"""
        child = self.child(code)
        self.assertEqual(child.stdout.readline(), "ready\n")
        child.kill()
        child.wait()
        self.assert_whole()
        self.assertEqual(self.database.list_records("anna", 9), [a_record()])

    def test_what_was_acknowledged_is_there_after_a_kill_at_any_moment(self):
        code = """
number = 0
while True:
    database.add_record(a_record(f"x{number}"))
    print(number, flush=True)
    number += 1
"""
        for _ in range(3):
            child = self.child(code)
            acknowledged = [int(child.stdout.readline()) for _ in range(random.randrange(5, 40))]
            child.kill()
            acknowledged += [int(line) for line in child.stdout.read().split()]
            stored = {record.id for record in self.database.list_records("anna", 99_999)}
            self.assertLessEqual({f"x{number}" for number in acknowledged}, stored)
            self.assertLessEqual(len(stored), len(acknowledged) + 2)  # r1, and one not yet acknowledged
            self.assert_whole()
            for record_id in stored - {"r1"}:
                self.database.delete_record(record_id, "anna")

    def test_a_full_disk_is_said_so_and_reading_and_later_writing_go_on(self):
        limit = "PRAGMA max_page_count"
        with self.database._transaction() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"{limit} = {pages + 20}")
        added = []
        with self.assertRaises(errors.StorageFull) as caught:
            for number in range(1000):
                self.database.add_record(a_record(f"x{number}", result={"much": "x" * 5000}))
                added.append(number)
        self.assertEqual(caught.exception.status, 507)
        self.assertEqual(len(self.database.list_records("anna", 999)), len(added) + 1)
        for record_id in ("x0", "x1"):
            self.assertIsNotNone(self.database.delete_record(record_id, "anna"))
        self.database.add_record(a_record("y"))
        self.assert_whole()

    def test_a_blunder_of_ours_is_no_fault_of_the_database(self):
        with self.assertRaises(exc.IntegrityError), self.database._transaction(writes=True) as connection:
            connection.exec_driver_sql("INSERT INTO leases VALUES ('name', NULL, 1)")
        with self.assertRaises(ZeroDivisionError), self.database._transaction(writes=True) as connection:
            connection.exec_driver_sql("DELETE FROM records")
            raise ZeroDivisionError
        self.assertEqual(self.database.list_records("anna", 9), [a_record()])


if __name__ == "__main__":
    unittest.main()
