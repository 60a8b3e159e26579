"""The scripts that deploy: what they refuse, and the way from release to release and back with a stand-in docker."""

from __future__ import annotations

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
# Writes down how it was called; the release that the file `sick` names does not become healthy, and the one that
# `unfit` names finds a setting wrong.
DOCKER = """#!/bin/sh
echo "$*" >>"$STUB/calls"
sick=$(cat "$STUB/sick" 2>/dev/null)
unfit=$(cat "$STUB/unfit" 2>/dev/null)
case "$*" in
    'version '*) echo amd64 ;;
    *'--entrypoint id '*) echo 101 ;;
    *"releases/$sick/"*" up "*) exit 1 ;;
    *"releases/$unfit/"*" run "*" restapi "*) echo "SLOTS: no number"; exit 2 ;;
esac
"""


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class ScriptCase(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="a folder with 'quotes' ")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def assertRefused(self, result: subprocess.CompletedProcess[str], *words: str) -> None:
        self.assertEqual(result.returncode, 2, result)
        for word in words:
            self.assertIn(word, result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1, "one clear line")


class Syntax(ScriptCase):
    def test_every_script_is_plain_shell(self) -> None:
        for name in ("deploy.sh", "release.sh", "smoke.sh", "place_certificates.sh"):
            self.assertEqual((SCRIPTS / name).read_bytes().split(b"\n")[0], b"#!/bin/sh")
            result = run("sh", "-n", SCRIPTS / name)
            self.assertEqual((result.returncode, result.stderr), (0, ""), name)


