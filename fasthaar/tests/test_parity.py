"""Answers equal those of cv2 with one thread, to the last bit, for every target that the machine can run.

Cases are drawn at random but always the same. `FASTHAAR_PARITY=full` draws thousands of new ones, with up to 4,000 px
a side, and takes about an hour.
"""

from __future__ import annotations

import os
import sys
import time
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import fasthaar
from cascades import random_xml
from cases import (
    BUNDLED,
    COMMON_FACTORS,
    METHODS,
    Case,
    bundled,
    cases,
    difference,
    expected,
    generated,
    source,
)
from fasthaar._xml import parse
from pictures import Picture
from targets import engines

Test = TypeVar("Test", bound=Callable[..., None])

FULL = os.environ.get("FASTHAAR_PARITY") == "full"
LARGEST_SIDE = 4000 if FULL else 500
BUNDLED_CASES, GENERATED_CASES, OWN_CASES = (2000, 4000, 300) if FULL else (150, 250, 25)
BUNDLED_WINDOWS, GENERATED_WINDOWS = (2_000_000, 300_000) if FULL else (500_000, 30_000)


def drawn(count: int) -> Callable[[Test], Test]:
    """Settings for a number of cases: the same ones each time in the short run, new ones in the full one."""
    chosen = settings(
        max_examples=count,
        derandomize=not FULL,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    return cast("Callable[[Test], Test]", chosen)


class Progress:
    """A line a minute about how far a full run is."""

    def __init__(self) -> None:
        self.cases = self.with_rectangles = 0
        self.started = self.told = time.monotonic()

    def count(self, found_some: bool) -> None:
        """One more case was compared."""
        self.cases += 1
        self.with_rectangles += found_some
        now = time.monotonic()
        if FULL and now - self.told > 60:
            self.told = now
            minutes = (now - self.started) / 60
            print(f"{minutes:.0f} min: {self.cases} cases, {self.with_rectangles} found something", file=sys.stderr)


progress = Progress()


class ParityCase(unittest.TestCase):
    """Compares fasthaar's answers with cv2's."""

    def check(self, case: Case) -> None:
        """Fail, naming the case, unless every target answers as cv2 does."""
        for engine in engines():
            engine.send(case)
        right = expected(case)
        answers = [(engine.target, engine.receive()) for engine in engines()]
        progress.count(len(right[0]) > 0)
        for target, answer in answers:
            self.compare(case, right, answer, target)

    def compare(self, case: Case, right: Any, answer: Any, target: str) -> None:
        """Fail, naming the case and how to see it again, unless the answers are equal."""
        wrong = answer if isinstance(answer, str) else difference(right, answer)
        if wrong:
            self.fail(
                f"{target} does not answer as cv2 {cv2.__version__} does:\n{wrong}\nSee it again in fasthaar/tests:\n"
                f'FASTHAAR_TARGET={target} python -c "from cases import *; show({case!r})"'
            )


class TestTheAnswersAreThoseOfOpenCV(ParityCase):
    def test_every_bundled_cascade_finds_the_same_in_photographs(self) -> None:
        pictures = [Picture("whole", (331, 262), seed) for seed in (0, 1, 2)] + [Picture("crowd", (260, 190))]
        for cascade in BUNDLED:
            for number, picture in enumerate(pictures):
                method = METHODS[number]
                with self.subTest(cascade, picture=picture, method=method):
                    self.check(Case(cascade, picture, method, scale_factor=1.07, min_neighbors=number))

    @drawn(BUNDLED_CASES)
    @given(cases(bundled, LARGEST_SIDE))
    def test_bundled_cascades_find_the_same_whatever_is_asked(self, case: Case) -> None:
        self.check(case.affordable(BUNDLED_WINDOWS))

    @drawn(GENERATED_CASES)
    @given(cases(generated, LARGEST_SIDE))
    def test_any_cascade_finds_the_same_whatever_is_asked(self, case: Case) -> None:
        self.check(case.affordable(GENERATED_WINDOWS))

    def test_a_cascade_of_one_stage_gives_windows_without_contrast_the_weight_before_them(self) -> None:
        """A slip of cv2, which takes such a window for an accepted one when levels are asked for."""
        drawn = ((kind, seed) for kind in ("stumps", "trees", "tilted", "old") for seed in range(40))
        of_one_stage = [cascade for cascade in drawn if len(parse(random_xml(*cascade)).stage_trees) == 1]
        for cascade in of_one_stage:
            for content in ("half blank", "constant", "low contrast"):
                for min_neighbors in (0, 2):
                    case = Case(cascade, Picture(content, (45, 40)), METHODS[3], min_neighbors=min_neighbors)
                    with self.subTest(cascade, content=content, min_neighbors=min_neighbors):
                        self.check(case)

    def test_pictures_about_as_large_as_the_window_are_no_special_case(self) -> None:
        for cascade in BUNDLED:
            width, height = fasthaar.CascadeClassifier(source(cascade)).getOriginalWindowSize()
            for dx, dy in ((-1, 0), (0, -1), (0, 0), (1, 0), (0, 1), (1, 1), (2, 3)):
                picture = Picture("noise", (width + dx, height + dy))
                with self.subTest(cascade, size_wh=picture.size_wh):
                    self.check(Case(cascade, picture, min_neighbors=0, scale_factor=1.01))
                    self.check(Case(cascade, picture, METHODS[3], min_neighbors=0, scale_factor=1.01))


class TestAnswersDependOnNothingElse(ParityCase):
    @drawn(OWN_CASES)
    @given(cases(st.one_of(bundled, generated), LARGEST_SIDE), st.integers(2, 8))
    def test_any_number_of_threads_gives_the_same(self, case: Case, num_threads: int) -> None:
        case = case.affordable(GENERATED_WINDOWS)
        classifier = fasthaar.CascadeClassifier(source(case.cascade))
        self.compare(case, case.ask(classifier), case.ask(classifier, num_threads=num_threads), fasthaar.target())

    @drawn(OWN_CASES)
    @given(cases(st.one_of(bundled, generated), LARGEST_SIDE), st.data())
    def test_a_part_of_a_picture_gives_what_is_found_in_it_alone(self, case: Case, data: st.DataObject) -> None:
        case = case.affordable(GENERATED_WINDOWS)
        (width, height), whole = case.picture.size_wh, case.picture.image()
        x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
        roi = (x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
        classifier = fasthaar.CascadeClassifier(source(case.cascade))
        alone = case.ask(classifier, image=np.ascontiguousarray(whole[y : y + roi[3], x : x + roi[2]]))
        moved = (alone[0] + np.array((x, y, 0, 0), np.int32) if len(alone[0]) else alone[0], *alone[1:])
        self.compare(case, moved, case.ask(classifier, roi=roi), f"{fasthaar.target()} with roi={roi}")

    def test_a_budget_that_suffices_changes_nothing(self) -> None:
        case = Case("haarcascade_frontalface_alt.xml", Picture("crowd", (300, 200)))
        classifier = fasthaar.CascadeClassifier(source(case.cascade))
        budget = fasthaar.Budget(candidates=10**9, seconds=1000)
        self.assertEqual(difference(case.ask(classifier), case.ask(classifier, budget=budget)), "")

    def test_one_object_serves_eight_threads_at_once(self) -> None:
        name = "haarcascade_frontalface_default.xml"
        asked = [
            Case(name, Picture("whole", (300 + seed, 310 - seed), seed), METHODS[seed % 4], COMMON_FACTORS[seed % 3], 0)
            for seed in range(8)
        ]
        classifier = fasthaar.CascadeClassifier(source(name))
        alone = [case.ask(classifier) for case in asked]
        self.assertGreater(len({len(answer[0]) for answer in alone}), 4)
        with ThreadPoolExecutor(8) as threads:
            for _ in range(5):
                together = list(threads.map(lambda case: case.ask(classifier), asked))
                for case, right, answer in zip(asked, alone, together, strict=True):
                    self.compare(case, right, answer, fasthaar.target())


def tearDownModule() -> None:
    for engine in engines():
        engine.close()
    engines.cache_clear()
