"""Every command of docs/workshop.md, as it stands there but with little of everything."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
import unittest
from pathlib import Path

from commands import run

TUTORIAL = Path(__file__).parents[2] / "docs/workshop.md"
# What makes the commands small; the rest is as it is written.
LITTLE = (
    (r"--count \d+", "--count 30"),
    (r"(samples scenes .*)--count \d+", r"\1--count 3 --scene-size 200x150"),
    (r"(samples negatives .*)--count \d+", r"\1--count 8 --scene-size 320x240"),
    (r"(samples .*)", r"\1 --processes 1"),
    (r"(train .*)--stages \d+", r"\1--stages 2 --negatives-per-stage 60 --features-per-round 300"),
    (r"(tune .*)--limit \d+", r"\1--limit 100000 --scale-factors 1.2"),
)


def commands():
    """The lines that begin with `$ fasthaar`, without the prompt."""
    blocks = re.findall(r"```console\n(.*?)```", TUTORIAL.read_text("utf-8"), re.DOTALL)
    text = "".join(blocks).replace("\\\n", " ")
    return re.findall(r"^\$ fasthaar (.*)$", text, re.MULTILINE)


class TutorialTest(unittest.TestCase):
    def test_every_command_works_one_after_the_other(self):
        found = commands()
        self.assertGreaterEqual(len(found), 7)
        here = Path.cwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                for written in found:
                    command = written
                    for pattern, replacement in LITTLE:
                        command = re.sub(pattern, replacement, command)
                    code, said, error = run(*shlex.split(command))
                    self.assertEqual(code, 0, f"{command}: {said}{error}")
                made = {path.name for path in Path(folder).iterdir()}
            finally:
                os.chdir(here)
        self.assertLessEqual(
            {"positives.npz", "positives.png", "negatives", "scenes", "curve.png", "settings.png"}, made
        )


if __name__ == "__main__":
    unittest.main()
