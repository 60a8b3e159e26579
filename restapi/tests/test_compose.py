"""docker-compose.yml and the files around it: what they say must fit the settings, and nothing may be left open."""

import re
import unittest
from typing import Any

import yaml

from imgdetect.config import PREFIX, SECRETS, Settings
from tests.live_server import ROOT

# Set by the image, or by gunicorn for its own processes.
OF_THE_IMAGE = {"IMGDETECT_BIND", "IMGDETECT_DATA_DIR", "IMGDETECT_POOL_DIR"}
OF_COMPOSE = {"IMGDETECT_TAG", "IMGDETECT_NGINX_IMAGE", "IMGDETECT_RESTAPI_IMAGE"}


class ComposeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
        cls.compose: dict[str, Any] = yaml.safe_load(cls.text)
        cls.services: dict[str, dict[str, Any]] = cls.compose["services"]

    def test_every_setting_can_be_passed_on(self) -> None:
        known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
        known |= {f"{PREFIX}{name}_FILE".upper() for name in SECRETS}
        self.assertEqual(set(self.services["restapi"]["environment"]), known - OF_THE_IMAGE)

    def test_every_variable_of_nginx_is_one_that_it_reads(self) -> None:
        script = (ROOT / "nginx" / "start.sh").read_text(encoding="utf-8")
        read = set(re.findall(r"^set_default (\w+)", script, re.MULTILINE))
        self.assertLessEqual(set(self.services["nginx"]["environment"]), read)

    def test_nginx_and_the_service_agree_on_the_largest_uploads(self) -> None:
        script = (ROOT / "nginx" / "start.sh").read_text(encoding="utf-8")
        for setting in ("max_upload_bytes", "max_batch_bytes", "max_batch_images", "max_video_bytes"):
            name, default = f"{PREFIX}{setting}".upper(), Settings.model_fields[setting].default
            self.assertIn(f"set_default {name} {default} ", script)
            self.assertIn(f"${{{name}:-{default}}}", self.text)

    def test_the_example_names_every_variable_with_its_default(self) -> None:
        example = (ROOT / ".env.example").read_text(encoding="utf-8")
        shown = dict(re.findall(r"^#([A-Z_]+)=(.*)$", example, re.MULTILINE))
        used = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", self.text))
        passed = {name for name, value in self.services["restapi"]["environment"].items() if value is None}
        self.assertEqual(set(shown), set(used) | passed)
        for name, default in used.items():
            if name != "CERT_DIR":  # its default is a volume
                self.assertEqual(shown[name].strip('"'), default, name)
        for name in passed - {f"{PREFIX}{secret}_FILE".upper() for secret in SECRETS}:
            default = Settings.model_fields[name.removeprefix(PREFIX).lower()].default
            self.assertEqual(shown[name].strip('"'), str(default if default is not None else ""), name)

    def test_only_nginx_is_published_and_the_service_has_no_way_out(self) -> None:
        self.assertEqual([name for name, service in self.services.items() if "ports" in service], ["nginx"])
        local = [port for port in self.services["nginx"]["ports"] if port.startswith("127.0.0.1:")]
        self.assertEqual(local, ["127.0.0.1:${LOCAL_PORT:-8000}:8000"])
        self.assertEqual(self.services["restapi"]["networks"], ["inside"])
        self.assertTrue(self.compose["networks"]["inside"]["internal"])

    def test_every_service_is_confined(self) -> None:
        for name, service in self.services.items():
            with self.subTest(name):
                self.assertTrue(service["read_only"])
                self.assertEqual(service["cap_drop"], ["ALL"])
                self.assertIn("no-new-privileges:true", service["security_opt"])
                for limit in ("mem_limit", "cpu_quota", "pids_limit", "stop_grace_period", "logging"):
                    self.assertIn(limit, service)
                self.assertNotIn("privileged", service)

    def test_a_database_starts_with_its_profile_only_and_takes_its_password_from_a_file(self) -> None:
        postgres = self.services["postgres"]
        self.assertEqual((postgres["profiles"], postgres["networks"]), (["full"], ["inside"]))
        self.assertEqual([name for name in postgres["environment"] if "PASSWORD" in name], ["POSTGRES_PASSWORD_FILE"])
        self.assertIn("healthcheck", postgres)
        self.assertFalse(self.services["restapi"]["depends_on"]["postgres"]["required"])

    def test_the_cache_may_forget_and_the_queue_may_not(self) -> None:
        for name, policy, on_disk in (("redis-cache", "allkeys-lru", False), ("redis-queue", "noeviction", True)):
            with self.subTest(name):
                redis = self.services[name]
                self.assertEqual((redis["profiles"], redis["networks"]), (["full"], ["inside"]))
                command = redis["command"]
                self.assertEqual(command[command.index("--maxmemory-policy") + 1], policy)
                self.assertEqual("--appendonly" in command, on_disk)
                self.assertEqual(redis.get("volumes", []), ["redis-queue:/data"] if on_disk else [])
                self.assertIn("healthcheck", redis)

    def test_a_worker_has_the_settings_of_the_service_and_a_broker(self) -> None:
        worker, restapi = self.services["worker"], self.services["restapi"]
        self.assertEqual((worker["profiles"], worker["networks"]), (["full"], ["inside"]))
        self.assertNotIn("container_name", worker)  # several of it may run
        self.assertEqual(worker["image"], restapi["image"])
        different = {name for name, value in worker["environment"].items() if restapi["environment"][name] != value}
        self.assertEqual(set(worker["environment"]), set(restapi["environment"]))
        self.assertEqual(different, {"IMGDETECT_QUEUE_URL"})
        self.assertEqual(worker["volumes"], [volume for volume in restapi["volumes"] if "spool" not in volume])

    def test_nginx_sees_no_database_and_writes_no_picture(self) -> None:
        volumes = self.services["nginx"]["volumes"]
        self.assertEqual(volumes, ["images:/data/images:ro,nocopy", "${CERT_DIR:-certificate}:/certs", "spool:/spool"])

    def test_no_image_runs_as_root_or_carries_a_key(self) -> None:
        for path in ("nginx/Dockerfile", "restapi/Dockerfile"):
            text = (ROOT / path).read_text(encoding="utf-8")
            last = text[text.rindex("\nFROM ") if "\nFROM " in text else 0 :]
            self.assertRegex(last, r"\nUSER \d{3,}:\d{3,}\n")
            self.assertIn("HEALTHCHECK", last)
            self.assertNotRegex(text, r"COPY .*(certs|\.key|\.env)")


if __name__ == "__main__":
    unittest.main()
