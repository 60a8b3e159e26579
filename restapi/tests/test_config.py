"""Settings."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

from imgdetect import config
from imgdetect.equipment import detector_urls


def loaded(**environment):
    with mock.patch.dict("os.environ", {f"IMGDETECT_{k}": v for k, v in environment.items()}):
        return config.load()


class SettingsTest(unittest.TestCase):
    def refused(self, **environment):
        with self.assertRaises(config.SettingsError) as caught:
            loaded(**environment)
        return str(caught.exception)

    def test_every_setting_has_a_default_and_a_line_of_help(self):
        config.load()
        for name, field in config.Settings.model_fields.items():
            self.assertFalse(field.is_required(), name)
            self.assertTrue(field.description and "\n" not in field.description, name)

    def test_all_errors_come_at_once(self):
        text = self.refused(MAX_PIXELS="many", DEADLINE_SECONDS="0", LOG_FORMAT="xml", COLOUR="red", CORS_ORIGINS="*")
        for part in ("MAX_PIXELS", "DEADLINE_SECONDS", "LOG_FORMAT", "COLOUR: there is no such", "CORS_ORIGINS"):
            self.assertIn(part, text)
        self.assertEqual(len(text.splitlines()), 5)

    def test_an_empty_variable_means_the_default(self):
        self.assertEqual(loaded(MAX_PIXELS="").max_pixels, 25_000_000)

    def test_kubernetes_service_links_are_no_settings(self):
        links = {"PORT": "tcp://10.0.0.1:80", "SERVICE_HOST": "10.0.0.1", "SERVICE_PORT_HTTP": "80"}
        self.assertEqual(loaded(**links, PORT_80_TCP_ADDR="10.0.0.1"), loaded())

    def test_a_secret_may_come_from_a_file(self):
        _, entry = config.make_api_key("alice")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "keys"
            path.write_text(entry + "\n")
            self.assertEqual(loaded(API_KEYS_FILE=str(path)).api_keys, entry)
            self.assertIn("use one", self.refused(API_KEYS_FILE=str(path), API_KEYS=entry))
            self.assertIn("cannot read", self.refused(API_KEYS_FILE=folder + "/nothing"))

    def test_a_wrong_secret_is_not_repeated(self):
        self.assertNotIn("hunter2", self.refused(API_KEYS="alice:hunter2"))

    def test_memory_backends_refuse_several_processes(self):
        self.assertIn("WORKERS", self.refused(STORAGE_URL="memory:", WORKERS="2"))
        self.assertIn("WORKERS", self.refused(DATABASE_URL="sqlite:///:memory:", WORKERS="2"))
        loaded(STORAGE_URL="memory:", WORKERS="1")

    def test_there_is_a_slot_for_each_core(self):
        with mock.patch.object(config, "usable_cores", return_value=8):
            self.assertEqual(loaded(WORKERS="2").effective_slots, 8)
            self.assertEqual(loaded(SLOTS="3").effective_slots, 3)

    def test_the_documentation_names_every_setting(self):
        text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
        missing = [n for n in config.Settings.model_fields if f"`IMGDETECT_{n.upper()}`" not in text]
        self.assertEqual(missing, [])


class DetectorUrlsTest(unittest.TestCase):
    def test_a_folder_of_cascades_becomes_detectors(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "stop_sign.xml").write_text("<opencv_storage/>")
            urls = detector_urls(loaded(CASCADES_DIR=folder))
            self.assertEqual(urls["stop_sign"], f"haar:{folder}/stop_sign.xml")

    def test_detectors_with_parameters(self):
        urls = detector_urls(loaded(DETECTORS="strict=haar:face?min_neighbors=9 more=haar:eye"))
        self.assertEqual((urls["strict"], urls["more"]), ("haar:face?min_neighbors=9", "haar:eye"))

    def test_what_is_not_there_is_refused(self):
        for environment, part in (
            ({"DETECTORS": "face"}, "NAME=URL"),
            ({"CASCADES_DIR": "/nowhere"}, "/nowhere"),
            ({"DEFAULT_DETECTOR": "dog"}, "'dog'"),
        ):
            with self.assertRaisesRegex(ValueError, part):
                detector_urls(loaded(**environment))


if __name__ == "__main__":
    unittest.main()
