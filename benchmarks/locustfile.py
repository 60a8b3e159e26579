"""People who upload, list, download and delete: `locust -f benchmarks/locustfile.py --host http://127.0.0.1:8000`.

The pictures of the uploads differ in a comment only, so that no result comes from the cache. With keys configured, set
API_KEY.
"""

import os
import random
import sys
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from locust import FastHttpUser, between, task

from benchmarks.pictures import commented, encoded, photographs

API = "/api/v1/objectdetection"
PICTURES = [encoded(image) for image in photographs()]
HEADERS = {"x-api-key": os.environ["API_KEY"]} if "API_KEY" in os.environ else {}
_numbers = count(random.SystemRandom().randrange(10**12) * 1_000_000)


class Person(FastHttpUser):
    """Waits a moment between two things, as people do; PAUSE=0 for those who do not."""

    wait_time = between(0, 2 * float(os.environ.get("PAUSE", "0.5")))

    def on_start(self):
        """Begin with one upload, so that there is something to look at."""
        self.ids = []
        self.upload()

    def on_stop(self):
        """Leave nothing behind."""
        while self.ids:
            self.delete()

    @task(6)
    def upload(self):
        number = next(_numbers)
        body = commented(PICTURES[number % len(PICTURES)], number)
        headers = HEADERS | {"Content-Type": "image/jpeg"}
        with self.client.post(f"{API}/image", body, headers=headers, name="upload", catch_response=True) as answer:
            if answer.status_code == 200:
                self.ids.append(answer.json()["image"]["id"])
            elif answer.status_code == 503:
                answer.failure("refused: busy")

    @task(2)
    def list(self):
        self.client.get(f"{API}/image?limit=20", headers=HEADERS, name="list")

    @task(4)
    def download(self):
        if self.ids:
            self.client.get(f"{API}/image/{random.choice(self.ids)}/processed", headers=HEADERS, name="download")

    @task(1)
    def delete(self):
        if self.ids:
            self.client.delete(f"{API}/image/{self.ids.pop()}", headers=HEADERS, name="delete")
