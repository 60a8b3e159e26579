"""The detector seam: one file per engine, chosen by the scheme of a URL such as `haar:face?min_neighbors=5`.

Each file exposes `create(name, target, parameters, *, working_pixels, threads) -> Detector`; `name` is the public
name, `target` the text behind the scheme, `parameters` the decoded query as a dict of str. Creating a detector reads
and checks its file but does no native work, so that the web process can answer questions about it.
"""

from __future__ import annotations

import sys
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from imgdetect import backends
from imgdetect.detection import DetectionResult, DetectOptions, Facts
from imgdetect.errors import InvalidRequest

Image = NDArray[np.uint8]


class Detector(Protocol):
    """Looks at one image."""

    name: str
    task: str  # "detection", "classification" or "segmentation"
    class_names: tuple[str, ...]
    fingerprint: str  # hash of weights, parameters, engine and engine version; part of the cache key
    facts: Facts

    def resolve(self, options: DetectOptions) -> DetectOptions:
        """The options with every None that has a default replaced by it.

        Raises:
            InvalidRequest: an option is given that this detector does not have.
        """
        ...

    def cost(self, size_wh: tuple[int, int], options: DetectOptions) -> int:
        """About how many windows a look at an upright image of that size costs, all rotations together.

        0 where every look costs the same.
        """
        ...

    def detect(self, image: Image, options: DetectOptions) -> DetectionResult:
        """Look at an upright BGR image, shape (height, width, 3); options are resolved.

        Boxes come back in pixels of `image`, ordered by neighbors, then score, both descending.
        """
        ...


def refuse(options: DetectOptions, reasons: dict[str, str]) -> None:
    """Refuse options that a detector does not have instead of ignoring them.

    Args:
        reasons: why, by option; the end of a sentence that begins with the option.
    Raises:
        InvalidRequest: with every one of them that is given.
    """
    unset = DetectOptions(options.detector)
    errors = [
        {"field": name, "message": f"{reason} (detector: {options.detector})"}
        for name, reason in reasons.items()
        if getattr(options, name) != getattr(unset, name)
    ]
    if errors:
        raise InvalidRequest("; ".join(f"{e['field']}: {e['message']}" for e in errors[:3]), errors)


def create(name: str, url: str, *, working_pixels: int, threads: int = 1) -> Detector:
    """Build the detector that a URL names.

    Args:
        name: the public name.
        url: for example `haar:face?min_neighbors=5`.
        working_pixels: larger images are scaled down to this many pixels.
        threads: how many a look may use; detectors that use one thread take no notice.
    Raises:
        ValueError: no such backend, a bad parameter or a missing or broken file.
    """
    parsed = backends.parse(url)
    module = backends.module(sys.modules[__name__], parsed)
    detector: Detector = module.create(
        name, parsed.target, parsed.parameters, working_pixels=working_pixels, threads=threads
    )
    return detector
