"""The cascade detector on each of its engines."""

from __future__ import annotations

import subprocess
import sys
import unittest
from unittest import mock

import cv2
import numpy as np

import fasthaar
from imgdetect.detection import DetectOptions
from imgdetect.detectors import _engines, create
from imgdetect.detectors._engines import MAX_CANDIDATES, FastHaar, OpenCV
from imgdetect.detectors.haar import UPLOADED_SECONDS, uploaded
from imgdetect.errors import DetectorFailed, DetectorTooSlow
from tests import cascades, haar_contract
from tests.haar_contract import EngineCase, look


class OnOpenCV(EngineCase):
    engine = OpenCV
    library = cv2
    loads = 2  # a classifier of OpenCV's is never shared between threads


class OnFastHaar(EngineCase):
    engine = FastHaar
    library = fasthaar
    loads = 1

    def setUp(self) -> None:
        super().setUp()
        _engines._loaded.cache_clear()


class OpenCVCreationTest(OnOpenCV, haar_contract.CreationContract):
    def test_an_opencv_without_cascades_is_named_in_one_line(self) -> None:
        with mock.patch.object(cv2, "CascadeClassifier"):
            del cv2.CascadeClassifier
            message = self.refused("haar:face")
            cv2.CascadeClassifier = None  # what the patch removes again
        self.assertIn("OpenCV 5 has no cascade detector: install opencv-python-headless>=4.14,<5", message)


class FastHaarCreationTest(OnFastHaar, haar_contract.CreationContract):
    def test_a_fasthaar_that_cannot_be_loaded_is_named_with_the_reason_in_one_line(self) -> None:
        with mock.patch.object(_engines, "MISSING", "No module named 'fasthaar'"):
            message = self.refused("haar:face")
        self.assertEqual(message, "the engine fasthaar cannot be loaded: No module named 'fasthaar'")

    def test_a_file_that_breaks_a_rule_is_refused_at_once_with_the_rule_and_the_way_out(self) -> None:
        broken = cascades.lbp_cascade((24, 24), cascades.BRIGHT_CENTER).replace("<rect>0 0 8 8", "<rect>0 0 9 9")
        message = self.refused(self.url(broken))
        self.assertRegex(message, r"own\.xml: feature 0.*engine=opencv")


class OpenCVLoadingTest(OnOpenCV, haar_contract.LoadingContract):
    def test_a_file_that_cannot_be_loaded_fails_its_own_look_only(self) -> None:
        broken = cascades.lbp_cascade((24, 24), cascades.BRIGHT_CENTER).replace("leafValues", "leaves")
        with self.assertRaises(DetectorFailed):
            look(self.detector(self.url(broken)), cascades.noise(40, 40))

    def test_it_keeps_to_one_thread(self) -> None:
        look(self.square_detector(), cascades.noise(40, 40))
        self.assertEqual(1, cv2.getNumThreads())


class FastHaarLoadingTest(OnFastHaar, haar_contract.LoadingContract):
    pass


class OpenCVDetectionTest(OnOpenCV, haar_contract.DetectionContract):
    pass


class FastHaarDetectionTest(OnFastHaar, haar_contract.DetectionContract):
    pass


class OpenCVRegionTest(OnOpenCV, haar_contract.RegionContract):
    pass


class FastHaarRegionTest(OnFastHaar, haar_contract.RegionContract):
    pass


class OpenCVRotationTest(OnOpenCV, haar_contract.RotationContract):
    pass


class FastHaarRotationTest(OnFastHaar, haar_contract.RotationContract):
    pass


class OpenCVNearMissTest(OnOpenCV, haar_contract.NearMissContract):
    pass


class FastHaarNearMissTest(OnFastHaar, haar_contract.NearMissContract):
    pass


class OpenCVCostTest(OnOpenCV, haar_contract.CostContract):
    pass


class FastHaarCostTest(OnFastHaar, haar_contract.CostContract):
    pass


class ChoiceTest(unittest.TestCase):
    """Which engine serves."""

    def engine(self, url: str) -> str:
        return create("it", url, working_pixels=10_000).facts.engine

    def test_fasthaar_serves_where_it_can_be_loaded_and_opencv_elsewhere(self) -> None:
        self.assertEqual("fasthaar", self.engine("haar:face"))
        with mock.patch.object(_engines, "MISSING", "no such library"):
            self.assertEqual("opencv", self.engine("haar:face"))

    def test_the_folder_of_the_project_is_not_taken_for_the_package(self) -> None:
        # What `import fasthaar` gives at the root of a checkout where it is not installed.
        script = """
import sys, types
sys.modules["fasthaar"] = types.ModuleType("fasthaar")
from imgdetect.detectors._engines import MISSING, engine_of
print(engine_of().name, MISSING, sep=": ")
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout, "opencv: it is not installed\n")

    def test_the_url_of_a_detector_forces_one(self) -> None:
        for name in ("opencv", "fasthaar"):
            self.assertEqual(name, self.engine(f"haar:face?engine={name}"))

    def test_the_engines_tell_their_versions(self) -> None:
        self.assertEqual(cv2.__version__, OpenCV.version)
        self.assertEqual(f"{fasthaar.__version__}+{fasthaar.target()}", FastHaar.version)


class BudgetTest(OnFastHaar):
    """What an uploaded cascade may cost."""

    def made(self, xml: str, seconds: float = UPLOADED_SECONDS) -> object:
        row = cascades.a_row(xml)
        with mock.patch("imgdetect.detectors.haar.UPLOADED_SECONDS", seconds):
            return uploaded(row, 2_000_000, xml.encode())

    def test_too_many_candidates_are_the_fault_of_the_cascade(self) -> None:
        made = self.made(cascades.lbp_cascade((24, 24), cascades.EVERY_CODE))
        with self.assertRaisesRegex(DetectorTooSlow, str(MAX_CANDIDATES)):
            look(made, cascades.noise(300, 300))

    def test_time_that_runs_out_is_told_with_its_length(self) -> None:
        made = self.made(cascades.slow_cascade(), seconds=0.05)
        with self.assertRaisesRegex(DetectorTooSlow, r"after 0\.05 s"):
            look(made, cascades.noise(640, 480))

    def test_a_detector_without_its_cascade_answers_questions_and_looks_at_nothing(self) -> None:
        row = cascades.a_row(cascades.lbp_cascade((24, 30), cascades.BRIGHT_CENTER))
        made = uploaded(row, 2_000_000)
        self.assertEqual((24, 30), made.facts.window_wh)
        self.assertGreater(made.cost((100, 100), DetectOptions("it")), 0)
        with self.assertRaises(DetectorFailed):
            look(made, np.zeros((100, 100, 3), np.uint8))

    def test_the_fingerprint_is_that_of_the_cascade_and_its_defaults(self) -> None:
        text = cascades.lbp_cascade((24, 24), cascades.BRIGHT_CENTER)
        rows = [
            cascades.a_row(text),
            cascades.a_row(text.replace("0.75", "0.76")),
            cascades.a_row(text, class_name="other"),
            cascades.a_row(text, parameters={"min_size": [30, 30]}),
        ]
        prints = {uploaded(row, 2_000_000).fingerprint for row in rows}
        self.assertEqual(len(rows), len(prints))
        again = uploaded(cascades.a_row(text, name="another", owner="bert", created_at=5), 2_000_000, text.encode())
        self.assertIn(again.fingerprint, prints)


if __name__ == "__main__":
    unittest.main()
