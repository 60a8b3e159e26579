"""How long training takes: whole stages, and how one tree's time grows with samples and features."""

from __future__ import annotations

import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

import drawn
from benchmarks.paired import head, row
from fasthaar.workshop.boost import StageRules
from fasthaar.workshop.features import Kind, feature_set
from fasthaar.workshop.train_core import SQUARES, Samples
from fasthaar.workshop.train_input import list_negatives
from fasthaar.workshop.train_run import Plan, run
from fasthaar.workshop.train_store import LOG

SIDE = 24
POSITIVES = NEGATIVES = 2000
STAGES = 5
PICTURES = 100


def training(rounds: int) -> None:
    """Stages of 2,000 positives of 24x24 and 2,000 negatives, then single trees; CPU seconds are those of all cores."""
    threads = len(os.sched_getaffinity(0))
    print(f"{threads} threads\n")
    head("features, drawn for each stage", "stages", "trees", "seconds", "CPU seconds", "stages a minute")
    for per_stage in (40_000, None):
        _stages("CORE", per_stage, threads)
    _stages("LBP", None, threads)
    print()
    head("features", "number", "samples", "first tree s", "CPU s", "further trees s", "CPU s")
    cases: list[tuple[Kind, int | None, int]] = [("CORE", 40_000, count) for count in (1000, 2000, 4000, 8000)]
    cases += [("BASIC", None, 4000), ("CORE", None, 4000), ("ALL", None, 4000), ("LBP", None, 4000)]
    for kind, number, count in cases:
        _trees(kind, number, count, threads, rounds)


def _measured(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of all cores together."""
    began, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - began, time.process_time() - cpu


def _stages(kind: Kind, per_stage: int | None, threads: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        for number in range(PICTURES):
            cv2.imwrite(str(folder / "pictures" / f"{number}.png"), drawn.ground(800, 600, number))
        samples = drawn.samples(POSITIVES * 5 // 4, 1, SIDE)
        plan = Plan(
            features=kind,
            rules=StageRules(features_per_stage=per_stage),
            stages=STAGES,
            negatives=NEGATIVES,
            threads=threads,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            taken = _measured(lambda: run(plan, samples, list_negatives(folder / "pictures"), folder / "out"))
        log = [json.loads(line) for line in (folder / "out" / LOG).read_text("utf-8").splitlines()]
    label = f"{kind}, {per_stage or 'all'}"
    trees = sum(entry["weak_classifiers"] for entry in log)
    pace = 60 * len(log) / taken[0]
    row(label, f"{len(log)}", f"{trees}", f"{taken[0]:.1f}", f"{taken[1]:.1f}", f"{pace:.1f}")


def _trees(kind: Kind, number: int | None, count: int, threads: int, rounds: int) -> None:
    """The first tree, for which features are computed, and those after it."""
    features = feature_set(kind, (SIDE, SIDE))
    rng = np.random.default_rng(0)
    if number:
        features = features.take(np.sort(rng.choice(len(features.rects), number, replace=False)).astype(np.int32))
    picture = drawn.ground(800, 600, 0)
    corners = zip(rng.integers(0, 800 - SIDE, count // 2), rng.integers(0, 600 - SIDE, count // 2), strict=True)
    windows = np.stack([picture[y : y + SIDE, x : x + SIDE] for x, y in corners])
    samples = Samples(
        np.concatenate([drawn.samples(count // 2, 0, SIDE), windows]), features, threads=threads, cache_bytes=4 << 30
    )
    indices = np.arange(samples.count, dtype=np.int32)
    weights = rng.uniform(0.5, 1, samples.count)
    targets = weights * np.where(indices < count // 2, 1, -1)

    def split() -> None:
        samples.best_split(SQUARES, indices, weights, targets)

    first = _measured(split)
    times = [_measured(split) for _ in range(rounds)]
    further = (statistics.median(column) for column in zip(*times, strict=True))
    numbers = (f"{seconds:.3g}" for seconds in (*first, *further))
    row(kind, f"{len(features.rects):,}", f"{samples.count:,}", *numbers)
