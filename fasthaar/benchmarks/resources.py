"""What fasthaar takes beside time on one core: a second core, memory, the time to load."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import cv2

import fasthaar
from benchmarks.paired import head, pair_row, paired, row
from benchmarks.speed import CASCADES, USUAL, cascade_xml, classifiers, greys, stem


def threads(rounds: int) -> None:
    """Two threads beside one, for pictures of a megapixel and more."""
    head("cascade, picture", "1 thread ms", "2 threads ms", "ratio", "quartiles")
    for name in USUAL:
        for size_wh in ((1280, 800), (2000, 1500)):
            detect = partial(classifiers(name)[1].detectMultiScale, greys(size_wh)[0])
            pair_row(f"{stem(name)}, {size_wh[0]}x{size_wh[1]}", paired(detect, partial(detect, num_threads=2), rounds))


SCRIPT = """
import sys
from benchmarks.speed import classifiers, greys
from memory import peak_growth
name, engine, width, height, side, threads = sys.argv[1], *map(int, sys.argv[2:])
classifier = classifiers(name)[engine]
image = greys((width, height))[0]
classifier.detectMultiScale(image[:100, :100])
more = {"num_threads": threads} if engine else {}
print(peak_growth(lambda: classifier.detectMultiScale(image, minSize=(side, side), **more)))
"""


def _peak(name: str, *numbers: int) -> int:
    """Bytes that a detection in a process of its own adds to it at most."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name, *map(str, numbers)],
        env=os.environ | {"FASTHAAR_TARGET": fasthaar.target()},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(done.stdout)


def memory(rounds: int) -> None:
    """Peak of a detection beside the picture itself, in bytes for each of its pixels; each is measured once."""
    del rounds
    head("cascade, picture, minSize, threads", "OpenCV", "fasthaar")
    tilted = "haarcascade_frontalcatface_extended.xml"
    for name, width, height, side, number in (
        (USUAL[0], 4000, 3000, 0, 1),
        (USUAL[0], 4000, 3000, 0, 2),
        (USUAL[0], 4000, 3000, 200, 1),
        (USUAL[0], 979, 551, 0, 1),
        (tilted, 4000, 3000, 0, 1),
        (tilted, 4000, 3000, 0, 2),
        (USUAL[-1], 4000, 3000, 0, 1),
    ):
        theirs, ours = (_peak(name, engine, width, height, side, number) / (width * height) for engine in (0, 1))
        row(f"{stem(name)}, {width}x{height}, {side}, {number}", f"{theirs:.1f}", f"{ours:.2f}")


def load(rounds: int) -> None:
    """Loading from a file that the system has in memory; the ratio is how many times longer fasthaar takes."""
    head("cascade", "fasthaar ms", "OpenCV ms", "ratio", "quartiles")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cascade.xml"
        for name in CASCADES:
            path.write_bytes(cascade_xml(name))
            ours, theirs = partial(fasthaar.CascadeClassifier, path), partial(cv2.CascadeClassifier, str(path))
            pair_row(stem(name), paired(ours, theirs, rounds))