class Releases(ScriptCase):
    """release.sh in a folder of its own, as it runs on the server."""

    def setUp(self) -> None:
        super().setUp()
        stub = self.folder / "bin"
        stub.mkdir()
        docker = stub / "docker"
        docker.write_text(DOCKER)
        docker.chmod(0o755)
        self.stub = stub
        self.server = self.folder / "server"

    def release(self, command: str, name: str = "") -> subprocess.CompletedProcess[str]:
        arguments = [command, name] if name else [command]
        path = f"{self.stub}:{os.environ['PATH']}"
        return run("sh", SCRIPTS / "release.sh", self.server, *arguments, PATH=path, STUB=str(self.stub))

    def must(self, command: str, name: str = "") -> str:
        result = self.release(command, name)
        self.assertEqual(result.returncode, 0, result)
        return result.stdout

    def deliver(self, name: str, certificate: bool = False) -> None:
        self.must("prepare", name)
        folder = self.server / "releases" / name
        (folder / "docker-compose.yml").write_text("services: {}\n")
        (folder / "images").write_text(f"imgdetect/nginx:{name}\nimgdetect/restapi:{name}\n")
        (folder / "release.env").write_text(f"IMGDETECT_TAG={name}\n")
        if certificate:
            (folder / "certs").mkdir()
            (folder / "certs" / "tls.crt").write_text("certificate")
            (folder / "certs" / "tls.key").write_text("key")

    def deploy(self, name: str) -> None:
        self.deliver(name)
        self.must("activate", name)
        self.must("accept", name)

    def sicken(self, name: str, how: str = "sick") -> None:
        (self.stub / how).write_text(name)

    def calls(self, word: str) -> list[str]:
        return [line for line in (self.stub / "calls").read_text().splitlines() if f" {word}" in line]

    def started(self) -> list[str]:
        return [line.split("releases/")[1].split("/")[0] for line in self.calls("up ")]

    def names(self) -> dict[str, str]:
        files = ("current", "previous", "candidate")
        return {f: (self.server / f).read_text().strip() for f in files if (self.server / f).exists()}

    def test_the_first_release_serves(self) -> None:
        self.deploy("one")
        self.assertEqual(self.names(), {"current": "one"})
        self.assertEqual(self.started(), ["one"])

    def test_a_release_is_started_from_what_is_there_and_waited_for(self) -> None:
        self.deploy("one")
        (call,) = self.calls("up ")
        for option in ("--project-name imgdetect", "--no-build", "--pull never", "--wait", "--remove-orphans"):
            self.assertIn(option, call)

    def test_the_release_before_is_remembered(self) -> None:
        self.deploy("one")
        self.deploy("two")
        self.assertEqual(self.names(), {"current": "two", "previous": "one"})

    def test_a_sick_release_is_reported_and_the_one_before_comes_back(self) -> None:
        self.deploy("one")
        self.deliver("two")
        self.sicken("two")
        result = self.release("activate", "two")
        self.assertEqual((result.returncode, result.stdout), (1, "Release two does not become healthy.\n"))
        self.assertIn("Rolled back: release one serves again", self.must("cancel", "two"))
        self.assertEqual(self.started(), ["one", "two", "one"])
        self.assertEqual(self.names(), {"current": "one"})

    def test_a_release_that_cannot_work_here_is_never_put_in_the_place_of_another(self) -> None:
        self.deploy("one")
        self.deliver("two")
        self.sicken("two", "unfit")
        result = self.release("activate", "two")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(
            result.stdout, "Release two cannot work with the settings of this server; nothing was switched.\n"
        )
        self.assertEqual(result.stderr, "SLOTS: no number\n")
        self.assertIn("one goes on serving", self.must("cancel", "two"))
        self.assertEqual(self.started(), ["one"])

    def test_a_release_that_failed_the_smoke_test_gives_way(self) -> None:
        self.deploy("one")
        self.deploy("two")
        self.deliver("three")
        self.must("activate", "three")
        self.must("cancel", "three")
        self.assertEqual(self.started()[-1], "two")
        self.assertEqual(self.names(), {"current": "two", "previous": "one"})

    def test_the_very_first_release_is_stopped_when_it_fails_and_the_volumes_stay(self) -> None:
        self.deliver("one")
        self.must("activate", "one")
        self.assertIn("there is none to go back to", self.must("cancel", "one"))
        (call,) = self.calls("down")
        self.assertNotIn("-v", call.split("down")[1])
        self.assertNotIn("--volumes", call)
        self.assertEqual(self.names(), {})

    def test_cancelling_what_was_never_started_touches_nothing(self) -> None:
        self.deploy("one")
        self.deliver("two")
        self.assertIn("was not started; one goes on serving", self.must("cancel", "two"))
        self.assertEqual(self.started(), ["one"])

    def test_it_says_so_when_not_even_the_release_before_comes_back(self) -> None:
        self.deploy("one")
        self.deliver("two")
        self.must("activate", "two")
        self.sicken("one")
        result = self.release("cancel", "two")
        self.assertEqual(result.returncode, 1)
        self.assertIn("RELEASE one DOES NOT COME BACK", result.stdout)

    def test_an_operator_goes_back_and_forward_again(self) -> None:
        self.deploy("one")
        self.assertRefused(self.release("rollback"), "there is no release to go back to")
        self.deploy("two")
        self.must("rollback")
        self.assertEqual(self.names(), {"current": "one", "previous": "two"})
        self.must("rollback")
        self.assertEqual(self.names(), {"current": "two", "previous": "one"})
        self.assertEqual(self.started(), ["one", "two", "one", "two"])

    def test_what_serves_is_never_written_over(self) -> None:
        self.deploy("one")
        self.assertRefused(self.release("prepare", "one"), "is there already")

    def test_a_release_keeps_the_settings_of_its_activation(self) -> None:
        self.server.mkdir()
        settings = self.server / "settings.env"
        settings.write_text("IMGDETECT_TAG=from-settings\nRATE_LIMIT=10\n")
        self.deploy("one")
        settings.write_text("RATE_LIMIT=20\n")
        self.deploy("two")
        one, two = ((self.server / "releases" / name / ".env").read_text() for name in ("one", "two"))
        self.assertEqual(one.split(), ["IMGDETECT_TAG=from-settings", "RATE_LIMIT=10", "IMGDETECT_TAG=one"])
        self.assertEqual(two.split(), ["RATE_LIMIT=20", "IMGDETECT_TAG=two"])

    def test_nobody_else_can_read_settings_and_keys(self) -> None:
        self.deliver("one", certificate=True)
        self.must("activate", "one")
        for path in (self.server, self.server / "releases", self.server / "releases" / "one" / ".env"):
            self.assertEqual(path.stat().st_mode & 0o077, 0, path.name)

    def test_the_key_is_given_to_the_user_of_nginx_and_the_next_release_takes_it_over(self) -> None:
        self.deliver("one", certificate=True)
        self.must("activate", "one")
        self.must("accept", "one")
        self.assertIn("imgdetect/nginx:one", self.calls("--entrypoint sh ")[0])
        self.assertIn("chown 101 /certs/tls.key && chmod 400 /certs/tls.key", (self.stub / "calls").read_text())
        self.deliver("two")
        self.must("activate", "two")
        self.assertIn("releases/one/certs:/from:ro", (self.stub / "calls").read_text())
        self.assertIn(
            f"CERT_DIR={self.server}/releases/two/certs\n", (self.server / "releases" / "two" / ".env").read_text()
        )

    def test_the_operators_own_folder_of_certificates_wins_over_the_one_before(self) -> None:
        self.deliver("one", certificate=True)
        self.must("activate", "one")
        self.must("accept", "one")
        (self.server / "settings.env").write_text("CERT_DIR=/srv/certs\n")
        self.deploy("two")
        settings = (self.server / "releases" / "two" / ".env").read_text()
        self.assertEqual(settings.split(), ["CERT_DIR=/srv/certs", "IMGDETECT_TAG=two"])

    def test_old_releases_and_their_images_go(self) -> None:
        for number in range(6):
            self.deploy(f"r{number}")
            folder = self.server / "releases" / f"r{number}"
            os.utime(folder, (number, number))
        left = {path.name for path in (self.server / "releases").iterdir()}
        self.assertEqual(left, {"r3", "r4", "r5"})
        self.assertIn("image rm imgdetect/restapi:r0", (self.stub / "calls").read_text())
        self.assertNotIn("image rm imgdetect/restapi:r4", (self.stub / "calls").read_text())

    def test_what_could_serve_again_is_kept_however_old(self) -> None:
        self.deploy("one")
        for name in ("two", "three", "four"):
            self.deliver(name)
        for number, path in enumerate(sorted((self.server / "releases").iterdir())):
            os.utime(path, (number, number))
        os.utime(self.server / "releases" / "one", (-1, -1))
        self.deploy("five")
        self.assertEqual(self.names(), {"current": "five", "previous": "one"})
        self.assertTrue((self.server / "releases" / "one").exists())
        self.assertFalse((self.server / "releases" / "four").exists())

    def test_names_that_could_be_something_else_are_refused(self) -> None:
        for name in ("../x", "-v", "a b", "$(id)", ".hidden"):
            self.assertRefused(self.release("prepare", name), "letters, digits, dots and dashes")
        self.assertRefused(self.release("activate"), "letters, digits, dots and dashes")
        self.assertRefused(self.release("destroy"), "there is no command destroy")


