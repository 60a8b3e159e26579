"""`fasthaar train`: a cascade from samples of an object and pictures without it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, get_args

import click

from fasthaar._cascade import MAX_STAGES, SIDE_RANGE
from fasthaar.workshop import WorkshopError
from fasthaar.workshop.boost import BOOSTERS, MAX_DEPTH, Booster, StageRules
from fasthaar.workshop.features import KINDS, Kind
from fasthaar.workshop.train_input import list_negatives, load_samples
from fasthaar.workshop.train_run import Plan, run
from fasthaar.workshop.train_store import CASCADE

_RULES, _PLAN = StageRules(), Plan()


class _Number(click.FloatRange):
    """A number in a range; what is not a number is outside of it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is no number", param, ctx)
        return number


_SHARE = _Number(0, 1, min_open=True)
_BELOW_ONE = _Number(0, 1, min_open=True, max_open=True)
_SIDE = click.IntRange(*SIDE_RANGE)
_CORES = min(64, len(os.sched_getaffinity(0)))


@click.command()
@click.argument("samples", type=click.Path(path_type=Path))
@click.argument("negatives", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for stages and the cascade.")
@click.option("--validation", type=click.Path(path_type=Path), help="More samples, only to measure with.")
@click.option("--width", type=_SIDE, help="Of the window; for a .vec file.  [default: 24, or as the .npz]")
@click.option("--height", type=_SIDE, help="Of the window; for a .vec file.  [default: 24, or as the .npz]")
@click.option(
    "--features",
    type=click.Choice([kind.lower() for kind in KINDS], case_sensitive=False),
    default=_PLAN.features.lower(),
    show_default=True,
    help="HAAR: basic, core (and four stripes, middles), all (and tilted ones); or lbp.",
)
@click.option("--boost", type=click.Choice(BOOSTERS), default=_RULES.booster, show_default=True, help="Booster.")
@click.option(
    "--max-depth", type=click.IntRange(1, MAX_DEPTH), default=_RULES.max_depth, show_default=True, help="1: stumps."
)
@click.option("--stages", type=click.IntRange(1, MAX_STAGES), default=_PLAN.stages, show_default=True, help="At most.")
@click.option(
    "--hold-out",
    type=_Number(0, 0.5),
    default=_RULES.hold_out,
    show_default=True,
    help="Share of the samples, the last ones, that only set thresholds.",
)
@click.option("--min-hit-rate", type=_SHARE, default=_RULES.min_hit_rate, show_default=True, help="Of each stage.")
@click.option(
    "--max-false-alarm", type=_BELOW_ONE, default=_RULES.max_false_alarm, show_default=True, help="Of each stage."
)
@click.option("--target", type=_BELOW_ONE, default=_PLAN.target, show_default=True, help="Overall false alarm rate.")
@click.option("--positives-per-stage", type=click.IntRange(1), help="Samples for each stage.  [default: all]")
@click.option(
    "--negatives-per-stage", type=click.IntRange(20), default=_PLAN.negatives, show_default=True, help="Windows."
)
@click.option(
    "--max-weak", type=click.IntRange(1, 2000), default=_RULES.max_weak, show_default=True, help="Trees in a stage."
)
@click.option(
    "--trim", type=_SHARE, default=_RULES.trim, show_default=True, help="Share of the weight each tree learns from."
)
@click.option(
    "--features-per-stage",
    type=click.IntRange(1),
    default=_RULES.features_per_stage,
    show_default=True,
    help="Drawn anew for each stage.",
)
@click.option(
    "--features-per-round", type=click.IntRange(1), help="Of these, drawn anew for each tree.  [default: all]"
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=_PLAN.seed, show_default=True)
@click.option(
    "--threads", type=click.IntRange(1, 64), default=_CORES, help="The cascade is the same.  [default: cores]"
)
@click.option("--memory-mb", type=click.IntRange(64), default=_PLAN.memory_mb, show_default=True, help="Likewise.")
def train(
    samples: Path,
    negatives: Path,
    out: Path,
    validation: Path | None,
    width: int | None,
    height: int | None,
    features: str,
    boost: str,
    max_depth: int,
    stages: int,
    hold_out: float,
    min_hit_rate: float,
    max_false_alarm: float,
    target: float,
    positives_per_stage: int | None,
    negatives_per_stage: int,
    max_weak: int,
    trim: float,
    features_per_stage: int,
    features_per_round: int | None,
    seed: int,
    threads: int,
    memory_mb: int,
) -> None:
    """Train a cascade from SAMPLES of an object and pictures without it, NEGATIVES.

    SAMPLES is an .npz file with the uint8 array `samples`, (count, height, width), or a .vec file of
    opencv_createsamples. NEGATIVES is a folder of pictures, or a text file that names one on each line.

    The same command goes on with a training that was interrupted. The cascade is OUT/cascade.xml, as OpenCV 4 and
    fasthaar load it; it is there from the first stage on.
    """
    if (width is None) != (height is None):
        raise WorkshopError("--width and --height belong together: name both or neither")
    window = None if width is None or height is None else (width, height)
    positives = load_samples(samples, window)
    held_out = load_samples(validation, (positives.shape[2], positives.shape[1])) if validation else None
    kinds = {kind.lower(): kind for kind in get_args(Kind)}
    boosters = {booster: booster for booster in get_args(Booster)}
    plan = Plan(
        features=kinds[features],
        rules=StageRules(
            booster=boosters[boost],
            max_depth=max_depth,
            hold_out=hold_out,
            min_hit_rate=min_hit_rate,
            max_false_alarm=max_false_alarm,
            max_weak=max_weak,
            trim=trim,
            features_per_stage=features_per_stage,
            features_per_round=features_per_round,
        ),
        stages=stages,
        target=target,
        positives=positives_per_stage,
        negatives=negatives_per_stage,
        seed=seed,
        threads=threads,
        memory_mb=memory_mb,
    )
    run(plan, positives, list_negatives(negatives), out, held_out)
    click.echo(str(out / CASCADE))
