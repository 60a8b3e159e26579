"""Whether a model can be used at all, seen in a process of its own: a hostile or broken file ends that one only."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from typing import Any, NamedTuple

import numpy as np

from imgdetect import detectors
from imgdetect.detection import DetectOptions
from imgdetect.errors import Problem

SECONDS = 120.0
_PICTURE = (240, 320, 3)
_MAX_ANSWER = 100_000


class Vetted(NamedTuple):
    """What a model showed."""

    task: str
    classes: int
    load_ms: float  # with the first look
    look_ms: float  # the quickest of the next ones
    peak_bytes: int  # memory of the process that looked


def vet(name: str, url: str, *, working_pixels: int, memory_bytes: int = 0, seconds: float = SECONDS) -> Vetted:
    """Load a model and look at a picture of noise with it, in a process with limits.

    Args:
        name: the detector's public name.
        url: its backend URL.
        memory_bytes: address space of the process; 0: no limit.
        seconds: it is stopped after so long.
    Raises:
        ValueError: it cannot be used; one line.
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; from imgdetect.detectors import _vetting; _vetting.try_out()"
    asked = json.dumps([name, url, working_pixels, memory_bytes, seconds])
    try:
        # Our own interpreter and code, and no shell.
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code], input=asked.encode(), capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"detector {name}: the model was not ready after {seconds:g} s") from None
    try:
        answer = json.loads(done.stdout[:_MAX_ANSWER])
    except ValueError:
        raise ValueError(f"detector {name}: the process that tried the model died ({_why(done.returncode)})") from None
    if "error" in answer:
        raise ValueError(f"detector {name}: {answer['error']}")
    return Vetted(**answer)


def _why(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def try_out() -> None:
    """The life of the process: read what is asked, answer in JSON."""
    answers = os.dup(1)
    os.dup2(2, 1)  # libraries that print must not spoil the answer
    name, url, working_pixels, memory_bytes, seconds = json.loads(sys.stdin.buffer.read())
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    cpu = int(seconds * (os.cpu_count() or 1)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = _seen(name, url, working_pixels)._asdict()
    except Problem as problem:
        answer = {"error": problem.detail or problem.title}
    except MemoryError:
        answer = {"error": "the model needs more memory than a child has"}
    except Exception as error:  # whatever ONNX Runtime makes of a file: it has a dozen kinds
        answer = {"error": " ".join(str(error).split())[:500] or type(error).__name__}
    os.write(answers, json.dumps(answer).encode())


def _seen(name: str, url: str, working_pixels: int) -> Vetted:
    detector: Any = detectors.create(name, url, working_pixels=working_pixels)
    picture = np.random.default_rng(0).integers(0, 256, _PICTURE, dtype=np.uint8)
    options = detector.resolve(DetectOptions(name))
    times = []
    for _ in range(4):
        started = time.perf_counter()
        detector.detect(picture, options)
        times.append((time.perf_counter() - started) * 1000)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Vetted(detector.task, len(detector.class_names), round(times[0], 1), round(min(times[1:]), 1), peak)
