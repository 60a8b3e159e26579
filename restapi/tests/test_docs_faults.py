"""docs/faults.md names tests that are there."""

import re
import unittest
from pathlib import Path

from tests.test_docs import DOCS

HERE = Path(__file__).parent


class FaultsPageTest(unittest.TestCase):
    def test_every_row_names_tests_that_exist(self):
        rows = [
            line.strip("|").split("|") for line in (DOCS / "faults.md").read_text("utf-8").splitlines() if "`" in line
        ]
        rows = [cells[-1] for cells in rows if len(cells) == 3]
        self.assertGreater(len(rows), 40)
        for shown_by in rows:
            with self.subTest(shown_by):
                words = re.findall(r"`(test_\w+)(\.py)?`", shown_by)
                self.assertGreaterEqual(len(words), 2)
                source = ""
                for name, is_file in words:
                    if is_file:
                        source = (HERE / f"{name}.py").read_text("utf-8")
                    else:
                        self.assertIn(f"    def {name}(self)", source)

    def test_every_file_of_faults_is_named(self):
        named = (DOCS / "faults.md").read_text("utf-8")
        for path in HERE.glob("test_faults*.py"):
            self.assertIn(f"`{path.name}`", named)


if __name__ == "__main__":
    unittest.main()
