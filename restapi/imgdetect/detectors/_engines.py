"""The code that evaluates cascades. fasthaar serves where it can be loaded, else OpenCV; both accept the same windows.

Both have OpenCV's interface and OpenCV's slip: asked for level weights, a cascade of one stage seems to accept windows
without contrast. So it is asked for its windows first, and only those are kept.
"""

from __future__ import annotations

import functools
import threading
import time
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from imgdetect.detectors._cascades import CascadeFile, Size
from imgdetect.errors import DetectorFailed, DetectorTooSlow

try:
    import fasthaar

    # Without the package itself, the project's folder of that name is imported from a checkout: an empty namespace.
    if not hasattr(fasthaar, "CascadeClassifier"):
        raise ImportError("it is not installed")
except (ImportError, OSError) as error:
    MISSING = " ".join(str(error).split()) or "its library cannot be loaded"
else:
    MISSING = ""  # why fasthaar cannot be used; one line

Grey = NDArray[np.uint8]

# One look that gives more raw candidates than this is given up: an absurd cascade, or absurd parameters.
MAX_CANDIDATES = 20_000
# Uploaded cascades that are kept loaded in a child; loading a large one takes about as long as a look.
_KEPT_LOADED = 8


class Candidates(NamedTuple):
    """What a cascade accepts before grouping."""

    xywh: NDArray[np.int64]  # (N, 4)
    weights: NDArray[np.float64]  # (N,) the sum of the last stage


NOTHING = Candidates(np.zeros((0, 4), np.int64), np.zeros(0))


class Engine(Protocol):
    """One cascade, ready to look; it may be used by several threads at once."""

    name: str
    version: str

    def look(self, grey: Grey, scale_factor: float, min_size: Size, max_size: Size | None) -> Candidates:
        """Every window that the cascade accepts, in OpenCV's order.

        Args:
            grey: uint8, shape (height, width).
            scale_factor: the step between sizes, above 1.
            min_size: width and height in pixels.
            max_size: width and height in pixels; None for any.
        Raises:
            DetectorFailed: the cascade cannot be loaded, the engine gives up, or there are too many candidates.
            DetectorTooSlow: an uploaded cascade exceeded its budget.
        """
        ...


class OpenCV:
    """The cascade engine of OpenCV 4. It may crash on a damaged file: it is given those of the operator only."""

    name = "opencv"
    version = cv2.__version__

    def __init__(self, file: CascadeFile) -> None:
        self._file = file
        self._local = threading.local()  # a CascadeClassifier is never shared between threads

    @classmethod
    def check(cls) -> None:
        """Raise ValueError when the engine is not there."""
        if not hasattr(cv2, "CascadeClassifier"):
            raise ValueError("OpenCV 5 has no cascade detector: install opencv-python-headless>=4.14,<5, or fasthaar")

    @classmethod
    def vet(cls, file: CascadeFile) -> None:
        """Take every file that has the head of a cascade: nothing tells more without loading it."""

    def look(self, grey: Grey, scale_factor: float, min_size: Size, max_size: Size | None) -> Candidates:
        """See `Engine`. The number of candidates is not bounded here."""
        search = _search(scale_factor, min_size, max_size)
        classifier = self._classifier()
        try:
            if self._file.stages > 1:
                return _candidates(classifier.detectMultiScale3(grey, **search, outputRejectLevels=True))
            passed = classifier.detectMultiScale(grey, **search)
            return _kept(classifier.detectMultiScale3(grey, **search, outputRejectLevels=True), passed)
        except cv2.error as error:
            raise DetectorFailed() from error

    def _classifier(self) -> cv2.CascadeClassifier:
        loaded: cv2.CascadeClassifier | None = getattr(self._local, "classifier", None)
        if loaded is None:
            cv2.setNumThreads(1)  # a process per core looks at pictures; and one thread keeps the candidates' order
            _content(self._file)  # answers are cached under the hash of the file that was there at start
            loaded = cv2.CascadeClassifier(str(self._file.path))
            if loaded.empty():
                raise DetectorFailed("The cascade file of this detector cannot be loaded.")
            self._local.classifier = loaded
        return loaded


