"""A picture of a training: what every stage reached, and the hit rate over the false alarm rate."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import accumulate
from operator import mul

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fasthaar.workshop.train_store import StageRecord


def plot(records: Sequence[StageRecord]) -> bytes:
    """A PNG of stages, at least one; with a curve of validation samples where there are some."""
    numbers = range(1, len(records) + 1)
    figure = Figure(figsize=(12, 4), layout="constrained")
    rates, trees, curve = figure.subplots(1, 3)
    rates.plot(numbers, [record.stage.hit_rate for record in records], "o-", label="hit rate")
    rates.plot(numbers, [record.stage.false_alarm for record in records], "s-", label="false alarm rate")
    rates.set(title="Each stage", xlabel="stage", ylim=(0, 1.05))
    rates.legend()
    trees.bar(numbers, [len(record.stage.trees) for record in records])
    trees.set(title="Weak classifiers", xlabel="stage")
    for axes in (rates, trees):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # What a stage met when its negatives were searched is what all stages before it let pass.
    alarms = [record.rate for record in records[1:]]
    alarms.append(records[-1].rate * records[-1].stage.false_alarm)
    hits = list(accumulate((record.stage.hit_rate for record in records), mul))
    curve.plot(alarms, hits, "o-", label="samples that set the thresholds")
    held_out = [(alarm, r.held_out) for alarm, r in zip(alarms, records, strict=True) if r.held_out is not None]
    if held_out:
        curve.plot(*zip(*held_out, strict=True), "s-", label="validation samples")
    if min(alarms) > 0:
        curve.set_xscale("log")
    curve.set(title="After each stage", xlabel="share of windows that pass", ylabel="hit rate")
    curve.legend()
    for axes in (rates, curve):
        axes.grid(visible=True, alpha=0.3)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100)
    return data.getvalue()
