"""`fasthaar tune`: the scale_factor, min_neighbors and min_size that find most in the time there is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from fasthaar import CascadeClassifier
from fasthaar.workshop import WorkshopError
from fasthaar.workshop.annotations import Annotated, read_annotations
from fasthaar.workshop.effects import Size
from fasthaar.workshop.evaluate import JUDGED
from fasthaar.workshop.judging import (
    Rules,
    Verdict,
    find_candidates,
    joined,
    judge,
    load_cascade,
    load_picture,
    scores,
)
from fasthaar.workshop.option_types import Real
from fasthaar.workshop.whole import write_whole

GOALS = ("f1", "recall", "precision")
_PATH = click.Path(path_type=Path)


class NumbersType(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them."""

    name = "N,N,..."

    def __init__(self, least: float, most: float, *, whole: bool) -> None:
        """What each may be."""
        self.least, self.most, self.whole = least, most, whole

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """The numbers, ascending, each once."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = {int(part) if self.whole else float(part) for part in str(value).split(",")}
            if not all(self.least <= number <= self.most for number in numbers):
                raise ValueError
        except ValueError:
            self.fail(f"{value!r} should be numbers from {self.least} to {self.most}, as 3,5", param, ctx)
        return tuple(sorted(numbers))


@dataclass(frozen=True)
class Setting:
    """One way of looking, and what came of it on the labelled pictures."""

    scale_factor: float
    min_neighbors: int
    min_size: Size
    milliseconds: float  # for a picture, mean
    slowest: float  # milliseconds
    precision: float | None
    recall: float | None
    f1: float | None
    false_positives_per_image: float


@click.command()
@click.argument("cascade", type=_PATH)
@click.argument("source", type=_PATH)
@JUDGED
@click.option(
    "--limit",
    "limit_ms",
    type=Real(0, min_open=True),
    help="Milliseconds for a picture in the mean, at most.",
)
@click.option("--goal", type=click.Choice(GOALS), default="f1", show_default=True, help="What to have most of.")
@click.option(
    "--scale-factors",
    type=NumbersType(1.0001, 10, whole=False),
    default="1.05,1.1,1.15,1.2,1.3",
    show_default=True,
    help="To try.",
)
@click.option(
    "--min-neighbors",
    type=NumbersType(1, 1000, whole=True),
    default="1,2,3,4,5,6,8,10,12,16",
    show_default=True,
    help="To try.",
)
@click.option(
    "--min-sizes",
    type=NumbersType(1, 32767, whole=True),
    help="Widths to try.  [default: the window, and 1.5 and 2 times as much]",
)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 64), help="Of each detection.")
@click.option("--plot", type=_PATH, help="Write the goal over the time as PNG.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, with every setting.")
def tune(
    cascade: Path,
    source: Path,
    pictures: Path | None,
    classes: Sequence[str],
    clip: bool,
    long_side: int | None,
    iou: float,
    margin: float,
    least_px: float,
    limit_ms: float | None,
    goal: str,
    scale_factors: Sequence[float],
    min_neighbors: Sequence[int],
    min_sizes: Sequence[int] | None,
    threads: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Find the best settings of CASCADE for the labelled pictures in SOURCE.

    Each picture is looked at once for every pair of scale factor and smallest size; all min_neighbors follow from that.
    Of equals the faster one is chosen, then the one with fewer false positives. Times are those of this machine, of
    the detection alone.
    """
    classifier = load_cascade(cascade)
    annotated = read_annotations(source, pictures, classes, clip=clip)
    if not any((~one.ignored).any() for one in annotated):
        raise WorkshopError(f"{source}: there are no objects in it to be found")
    widths = min_sizes or tuple(round(classifier.getOriginalWindowSize()[0] * times) for times in (1, 1.5, 2))
    looks = [(factor, _size(classifier, width)) for factor in scale_factors for width in widths]
    settings = _try_all(classifier, annotated, long_side, looks, min_neighbors, Rules(iou, margin, least_px), threads)
    affordable = [one for one in settings if limit_ms is None or one.milliseconds <= limit_ms]
    if not affordable:
        fastest = min(one.milliseconds for one in settings)
        raise WorkshopError(
            f"no setting takes {limit_ms:g} ms or less, the fastest {fastest:.2f} ms; raise --limit or try others"
        )
    most = max(_rank(one, goal) for one in affordable)
    equal = [one for one in affordable if _rank(one, goal) == most]
    best = equal[len(equal) // 2]  # of several min_neighbors one in the middle, which new pictures upset least
    front = pareto(settings, goal)
    if plot:
        _plot(plot, settings, front, best, limit_ms, goal)
    if as_json:
        best_too = {"best": asdict(best), "goal": goal, "limit": limit_ms, "pictures": len(annotated)}
        every = [{**asdict(one), "pareto": one in front} for one in settings]
        click.echo(json.dumps({**best_too, "settings": every}))
    else:
        click.echo(_text(best, front, goal))


def _size(classifier: CascadeClassifier, width: int) -> Size:
    window = classifier.getOriginalWindowSize()
    return width, round(width * window[1] / window[0])


def _try_all(
    classifier: CascadeClassifier,
    annotated: Sequence[Annotated],
    long_side: int | None,
    looks: Sequence[tuple[float, Size]],
    min_neighbors: Sequence[int],
    rules: Rules,
    threads: int,
) -> list[Setting]:
    seconds: dict[tuple[float, Size], list[float]] = {look: [] for look in looks}
    verdicts: dict[tuple[float, Size, int], list[Verdict]] = {(*look, n): [] for look in looks for n in min_neighbors}
    warm_up = load_picture(annotated[0], long_side)
    find_candidates(classifier, warm_up.image, *looks[0], threads)
    for one in tqdm(annotated, desc="pictures", disable=None, leave=False):
        picture = load_picture(one, long_side)
        for look in looks:
            candidates = find_candidates(classifier, picture.image, *look, threads)
            seconds[look].append(candidates.seconds)
            for strictness in min_neighbors:
                verdicts[*look, strictness].append(judge(picture, candidates, strictness, rules))
    return [_setting(key, seconds[key[:2]], of_key) for key, of_key in verdicts.items()]


def _setting(key: tuple[float, Size, int], seconds: Sequence[float], verdicts: Sequence[Verdict]) -> Setting:
    factor, size, strictness = key
    counted = scores(joined(verdicts))
    return Setting(
        factor,
        strictness,
        size,
        1000 * float(np.mean(seconds)),
        1000 * max(seconds),
        counted.precision,
        counted.recall,
        counted.f1,
        counted.false_positives / len(verdicts),
    )


def _value(one: Setting, goal: str) -> float:
    return float(getattr(one, goal) or 0)


def _rank(one: Setting, goal: str) -> tuple[float, float, float]:
    return _value(one, goal), -one.milliseconds, -one.false_positives_per_image


def pareto(settings: Sequence[Setting], goal: str) -> list[Setting]:
    """The settings that no other one beats in the goal without taking longer, the fastest first."""
    front: list[Setting] = []
    for one in sorted(settings, key=lambda one: (one.milliseconds, -_value(one, goal), one.false_positives_per_image)):
        if not front or _value(one, goal) > _value(front[-1], goal):
            front.append(one)
    return front


def _plot(
    path: Path, settings: Sequence[Setting], front: Sequence[Setting], best: Setting, limit: float | None, goal: str
) -> None:
    from fasthaar.workshop.plots import plot_front  # noqa: PLC0415 - matplotlib takes a second

    def points(some: Sequence[Setting]) -> list[tuple[float, float]]:
        return [(one.milliseconds, _value(one, goal)) for one in some]

    write_whole(path, plot_front(points(settings), points(front), points([best])[0], limit, goal))


def _text(best: Setting, front: Sequence[Setting], goal: str) -> str:
    head = (
        f"  {'scale':>6}{'neighbors':>11}{'min size':>11}{'ms':>9}{'slowest':>9}{'precision':>11}{'recall':>9}{'F1':>8}"
    )
    lines = []
    for one in front if best in front else [*front, best]:
        mark = "*" if one == best else " "
        numbers = "".join(
            f"{'-' if value is None else f'{value:.3f}':>{width}}"
            for value, width in ((one.precision, 11), (one.recall, 9), (one.f1, 8))
        )
        size = f"{one.min_size[0]}x{one.min_size[1]}"
        times = f"{one.milliseconds:9.2f}{one.slowest:9.2f}"
        lines.append(f"{mark} {one.scale_factor:6g}{one.min_neighbors:11}{size:>11}{times}{numbers}")
    chosen = (
        f"scale_factor={best.scale_factor:g} min_neighbors={best.min_neighbors} "
        f"min_size={best.min_size[0]},{best.min_size[1]}"
    )
    return "\n".join([head, *lines, f"most {goal}: {chosen}"])
