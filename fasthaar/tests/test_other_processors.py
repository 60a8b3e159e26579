"""All vector targets against the plain loop, in a program of its own: also those of processors that are only emulated.

The program is also compiled with the compiler's sanitizers where FASTHAAR_PARITY=full asks for what takes longer.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import cv2.data
import numpy as np
import numpy.typing as npt

from fasthaar._native import FEATURE_TYPES, Request
from fasthaar._xml import Cascade, parse
from hatch_build import MACHINES, SCALAR, BuildError, Compiler, call, find_compiler

SOURCES = Path(__file__).resolve().parents[1] / "src"
PROGRAM = Path(__file__).with_name("compare_targets.cpp")
PHOTOGRAPHS = Path(__file__).with_name("photographs")
FULL = os.environ.get("FASTHAAR_PARITY") == "full"
ARM = 183  # in MACHINES

Image = npt.NDArray[np.uint8]
Rect = tuple[int, int, int, int]

# In what way the cascades that are made here are peculiar.
STYLES = ("stumps", "trees", "pairs", "lbp", "lbp trees", "close", "extreme")
# How many times a feature's first rectangle is as wide and as high as its parts, and which of these are its parts.
LAYOUTS: dict[str, tuple[int, int, tuple[tuple[int, int], ...]]] = {
    "left": (2, 1, ((0, 0),)),
    "right": (2, 1, ((1, 0),)),
    "top": (1, 2, ((0, 0),)),
    "bottom": (1, 2, ((0, 1),)),
    "column": (3, 1, ((1, 0),)),
    "row": (1, 3, ((0, 1),)),
    "center": (3, 3, ((1, 1),)),
    "check": (2, 2, ((0, 0), (1, 1))),
    "turned check": (2, 2, ((1, 1), (0, 0))),
    "anticheck": (2, 2, ((1, 0), (0, 1))),
    "turned anticheck": (2, 2, ((0, 1), (1, 0))),
    "three": (3, 2, ((0, 0), (2, 1))),
}


def random_tree(rng: np.random.Generator, nodes: int) -> tuple[list[int], list[int]]:
    """Left and right children of a tree's nodes, as in `Cascade`; its leaves are numbered in any order."""
    children = np.zeros((nodes, 2), np.int32)
    free = [(0, 0), (0, 1)]
    for node in range(1, nodes):
        children[free.pop(rng.integers(len(free)))] = node
        free += [(node, 0), (node, 1)]
    for slot, leaf in zip(free, rng.permutation(nodes + 1), strict=True):
        children[slot] = -leaf
    return children[:, 0].tolist(), children[:, 1].tolist()


