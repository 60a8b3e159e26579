"""Whether a cascade from a stranger may be used at all: what it is, and what it does to a few hard pictures."""

from __future__ import annotations

import time

import numpy as np

from imgdetect.detectors import _cascades
from imgdetect.detectors._cascades import MAX_BYTES, CascadeFile
from imgdetect.detectors._engines import FastHaar, Grey, canonical
from imgdetect.errors import DetectorFailed, DetectorTooSlow, UnusableCascade

PICTURE_WH = (320, 240)
SCALE_FACTOR = 1.1
# Of OpenCV's cascades `smile` accepts most, 1.2 % of the windows of noise.
MOST_ACCEPTED = 1 / 4
# OpenCV's cascades take at most 20 ms for such a picture, or 250 ms without vector instructions.
SECONDS = 2.0


def try_out(data: bytes) -> CascadeFile:
    """Validate a cascade, write it anew and look with it at pictures in which there is nothing to see.

    Args:
        data: the file as it was sent; no engine sees these bytes.
    Returns:
        The cascade in canonical form.
    Raises:
        UnusableCascade: it is no valid cascade, or it accepts nearly everything.
        DetectorTooSlow: it takes far longer than any real one.
    """
    try:
        xml = canonical(data)
        if len(xml) > MAX_BYTES:
            raise ValueError(f"written in canonical form it is larger than {MAX_BYTES} bytes")
        file = _cascades.parse(xml)
    except ValueError as error:
        raise UnusableCascade(_sentence(str(error))) from None
    for what, grey in _pictures().items():
        _look(file, what, grey)
    return file


def _look(file: CascadeFile, what: str, grey: Grey) -> None:
    windows = _cascades.count_windows(file.window_wh, PICTURE_WH, SCALE_FACTOR, file.window_wh, None)
    engine = FastHaar(file, max_candidates=int(windows * MOST_ACCEPTED), seconds=SECONDS)
    started = time.monotonic()
    try:
        engine.look(grey, SCALE_FACTOR, file.window_wh, None)
    except DetectorTooSlow:
        if time.monotonic() - started >= SECONDS:
            raise DetectorTooSlow(
                f"The cascade needs more than {SECONDS:g} s for {what} of {PICTURE_WH[0]}x{PICTURE_WH[1]} pixels."
            ) from None
        raise UnusableCascade(
            f"The cascade accepts more than {MOST_ACCEPTED:.0%} of all windows of {what}, so that it tells nothing."
        ) from None
    except DetectorFailed:
        raise UnusableCascade("The engine cannot use the cascade.") from None


def _sentence(text: str) -> str:
    """A reason as one sentence of an answer; a value of the file that it repeats may be long or strange."""
    plain = "".join(c for c in text if c.isprintable())[:300].strip().rstrip(".")
    return f"{plain[:1].upper()}{plain[1:]}."


def _pictures() -> dict[str, Grey]:
    width, height = PICTURE_WH
    noise = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    across = np.linspace(0, 255, width, dtype=np.uint8)
    gradient = np.ascontiguousarray(np.broadcast_to(across, (height, width)))
    return {"noise": noise, "a gradient": gradient, "an even grey": np.full((height, width), 128, np.uint8)}
