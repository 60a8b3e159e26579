"""Boosting: one stage of a cascade from samples, by Gentle, Real or Discrete AdaBoost or by LogitBoost.

Friedman, Hastie and Tibshirani, "Additive Logistic Regression: a Statistical View of Boosting", 2000.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fasthaar.workshop.train_core import ABSOLUTES, SQUARES, Samples, Split

Booster = Literal["gentle", "real", "discrete", "logit"]
BOOSTERS: tuple[Booster, ...] = ("gentle", "real", "discrete", "logit")
MAX_DEPTH = 4
# OpenCV's detector and fasthaar's subtract it from a stage's threshold, in float.
_ALLOWANCE = np.float32(1e-5)
_LEAST_SHARE = 1e-5  # of the weight, that a logarithm sees
_MOST_TARGET = 10.0  # of LogitBoost

Floats = NDArray[np.float64]
Bits = NDArray[np.bool_]


@dataclass(frozen=True)
class Tree:
    """A weak classifier: `left` and `right` as in `Cascade`, a split for each node, one leaf more."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    splits: tuple[Split, ...]
    leaves: tuple[float, ...]


@dataclass(frozen=True)
class StageRules:
    """What a stage has to reach, and with what.

    Attributes:
        booster: how samples are weighted and leaves are valued.
        max_depth: of a tree, 1 (a stump) to 4.
        hold_out: share of the positives that trees do not learn from: they set the thresholds. 0 to 0.5.
        min_hit_rate: share of the positives that has to pass each stage, above 0, at most 1; what one stage does not
            lose of it, a later one may.
        max_false_alarm: share of the negatives that may pass, above 0, below 1.
        max_weak: most trees.
        trim: share of the weight that is looked at, above 0, at most 1: samples that weigh least are left out.
        features_per_stage: how many features a stage chooses from, drawn anew for each; None for all.
        features_per_round: how many of these each tree chooses from, drawn anew for each; None for all.
    """

    booster: Booster = "gentle"
    max_depth: int = 1
    hold_out: float = 0.2
    min_hit_rate: float = 0.998
    max_false_alarm: float = 0.5
    max_weak: int = 100
    trim: float = 0.95
    features_per_stage: int | None = 40_000
    features_per_round: int | None = None


@dataclass(frozen=True)
class Stage:
    """One stage: a window passes where the trees' leaves sum up to the threshold."""

    trees: tuple[Tree, ...]
    threshold: float
    hit_rate: float
    false_alarm: float


class NothingToTell(Exception):
    """No feature tells positives and negatives apart."""


def passes(sums: Floats, threshold: float) -> Bits:
    """Whether sums pass a stage, as in a detection."""
    passed: Bits = sums >= float(np.float32(threshold) - _ALLOWANCE)
    return passed


@dataclass(frozen=True)
class Counts:
    """How the samples of a stage lie in memory: positives, then negatives, then the held-out positives.

    Attributes:
        positives, negatives: at least one each.
        held_out: these decide about the threshold, where there are any; trees know the others too well.
        misses: how many of those that decide may fail.
    """

    positives: int
    negatives: int
    held_out: int
    misses: int

    @property
    def learned(self) -> int:
        """How many samples trees learn from."""
        return self.positives + self.negatives


def train_stage(
    samples: Samples,
    counts: Counts,
    rules: StageRules,
    rng: np.random.Generator,
    progress: Callable[[int, float], None] = lambda trees, false_alarm: None,
) -> tuple[Stage, Bits]:
    """Add trees until the stage reaches what its rules ask for, or has as many as it may.

    Args:
        samples: in the order of `counts`.
        counts: how many of each.
        rules: what to reach.
        rng: draws features.
        progress: told after each tree how many there are, and the false alarm rate.

    Returns:
        The stage, and which samples pass it.

    Raises:
        NothingToTell: no feature tells the samples apart.
    """
    learned = counts.learned
    negatives = slice(counts.positives, learned)
    deciding = slice(learned, None) if counts.held_out else slice(0, counts.positives)
    weights = _Weights(rules.booster, np.where(np.arange(learned) < counts.positives, 1.0, -1.0))
    sums = np.zeros(samples.count)
    trees: list[Tree] = []
    threshold, false_alarm = 0.0, 1.0
    spent: list[int] = []
    while len(trees) < rules.max_weak and false_alarm > rules.max_false_alarm:
        candidates = _without(spent, draw(len(samples.features.rects), rules.features_per_round, rng), samples)
        grown = _grow(samples, weights, rules, candidates)
        if grown is None:
            break
        tree, values = weights.learn(*grown)
        trees.append(tree)
        sums += values
        if weights.all_right(values):
            # All weights change alike, so the next tree would be the same, and teach nothing about other samples.
            spent += (split.feature for split in tree.splits)
        threshold = _threshold(sums[deciding], counts.misses)
        false_alarm = float(passes(sums[negatives], threshold).mean())
        progress(len(trees), false_alarm)
    if not trees:
        raise NothingToTell
    passed = passes(sums, threshold)
    return Stage(tuple(trees), threshold, float(passed[deciding].mean()), false_alarm), passed


def draw(features: int, count: int | None, rng: np.random.Generator) -> NDArray[np.int32] | None:
    """Numbers of some features, ascending; None for all of them."""
    if count is None or count >= features:
        return None
    return np.sort(rng.choice(features, count, replace=False)).astype(np.int32)