def random_feature(
    rng: np.random.Generator, window_wh: tuple[int, int], tilted: bool
) -> tuple[list[Rect], list[float]]:
    """Three rectangles and their weights."""
    width, height = window_wh
    across, down, parts = LAYOUTS[rng.choice([*LAYOUTS])]
    if tilted:
        w = int(rng.integers(1, max(2, min(window_wh) // (2 * across))))
        h = int(rng.integers(0 if rng.random() < 0.1 else 1, (min(window_wh) - w * across) // down + 1))
        x = int(rng.integers(h * down, width - w * across + 1))
        y = int(rng.integers(height - w * across - h * down + 1))
        u, v = (1, 1), (-1, 1)
    else:
        w = int(rng.integers(0 if rng.random() < 0.1 else 1, width // across + 1))
        h = int(rng.integers(1, height // down + 1))
        x, y = int(rng.integers(width - w * across + 1)), int(rng.integers(height - h * down + 1))
        u, v = (1, 0), (0, 1)
    rects = [(x, y, w * across, h * down)]
    rects += [(x + i * w * u[0] + j * h * v[0], y + i * w * u[1] + j * h * v[1], w, h) for i, j in parts]
    weights = [-1.0 if rng.random() < 0.8 else -0.75]
    weights += [float(across * down / len(parts) * (1 if rng.random() < 0.5 else rng.normal(1, 0.1))) for _ in parts]
    return [*rects, (0, 0, 0, 0)][:3], [*weights, 0.0][:3]


def random_cascade(style: str, seed: int) -> Cascade:
    """A cascade of few stages that many windows pass, with every form of feature that the kernels tell apart."""
    rng = np.random.default_rng([seed, STYLES.index(style)])
    lbp = style.startswith("lbp")
    largest = 128 if seed % 4 == 3 else 32
    window_wh = (int(rng.integers(8, largest + 1)), int(rng.integers(8, largest + 1)))
    stage_trees = rng.integers(1, 12, rng.integers(2, 7)).astype(np.int32)
    most = {"trees": 17, "lbp trees": 17, "pairs": 4, "extreme": 4}.get(style, 2)
    tree_nodes = rng.integers(1, most, stage_trees.sum()).astype(np.int32)
    trees = [random_tree(rng, nodes) for nodes in tree_nodes]
    nodes = int(tree_nodes.sum())
    leaves = rng.normal(0, 1, nodes + len(trees)).astype(np.float32)
    threshold = rng.normal(0, 0.05, nodes)
    if style == "close":  # sums that equal thresholds, where the order of additions decides
        leaves = rng.choice(np.array([-0.3, -0.2, -0.1, 0.1, 0.2, 0.3], np.float32), len(leaves))
    if style == "extreme":
        leaves = (leaves * 10.0 ** int(rng.integers(-30, 30))).astype(np.float32)
        threshold = threshold * 10.0 ** rng.integers(-40, 38, nodes)
    first_leaf = np.cumsum([0, *(tree_nodes + 1)])
    stage_thresholds, first = [], 0
    for count in stage_trees:
        own = [leaves[first_leaf[t] : first_leaf[t + 1]] for t in range(first, first + count)]
        # Added as the engine does, so that in the style "close" the sums are exactly those that windows reach.
        sums = np.sum([rng.choice(values, 256) for values in own], axis=0, dtype=np.float64)
        bound = np.quantile(sums, rng.uniform(0.1, 0.6), method="lower")
        stage_thresholds.append(bound if style == "extreme" else bound + 1e-5)
        first += count
    features = int(rng.integers(1, nodes + 2))
    tilted = np.zeros(features, np.uint8)
    if lbp:
        sides = np.stack([rng.integers(1, window_wh[axis] // 3 + 1, features) for axis in (0, 1)], axis=1)
        corners = rng.integers(0, np.array(window_wh) - 3 * sides + 1)
        rects = np.concatenate([corners, sides], axis=1)[:, None]
        weights: Any = np.empty((features, 0))
    else:
        tilted = (rng.random(features) < (0.4 if seed % 2 else 0)).astype(np.uint8)
        drawn = [random_feature(rng, window_wh, bool(turned)) for turned in tilted]
        rects, weights = np.array([rect for rect, _ in drawn]), np.array([weight for _, weight in drawn])
        if style == "extreme":
            weights = weights * 10.0 ** rng.integers(-30, 36, (features, 1))
    return Cascade(
        feature_type="LBP" if lbp else "HAAR",
        window_wh=window_wh,
        stage_thresholds=np.array(stage_thresholds, np.float32),
        stage_trees=stage_trees,
        tree_nodes=tree_nodes,
        left=np.array([child for left, _ in trees for child in left], np.int32),
        right=np.array([child for _, right in trees for child in right], np.int32),
        feature=rng.integers(0, features, nodes).astype(np.int32),
        threshold=np.zeros(nodes, np.float32) if lbp else threshold.astype(np.float32),
        subsets=rng.integers(0, 2**32, (nodes if lbp else 0, 8), np.uint32),
        leaves=leaves,
        rects=rects.astype(np.int32),
        weights=weights.astype(np.float32),
        tilted=tilted,
    )


def picture(rng: np.random.Generator, size_wh: tuple[int, int]) -> Image:
    """A grey picture: noise, stripes with little or much contrast, or a part of a photograph."""
    width, height = size_wh
    content = rng.choice(["noise", "stripes", "photograph", "photograph"])
    if content == "noise":
        return rng.integers(0, 256, (height, width), np.uint8)
    if content == "stripes":
        high = int(rng.choice([1, 2, 255]))
        lines = rng.integers(0, 2, (height, 1)) ^ (np.arange(width) // rng.integers(1, 12) % 2)
        return (lines * high + rng.integers(0, 256 - high)).astype(np.uint8)
    encoded = np.fromfile(PHOTOGRAPHS / f"{rng.choice(['astronaut', 'chelsea'])}.jpg", np.uint8)
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)
    return np.asarray(cv2.resize(decoded, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


class Questions:
    """A file of cascades and cases for the program."""

    def __init__(self) -> None:
        self._cascades: list[bytes] = []
        self._cases: list[bytes] = []

    def cascade(self, cascade: Cascade) -> int:
        """Add a cascade, and say which it is."""
        arrays = (
            *(cascade.stage_thresholds, cascade.stage_trees, cascade.tree_nodes, cascade.left, cascade.right),
            *(cascade.feature, cascade.threshold, cascade.subsets, cascade.leaves, cascade.rects, cascade.weights),
            cascade.tilted,
        )
        lengths = (len(cascade.stage_trees), len(cascade.tree_nodes), len(cascade.left), len(cascade.rects))
        head = np.array([FEATURE_TYPES[cascade.feature_type], *cascade.window_wh, *lengths], np.int32)
        parts = (part for array in arrays for part in (np.int32(array.nbytes).tobytes(), array.tobytes()))
        self._cascades.append(head.tobytes() + b"".join(parts))
        return len(self._cascades) - 1

    def ask(self, cascade: int, image: Image, *, padding: int = 0, upwards: bool = False, **more: Any) -> None:
        """Add a case: an image of shape (height, width) or (height, width, channels), and fields of `Request`.

        padding: bytes between rows. upwards: the stride is negative.
        """
        height, width, channels = (*image.shape, 1)[:3]
        stride = (width * channels + padding) * (-1 if upwards else 1)
        common = {"scale_factor": 1.1, "threads": 1, "max_candidates": -1, "max_seconds": -1.0}
        size = {"row_stride": stride, "width": width, "height": height, "channels": channels}
        request = Request(**(common | size | more))
        self._cases.append(np.int32(cascade).tobytes() + bytes(request) + image.tobytes())

    def save(self, path: Path) -> Path:
        """Write the file."""
        parts = ([np.int32(len(items)).tobytes(), *items] for items in (self._cascades, self._cases))
        path.write_bytes(b"".join(part for some in parts for part in some))
        return path


def usual_questions(questions: Questions, seeds: int) -> None:
    """Bundled cascades and random ones, on pictures of odd sizes, over the ranges of the options."""
    rng = np.random.default_rng(seeds)
    cascades = [parse(path.read_bytes()) for path in sorted(Path(cv2.data.haarcascades).glob("*.xml"))]
    cascades += [random_cascade(style, seed) for style in STYLES for seed in range(seeds)]
    for cascade in cascades:
        width, height = (side + int(rng.integers(0, 50)) for side in cascade.window_wh)
        image = picture(rng, (width, height))
        questions.ask(
            questions.cascade(cascade),
            np.dstack([image, image[::-1], image[:, ::-1]]) if rng.random() < 0.1 else image,
            padding=int(rng.integers(0, 9)),
            upwards=bool(rng.random() < 0.3),
            scale_factor=float(rng.choice([1.01, 1.1, 1.2, 1.5, 2.0], p=[0.05, 0.35, 0.3, 0.2, 0.1])),
            min_neighbors=int(rng.choice([0, 1, 3], p=[0.7, 0.2, 0.1])),
            min_width=int(rng.choice([0, 30])),
            max_height=int(rng.choice([0, 0, 40])),
            max_width=int(rng.choice([60, 200])),
            max_candidates=int(rng.choice([-1, 50], p=[0.9, 0.1])),
        )


def hostile_questions(questions: Questions) -> None:
    """Pictures that are as small as can be, as large as the window, one pixel wide or high, or very wide and high."""
    rng = np.random.default_rng(0)
    for seed, style in enumerate(STYLES):
        cascade = random_cascade(style, seed)
        index = questions.cascade(cascade)
        w, h = cascade.window_wh
        for size_wh in ((1, 1), (w, h), (w, 1), (1, h), (1, 300), (300, 1), (w + 1, h), (w, h + 1), (w + 2, h + 2)):
            for upwards in (False, True):
                questions.ask(index, picture(rng, size_wh), upwards=upwards, padding=5 * upwards, scale_factor=1.01)
        # Wide and high enough that the kernels' band of rows moves, and for levels that skip most of the lines.
        questions.ask(index, picture(rng, (4000, h + 3)), scale_factor=1.3)
        questions.ask(index, picture(rng, (w + 3, 4000)), scale_factor=1.3, upwards=True)
        questions.ask(index, picture(rng, (2500, 120)), scale_factor=3, padding=1)
        # A stride of 0 repeats one row.
        questions.ask(index, np.repeat(picture(rng, (60, 1)), 50, axis=0), padding=-60)


def build(command: tuple[str, ...], number: int, folder: Path, *flags: str) -> Path:
    """Compile the program and the engine together, as the library is compiled.

    Args:
        command: the compiler
        number: of the machine that it compiles for, in `MACHINES`
        flags: what else it is told
    """
    compiler = Compiler(command, MACHINES[number])
    units = {f"kernel_{name}.cpp": own for name, own in compiler.machine.kernels.items()}
    units |= {name.name: () for name in SOURCES.glob("*.cpp") if not name.name.startswith("kernel_")}
    units |= {SCALAR: (), str(PROGRAM): ("-I.",)}

    def translate(name: str) -> str:
        made = str(folder / f"{Path(name).stem}.o")
        call(command, (*compiler.flags, *units[name], *flags, "-c", name, "-o", made), SOURCES)
        return made

    with ThreadPoolExecutor(2) as pool:
        objects = [*pool.map(translate, units)]
    program = folder / PROGRAM.stem
    libraries = ("-nostdlib++",) if compiler.is_zig else ("-lm",)
    call(command, (*objects, "-pthread", *flags, *libraries, "-o", str(program)), SOURCES)
    return program


def emulated_arm() -> tuple[tuple[str, ...], str]:
    """How to compile for aarch64 and to run what is compiled.

    Raises:
        unittest.SkipTest: zig or qemu is missing
    """
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    zig = shutil.which("zig") or shutil.which("python-zig")
    command = (sys.executable, "-m", "ziglang") if importlib.util.find_spec("ziglang") else (zig,) if zig else None
    if not emulator or not command:
        raise unittest.SkipTest("needs qemu-aarch64 and zig (`pip install ziglang`)")
    # With musl a program stands alone: there is no C library for aarch64 here.
    return (*command, "c++", "-target", "aarch64-linux-musl"), emulator


class ProcessorTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def own_program(self, *flags: str) -> str:
        """The program for this machine."""
        try:
            compiler = find_compiler()
        except BuildError as error:
            self.skipTest(str(error))
        number = next((number for number, machine in MACHINES.items() if machine == compiler.machine), None)
        if number is None:
            self.skipTest(f"fasthaar has no vector targets for {compiler.machine.name}")
        return str(build(compiler.command, number, self.folder, *flags))

    def answers(self, *command: str, seeds: int = 4, hostile: bool = True, callers: int = 1) -> tuple[list[str], str]:
        """Run the program.

        Args:
            seeds: how many random cascades of every style it is given
            hostile: whether it is given pictures of hostile sizes, too
            callers: how many threads ask at once

        Returns:
            The targets that it has compared, and a text that is the same where the answers are.
        """
        questions = Questions()
        usual_questions(questions, seeds)
        if hostile:
            hostile_questions(questions)
        file = questions.save(self.folder / "questions")
        done = subprocess.run([*command, str(file), str(callers)], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout[:2000])
        match = re.fullmatch(r"(.*): (\d+ cases, (\d+) rectangles, \w+)\n", done.stdout)
        assert match
        self.assertGreater(int(match[3]), 500)
        self.assertEqual(match[1].split()[-1], "scalar")
        return match[1].split(), match[2]


class OwnProcessorTest(ProcessorTest):
    def test_all_targets_answer_as_the_plain_loop_does(self) -> None:
        self.answers(self.own_program(), seeds=60 if FULL else 4)

    @unittest.skipUnless(FULL, "takes minutes; set FASTHAAR_PARITY=full")
    def test_no_target_reaches_beyond_its_memory_or_does_what_is_undefined(self) -> None:
        self.answers(self.own_program("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"))

    @unittest.skipUnless(FULL, "takes minutes; set FASTHAAR_PARITY=full")
    def test_no_thread_disturbs_another(self) -> None:
        self.answers(self.own_program("-O1", "-g", "-fsanitize=thread"), seeds=1, hostile=False, callers=3)


class ArmTest(ProcessorTest):
    def test_neon_answers_as_the_plain_loop_does_and_as_this_processor_does(self) -> None:
        command, emulator = emulated_arm()
        seeds = 60 if FULL else 4
        program = build(command, ARM, self.folder, "-static")
        targets, answers = self.answers(emulator, str(program), seeds=seeds)
        self.assertEqual(targets, ["neon", "scalar"])
        self.assertEqual(answers, self.answers(self.own_program(), seeds=seeds)[1])
