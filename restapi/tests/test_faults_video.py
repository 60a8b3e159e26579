"""What befalls a server while it looks at a video."""

import json
import os
import signal

import requests

from tests.fault_case import FaultTest
from tests.films import film
from tests.processes import Family, alive, until

FRAMES = 80


class VideoFaultTest(FaultTest):
    def start_video(self, server):
        """The address of a job that is in the middle of its video."""
        sent = requests.post(
            f"{server.api}/video?detector=slow&min_neighbors=5",
            data=film(FRAMES, size_wh=(640, 480)),
            headers={"Content-Type": "video/mp4", "Connection": "close"},
            timeout=60,
        )
        self.assertEqual(sent.status_code, 202, sent.text)
        url = server.url + sent.json()["links"]["self"]
        self.assertTrue(until(lambda: self.job(url)["progress"]["done"] > 0, 60), self.job(url))
        self.assertEqual(self.job(url)["state"], "running")
        return url

    def job(self, url):
        return requests.get(url, headers={"Connection": "close"}, timeout=60).json()

    def assertDoneOnce(self, server, url, attempts):
        """The job ends, and what is stored is what it made, once."""

        def done():
            try:
                return self.job(url)["state"] == "done"
            except requests.ConnectionError:  # the next worker is not there yet
                return False

        self.assertTrue(until(done, 120), server.log()[-2000:])
        job = self.job(url)
        self.assertEqual((job["attempts"], job["video"]["frames"]), (attempts, FRAMES))
        lines = requests.get(f"{url}/detections", headers={"Connection": "close"}, timeout=60).text.splitlines()
        self.assertEqual([json.loads(line)["frame"] for line in lines], [*range(FRAMES)])
        made = json.loads(self.query(server, "SELECT artifacts FROM jobs")[0][0])
        self.assertEqual(self.files(server), sorted(artifact["key"] for artifact in made.values()))
        self.assertEqual([*(server.data / "spool").iterdir()], [])

    def test_a_worker_killed_in_the_middle_of_a_video_leaves_nothing_and_the_next_does_it_once(self):
        with self.serving() as server:
            url = self.start_video(server)
            before = Family.of(server)
            worker = before.workers[0]
            os.kill(worker.pid, signal.SIGSTOP)  # so that it does not renew its lease meanwhile
            self.query(server, "UPDATE jobs SET lease_until = 1 WHERE state = 'running'")
            os.kill(worker.pid, signal.SIGKILL)
            self.assertTrue(until(lambda: not any(map(alive, (worker, *before.children)))))
            self.assertDoneOnce(server, url, attempts=2)
            self.assertEqual(len(Family.of(server).children), 2)

    def test_a_server_that_is_told_to_stop_gives_its_video_back_and_does_it_after_the_start(self):
        with self.serving() as server:
            url = self.start_video(server)
            self.assertEqual(server.stop(), 0, server.log()[-2000:])
            self.assertEqual(self.query(server, "SELECT state, attempts FROM jobs"), [("queued", 0)])
            self.query(server, "UPDATE jobs SET created_at = 1")  # as if a minute had passed
            server.start()
            self.assertDoneOnce(server, url, attempts=1)

    def test_a_child_that_dies_of_a_video_fails_its_job_only(self):
        with self.serving() as server:
            url = self.start_video(server)
            family = Family.of(server)
            self.assertEqual(len(family.children), 3)
            watcher = max(family.children, key=lambda child: os.getpriority(os.PRIO_PROCESS, child.pid))
            os.kill(watcher.pid, signal.SIGKILL)
            self.assertTrue(until(lambda: self.job(url)["state"] == "failed", 60))
            self.assertEqual(self.job(url)["problem"]["code"], "detector-failed")
            self.assertServes(server)
            self.assertRowsAndFilesAgree(server)
