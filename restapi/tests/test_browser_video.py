"""An annotated video in a real browser."""

import requests

from tests.browser import BrowserTest
from tests.films import SIZE_WH, film
from tests.processes import until


class BrowserVideoTest(BrowserTest):
    def test_it_plays_from_its_address_and_can_be_sought(self):
        api = self.server.api
        sent = requests.post(f"{api}/video?every=5", data=film(90), headers={"Content-Type": "video/mp4"}, timeout=30)
        self.assertEqual(sent.status_code, 202, sent.text)
        job_url = self.server.url + sent.json()["links"]["self"]
        self.assertTrue(until(lambda: requests.get(job_url, timeout=30).json()["state"] == "done", 60))
        watched = self.watched()
        page = watched.page
        page.goto(f"{job_url}/video")
        # The page may run no script of its own, so that it is asked from here.
        self.assertTrue(until(lambda: page.evaluate("document.querySelector('video').readyState >= 2"), 60))
        width, height, duration = page.evaluate(
            "(v => [v.videoWidth, v.videoHeight, v.duration])(document.querySelector('video'))"
        )
        self.assertEqual((width, height), SIZE_WH)
        self.assertAlmostEqual(duration, 3, delta=0.2)
        page.evaluate("(v => { v.muted = true; v.currentTime = 2; return v.play(); })(document.querySelector('video'))")
        self.assertTrue(until(lambda: page.evaluate("document.querySelector('video').currentTime > 2.2"), 60))
        # The frame at hand is not black: the astronaut or the grey around her is to be seen.
        brightness = page.evaluate(
            """(v => {
                const canvas = document.createElement('canvas');
                canvas.width = v.videoWidth; canvas.height = v.videoHeight;
                const context = canvas.getContext('2d');
                context.drawImage(v, 0, 0);
                return context.getImageData(20, 20, 1, 1).data[0];
            })(document.querySelector('video'))"""
        )
        self.assertGreater(brightness, 60)
        self.assertEqual(page.evaluate("document.querySelector('video').error"), None)
        self.assertEqual((watched.troubles, watched.statuses), ([], []))
