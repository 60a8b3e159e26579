"""An index serves every statement that comes with requests or jobs, on every database: what is stored may grow."""

import re
import unittest

from sqlalchemy import event, insert

from imgdetect import schema
from tests.test_database import DatabaseContract, InAFile, InPostgres, a_job, a_record
from tests.test_database_verdicts import a_piece

ROWS = 4000


class PlansContract(DatabaseContract):
    explain: str
    analyze: str

    def scanned(self, plan):
        """The tables that a plan reads from end to end."""
        raise NotImplementedError

    def setUp(self):
        super().setUp()
        records = [a_record(f"{n:032x}", created_at=n, filename=f"{n}.jpg", owner=f"o{n % 9}") for n in range(ROWS)]
        jobs = [a_job(f"{n:032x}", created_at=n, state="done", finished_at=n, owner=f"o{n % 9}") for n in range(ROWS)]
        with self.database._transaction(writes=True) as connection:
            connection.execute(insert(schema.records), [vars(record) for record in records])
        with self.database._transaction(writes=True) as connection:
            connection.execute(insert(schema.jobs), [vars(job) for job in jobs])
        said = [a_piece(f"{n:032x}", id=str(n), owner=f"o{n % 9}") for n in range(ROWS)]
        with self.database._transaction(writes=True) as connection:
            connection.execute(insert(schema.verdicts), [vars(piece) for piece in said])
        processed = [{"owner": f"o{n % 9}", "filename": f"{n}.jpg", "scale": 1, "processed_at": n} for n in range(ROWS)]
        with self.database._transaction(writes=True) as connection:
            connection.execute(insert(schema.processed_images), processed)
        feedback = [{"id": f"{n:032x}", "owner": f"o{n % 9}", "created_at": n, "report": "x"} for n in range(ROWS)]
        with self.database._transaction(writes=True) as connection:
            connection.execute(insert(schema.feedback), feedback)
        with self.database._transaction(writes=True) as connection:
            connection.exec_driver_sql(self.analyze)
        self.statements = []
        event.listen(self.database._connections._engine, "before_cursor_execute", self.note)

    def note(self, _connection, _cursor, statement, parameters, *_rest):
        if re.match("(SELECT|UPDATE|DELETE)", statement):
            self.statements.append((statement, parameters))

    def use(self):
        """Do once what requests, jobs and the timer do."""
        rows, jobs = self.database, self.database.jobs
        one = f"{7:032x}"
        rows.add_record(a_record("new", idempotency_key="key"))
        rows.add_record(a_record("newer", idempotency_key="key"))
        rows.find_idempotent("anna", "key")
        rows.get_record(one, "o7")
        rows.latest_named("7.jpg", "o7")
        rows.ids_named("7.jpg", "o7", 3)
        rows.list_records("o7", 20)
        rows.list_records("o7", 20, (2000, one))
        rows.record_places("o7", 20, (2000, one), 1, 3000)
        rows.set_processed(one, "o7", None, None, {}, {}, 1)
        rows.verdicts.add([a_piece(one, owner="o7")], 9)
        rows.verdicts.of([one], "o7")
        rows.verdicts.counts("o7")
        rows.delete_record(one, "o7")
        rows.records_older_than(100, 20)
        rows.oldest_records(20)
        rows.known_keys([f"{n:032x}00.original.jpg" for n in range(20)])
        jobs.add(
            a_job("batch", kind="batch", total=3), [a_job(f"c{n}", parent_id="batch", position=n) for n in range(3)]
        )
        jobs.get(one, "o7")
        jobs.children("batch", 20)
        jobs.heads("batch")
        child = jobs.claim("c0", 30)
        jobs.renew("c0", 1, 30)
        jobs.release("c0", 1)
        jobs.claim("c0", 30)
        jobs.finish("c0", 2, "done")
        jobs.next_in_lane(child)
        jobs.cancel("batch", "anna")
        jobs.take_back("nobody")
        jobs.take_lost(20, 100, 60)
        jobs.take_idle_batches(20, 100, 60)
        jobs.fail_exhausted()
        jobs.delete_older_than(20)
        rows.processed.put("o7", "new.jpg", 1, most=100)
        rows.processed.scale("o7", "7.jpg")
        rows.feedback.add("f" * 32, "o7", "new", most=100)
        rows.feedback.newest("o7", 20)
        rows.feedback.count("o7")

    def test_no_statement_reads_a_whole_table(self):
        self.use()
        self.assertGreater(len(self.statements), 30)
        plans = {}
        for statement, parameters in list(self.statements):
            with self.database._transaction(writes=True) as connection:
                rows = connection.exec_driver_sql(f"{self.explain} {statement}", parameters)
                plans[statement] = "\n".join(str(row[-1]) for row in rows)
        whole = {statement: plan for statement, plan in plans.items() if self.scanned(plan)}
        self.assertEqual(whole, {}, "\n\n".join(f"{statement}\n{plan}" for statement, plan in whole.items()))


class FilePlansTest(InAFile, PlansContract, unittest.TestCase):
    explain, analyze = "EXPLAIN QUERY PLAN", "SELECT 1"  # nobody ever has SQLite analyze a table

    def scanned(self, plan):
        return re.findall(r"SCAN (records|jobs|processed_images|feedback|verdicts)(?! USING)", plan)


class PostgresPlansTest(InPostgres, PlansContract, unittest.TestCase):
    explain, analyze = "EXPLAIN", "ANALYZE records, jobs, processed_images, feedback, verdicts"

    def scanned(self, plan):
        return re.findall(r"Seq Scan on (records|jobs|processed_images|feedback|verdicts)", plan)


if __name__ == "__main__":
    unittest.main()
