"""The cascade that was trained for this package: it is what its page says, and both engines find signs with it."""

from __future__ import annotations

import hashlib
import unittest
from pathlib import Path

from imgdetect.config import Settings
from imgdetect.detection import DetectOptions
from imgdetect.detectors import Detector, create
from imgdetect.detectors.haar import BUNDLED, MISSING
from imgdetect.equipment import detector_urls
from tests import cascades

ROOT = Path(__file__).parents[2]
CASCADE = Path(BUNDLED["stop_sign"].file)
PAGE = ROOT / "docs" / "stop_sign.md"


class StopSign(unittest.TestCase):
    def detector(self, engine: str) -> Detector:
        return create("stop_sign", f"haar:stop_sign?engine={engine}", working_pixels=2_000_000)

    def test_it_lies_in_the_package_and_its_page_is_about_this_file(self) -> None:
        self.assertEqual(CASCADE.parent, ROOT / "restapi" / "imgdetect" / "detectors" / "cascades")
        self.assertIn(hashlib.sha256(CASCADE.read_bytes()).hexdigest(), PAGE.read_text("utf-8"))

    def test_it_is_there_by_name(self) -> None:
        self.assertIn("stop_sign", detector_urls(Settings()))
        facts = self.detector("opencv").facts
        self.assertEqual((facts.window_wh, facts.defaults["min_neighbors"]), ((24, 24), 4))

    def test_both_engines_find_the_same_one_sign_in_the_street(self) -> None:
        self.assertEqual(MISSING, "")
        image = cascades.picture("street")
        options = DetectOptions("stop_sign")
        found = []
        for engine in ("fasthaar", "opencv"):
            detector = self.detector(engine)
            result = detector.detect(image, detector.resolve(options))
            found.append([(detection.box, detection.neighbors, detection.score) for detection in result.detections])
        self.assertEqual(len(found[0]), 1)
        self.assertEqual(*found)

    def test_nothing_is_found_where_there_is_no_sign(self) -> None:
        detector = self.detector("fasthaar")
        for name in ("astronaut", "chelsea"):
            with self.subTest(picture=name):
                result = detector.detect(cascades.picture(name), detector.resolve(DetectOptions("stop_sign")))
                self.assertEqual(result.detections, ())


if __name__ == "__main__":
    unittest.main()
