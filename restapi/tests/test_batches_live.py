"""Batches and callbacks on real servers: killed in the middle, started again, nothing lost and nothing twice."""

import io
import json
import os
import shutil
import signal
import socket
import unittest
import zipfile
from contextlib import suppress
from pathlib import Path
from threading import Thread

import requests

from tests.app import jpeg
from tests.archive_files import archive
from tests.fault_case import FaultTest
from tests.processes import Family, until
from tests.slow import SLOW, picture
from tests.test_callbacks import SECRET, Receiver

SECONDS = 180
THREADS = "threads:?workers=2"


class KilledTest(FaultTest):
    def batch(self, server, pictures, **parameters):
        files = [("images", (f"{number}.jpg", data)) for number, data in enumerate(pictures)]
        headers = {"Connection": "close"}
        answer = requests.post(f"{server.api}/batch", files=files, data=parameters, headers=headers, timeout=120)
        self.assertEqual(answer.status_code, 202, answer.text)
        return answer.json()["links"]["self"]

    def job(self, server, path):
        return requests.get(server.url + path, headers={"Connection": "close"}, timeout=60).json()

    def results(self, server, path):
        return requests.get(f"{server.url}{path}/results?limit=100", timeout=60).json()["results"]

    def kill_everybody(self, server):
        everybody = Family.of(server).everybody
        for process in everybody:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        server.process.wait()
        server.process = None
        # What a killed master had in the machine's temporary folder is gone with the machine.
        for path in Path(server.environment["TMPDIR"]).iterdir():
            shutil.rmtree(path)

    def test_every_image_of_an_acknowledged_batch_ends_once_though_all_is_killed_twice(self):
        pictures = [picture(seed) for seed in range(4)] + [jpeg(seed=seed) for seed in range(25)] + [b"broken"]
        with Receiver(200) as receiver:
            settings = {
                "WORKERS": "2",
                "QUEUE_URL": THREADS,
                "CALLBACK_SECRET": SECRET,
                "ALLOWED_CALLBACK_NETS": "127.0.0.0/8",
            }
            with self.serving(**settings) as server:
                path = self.batch(server, pictures, **SLOW, callback_url=receiver.url)
                for least in (2, 5):
                    self.assertTrue(until(lambda least=least: self.ended(server, path) > least, SECONDS))
                    self.kill_everybody(server)
                    # Its leases would run out in half a minute, and its batch be idle in a minute.
                    self.query(server, "UPDATE jobs SET lease_until = 1 WHERE lease_until > 0")
                    self.query(server, "UPDATE jobs SET created_at = 1 WHERE kind = 'batch'")
                    server.start()
                self.assertTrue(until(lambda: self.job(server, path)["state"] == "done", SECONDS), self.rows_of(server))
                self.assertEqual(self.job(server, path)["progress"], {"total": 30, "done": 29, "failed": 1})
                self.assertEqual(self.rows_of(server), [("done", 29), ("failed", 1)])
                records = self.query(server, "SELECT COUNT(*), COUNT(DISTINCT filename) FROM records")
                self.assertEqual(records, [(29, 29)])
                found = self.results(server, path)
                self.assertEqual([r["position"] for r in found], list(range(30)))
                self.assertEqual(found[29]["problem"]["code"], "unsupported-image")
                sent = requests.get(f"{server.url}{path}/archive", timeout=60).content
                with zipfile.ZipFile(io.BytesIO(sent)) as made:
                    self.assertIsNone(made.testzip())
                    self.assertEqual(len(made.namelist()), 30)
                receiver.wait_for(1)
                state = "SELECT callback_state FROM jobs WHERE kind = 'batch'"
                self.assertTrue(until(lambda: self.query(server, state) == [("delivered",)], SECONDS))
                self.assertEqual({json.loads(body)["job"]["state"] for _, _, body in receiver.seen}, {"done"})
                # What a killed attempt left behind without a row is the sweep's; of what has one, nothing is missing.
                self.assertEqual(set(self.rows(server)) - set(self.files(server)), set())
                self.assertEqual([*(server.data / "spool").iterdir()], [])

    def ended(self, server, path):
        progress = self.job(server, path)["progress"]
        return progress["done"] + progress["failed"]

    def rows_of(self, server):
        """How many pictures of the batch are in which state."""
        counted = "SELECT state, COUNT(*) FROM jobs WHERE parent_id IS NOT NULL GROUP BY state ORDER BY state"
        return self.query(server, counted)

    def test_a_server_killed_while_it_takes_a_batch_in_has_all_of_it_or_nothing(self):
        data = archive(*[(f"{seed}.jpg", jpeg(seed=seed)) for seed in range(60)])
        with self.serving(QUEUE_URL=THREADS) as server:

            def send():
                with suppress(requests.RequestException):
                    headers = {"Content-Type": "application/zip"}
                    requests.post(f"{server.api}/batch", data=data, headers=headers, timeout=60)

            sender = Thread(target=send)
            sender.start()
            self.assertTrue(until(lambda: len(self.files(server)) > 5, SECONDS))
            self.kill_everybody(server)
            sender.join()
            server.start()
            parents = self.query(server, "SELECT id, total FROM jobs WHERE kind = 'batch'")
            for parent, total in parents:
                children = self.query(server, "SELECT COUNT(*) FROM jobs WHERE parent_id = ?", parent)
                self.assertEqual(children, [(total,)])
            self.assertEqual([*(server.data / "spool").iterdir()], [])

    def test_a_client_that_gives_up_leaves_nothing_behind(self):
        with self.serving(QUEUE_URL=THREADS) as server:
            for _ in range(6):  # more than may come in at once
                with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
                    head = "POST /api/v1/objectdetection/batch HTTP/1.1\r\nHost: localhost\r\n"
                    head += "Content-Type: application/zip\r\nContent-Length: 1000000\r\n\r\n"
                    connection.sendall(head.encode() + b"x" * 300_000)
                    opened = self.open_spools(server)
                    self.assertLessEqual(opened, 4)
            self.assertTrue(until(lambda: self.open_spools(server) == 0, SECONDS))
            path = self.batch(server, [jpeg()])
            self.assertTrue(until(lambda: self.job(server, path)["state"] == "done", SECONDS))
            self.assertEqual([*(server.data / "spool").iterdir()], [])

    def open_spools(self, server):
        """How many files of its spool folder a server has open."""
        count = 0
        for process in Family.of(server).workers:
            for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(OSError):
                    count += str(descriptor.readlink()).startswith(str(server.data / "spool"))
        return count


if __name__ == "__main__":
    unittest.main()
