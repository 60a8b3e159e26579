"""A training from its first stage to its last."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fasthaar._cascade import MAX_STAGES
from fasthaar._write import write
from fasthaar.workshop import WorkshopError
from fasthaar.workshop.boost import Counts, NothingToTell, Stage, StageRules, Tree, draw, train_stage
from fasthaar.workshop.features import FeatureSet, Kind, feature_set
from fasthaar.workshop.train_core import Samples, Split
from fasthaar.workshop.train_input import Negatives, Pixels
from fasthaar.workshop.train_mine import Mined, Miner, passing
from fasthaar.workshop.train_plot import plot
from fasthaar.workshop.train_store import PLOT, Folder, StageRecord, cascade_of, open_folder
from fasthaar.workshop.whole import write_whole

_FEWEST_NEGATIVES = 20
_USELESS = 0.95  # a stage that lets more windows pass than this is none
_PLOT_SECONDS = 30  # between two plots of a training that is going on
# What comes before the first stage: every window passes that the detector looks at.
_EVERYTHING = Stage((Tree((0,), (-1,), (Split(0, 0.0, (0,) * 8, 0.0),), (1.0, 1.0)),), 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Plan:
    """What to train.

    Attributes:
        features: which kind of features.
        rules: of every stage.
        stages: most stages, 1 to 64.
        target: the training ends when a smaller share of the windows passes.
        positives: samples for each stage, the first that pass those before; None for all.
        negatives: windows for each stage.
        seed: of everything that is drawn.
        threads: 1 to 64; the cascade does not depend on it.
        memory_mb: for features and pictures, in MiB; the cascade does not depend on it.
    """

    features: Kind = "CORE"
    rules: StageRules = field(default_factory=StageRules)
    stages: int = 20
    target: float = 1e-6
    positives: int | None = None
    negatives: int = 2000
    seed: int = 0
    threads: int = 1
    memory_mb: int = 1536


def run(plan: Plan, samples: Pixels, negatives: Negatives, folder: Path, held_out: Pixels | None = None) -> bytes:
    """Train a cascade, or go on with one, and say on standard output how it goes.

    Args:
        plan: what to train.
        samples: the object, uint8 (N, height, width).
        negatives: pictures without it.
        folder: where stages and results are kept.
        held_out: more samples of the object, of the same size, that are never trained on.

    Returns:
        The cascade's XML.

    Raises:
        WorkshopError: the samples, the pictures or the folder do not do, or no stage could be trained.
        OSError: something cannot be read or written; finished stages are kept.
    """
    with open_folder(folder, _parameters(plan, samples, negatives)) as opened:
        return _Training(plan, samples, negatives, opened, held_out).run()


class _Training:
    def __init__(
        self, plan: Plan, samples: Pixels, negatives: Negatives, folder: Folder, held_out: Pixels | None
    ) -> None:
        self._plan = plan
        self._features: FeatureSet = feature_set(plan.features, (samples.shape[2], samples.shape[1]))
        useful = _with_contrast(samples, self._features)
        # The last ones: copies of one object, which stand side by side, should not be on both sides.
        learned = len(useful) - round(len(useful) * plan.rules.hold_out)
        self._samples, self._deciding = useful[:learned], useful[learned:]
        self._held_out = held_out
        self._negatives = negatives
        self._folder = folder
        self._records = folder.load()
        self._plotted = time.monotonic()

    def run(self) -> bytes:
        if self._records:
            click.echo(f"going on behind stage {len(self._records)}")
        if not self._complete():
            self._miner = self._read_pictures()
            while not self._complete() and self._add_stage():
                pass
        xml = self._xml()
        self._folder.write_results(self._records, xml)
        self._plot()
        return xml

    def _plot(self) -> None:
        write_whole(self._folder.path / PLOT, plot(self._records))
        self._plotted = time.monotonic()

    def _complete(self) -> bool:
        return len(self._records) >= min(self._plan.stages, MAX_STAGES)

    def _xml(self, *more: Any) -> bytes:
        return write(cascade_of([record.stage for record in (*self._records, *more)], self._features))

    def _read_pictures(self) -> Miner:
        with _bar("reading pictures", len(self._negatives.paths)) as bar:
            return Miner(
                self._negatives.paths,
                self._features.window_wh,
                seed=self._plan.seed,
                threads=self._plan.threads,
                cache_bytes=self._plan.memory_mb * 2**20 // 3,
                progress=lambda pictures: _advance(bar, pictures),
            )

    def _add_stage(self) -> bool:
        """Train one more stage; False where the cascade is as good as was asked for, or the samples are used up."""
        number = len(self._records) + 1
        began = time.monotonic()
        cascade = self._xml() if self._records else write(cascade_of([_EVERYTHING], self._features))
        positives, deciding, misses = self._positives(cascade, number)
        mined = self._mine(cascade, number)
        if self._ends(mined, number):
            return False
        boosting = time.monotonic()
        try:
            record = self._boost(positives, mined, deciding, misses, number)
        except NothingToTell:
            self._end(number, "no feature tells the remaining samples apart")
            return False
        if record.stage.false_alarm > max(_USELESS, self._plan.rules.max_false_alarm):
            self._end(
                number,
                f"stage {number} would let {record.stage.false_alarm:.2f} of the windows pass, with "
                f"{len(record.stage.trees)} weak classifiers; more samples help, or a lower --min-hit-rate",
            )
            return False
        xml = self._xml(record)
        record = replace(
            record,
            held_out=None if self._held_out is None else float(passing(xml, self._held_out, self._plan.threads).mean()),
            seconds=(round(boosting - began, 2), round(time.monotonic() - boosting, 2)),
        )
        self._records.append(record)
        self._folder.save(self._records, xml)
        _say(number, record)
        if time.monotonic() - self._plotted > _PLOT_SECONDS:
            self._plot()
        return True

    def _positives(self, cascade: bytes, number: int) -> tuple[Pixels, Pixels, int]:
        """The positives to learn from, those that decide about the threshold, and how many of the latter may fail."""
        learned, deciding = (
            kept[passing(cascade, kept, self._plan.threads)] if len(kept) else kept
            for kept in (self._samples, self._deciding)
        )
        if not len(learned):
            raise WorkshopError("no sample passes the stages that there are; train with a higher hit rate")
        used = learned[: self._plan.positives]
        everyone, left = (self._deciding, deciding) if len(deciding) else (self._samples, learned)
        # What all stages together may lose, less what those before have lost.
        may_fail = (1 - self._plan.rules.min_hit_rate**number) * len(everyone) - (len(everyone) - len(left))
        share = 1 if len(deciding) else len(used) / len(learned)
        return used, deciding, max(0, math.floor(may_fail * share + 1e-9))

    def _mine(self, cascade: bytes, number: int) -> Mined:
        with _bar(f"stage {number}: negatives", self._plan.negatives) as bar:
            return self._miner.mine(
                cascade, number, self._plan.negatives, self._plan.target, lambda found: _advance(bar, found)
            )

    def _ends(self, mined: Mined, number: int) -> bool:
        if cascade_is_good := (mined.rare or (number > 1 and mined.rate < self._plan.target)):
            self._end(number, f"the cascade passes {mined.rate:.2g} of all windows, less than {self._plan.target:g}")
        elif len(mined.pixels) < max(_FEWEST_NEGATIVES, self._plan.negatives // 10):
            self._end(
                number,
                f"the negative pictures are used up: of {self._plan.negatives} windows that pass all stages, "
                f"{len(mined.pixels)} were found among {mined.windows:,}; add pictures to go on",
            )
            return True
        return cascade_is_good

    def _end(self, number: int, why: str) -> None:
        if number == 1:
            raise WorkshopError(f"no stage could be trained: {why}")
        click.echo(f"done after stage {number - 1}: {why}")

    def _boost(self, positives: Pixels, mined: Mined, deciding: Pixels, misses: int, number: int) -> StageRecord:
        plan = self._plan
        pixels = np.concatenate([positives, mined.pixels, deciding])
        window = self._features.window_wh
        integrals = 4 * len(pixels) * (window[0] + 1) * (window[1] + 1) * (2 if self._features.tilted.any() else 1)
        room = max(0, plan.memory_mb * 2**20 * 2 // 3 - integrals)
        rounds: list[float] = []
        rng = np.random.default_rng([plan.seed, number])
        drawn = draw(len(self._features.rects), plan.rules.features_per_stage, rng)
        features = self._features if drawn is None else self._features.take(drawn)
        samples = Samples(pixels, features, threads=plan.threads, cache_bytes=room)
        with _bar(f"stage {number}: trees", None) as bar:

            def progress(trees: int, false_alarm: float) -> None:
                rounds.append(false_alarm)
                bar.set_postfix_str(f"false alarm {false_alarm:.3f}", refresh=False)
                _advance(bar, trees)

            stage, passed = train_stage(
                samples, Counts(len(positives), len(mined.pixels), len(deciding), misses), plan.rules, rng, progress
            )
        if drawn is not None:
            stage = _renumbered(stage, drawn)
        record = StageRecord(
            stage, len(positives), len(mined.pixels), mined.rate, mined.windows, tuple(rounds), None, (0, 0)
        )
        self._check(record, pixels, passed)
        return record

    def _check(self, record: StageRecord, pixels: Pixels, passed: NDArray[np.bool_]) -> None:
        """The detector has to agree about every sample with what was trained."""
        found = passing(self._xml(record), pixels, self._plan.threads)
        if not np.array_equal(found, passed):
            wrong = int(np.sum(found != passed))
            raise RuntimeError(f"the detector disagrees with the training about {wrong} of {len(found)} samples")


def _renumbered(stage: Stage, numbers: NDArray[np.int32]) -> Stage:
    """A stage trained on some of the features, with their numbers among all of them."""

    def whole(split: Split) -> Split:
        return replace(split, feature=int(numbers[split.feature]))

    return replace(stage, trees=tuple(replace(tree, splits=tuple(map(whole, tree.splits))) for tree in stage.trees))


def _with_contrast(samples: Pixels, features: FeatureSet) -> Pixels:
    useful = Samples(samples, features, cache_bytes=0).have_contrast()
    if not useful.any():
        raise WorkshopError("no sample has enough contrast for a detector to look at it")
    if not useful.all():
        click.echo(f"{np.sum(~useful)} of {len(samples)} samples have too little contrast and are left out")
    return samples[useful]


def _parameters(plan: Plan, samples: Pixels, negatives: Negatives) -> dict[str, Any]:
    """What the stages depend on; not what may differ when a training goes on."""
    return {
        "features": plan.features,
        "window": list(samples.shape[:0:-1]),
        **asdict(plan.rules),
        "positives": plan.positives,
        "negatives": plan.negatives,
        "seed": plan.seed,
        "samples": hashlib.sha256(samples.tobytes()).hexdigest()[:16],
        "pictures": negatives.digest,
    }


def _say(number: int, record: StageRecord) -> None:
    stage = record.stage
    held_out = "" if record.held_out is None else f", {record.held_out:.4f} of the validation samples pass"
    click.echo(
        f"stage {number}: {len(stage.trees)} weak classifiers, hit rate {stage.hit_rate:.4f}, false alarm "
        f"{stage.false_alarm:.4f}, overall {record.rate * stage.false_alarm:.3g}{held_out} "
        f"({record.seconds[0]:.1f} s mining, {record.seconds[1]:.1f} s boosting)"
    )


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Any]:
    """A progress bar on standard error where that is a terminal."""
    with tqdm(desc=what, total=total, disable=None, leave=False) as bar:
        yield bar


def _advance(bar: Any, to: int) -> None:
    bar.update(to - bar.n)