def _without(spent: list[int], drawn: NDArray[np.int32] | None, samples: Samples) -> NDArray[np.int32] | None:
    if not spent:
        return drawn
    everything = np.arange(len(samples.features.rects), dtype=np.int32) if drawn is None else drawn
    return np.setdiff1d(everything, spent)


def _threshold(sums: Floats, misses: int) -> float:
    """The highest one that all but so many of the samples reach, as a float32."""
    wanted = float(np.sort(sums)[min(misses, len(sums) - 1)])
    threshold = np.float32(wanted)
    return float(threshold if threshold <= wanted else np.nextafter(threshold, np.float32(-np.inf)))


class _Weights:
    """How much each sample weighs, and what is to be learned about it."""

    def __init__(self, booster: Booster, labels: Floats) -> None:
        self._booster = booster
        self._labels = labels
        # Either class weighs as much as the other, however many samples it has.
        self.weights = np.where(labels > 0, 0.5 / np.sum(labels > 0), 0.5 / np.sum(labels < 0))
        self.targets = labels
        self._sums = np.zeros(len(labels))
        self.criterion = ABSOLUTES if booster == "discrete" else SQUARES

    def leaf(self, weight: float, target: float) -> float:
        """What a leaf says whose samples have these sums of weights and of weighted targets."""
        mean = target / weight
        if self._booster == "real":
            return 0.5 * _log_ratio((1 + mean) / 2)
        if self._booster == "discrete":
            return 1.0 if mean >= 0 else -1.0
        return mean

    def learn(self, tree: Tree, values: Floats) -> tuple[Tree, Floats]:
        """Weigh samples anew after a tree and what it says about them, (N,); more values than labels do no harm.

        Returns:
            Both, scaled as the booster wants them.
        """
        known = values[: len(self._labels)]
        if self._booster == "discrete":
            wrong = self._labels != known
            confidence = float(np.float32(-_log_ratio(float(self.weights[wrong].sum()))))
            tree = Tree(tree.left, tree.right, tree.splits, tuple(leaf * confidence for leaf in tree.leaves))
            values = values * confidence
            self.weights = self.weights * np.where(wrong, np.exp(confidence), 1)
        elif self._booster == "logit":
            self._sums += 0.5 * known
            share = 1 / (1 + np.exp(-2 * np.clip(self._sums, -300, 300)))
            self.weights = np.maximum(share * (1 - share), np.finfo(np.float32).eps)
            own = np.where(self._labels > 0, share, 1 - share)
            self.targets = self._labels * np.minimum(1 / np.maximum(own, 1e-12), _MOST_TARGET)
        else:
            self.weights = self.weights * np.exp(-self._labels * known)
        self.weights /= self.weights.sum()
        return tree, values

    def all_right(self, values: Floats) -> bool:
        """Whether what a tree says about every sample has the right sign."""
        return bool(np.all(self._labels * values[: len(self._labels)] > 0))

    def heaviest(self, share: float) -> Bits:
        """The samples that together have this share of the weight, those that weigh least left out."""
        ordered = np.sort(self.weights)
        left_out = int(np.searchsorted(np.cumsum(ordered), (1 - share) * ordered.sum()))
        heavy: Bits = self.weights >= ordered[min(left_out, len(ordered) - 1)]
        return heavy


def _log_ratio(share: float) -> float:
    kept = min(max(share, _LEAST_SHARE), 1 - _LEAST_SHARE)
    return float(np.log(kept / (1 - kept)))


def _grow(
    samples: Samples, weights: _Weights, rules: StageRules, candidates: NDArray[np.int32] | None
) -> tuple[Tree, Floats] | None:
    """A tree, and what it says about every sample; None where no feature is worth a split."""
    if candidates is not None and not len(candidates):
        return None
    looked_at = weights.heaviest(rules.trim)
    products = weights.weights * weights.targets
    values = np.zeros(samples.count)
    children: list[list[int]] = []
    splits: list[Split] = []
    leaves: list[float] = []
    # Who has come to a node, how deep it is, and the node and side that lead there: breadth first, so that children
    # lie behind their parents.
    waiting: deque[tuple[Bits, int, tuple[int, int] | None]] = deque([(np.ones(samples.count, np.bool_), 0, None)])
    while waiting:
        here, depth, parent = waiting.popleft()
        indices = np.flatnonzero(here[: len(looked_at)] & looked_at).astype(np.int32)
        split = None
        if depth < rules.max_depth and len(np.unique(np.sign(products[indices]))) > 1:
            split = samples.best_split(
                weights.criterion, indices, weights.weights[indices], products[indices], candidates
            )
        if split is None:
            place = -len(leaves)
            # As the file will have it.
            leaf = float(np.float32(weights.leaf(weights.weights[indices].sum(), products[indices].sum())))
            leaves.append(leaf)
            values[here] = leaf
        else:
            place = len(splits)
            left = samples.goes_left(split)
            splits.append(split)
            children.append([0, 0])
            waiting += ((here & left, depth + 1, (place, 0)), (here & ~left, depth + 1, (place, 1)))
        if parent:
            children[parent[0]][parent[1]] = place
    if not splits:
        return None
    return Tree(tuple(a for a, _ in children), tuple(b for _, b in children), tuple(splits), tuple(leaves)), values
