"""The documentation says what is true: its examples run, its tables agree with the code, its links lead somewhere."""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import cv2
import numpy as np

from imgdetect import detectors, errors, metrics, parameters
from imgdetect.config import Settings
from imgdetect.detection import DetectOptions, Style
from imgdetect.errors import InvalidRequest
from imgdetect.job_rows import WorkerLost
from imgdetect.parameters import DetectParameters, UploadParameters, validated
from tests.live_server import RESTAPI, ROOT, LiveServer
from tests.test_architecture import RANKS

README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "deploy/**/*.md", "fasthaar/**/*.md", "*/CREDITS.md")
    for path in ROOT.glob(pattern)
    if path.is_file()
)
README_URL = "http://127.0.0.1:8000"
# The README's blocks that this test stands in for: the machine, the server it starts and stops, and this suite itself.
NOT_REPEATED = ("apt-get", "make run", "kill ", "make test")
SEPARATOR = "\x1e"
NUMBER_TOLERANCE = 3  # pixels and neighbours may differ a little between processors


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = re.findall(r"^```([a-z]*)\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [Block(*match) for match in found]


def prose(path: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """What `#...` may name in a page, as Git hosts make it of the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def table(path: Path, first_header: str) -> list[list[str]]:
    """The rows of the table whose first column has this header; a cell's text is as written."""
    lines = path.read_text("utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first_header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def code(cell: str) -> list[str]:
    """The words in backticks of a cell."""
    return re.findall(r"`([^`]+)`", cell)


def make_targets() -> set[str]:
    """The targets of the Makefile that a person may name."""
    return set(re.findall(r"^([a-z][a-z_-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


class LinksTest(unittest.TestCase):
    def test_every_relative_link_leads_somewhere(self):
        wrong = []
        for page in PAGES:
            for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
                if re.match(r"[a-z]+:", target):
                    continue
                name, _, anchor = target.partition("#")
                there = (page.parent / name).resolve() if name else page
                if not there.exists() or (anchor and anchor not in anchors(there)):
                    wrong.append(f"{page.relative_to(ROOT)}: {target}")
        self.assertEqual(wrong, [])

    def test_every_page_can_be_reached_from_the_readme(self):
        linked, todo = {README}, [README]
        while todo:
            page = todo.pop()
            for target in re.findall(r"\]\(([^)\s#]+\.md)", prose(page)):
                there = (page.parent / target).resolve()
                if there not in linked and there.exists():
                    linked.add(there)
                    todo.append(there)
        self.assertEqual({page for page in DOCS.glob("*.md")} - linked, set())

    def test_the_pictures_are_small_and_all_shown(self):
        pictures = list((DOCS / "images").iterdir())
        self.assertLess(sum(picture.stat().st_size for picture in pictures), 300_000)
        shown = "".join(page.read_text("utf-8") for page in PAGES)
        self.assertEqual([picture.name for picture in pictures if f"images/{picture.name})" not in shown], [])


class WordsTest(unittest.TestCase):
    def test_no_page_names_a_place_of_somebodys_machine_or_is_unfinished(self):
        forbidden = re.compile(r"/(?:work|root|Users|home/\w+)/|\b(?:TODO|FIXME|TBD|XXX)\b|[\U0001f000-\U0001faff]")
        wrong = [f"{p.relative_to(ROOT)}: {m[0]}" for p in PAGES for m in forbidden.finditer(p.read_text("utf-8"))]
        self.assertEqual(wrong, [])

    def test_every_make_target_that_is_named_exists_and_every_one_is_named(self):
        named = set()
        for page in PAGES:
            named |= set(re.findall(r"`make ([a-z][a-z_-]*)", page.read_text("utf-8")))
            for block in blocks(page):
                if block.language in ("sh", "console"):
                    named |= set(re.findall(r"(?:^|\$ |[\"'] )make ([a-z][a-z_-]*)", block.text, re.MULTILINE))
        self.assertEqual(named - make_targets(), set())
        self.assertEqual(make_targets() - named - {"tools"}, set())

    def test_every_file_that_is_named_exists(self):
        named = re.compile(r"`((?:restapi|scripts|nginx|test_images|benchmarks|deploy|docs)/[\w./-]+\.[a-z]+)`")
        wrong = [m[1] for page in PAGES for m in named.finditer(prose(page)) if not (ROOT / m[1]).exists()]
        self.assertEqual([name for name in wrong if "NAME" not in name and "NUMBER" not in name], [])


class ParametersTest(unittest.TestCase):
    def setUp(self) -> None:
        self.rows = {code(row[0])[0]: row for row in table(README, "parameter")}

    def test_every_parameter_is_there_in_the_order_of_the_code(self):
        self.assertEqual(list(self.rows), list(UploadParameters.model_fields))

    def test_the_defaults_are_those_of_the_code(self):
        face = detectors.create("face", "haar:face", working_pixels=1_000_000).facts.defaults
        for name, (_, _, default, _) in self.rows.items():
            value = face.get(name, UploadParameters.model_fields[name].default)
            if name == "detector":
                value = Settings.model_fields["default_detector"].default
            if isinstance(value, tuple | list):
                value = value[0] if len(set(value)) == 1 else value
            text = str(value).lower() if isinstance(value, bool) else "none" if value is None else str(value)
            self.assertEqual(default.strip("`"), text, name)

    def accepted(self, name: str, value: float) -> bool:
        """Whether the server takes a number for a parameter."""
        try:
            given = validated(DetectParameters, {name: f"{value:g}"})
            given.options("face", Settings.model_fields["min_scale_factor"].default)
        except InvalidRequest:
            return False
        return True

    def test_the_ranges_are_those_of_the_code(self):
        checked = set()
        for name, (*_, text) in self.rows.items():
            if match := re.search(r"(-?[\d.]+) to ([\d.]+)", text):
                low, high = float(match[1]), float(match[2])
                step = 0.01 if "." in match[1] else 1
                answers = [self.accepted(name, value) for value in (low - step, low, high, high + step)]
                self.assertEqual(answers, [False, True, True, False], name)
                checked.add(name)
        numbers = {"scale_factor", "min_neighbors", "min_size", "max_size", "rotations", "max_detections"}
        numbers |= {"confidence", "iou_threshold", "top_k"}
        self.assertEqual(checked, numbers)
        self.assertEqual(code(self.rows["style"][3]), list(get_args(Style)))
        for name in ("equalize", "label", "keep_original"):
            self.assertEqual(code(self.rows[name][3]), ["true", "false"])
        self.assertIn(f"up to {parameters.MAX_ROTATIONS} angles", self.rows["rotations"][3])

    def test_the_other_parameters_are_named(self):
        text = README.read_text("utf-8")
        for model in (parameters.FormatParameters, parameters.ListParameters):
            self.assertEqual([name for name in model.model_fields if f"`{name}`" not in text], [])


class TablesTest(unittest.TestCase):
    def test_the_settings_are_those_of_the_code_with_their_defaults(self):
        written = {code(row[0])[0]: row[1] for row in table(DOCS / "configuration.md", "setting")}
        real = {}
        for name, field in Settings.model_fields.items():
            empty = field.default is None or field.default == ""
            real[f"IMGDETECT_{name.upper()}"] = "empty" if empty else f"`{field.default}`"
        self.assertEqual(written, real)

    def test_settings_that_are_named_anywhere_exist(self):
        known = {f"IMGDETECT_{name.upper()}" for name in Settings.model_fields}
        known |= {"IMGDETECT_API_KEYS_FILE", "IMGDETECT_DATABASE_URL_FILE", "IMGDETECT_TAG", "IMGDETECT_"}
        named = {word for page in PAGES for word in re.findall(r"\bIMGDETECT_[A-Z_]*", page.read_text("utf-8"))}
        self.assertEqual(named - known, set())

    def test_the_metrics_are_those_of_the_code(self):
        rows = table(DOCS / "operations.md", "metric")
        written = {(code(row[0])[0], row[1], tuple(code(row[2]))) for row in rows}
        real = set()
        for metric in vars(metrics).values():
            if hasattr(metric, "_labelnames") and hasattr(metric, "describe"):
                described = metric.describe()[0]
                name = described.name + ("_total" if described.type == "counter" else "")
                real.add((name, described.type, tuple(metric._labelnames)))
        self.assertEqual(written, real)

    def test_the_problems_are_those_of_the_service_and_of_nginx(self):
        rows = table(DOCS / "problems.md", "code")
        written = {(code(row[0])[0], int(row[1]), row[2]) for row in rows}
        self.assertEqual(len(written), len(rows))
        self.assertEqual(written, {*problems_of_the_service(), *problems_of_nginx()})

    def test_the_ranks_are_those_that_are_tested(self):
        written = [set(code(row[1])) for row in table(DOCS / "architecture.md", "rank")]
        self.assertEqual(written, [set(rank) for rank in RANKS])

    def test_every_module_is_in_the_picture_of_the_package(self):
        (picture,) = [block.text for block in blocks(DOCS / "architecture.md") if block.text.startswith("detection.py")]
        package = RESTAPI / "imgdetect"
        modules = {p.stem for p in (*package.glob("*.py"), *package.glob("*/*.py"))} - {"__init__", "__main__", "env"}
        folders = {p.name for p in package.iterdir() if (p / "__init__.py").exists()}
        self.assertEqual((modules | folders) - set(re.findall(r"\w+", picture)), set())
        named = set(re.findall(r"\b(\w+)(?:\.py\b|/)", picture))
        self.assertEqual(named - modules - folders, set())


def problems_of_the_service() -> Iterator[tuple[str, int, str]]:
    """Code, status and Retry-After of every Problem."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Problem)]
    for kind in (*kinds, WorkerLost):
        yield kind.slug, kind.status, str(kind.retry_after_seconds or "")


def problems_of_nginx() -> Iterator[tuple[str, int, str]]:
    """Code, status and Retry-After of every problem document that nginx writes itself."""
    text = (ROOT / "nginx" / "nginx.conf.template").read_text("utf-8")
    retry = re.search(r"map \$status \$retry_after \{(.*?)\}", text, re.DOTALL)
    assert retry
    after = re.findall(r'^\s+"?~?([^\s"]+)"? (\d+);', retry[1], re.MULTILINE)
    for status, slug in re.findall(r'"status": (\d+), "code": "([a-z-]+)"', text):
        yield slug, int(status), next((seconds for pattern, seconds in after if re.fullmatch(pattern, status)), "")


class ExtendingTest(unittest.TestCase):
    def test_the_detector_of_the_page_is_one(self):
        (source,) = [block.text for block in blocks(DOCS / "extending.md") if block.language == "python"]
        folder = self.enterContext(tempfile.TemporaryDirectory())
        (Path(folder) / "brightest.py").write_text(source)
        detectors.__path__.append(folder)
        self.addCleanup(detectors.__path__.remove, folder)
        self.addCleanup(sys.modules.pop, "imgdetect.detectors.brightest", None)
        made = detectors.create("bright", "brightest:?side=32", working_pixels=1_000_000)
        image = np.zeros((100, 200, 3), np.uint8)
        image[32:64, 96:128] = 255
        options = made.resolve(DetectOptions("bright", max_detections=2))
        result = made.detect(image, options)
        self.assertEqual((result.detections[0].box.x, result.detections[0].box.y), (96, 32))
        self.assertEqual((result.detections[0].score, len(result.detections), result.found), (255.0, 2, 18))
        self.assertEqual((made.cost((200, 100), options), made.task, made.class_names), (18, "detection", ("bright",)))
        with self.assertRaises(InvalidRequest):
            made.resolve(DetectOptions("bright", rotations=(0, 90)))
        with self.assertRaisesRegex(ValueError, "known here: side"):
            detectors.create("bright", "brightest:?size=32", working_pixels=1_000_000)


class ReadmeTest(unittest.TestCase):
    def test_its_examples_do_what_it_says(self):
        found = blocks(README)
        runnable = [n for n, block in enumerate(found) if block.language == "sh" and not stood_in_for(block)]
        self.assertEqual(sum(block.language == "sh" for block in found) - len(runnable), len(NOT_REPEATED))
        with LiveServer() as server:
            answers = dict(zip(runnable, self.run_blocks(server, [found[n].text for n in runnable]), strict=True))
        shown = 0
        for number, text in answers.items():
            for document in documents(text):
                self.assertNotIn("urn:imgdetect:problem", json.dumps(document), found[number].text)
            if found[number + 1 : number + 2] and found[number + 1].language == "json":
                self.assert_shown(json.loads(found[number + 1].text), documents(text)[-1])
                shown += 1
        self.assertEqual(shown, sum(block.language == "json" for block in found))
        texts = "\n".join(answers.values())
        for part in ('"status":"OK"', '"state":"', '"detector":"eye"', "1 found", '"detectors":['):
            self.assertIn(part, texts)

    def run_blocks(self, server: LiveServer, commands: list[str]) -> list[str]:
        """Type the blocks into one shell, in a folder beside the test pictures; returns what each printed."""
        folder = Path(server.folder.name) / "readme"
        folder.mkdir()
        (folder / "test_images").symlink_to(ROOT / "test_images")
        # As typed, except that an answer of 400 or more ends it all.
        script = ['curl() { command curl --fail-with-body --silent --show-error --max-time 60 "$@"; }']
        command = f"{shlex.quote(sys.executable)} -m imgdetect"
        for text in commands:
            here = text.replace(README_URL, server.url).replace("/tmp/", f"{folder}/")
            script += [here.replace(".venv/bin/imgdetect", command), f"printf '{SEPARATOR}'"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("IMGDETECT_")}
        done = subprocess.run(
            ["sh", "-e", "-c", "\n".join(script)],
            cwd=folder,
            env=environment | {"PYTHONPATH": str(RESTAPI)},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout[-2000:] + done.stderr)
        self.assert_pictures(folder)
        return done.stdout.split(SEPARATOR)[:-1]

    def assert_pictures(self, folder: Path) -> None:
        """The files that the examples wrote are the pictures that the README calls them."""
        original = cv2.imread(str(ROOT / "test_images" / "input" / "astronaut.jpg"))
        pictures = {name: cv2.imread(str(folder / f"{name}.jpg")) for name in ("annotated", "blurred")}
        pictures["by the command"] = cv2.imread(str(folder / "annotated" / "astronaut.jpg"))
        pictures["committed"] = cv2.imread(str(DOCS / "images" / "astronaut.jpg"))
        inside, edge = np.s_[80:150, 190:260], np.s_[64:69, 190:260]  # of the box of her face
        for name, picture in pictures.items():
            self.assertEqual(picture.shape, original.shape, name)
            self.assertLess(cv2.absdiff(picture, original)[300:].mean(), 3, name)  # far from the face nothing changes
            if name != "blurred":
                self.assertGreater(cv2.absdiff(picture, original)[edge].mean(), 30, name)
                self.assertLess(cv2.absdiff(picture, original)[inside].mean(), 5, name)
        self.assertLess(detail(pictures["blurred"][inside]), detail(original[inside]) / 5)

    def assert_shown(self, shown: Any, real: Any, place: str = "") -> None:
        """What the README shows is a part of what came; ids differ, and numbers a little."""
        if isinstance(shown, dict):
            for name, value in shown.items():
                self.assertIn(name, real, place)
                self.assert_shown(value, real[name], f"{place}.{name}")
        elif isinstance(shown, list):
            self.assertEqual(len(shown), len(real), place)
            for index, (value, other) in enumerate(zip(shown, real, strict=True)):
                self.assert_shown(value, other, f"{place}[{index}]")
        elif place.endswith(".id"):
            self.assertRegex(real, f"^[0-9a-f]{{{len(shown)}}}$")
        elif isinstance(shown, int | float) and not isinstance(shown, bool):
            self.assertAlmostEqual(shown, real, delta=NUMBER_TOLERANCE, msg=place)
        else:
            self.assertEqual(shown, real, place)


def detail(picture: np.ndarray) -> float:
    """How much a picture changes from pixel to pixel."""
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.CV_64F).var())


def stood_in_for(block: Block) -> bool:
    return any(words in block.text for words in NOT_REPEATED)


def documents(text: str) -> list[Any]:
    """The JSON documents that stand behind each other in a text, other lines aside."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while (at := text.find("{", at)) >= 0:
        document, at = decoder.raw_decode(text, at)
        found.append(document)
    return found


if __name__ == "__main__":
    unittest.main()
