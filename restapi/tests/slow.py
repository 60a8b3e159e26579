"""Work that takes a while, and how to see that it is going on."""

from __future__ import annotations

import functools
import re

import numpy as np
import requests

from tests.live_server import LiveServer
from tests.processes import until

# More than half a second for `picture`. Every live server has this detector; with fasthaar nothing takes as long.
SLOW = {"detector": "slow", "scale_factor": "1.05"}
SLOWER = SLOW | {"rotations": "0,90"}  # twice as long


@functools.cache
def picture(seed: int = 0) -> bytes:
    """A picture of soft blobs, in which a cascade finds much to look at twice; another one for each seed."""
    from imgdetect.images import cv2  # not at the top: OpenCV has to be imported by the package, which sets its limits

    blobs = np.random.default_rng(seed).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".jpg", cv2.resize(blobs, (900, 675)))[1].data)


def gauge(server: LiveServer, name: str) -> float:
    """A gauge of a server's metrics, for example imgdetect_slots_busy."""
    text = requests.get(f"{server.url}/metrics", timeout=30).text
    found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    return max(map(float, found), default=0)


def await_busy(server: LiveServer, slots: int = 1, waiting: int = 0) -> None:
    """Wait until so many pictures are being looked at, and so many wait for it."""
    names = ("imgdetect_slots_busy", "imgdetect_line_waiting")

    def busy() -> bool:
        return tuple(gauge(server, name) for name in names) >= (slots, waiting)

    assert until(busy), f"not busy:\n{server.log()[-2000:]}"
