"""Pictures of how good a cascade is, as the bytes of PNG files."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from fasthaar.workshop.judging import Floats


def plot_curve(recall: Floats, precision: Floats, point: tuple[float, float] | None, title: str) -> bytes:
    """Precision over recall, with the point (recall, precision) of the chosen min_neighbors."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, *recall], [1, *precision], drawstyle="steps-post")
    if point:
        axes.plot(*point, "o", label="at the chosen min_neighbors")
        axes.legend(loc="lower left")
    axes.set(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.grid(visible=True, alpha=0.3)
    return _png(figure)


def plot_front(
    points: Sequence[tuple[float, float]],
    front: Sequence[tuple[float, float]],
    best: tuple[float, float] | None,
    limit: float | None,
    goal: str,
) -> bytes:
    """The goal over the time of a picture in milliseconds, for every setting; and the line of those that none beats."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*points, strict=True), ".", color="0.7", label="settings")
    axes.plot(*zip(*front, strict=True), "o-", drawstyle="steps-post", label="none is better and faster")
    if best:
        axes.plot(*best, "*", markersize=16, label="chosen")
    if limit is not None:
        axes.axvline(limit, color="0.4", linestyle="--", label="time limit")
    axes.set(xlabel="milliseconds for a picture, mean", ylabel=goal, ylim=(0, 1.05))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return _png(figure)


def _png(figure: Figure) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100)
    return data.getvalue()
