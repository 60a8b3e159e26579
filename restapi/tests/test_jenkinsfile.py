"""The pipeline as a text: its sections and stages, what it runs, what it must never say, and its documentation."""

from __future__ import annotations

import os
import re
import unittest
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Jenkinsfile").read_text(encoding="utf-8")
DOCS = (ROOT / "docs" / "jenkins.md").read_text(encoding="utf-8")
STRING = re.compile(r"'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"")
CLOSED_BY = {"(": ")", "[": "]", "{": "}"}
STAGES = [
    "Checkout",
    "Lint",
    "Test",
    "Certificates",
    "Compose config",
    "Images",
    "Deploy",
    "Deliver",
    "Activate",
    "Smoke test",
    "Accept",
]


def code(text: str) -> str:
    """The text without its comments; a `//` in a string is none."""
    parts = re.split(f"({STRING.pattern}|//[^\n]*)", text)
    return "".join(part for part in parts if not part.startswith("//"))


def block(head: str, text: str) -> str:
    """What stands between the braces behind the first `head`; braces in strings do not count."""
    at = text.index(head) + len(head)
    masked = STRING.sub(lambda match: "x" * len(match[0]), text)
    start = masked.index("{", at)
    depth = 0
    for place in range(start, len(masked)):
        depth += {"{": 1, "}": -1}.get(masked[place], 0)
        if depth == 0:
            return text[start + 1 : place]
    raise AssertionError(f"the block of {head} has no end")


PIPELINE = block("pipeline", code(TEXT))


def stage(name: str) -> str:
    return block(f"stage('{name}')", PIPELINE)


class Form(unittest.TestCase):
    def test_every_bracket_is_closed_by_its_own_kind(self) -> None:
        expected: list[str] = []
        for character in STRING.sub("", code(TEXT)):
            if character in CLOSED_BY:
                expected.append(CLOSED_BY[character])
            elif character in CLOSED_BY.values():
                self.assertTrue(expected and expected.pop() == character, f"{character!r} closes nothing")
        self.assertEqual(expected, [])

    def test_it_is_declarative_and_has_every_section(self) -> None:
        self.assertTrue(code(TEXT).strip().startswith("pipeline {"))
        sections = re.findall(r"^    (\w+)(?= |$)", PIPELINE, re.MULTILINE)
        self.assertEqual(sections, ["agent", "options", "parameters", "triggers", "stages", "post"])

    def test_the_stages_come_in_their_order(self) -> None:
        self.assertEqual(re.findall(r"stage\('([^']+)'\)", PIPELINE), STAGES)

    def test_builds_end_are_stamped_and_do_not_pile_up(self) -> None:
        options = block("options", PIPELINE)
        for option in ("timestamps()", "timeout(", "disableConcurrentBuilds()", "buildDiscarder("):
            self.assertIn(option, options)


class Commands(unittest.TestCase):
    def test_no_command_is_put_together_by_groovy(self) -> None:
        commands = re.findall(r"\bsh\b[ (]+(?:[^'\"\n]*script: *)?(['\"].*)", PIPELINE)
        self.assertGreater(len(commands), 10)
        for command in commands:
            self.assertTrue(command.startswith("'"), f"a command in double quotes takes values in: {command}")
            self.assertNotIn("${", command)
            self.assertNotRegex(command, r"'\s*\+", f"a command is added to: {command}")

    def test_the_scripts_it_runs_are_there_and_executable(self) -> None:
        scripts = set(re.findall(r"scripts/[a-z_]+\.sh", PIPELINE))
        self.assertEqual(
            scripts, {"scripts/place_certificates.sh", "scripts/deploy.sh", "scripts/smoke.sh"}, "and no other"
        )
        for script in scripts:
            self.assertTrue(os.access(ROOT / script, os.X_OK), script)

    def test_the_commands_of_deploy_sh_are_there(self) -> None:
        used = re.findall(r"scripts/deploy\.sh (\w+)", PIPELINE)
        self.assertEqual(used, ["deliver", "activate", "accept", "logs", "cancel", "tidy"])
        usage = (ROOT / "scripts" / "deploy.sh").read_text(encoding="utf-8").split("set -e")[0]
        for command in used:
            self.assertRegex(usage, rf"#.*\b{command}\b")

    def test_the_make_targets_are_there(self) -> None:
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        for command in re.findall(r"sh 'make ([^']+)'", PIPELINE):
            for target in command.replace("-o ", "").split():
                self.assertIn(target, targets)
        self.assertIn("'make lint'", stage("Lint"))
        self.assertIn("check'", stage("Test"))

    def test_images_are_tagged_by_the_release_and_the_release_by_the_commit(self) -> None:
        self.assertIn("git rev-parse --short=12 HEAD", stage("Checkout"))
        self.assertIn('IMGDETECT_TAG="$RELEASE" docker compose build', stage("Images"))
        compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
        images = re.findall(r"^    image: (.*)$", compose, re.MULTILINE)
        ours = [image for image in images if "imgdetect/" in image]
        self.assertGreaterEqual(len(ours), 3)  # the others are of those who make them
        for image in ours:
            self.assertTrue(image.endswith(":${IMGDETECT_TAG:-latest}"), image)


class Safety(unittest.TestCase):
    def test_only_the_main_branch_is_deployed_and_no_pull_request(self) -> None:
        for name in ("Certificates", "Deploy"):
            condition = block("when", stage(name))
            self.assertIn("branch 'main'", condition)
            self.assertIn("not { changeRequest() }", condition)
            self.assertIn("params.DEPLOY.toString() == 'true'", condition)
            self.assertIn("params.DEPLOY_HOST != ''", condition)
        for name in ("Deliver", "Activate", "Smoke test", "Accept"):
            self.assertIn(f"stage('{name}')", stage("Deploy"))

    def test_whatever_goes_wrong_while_deploying_is_taken_back(self) -> None:
        going_back = block("unsuccessful", stage("Deploy").split("stage('Accept')")[1])
        self.assertLess(going_back.index("deploy.sh logs"), going_back.index("deploy.sh cancel"))
        outside = block("when", stage("Deploy")) + stage("Deploy").split("stages {")[0]
        self.assertNotIn("timeout(", outside, "a limit around the post section would end the going back too")

    def test_the_smoke_test_stands_before_the_acceptance(self) -> None:
        self.assertIn("scripts/smoke.sh", stage("Smoke test"))
        self.assertIn("deploy.sh accept", stage("Accept"))

    def test_the_host_key_is_always_checked(self) -> None:
        for path in (ROOT / "Jenkinsfile", *sorted((ROOT / "scripts").glob("*.sh"))):
            text = path.read_text(encoding="utf-8")
            values = re.findall(r"StrictHostKeyChecking[= ]+\"?([\w-]+)", text, re.IGNORECASE)
            self.assertEqual(set(values) - {"yes"}, set(), path.name)
            self.assertNotIn("ssh-keyscan", text, path.name)
        self.assertIn("StrictHostKeyChecking=yes", (ROOT / "scripts" / "deploy.sh").read_text(encoding="utf-8"))

    def test_secrets_come_from_credentials_that_parameters_name(self) -> None:
        identifiers = re.findall(r"credentialsId: ([\w.]+)", PIPELINE)
        self.assertEqual(set(identifiers), {"params.SSH_CREDENTIALS", "params.KNOWN_HOSTS_CREDENTIALS", "key"})
        for name, default in re.findall(r"name: '(\w+)'.*?defaultValue: ([^,]+),", PIPELINE, re.DOTALL):
            self.assertNotRegex(default, r"\d+\.\d+\.\d+\.\d+|@|BEGIN|://", name)

    def test_nothing_traces_the_commands_of_a_shell(self) -> None:
        for path in (ROOT / "Jenkinsfile", *sorted((ROOT / "scripts").glob("*.sh"))):
            self.assertNotRegex(path.read_text(encoding="utf-8"), r"set -\w*x|sh -\w*x|\bcurl\b.* -v\b", path.name)

    def test_the_result_is_mailed_and_the_reports_are_kept(self) -> None:
        post = block("post", PIPELINE.split("stage('Accept')")[1].split("unsuccessful")[1])
        always = block("always", post)
        self.assertIn("archiveArtifacts artifacts: 'build/reports/**'", always)
        self.assertIn("emailext to: params.MAIL_TO", always)
        self.assertIn("currentBuild.currentResult", always)
        self.assertIn("junit testResults: 'build/reports/*.xml'", stage("Test"))
        self.assertIn("REPORTS = 'build/reports'", stage("Test"))


class Documentation(unittest.TestCase):
    def test_every_parameter_is_explained_in_both_places(self) -> None:
        parameters = block("parameters", PIPELINE)
        declared = re.findall(r"\w+\(name: '(\w+)'", parameters)
        self.assertEqual(len(declared), parameters.count("description: '"))
        documented = re.findall(r"^\| `([A-Z_]+)` \|", DOCS.split("## Parameters")[1], re.MULTILINE)
        self.assertEqual(documented, declared)

    def test_every_default_of_a_folder_has_the_name_of_its_parameter(self) -> None:
        defaults = re.findall(r"name: '(\w+)'[^\n]*?(?:\n\s+)?defaultValue: env\.DEFAULT_(\w+) \?:", PIPELINE)
        self.assertEqual(len(defaults), 12)
        for parameter, variable in defaults:
            self.assertEqual(parameter, variable)

    def test_every_stage_is_in_the_table(self) -> None:
        table = DOCS.split("| --- | --- | --- |\n")[1].split("\n\n")[0]
        rows = [row.removeprefix("Deploy: ") for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)]
        self.assertEqual(rows, [name for name in STAGES if name != "Deploy"])

    def test_its_plugins_credentials_and_triggers_have_their_chapters(self) -> None:
        for chapter in ("### Jenkins", "### Credentials", "## Triggers", "## When a deployment fails"):
            self.assertIn(f"\n{chapter}\n", DOCS)
        for plugin in ("Pipeline", "Git", "Credentials Binding", "Timestamper", "JUnit", "Email Extension"):
            self.assertIn(f"**{plugin}**", DOCS)
        self.assertIn("pollSCM", block("triggers", PIPELINE))


if __name__ == "__main__":
    unittest.main()
