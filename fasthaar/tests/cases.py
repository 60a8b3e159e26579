"""One call of a detector, drawn at random, and the answers of cv2 and fasthaar to it.

A failing test prints the case as Python; `show(case)` asks both engines again.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import cv2.data
import numpy as np
from hypothesis import strategies as st

from cascades import KINDS, random_xml
from pictures import CONTENTS, LAYOUTS, Image, Picture

Answer = tuple[Any, ...]

BUNDLED = tuple(sorted(path.name for path in Path(cv2.data.haarcascades).glob("*.xml")))
METHODS = ("detectMultiScale", "detectMultiScale2", "detectMultiScale3", "detectMultiScale3 with levels")

COMMON_FACTORS = (1.01, 1.05, 1.1, 1.2, 1.25, 1.3, 1.5, 2.0)

# cv2 squares the difference between minSize and a window in 32 bits; from 46,341 on that overflows.
LARGEST_SIZE = 30_000

# cv2's grouping compares every candidate with every other one.
MOST_CANDIDATES = 3_000


@dataclass(frozen=True)
class Case:
    """One call: `cascade` is a file of `cv2.data.haarcascades` or a kind and a seed of `cascades.py`."""

    cascade: str | tuple[str, int]
    picture: Picture
    method: str = "detectMultiScale"
    scale_factor: float = 1.1
    min_neighbors: int = 3
    flags: int = 0
    min_size: tuple[int, int] = (0, 0)
    max_size: tuple[int, int] = (0, 0)

    def ask(self, classifier: Any, image: Image | None = None, **more: Any) -> Answer:
        """What a classifier of cv2 or fasthaar answers, always as a tuple; about another image, if one is given."""
        method, _, levels = self.method.partition(" ")
        image = self.picture.image() if image is None else image
        arguments = (image, self.scale_factor, self.min_neighbors, self.flags, self.min_size)
        answer = getattr(classifier, method)(*arguments, self.max_size, *([True] if levels else []), **more)
        return (answer,) if method == "detectMultiScale" else tuple(answer)

    def windows(self) -> int:
        """About how many windows are looked at."""
        size_wh = np.array(self.picture.size_wh)
        window_wh = np.array(opencv(self.cascade).getOriginalWindowSize())
        largest = size_wh if 0 in self.max_size else np.array(self.max_size)
        factor, total, crossed = 1.0, 0, 0
        while (window_wh * factor <= size_wh).all():
            count = int((size_wh / factor - window_wh + 1).prod()) // (1 if factor >= 2 else 4) + 1
            if (window_wh * factor >= self.min_size).all() and (window_wh * factor <= largest).all():
                total += count
            elif (window_wh * factor <= self.min_size).all():
                crossed = count
            factor *= self.scale_factor
        return total or crossed  # where no size is allowed, cv2 takes the one next to the smallest

    def affordable(self, most_windows: int) -> Case:
        """This case, or one like it with so few windows and candidates that cv2 answers in time."""
        case = self
        while case.windows() > most_windows:
            # Either fewer sizes or a smaller picture: both large pictures and small objects are to be tried.
            if case.picture.seed % 2:
                width, height = (max(side, 20) * 5 // 4 for side in case.min_size)
                case = replace(case, min_size=(width, height))
            else:
                width, height = (max(side * 4 // 5, 1) for side in case.picture.size_wh)
                case = replace(case, picture=replace(case.picture, size_wh=(width, height)))
        if case.min_neighbors > 0:
            every = replace(case, method="detectMultiScale", min_neighbors=0).ask(opencv(case.cascade))
            if len(every[0]) > MOST_CANDIDATES:
                case = replace(case, min_neighbors=0)
        return case


def source(cascade: str | tuple[str, int]) -> Path | bytes:
    """What fasthaar loads the cascade from: its file, or the XML of one that is made at random."""
    return Path(cv2.data.haarcascades) / cascade if isinstance(cascade, str) else random_xml(*cascade)


@cache
def opencv(cascade: str | tuple[str, int]) -> cv2.CascadeClassifier:
    """cv2's classifier of a cascade, made once."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = source(cascade)
        if isinstance(path, bytes):
            xml, path = path, Path(folder) / "cascade.xml"
            path.write_bytes(xml)
        classifier = cv2.CascadeClassifier(str(path))
    assert not classifier.empty(), cascade
    return classifier


def expected(case: Case) -> Answer:
    """cv2's answer.

    cv2 raises an error when `detectMultiScale3` without reject levels finds anything. The answer is then that of
    `detectMultiScale`, with neither levels nor weights.
    """
    try:
        return case.ask(opencv(case.cascade))
    except cv2.error as error:
        if case.method != "detectMultiScale3" or "a->size() == n" not in str(error):
            raise
        return (*replace(case, method="detectMultiScale").ask(opencv(case.cascade)), (), ())


