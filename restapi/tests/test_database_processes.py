"""Several processes on one database: they migrate it, write into it, race for its rows and die in the middle."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
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
from sqlalchemy import exc, select

from imgdetect import migrations, schema
from imgdetect.database import Database
from tests import postgres_server
from tests.test_database import a_job, a_record

HEAD_OF_A_CHILD = """
import os, signal, sys, time
from imgdetect.database import Database
from tests.test_database import a_job, a_record
database = Database(sys.argv[1])
"""


class ProcessesContract:
    """A database that other processes use as well; inherited with unittest.TestCase for each kind."""

    def new_url(self):
        raise NotImplementedError

    def sql(self, statement):
        """What a statement of somebody else gives."""
        raise NotImplementedError

    def tables(self):
        raise NotImplementedError

    def setUp(self):
        super().setUp()
        self.url = self.new_url()
        self.database = Database(self.url)
        self.addCleanup(self.database.close)

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
        answers = [process.communicate(timeout=120) for process in processes]
        self.assertEqual([process.returncode for process in processes], [0] * number, answers)
        return [printed.strip() for printed, _ in answers]


class MigrationContract(ProcessesContract):
    def test_several_processes_migrate_a_new_database_at_once_and_one_of_them_does(self):
        code = """
from alembic import op
made = []
create = op.create_table
op.create_table = lambda name, *columns: (made.append(name), create(name, *columns))
database.migrate()
database.check()
print(",".join(made))
"""
        made = [printed for printed in self.children(4, code) if printed]
        self.assertEqual(len(made), 1, made)
        self.assertEqual(self.sql("SELECT version_num FROM alembic_version"), [(schema.HEAD,)])

    def test_a_start_that_finds_nothing_to_migrate_does_not_load_alembic(self):
        self.database.migrate()
        code = "database.migrate(); database.check(); print('alembic' in sys.modules)"
        head = HEAD_OF_A_CHILD.replace("from tests.test_database import a_job, a_record", "")
        with mock.patch.dict(globals(), {"HEAD_OF_A_CHILD": head}):
            self.assertEqual(self.children(1, code), ["False"])

    def test_a_database_of_a_newer_version_is_refused_and_left_alone(self):
        self.database.migrate()
        self.sql("UPDATE alembic_version SET version_num = '9999'")
        for _ in range(2):
            with self.assertRaisesRegex(ValueError, "revision 9999.*newer version"):
                self.database.migrate()
        self.assertEqual(self.sql("SELECT version_num FROM alembic_version"), [("9999",)])

    def test_a_process_killed_in_mid_migration_leaves_a_database_that_can_be_migrated(self):
        code = """
from alembic import op
op.create_index = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
database.migrate()
"""
        child = self.child(code)
        child.communicate(timeout=120)
        self.assertEqual(child.returncode, -signal.SIGKILL)
        self.assertEqual(self.tables(), [])
        self.database.migrate()
        self.database.check()

    def test_rows_of_the_first_version_are_there_after_the_migrations(self):
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        with self.database._transaction(writes=True) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
        self.database.add_record(a_record())
        self.assertNotIn("detectors", self.tables())
        self.database.migrate()
        self.assertEqual(self.database.get_record("r1", "anna"), a_record())
        self.assertEqual(self.database.detectors.all_of("anna"), [])
        self.assertIsNone(self.database.processed.scale("anna", "a.jpg"))

    def test_the_migrations_make_the_tables_that_the_program_works_with(self):
        self.database.migrate()
        with self.database._transaction() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            self.assertEqual(compare_metadata(context, schema.metadata), [])
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        self.assertEqual(ScriptDirectory.from_config(config).get_heads(), [schema.HEAD])


class CrowdContract(ProcessesContract):
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

    def test_of_several_processes_that_race_for_something_one_gets_it(self):
        """Jobs, idempotency keys of records and of jobs, and leases, twenty times each."""
        for number in range(20):
            self.database.jobs.add(a_job(f"j{number}"))
        code = """
mine = f"{os.getpid():032x}"
won = {"claim": [], "record": [], "job": [], "lease": []}
for n in range(20):
    if database.jobs.claim(f"j{n}", 60):
        won["claim"].append(n)
    record = a_record(f"{mine}-{n}", idempotency_key=f"record {n}")
    if database.add_record(record) == record:
        won["record"].append(n)
    job = a_job(f"{mine}-{n}", idempotency_key=f"job {n}")
    if database.jobs.add(job) == job:
        won["job"].append(n)
    if database.take_lease(f"lease {n}", mine, 60):
        won["lease"].append(n)
