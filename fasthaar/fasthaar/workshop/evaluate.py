"""`fasthaar evaluate`: how many objects a cascade finds, and what it takes for one."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from fasthaar import CascadeClassifier
from fasthaar.workshop import WorkshopError
from fasthaar.workshop.annotations import Annotated, read_annotations
from fasthaar.workshop.effects import Size
from fasthaar.workshop.judging import (
    Rules,
    Scores,
    Verdict,
    average_precision,
    curve,
    find_candidates,
    joined,
    judge,
    load_cascade,
    load_picture,
    scores,
)
from fasthaar.workshop.option_types import Real, SizeType, options
from fasthaar.workshop.samples import LABELS
from fasthaar.workshop.whole import write_whole

# What the curve is made of: single candidates are not joined to rectangles.
_CURVE_NEIGHBORS = 1
_PATH = click.Path(path_type=Path)


class SizesType(click.ParamType[tuple[float, float]]):
    """SMALL,LARGE: two sides in pixels, ascending."""

    name = "SMALL,LARGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        """Two limits."""
        if isinstance(value, tuple):
            return value
        try:
            small, large = (float(side) for side in str(value).split(","))
            if not 0 < small < large < np.inf:
                raise ValueError
        except ValueError:
            self.fail(f"{value!r} should be SMALL,LARGE in pixels, as 32,96", param, ctx)
        return small, large


JUDGED = options(
    LABELS,
    click.option(
        "--long-side",
        type=click.IntRange(16, 16384),
        help="Longer side of pictures when looked at, pixels.  [default: as they are]",
    ),
    click.option(
        "--iou",
        default=0.5,
        show_default=True,
        type=Real(0, 1, min_open=True),
        help="Overlap with a labelled box from which on it is found.",
    ),
    click.option(
        "--margin",
        default=0.0,
        show_default=True,
        type=Real(-0.4, 2),
        help="That the samples were made with.",
    ),
    click.option(
        "--min-object",
        "least_px",
        default=0.0,
        show_default=True,
        type=Real(0),
        help="Smaller objects need not be found, pixels when looked at.",
    ),
)


@click.command()
@click.argument("cascade", type=_PATH)
@click.argument("source", type=_PATH)
@click.option("--scale-factor", default=1.1, show_default=True, type=Real(1.0001, 10), help="As in detectMultiScale.")
@click.option(
    "--min-neighbors", default=3, show_default=True, type=click.IntRange(1, 1000), help="As in detectMultiScale."
)
@click.option("--min-size", type=SizeType(1, 32767), help="As in detectMultiScale.  [default: the cascade's window]")
@JUDGED
@click.option(
    "--sizes",
    type=SizesType(),
    default="32,96",
    show_default=True,
    help="Limits of small and large objects, pixels when looked at.",
)
@click.option("--curve", "curve_file", type=_PATH, help="Write precision over recall as PNG.")
@click.option(
    "--threads",
    default=min(64, len(os.sched_getaffinity(0))),
    show_default=True,
    type=click.IntRange(1, 64),
    help="Of each detection.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON, with every picture and the curve.")
def evaluate(
    cascade: Path,
    source: Path,
    scale_factor: float,
    min_neighbors: int,
    min_size: Size | None,
    pictures: Path | None,
    classes: Sequence[str],
    clip: bool,
    long_side: int | None,
    iou: float,
    margin: float,
    least_px: float,
    sizes: tuple[float, float],
    curve_file: Path | None,
    threads: int,
    as_json: bool,
) -> None:
    """Hold what CASCADE finds against the labels in SOURCE: COCO, VOC, YOLO or OpenCV's list.

    Every object is given to one rectangle, the strongest first, by the number of neighbours and then by level weight.
    Sizes are the sides of squares with the same area.
    """
    classifier = load_cascade(cascade)
    annotated = read_annotations(source, pictures, classes, clip=clip)
    rules = Rules(iou, margin, least_px)
    search = (scale_factor, min_size or (0, 0), threads)
    judged = _judge_all(classifier, annotated, long_side, search, min_neighbors, rules)
    found, ranked = joined([one for _, one, _, _ in judged]), joined([one for _, _, one, _ in judged])
    if not len(found.found):
        raise WorkshopError(f"{source}: there are no objects in it to be found")
    all_scores = scores(found)
    seconds = [one for _, _, _, one in judged]
    report: dict[str, Any] = {
        "cascade": str(cascade),
        "pictures": len(judged),
        **_as_dict(all_scores),
        "average_precision": average_precision(ranked),
        "false_positives_per_image": all_scores.false_positives / len(judged),
        "by_size": _by_size(found, sizes),
        "milliseconds": {"mean": 1000 * float(np.mean(seconds)), "slowest": 1000 * max(seconds)},
        "settings": {
            "scale_factor": scale_factor,
            "min_neighbors": min_neighbors,
            "min_size": min_size,
            "long_side": long_side,
            "iou": iou,
            "margin": margin,
            "min_object": least_px,
        },
    }
    recall, precision = curve(ranked)
    if curve_file:
        from fasthaar.workshop.plots import plot_curve  # noqa: PLC0415 - matplotlib takes a second

        point = None if all_scores.precision is None else (all_scores.recall or 0, all_scores.precision)
        write_whole(curve_file, plot_curve(recall, precision, point, cascade.name))
    if as_json:
        report["curve"] = {"recall": recall.tolist(), "precision": precision.tolist()}
        report["each"] = [{"picture": name, **_as_dict(scores(verdict))} for name, verdict, _, _ in judged]
        click.echo(json.dumps(report))
    else:
        click.echo(_text(report))


def _judge_all(
    classifier: CascadeClassifier,
    annotated: Sequence[Annotated],
    long_side: int | None,
    search: tuple[float, Size, int],
    min_neighbors: int,
    rules: Rules,
) -> list[tuple[str, Verdict, Verdict, float]]:
    """For each picture its name, the verdict at `min_neighbors`, the one for the curve, and seconds."""
    judged = []
    for one in tqdm(annotated, desc="pictures", disable=None, leave=False):
        picture = load_picture(one, long_side)
        candidates = find_candidates(classifier, picture.image, *search)
        verdicts = [judge(picture, candidates, strict, rules) for strict in (min_neighbors, _CURVE_NEIGHBORS)]
        judged.append((picture.name, verdicts[0], verdicts[1], candidates.seconds))
    return judged


def _by_size(verdict: Verdict, sizes: tuple[float, float]) -> dict[str, dict[str, Any]]:
    small, large = sizes
    limits = {"small": (0, small), "medium": (small, large), "large": (large, np.inf)}
    return {name: _as_dict(scores(verdict, *between)) for name, between in limits.items()}


def _as_dict(counted: Scores) -> dict[str, Any]:
    return {
        "objects": counted.objects,
        "true_positives": counted.true_positives,
        "false_positives": counted.false_positives,
        "precision": counted.precision,
        "recall": counted.recall,
        "f1": counted.f1,
    }


def _text(report: dict[str, Any]) -> str:
    head = f"{'':10}{'objects':>9}{'found':>8}{'false':>8}{'precision':>11}{'recall':>9}{'F1':>8}"
    rows = [("all", report), *report["by_size"].items()]
    lines = [
        f"{name:10}{row['objects']:9}{row['true_positives']:8}{row['false_positives']:8}"
        f"{_number(row['precision']):>11}{_number(row['recall']):>9}{_number(row['f1']):>8}"
        for name, row in rows
    ]
    return "\n".join(
        [
            head,
            *lines,
            f"average precision {_number(report['average_precision'])}, "
            f"{report['false_positives_per_image']:.2f} false positives a picture, {report['pictures']} pictures, "
            f"{report['milliseconds']['mean']:.1f} ms each, {report['milliseconds']['slowest']:.1f} at most",
        ]
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