def difference(expected: Answer, answer: Answer) -> str:
    """How an answer differs from the expected one, by types, shapes and every bit; empty when it does not."""
    if len(expected) != len(answer):
        return f"{len(answer)} values in place of {len(expected)}"
    names = ("rectangles", "counts or levels", "weights")
    found = []
    for name, right, wrong in zip(names, expected, answer, strict=False):
        if _described(right) != _described(wrong):
            found.append(
                f"{name}\n  cv2:      {_described(right)}\n  fasthaar: {_described(wrong)}{_first(right, wrong)}"
            )
    return "\n".join(found)


def _described(value: Any) -> tuple[Any, ...]:
    if isinstance(value, np.ndarray):
        return ("ndarray", str(value.dtype), value.shape, _Bits(value.tobytes()))
    return (type(value).__name__, value)


class _Bits(bytes):
    def __repr__(self) -> str:
        return f"{len(self)} bytes"


def _first(right: Any, wrong: Any) -> str:
    """The first rows that differ, where both have rows."""
    if not (isinstance(right, np.ndarray) and isinstance(wrong, np.ndarray) and right.shape[1:] == wrong.shape[1:]):
        return ""
    for index in range(max(len(right), len(wrong))):
        pair = right[index : index + 1].tolist(), wrong[index : index + 1].tolist()
        if pair[0] != pair[1]:
            return f"\n  first at {index}: cv2 {pair[0]}, fasthaar {pair[1]}"
    return ""


def show(case: Case) -> None:
    """Print both answers to a case."""
    import fasthaar  # whose target is not chosen yet when this module is imported

    right = expected(case)
    answer = case.ask(fasthaar.CascadeClassifier(source(case.cascade)))
    print(f"cv2 {cv2.__version__}: {right}\nfasthaar {fasthaar.target()}: {answer}")
    print(difference(right, answer) or "equal")


@st.composite
def sizes(draw: st.DrawFn, largest_side: int) -> tuple[int, int]:
    """Width and height of a picture: mostly large enough for a cascade to find something, some tiny, some narrow."""
    least_wh = draw(st.sampled_from([(60, 60)] * 6 + [(1, 1), (1, 60), (60, 1)]))
    most_wh = (largest_side, largest_side) if least_wh == (60, 60) else (60, 60) if least_wh == (1, 1) else None
    width, height = most_wh or ((40, largest_side) if least_wh[0] == 1 else (largest_side, 40))
    return draw(st.integers(least_wh[0], width)), draw(st.integers(least_wh[1], height))


def pictures(largest_side: int) -> st.SearchStrategy[Picture]:
    """Pictures of everything, photographs more often."""
    return st.builds(
        Picture,
        content=st.sampled_from((*CONTENTS, "whole", "crowd", "crowd", "crowd")),
        size_wh=sizes(largest_side),
        seed=st.integers(0, 2**16),
        layout=st.sampled_from(tuple(LAYOUTS)),
    )


@st.composite
def size_limits(draw: st.DrawFn, size_wh: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """`minSize` and `maxSize`: none, usual, equal, crossed, larger than the picture, one side 0."""
    width, height = (min(side * 5 // 4, LARGEST_SIZE) for side in size_wh)
    some = st.tuples(st.integers(0, width), st.integers(0, height))
    square = st.integers(0, min(width, height)).map(lambda side: (side, side))
    small = st.integers(0, 60).map(lambda side: (side, side))
    large = square.map(lambda side: (width - side[0] // 4, height - side[0] // 4))
    least = draw(st.sampled_from([st.just((0, 0))] * 3 + [small, small, square, some]).flatmap(lambda chosen: chosen))
    most = draw(
        st.sampled_from([st.just((0, 0))] * 5 + [large, st.just(least), square, some]).flatmap(lambda chosen: chosen)
    )
    return least, most


@st.composite
def cases(draw: st.DrawFn, cascades: st.SearchStrategy[str | tuple[str, int]], largest_side: int) -> Case:
    """Calls of the given cascades over the whole range of every parameter."""
    picture = draw(pictures(largest_side))
    min_size, max_size = draw(size_limits(picture.size_wh))
    return Case(
        cascade=draw(cascades),
        picture=picture,
        method=draw(st.sampled_from(METHODS)),
        scale_factor=draw(st.one_of(st.sampled_from(COMMON_FACTORS), st.floats(1.01, 2.0))),
        min_neighbors=draw(st.sampled_from((0, 0, 0, 1, 2, 3, *range(11)))),
        flags=draw(st.sampled_from((0, 0, 0, 1, 2, 4, 8, 15))),
        min_size=min_size,
        max_size=max_size,
    )


bundled = st.sampled_from(BUNDLED)
generated = st.tuples(st.sampled_from(KINDS), st.integers(0, 2**16))