class Refusals(ScriptCase):
    """What somebody may type into a parameter and what must not happen then."""

    def deploy(self, command: str = "deliver", **changed: str) -> subprocess.CompletedProcess[str]:
        key = self.folder / "key"
        key.write_text("a file\n")
        given = {"RELEASE": "one", "DEPLOY_HOST": "server.invalid", "SSH_KEY": str(key), "KNOWN_HOSTS": str(key)}
        return run(SCRIPTS / "deploy.sh", command, **(given | changed))

    def test_words_that_ssh_or_a_shell_would_take_for_more_are_refused(self) -> None:
        for name in ("DEPLOY_HOST", "DEPLOY_USER", "DEPLOY_DIR", "RELEASE"):
            for value in ("-v", "-oProxyCommand=touch x", "a b", "a;b", "$(id)", "a'b"):
                self.assertRefused(self.deploy(**{name: value}), name)

    def test_a_port_is_a_number(self) -> None:
        self.assertRefused(self.deploy(DEPLOY_PORT="22 -v"), "DEPLOY_PORT")

    def test_host_names_are_host_names(self) -> None:
        for value in ('a"b', "a;b", "a$b"):
            self.assertRefused(self.deploy(ALLOWED_HOSTS=value), "ALLOWED_HOSTS")

    def test_a_missing_setting_is_named(self) -> None:
        for name in ("DEPLOY_HOST", "RELEASE", "SSH_KEY", "KNOWN_HOSTS"):
            self.assertRefused(self.deploy(**{name: ""}), name)

    def test_an_unknown_command_is_named(self) -> None:
        self.assertRefused(self.deploy("destroy"), "destroy")

    def test_only_options_of_curl_that_choose_the_way_are_taken(self) -> None:
        for options in ("-o /etc/x", "--cacert", "-k;id", "--resolve a:1:$(id)", "-K x", "--cacert 'x'", "file"):
            result = run(SCRIPTS / "smoke.sh", SMOKE_URL="https://server.invalid", SMOKE_CURL_OPTS=options)
            self.assertRefused(result, "SMOKE_CURL_OPTS")

    def test_the_smoke_test_goes_to_servers_only(self) -> None:
        for url in ("file:///etc/passwd", "https://", "server.invalid", "https://server.invalid/$(id)"):
            self.assertRefused(run(SCRIPTS / "smoke.sh", SMOKE_URL=url), "SMOKE_URL")