class FastHaar:
    """The engine of the package fasthaar: the same candidates in less time, and no harm from any file.

    Args:
        file: the cascade.
        max_candidates: more of them end the look.
        seconds: the longest time of a look, for cascades that nobody here vouches for; None for those of the operator,
            which only the deadline of the child bounds.
    """

    name = "fasthaar"
    version = "" if MISSING else f"{fasthaar.__version__}+{fasthaar.target()}"

    def __init__(
        self, file: CascadeFile, *, max_candidates: int = MAX_CANDIDATES, seconds: float | None = None
    ) -> None:
        self._file = file
        self._max_candidates = max_candidates
        self._seconds = seconds

    @classmethod
    def check(cls) -> None:
        """Raise ValueError when the engine is not there."""
        if MISSING:
            raise ValueError(f"the engine fasthaar cannot be loaded: {MISSING}")

    @classmethod
    def vet(cls, file: CascadeFile) -> None:
        """Raise ValueError, one line, when the file is no valid cascade."""
        try:
            canonical(file.content())
        except ValueError as error:
            raise ValueError(f"cascade {file.path}: {error}; engine=opencv may take it all the same") from None

    def look(self, grey: Grey, scale_factor: float, min_size: Size, max_size: Size | None) -> Candidates:
        """See `Engine`."""
        search = _search(scale_factor, min_size, max_size)
        classifier = self._classifier
        until = time.monotonic() + (self._seconds or float("inf"))
        budget = fasthaar.Budget(self._max_candidates, self._seconds)
        try:
            if self._file.stages > 1:
                return _candidates(classifier.detectMultiScale3(grey, **search, outputRejectLevels=True, budget=budget))
            passed = classifier.detectMultiScale(grey, **search, budget=budget)
            # Windows without contrast come along here, which are not candidates and must not be counted as such.
            budget = fasthaar.Budget(None, self._seconds)
            return _kept(classifier.detectMultiScale3(grey, **search, outputRejectLevels=True, budget=budget), passed)
        except fasthaar.BudgetExceeded as error:
            raise self._exceeded(timed_out=time.monotonic() >= until) from error
        except ValueError as error:
            raise DetectorFailed() from error

    def _exceeded(self, *, timed_out: bool) -> DetectorFailed | DetectorTooSlow:
        if timed_out:
            return DetectorTooSlow(
                f"This cascade was stopped after {self._seconds:g} s. A larger scale_factor or min_size, or a roi, make"
                " it quicker."
            )
        accepted = f"The detector saw more than {self._max_candidates} candidates in this image."
        return DetectorFailed(accepted) if self._seconds is None else DetectorTooSlow(accepted)

    @functools.cached_property
    def _classifier(self) -> Any:
        try:
            return _loaded(_content(self._file))
        except ValueError as error:
            raise DetectorFailed("The cascade file of this detector cannot be loaded.") from error


# The first one that is there serves.
ENGINES: dict[str, type[FastHaar] | type[OpenCV]] = {"fasthaar": FastHaar, "opencv": OpenCV}


def engine_of(name: str | None = None) -> type[FastHaar] | type[OpenCV]:
    """The engine of a name, or the one that serves where none is named.

    Raises:
        ValueError: there is none of that name, or it cannot be used here; one line.
    """
    if name is not None and name not in ENGINES:
        raise ValueError(f"engine: there is no {name!r}; known here: {', '.join(ENGINES)}")
    engine = ENGINES[name] if name else OpenCV if MISSING else FastHaar
    engine.check()
    return engine


def canonical(data: bytes) -> bytes:
    """A cascade file as fasthaar writes it: nothing of the file's own bytes is left.

    Raises:
        ValueError: it is none; one line that names the first broken rule.
    """
    written: bytes = fasthaar.canonical(data)
    return written


def _content(file: CascadeFile) -> bytes:
    try:
        return file.content()
    except ValueError as error:
        raise DetectorFailed(f"The cascade file of this detector {error}.") from None


@functools.lru_cache(maxsize=_KEPT_LOADED)
def _loaded(xml: bytes) -> Any:
    """A classifier for any number of threads. Asked for by content, so that nothing old can come of it."""
    return fasthaar.CascadeClassifier(xml)


def _search(scale_factor: float, min_size: Size, max_size: Size | None) -> dict[str, Any]:
    return {"scaleFactor": scale_factor, "minNeighbors": 0, "minSize": min_size, "maxSize": max_size or (0, 0)}


def _candidates(found: tuple[Any, Any, Any]) -> Candidates:
    xywh, _, weights = found
    return Candidates(np.asarray(xywh, np.int64).reshape(-1, 4), np.asarray(weights, np.float64).reshape(-1))


def _kept(found: tuple[Any, Any, Any], passed: Any) -> Candidates:
    """Of the candidates with levels those that were found without levels, too."""
    candidates = _candidates(found)
    rows = np.isin(_numbered(candidates.xywh), _numbered(np.asarray(passed, np.int64).reshape(-1, 4)))
    return Candidates(candidates.xywh[rows], candidates.weights[rows])


def _numbered(xywh: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for each box; no picture has a side of 32,768 pixels."""
    numbers: NDArray[np.int64] = xywh @ np.array([1 << 45, 1 << 30, 1 << 15, 1])
    return numbers