print(won)
"""
        won = [eval(printed) for printed in self.children(3, code)]
        for what in won[0]:
            with self.subTest(what):
                self.assertEqual(sorted(n for by_one in won for n in by_one[what]), list(range(20)))
        self.assertEqual(len(self.database.list_records("anna", 999)), 20)

    def test_a_process_killed_in_mid_transaction_leaves_a_good_database(self):
        self.database.add_record(a_record())
        code = """
from sqlalchemy import insert
from imgdetect import schema
with database._transaction(writes=True) as connection:
    for number in range(3000):
        connection.execute(insert(schema.records), vars(a_record(f"x{number}", result={"much": "x" * 1000})))
        if number == 1000:
            print("ready", flush=True)
    print("good", flush=True)
    time.sleep(60)
"""
        child = self.child(code)
        self.assertEqual(child.stdout.readline(), "ready\n")
        child.kill()
        child.wait()
        self.assertEqual(self.database.list_records("anna", 9), [a_record()])
        self.database.check()

    def test_what_was_acknowledged_is_there_after_a_kill_at_any_moment(self):
        code = """
number = 0
while True:
    database.add_record(a_record(f"x{number}"))
    print(number, flush=True)
    number += 1
"""
        for _ in range(2):
            child = self.child(code)
            acknowledged = [int(child.stdout.readline()) for _ in range(random.randrange(5, 40))]
            child.kill()
            acknowledged += [int(line) for line in child.stdout.read().split()]
            stored = {record.id for record in self.database.list_records("anna", 99_999)}
            self.assertLessEqual({f"x{number}" for number in acknowledged}, stored)
            self.assertLessEqual(len(stored), len(acknowledged) + 1)  # one not yet acknowledged
            for record_id in stored:
                self.database.delete_record(record_id, "anna")

    def test_a_reading_transaction_sees_one_moment(self):
        """Else the sweep could look for a picture in a job when it has just moved on into a record."""
        other = Database(self.url)
        self.addCleanup(other.close)
        with self.database._transaction() as connection:
            for _ in range(2):
                self.assertEqual(connection.execute(select(schema.records)).all(), [])
                other.add_record(a_record(f"r{time.monotonic_ns()}"))
        self.assertEqual(len(self.database.list_records("anna", 9)), 2)

    def test_a_blunder_of_ours_is_no_fault_of_the_database(self):
        self.database.add_record(a_record())
        with self.assertRaises(exc.IntegrityError), self.database._transaction(writes=True) as connection:
            connection.exec_driver_sql("INSERT INTO leases VALUES ('name', NULL, 1)")
        with self.assertRaises(ZeroDivisionError), self.database._transaction(writes=True) as connection:
            connection.exec_driver_sql("DELETE FROM records")
            raise ZeroDivisionError
        self.assertEqual(self.database.list_records("anna", 9), [a_record()])

    def test_no_error_repeats_what_was_to_be_stored(self):
        with self.assertRaises(exc.IntegrityError) as caught:
            for _ in range(2):
                self.database.add_record(a_record(filename="a secret.jpg"))
        self.assertNotIn("a secret", str(caught.exception))


class OnAFile:
    def new_url(self):
        self.file = Path(self.enterContext(tempfile.TemporaryDirectory())) / "rows.db"
        return f"sqlite:///{self.file}"

    def sql(self, statement):
        with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    def tables(self):
        return [name for (name,) in self.sql("SELECT name FROM sqlite_master WHERE type = 'table'")]


class OnPostgres:
    def new_url(self):
        return self.enterContext(postgres_server.shared().fresh())

    def sql(self, statement):
        return postgres_server.shared().sql(self.url, statement)

    def tables(self):
        return [name for (name,) in self.sql("SELECT relname FROM pg_stat_user_tables")]


class FileMigrationTest(OnAFile, MigrationContract, unittest.TestCase):
    pass


class PostgresMigrationTest(OnPostgres, MigrationContract, unittest.TestCase):
    pass


class FileCrowdTest(OnAFile, CrowdContract, unittest.TestCase):
    pass


class PostgresCrowdTest(OnPostgres, CrowdContract, unittest.TestCase):
    pass


if __name__ == "__main__":
    unittest.main()