class Certificates(ScriptCase):
    def setUp(self) -> None:
        super().setUp()
        self.source = self.folder / "source"
        self.source.mkdir()
        self.target = self.folder / "target"

    def make(self, certificate: str = "fullchain.pem", key: str = "privkey.pem", *options: str) -> None:
        result = run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-subj", "/CN=server.invalid", "-out", self.source / certificate, "-keyout", self.source / key),
            *(options or ("-nodes", "-days", "90")),
        )
        self.assertEqual(result.returncode, 0, result.stderr)

    def place(self) -> subprocess.CompletedProcess[str]:
        return run(SCRIPTS / "place_certificates.sh", self.source, self.target)

    def test_every_usual_pair_of_names_is_taken(self) -> None:
        for names in (("fullchain.pem", "privkey.pem"), ("tls.crt", "tls.key"), ("server.crt", "server.key")):
            with self.subTest(names=names):
                self.make(*names)
                self.assertEqual(self.place().returncode, 0)
                self.assertEqual((self.target / "tls.crt").read_bytes(), (self.source / names[0]).read_bytes())
                self.assertEqual((self.target / "tls.key").read_bytes(), (self.source / names[1]).read_bytes())
                for name in names:
                    (self.source / name).unlink()

    def test_the_modes_are_right_whatever_they_were(self) -> None:
        self.make()
        (self.source / "privkey.pem").chmod(0o755)
        self.assertEqual(self.place().returncode, 0)
        modes = {path.name: path.stat().st_mode & 0o777 for path in (self.target, *self.target.iterdir())}
        self.assertEqual(modes, {"target": 0o700, "tls.crt": 0o644, "tls.key": 0o600})

    def test_a_key_of_another_certificate_is_refused(self) -> None:
        self.make()
        self.make("other.pem", "privkey.pem")
        self.assertRefused(self.place(), "is not the key of")
        self.assertFalse(self.target.exists())

    def test_a_key_with_a_pass_phrase_is_refused(self) -> None:
        self.make("fullchain.pem", "privkey.pem", "-passout", "pass:secret")
        self.assertRefused(self.place(), "pass phrase")

    def test_an_expired_certificate_is_refused_and_a_short_one_warned_of(self) -> None:
        self.make()
        pair = (self.source / "fullchain.pem", "-signkey", self.source / "privkey.pem")
        result = run("openssl", "x509", "-days", "-1", "-in", *pair, "-out", self.source / "expired.pem")
        self.assertEqual(result.returncode, 0, result.stderr)
        (self.source / "expired.pem").rename(self.source / "fullchain.pem")
        self.assertRefused(self.place(), "has expired")
        self.make("fullchain.pem", "privkey.pem", "-nodes", "-days", "5")
        result = self.place()
        self.assertEqual(result.returncode, 0)
        self.assertIn("ends within 14 days", result.stderr)

    def test_a_folder_without_a_pair_is_refused(self) -> None:
        self.assertRefused(self.place(), "has no fullchain.pem with privkey.pem")
        (self.source / "fullchain.pem").write_text("no certificate")
        (self.source / "privkey.pem").write_text("no key")
        self.assertRefused(self.place(), "is no certificate in PEM form")


if __name__ == "__main__":
    unittest.main()
