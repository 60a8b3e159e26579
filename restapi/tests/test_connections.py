"""What is special about SQLite: its file, its locks, and the addresses of databases."""

import sqlite3
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

from sqlalchemy import event, exc

from imgdetect import errors
from imgdetect.connections import Connections
from imgdetect.database import Database
from tests.test_database import a_record


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
            ("nonsense", r"sqlite:///FILE or postgresql\+psycopg://"),
            ("", "is not one"),
            ("postgresql://anna:secret@:secret/x", "is not one"),
            ("postgresql://anna:sec@secret@host/x", "write @ as %40"),
            ("oracle://anna:secret@host/x", "known here: postgresql, sqlite"),
            ("postgresql+nothing://anna:secret@host/x", r"'nothing'.*write postgresql\+psycopg://"),
            ("postgresql+psycopg2://anna:secret@host/x", r"'psycopg2'.*write postgresql\+psycopg://"),
            ("sqlite+aiosqlite:///x", "'aiosqlite'.*write sqlite:///FILE"),
            (f"sqlite:///{__file__}/below/a/file.db", "cannot make the folder"),
        ):
            with self.subTest(url=url), self.assertRaisesRegex(ValueError, said) as caught:
                Database(url)
            self.assertNotIn("secret", str(caught.exception))

    def test_a_driver_that_is_not_installed_is_named_with_what_installs_it(self):
        url = "postgresql://anna:secret@host/x"
        Database(url).close()  # all of SQLAlchemy's part is loaded now: what is loaded below is forgotten afterwards
        with (
            mock.patch.dict(sys.modules, {"psycopg": None}),
            self.assertRaisesRegex(ValueError, r"pip install imgdetect\[postgres\]"),
        ):
            Database(url)

    def test_a_file_that_is_no_database_does_not_answer(self):
        self.file.write_bytes(b"no database at all" * 1000)
        for call in (self.database.migrate, self.database.check, lambda: self.database.get_record("r1", "anna")):
            self.assertRaises(errors.BackendUnavailable, call)

    def test_a_pool_without_a_free_connection_does_not_answer(self):
        engine = self.database._connections._engine
        with mock.patch.object(type(engine.pool), "connect", side_effect=exc.TimeoutError()):
            self.assertRaises(errors.BackendUnavailable, self.database.check)
            self.assertRaises(errors.BackendUnavailable, self.database.get_record, "r1", "anna")


class LockedTest(FileTest):
    def setUp(self):
        super().setUp()
        self.database.migrate()

    def test_while_another_process_writes_reading_goes_on_and_writing_gives_up_in_time(self):
        self.database.add_record(a_record())
        hasty = self.opened(busy_seconds=0.2)
        other = self.raw()
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM records")
        for call in (lambda: hasty.add_record(a_record("r2")), hasty.check, lambda: hasty.jobs.claim("j1", 1)):
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


if __name__ == "__main__":
    unittest.main()
