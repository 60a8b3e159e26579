"""A training's folder: its parameters, every finished stage, and the cascade of all finished stages.

A file is there whole or not at all, so what was finished survives a killed run and a full disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fasthaar._cascade import Cascade
from fasthaar.workshop import WorkshopError
from fasthaar.workshop.boost import Stage, Tree
from fasthaar.workshop.features import FeatureSet
from fasthaar.workshop.train_core import Split
from fasthaar.workshop.whole import write_whole

CASCADE, LOG, PLOT = "cascade.xml", "log.jsonl", "training.png"
_PARAMETERS, _LOCK = "training.json", ".lock"
_FORMAT = 1


@dataclass(frozen=True)
class StageRecord:
    """A finished stage, and what was measured about it.

    Attributes:
        stage: what was trained.
        positives, negatives: how many samples it was trained on.
        rate: the share of windows in the negative pictures that passed all stages before it.
        windows: how many windows that was measured on.
        rounds: the false alarm rate after each tree.
        held_out: the share of the held-out samples that pass all stages up to this one; None without any.
        seconds: what mining and boosting took.
    """

    stage: Stage
    positives: int
    negatives: int
    rate: float
    windows: int
    rounds: tuple[float, ...]
    held_out: float | None
    seconds: tuple[float, float]


@contextmanager
def open_folder(path: Path, parameters: dict[str, Any]) -> Iterator[Folder]:
    """The folder of a training, to begin it or to go on with it. One process at a time may have it open.

    Args:
        path: the folder; made when it is not there.
        parameters: everything that the trained stages depend on, as JSON has it.

    Raises:
        WorkshopError: the folder holds a training with other parameters, or something else, or another process
            has it open.
        OSError: it cannot be written to.
    """
    path.mkdir(parents=True, exist_ok=True)
    meta, lock = path / _PARAMETERS, path / _LOCK
    if not meta.exists() and set(path.iterdir()) - {lock}:
        raise WorkshopError(f"{path}: the folder is not empty and holds no training; name another one")
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkshopError(f"{path}: another process is training in this folder") from None
        wanted = json.loads(json.dumps({"format": _FORMAT, **parameters}))
        if meta.exists():
            _refuse_other(path, _read_json(meta), wanted)
        else:
            write_whole(meta, _json(wanted))
        yield Folder(path, hashlib.sha256(_json(wanted)).hexdigest()[:16])


class Folder:
    """The folder of one training."""

    def __init__(self, path: Path, training: str) -> None:
        """Of a path, and of a training whose name is in every stage's file."""
        self.path = path
        self._training = training

    def load(self) -> list[StageRecord]:
        """The finished stages, in order.

        Raises:
            WorkshopError: a stage's file is damaged or belongs to another training.
            OSError: it cannot be read.
        """
        records: list[StageRecord] = []
        while (file := self._stage_file(len(records))).exists():
            data = _read_json(file)
            try:
                if data.pop("training") != self._training:
                    raise WorkshopError(f"{file}: this stage belongs to another training; remove it to train it anew")
                records.append(_record(data))
            except (KeyError, TypeError, ValueError, AttributeError):
                raise WorkshopError(f"{file}: this stage is damaged; remove it to train it anew") from None
        return records

    def save(self, records: Sequence[StageRecord], cascade: bytes) -> None:
        """Keep the last of the stages, then write the cascade and the log anew.

        Raises:
            OSError: there is no room, or the folder cannot be written to; all that was saved before is still there.
        """
        last = len(records) - 1
        write_whole(self._stage_file(last), _json({"training": self._training, **_plain(records[last])}))
        self.write_results(records, cascade)

    def write_results(self, records: Sequence[StageRecord], cascade: bytes) -> None:
        """Write the cascade and the log."""
        write_whole(self.path / CASCADE, cascade)
        lines = (json.dumps({"stage": number, **_summary(record)}) for number, record in enumerate(records, 1))
        write_whole(self.path / LOG, "".join(f"{line}\n" for line in lines).encode())

    def _stage_file(self, number: int) -> Path:
        return self.path / f"stage-{number + 1:02}.json"


def cascade_of(stages: Sequence[Stage], features: FeatureSet) -> Cascade:
    """The stages as one cascade, with those features that they use."""
    trees = [tree for stage in stages for tree in stage.trees]
    splits = [split for tree in trees for split in tree.splits]
    used, place = np.unique([split.feature for split in splits], return_inverse=True)
    haar = features.feature_type == "HAAR"
    return Cascade(
        feature_type=features.feature_type,
        window_wh=features.window_wh,
        stage_thresholds=np.array([stage.threshold for stage in stages], np.float32),
        stage_trees=np.array([len(stage.trees) for stage in stages], np.int32),
        tree_nodes=np.array([len(tree.splits) for tree in trees], np.int32),
        left=np.array([child for tree in trees for child in tree.left], np.int32),
        right=np.array([child for tree in trees for child in tree.right], np.int32),
        feature=place.astype(np.int32),
        threshold=np.array([split.threshold for split in splits], np.float32),
        subsets=np.zeros((0, 8), np.uint32) if haar else np.array([split.subset for split in splits], np.uint32),
        leaves=np.array([leaf for tree in trees for leaf in tree.leaves], np.float32),
        rects=features.rects[used],
        weights=features.weights[used],
        tilted=features.tilted[used],
    )


def _refuse_other(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    if differing:
        name = differing[0]
        raise WorkshopError(
            f"{path}: the folder holds a training with {name} {found.get(name)}, not {wanted.get(name)}; "
            "go on with what it was begun with, or name another folder"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise WorkshopError(f"{path}: this file is damaged; name another folder, or remove it")
    return data


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, indent=1, sort_keys=True).encode() + b"\n"


def _plain(record: StageRecord) -> dict[str, Any]:
    stage = record.stage
    return {
        "threshold": stage.threshold,
        "trees": [
            {
                "left": tree.left,
                "right": tree.right,
                "splits": [[split.feature, split.threshold, split.subset, split.gain] for split in tree.splits],
                "leaves": tree.leaves,
            }
            for tree in stage.trees
        ],
        "rounds": record.rounds,
        **_summary(record),
    }


def _summary(record: StageRecord) -> dict[str, Any]:
    return {
        "weak_classifiers": len(record.stage.trees),
        "hit_rate": record.stage.hit_rate,
        "false_alarm": record.stage.false_alarm,
        "positives": record.positives,
        "negatives": record.negatives,
        "rate_before": record.rate,
        "windows": record.windows,
        "held_out_hit_rate": record.held_out,
        "seconds_mining": record.seconds[0],
        "seconds_boosting": record.seconds[1],
    }


def _record(data: dict[str, Any]) -> StageRecord:
    trees = tuple(
        Tree(
            tuple(tree["left"]),
            tuple(tree["right"]),
            tuple(
                Split(feature, threshold, tuple(subset), gain) for feature, threshold, subset, gain in tree["splits"]
            ),
            tuple(tree["leaves"]),
        )
        for tree in data["trees"]
    )
    return StageRecord(
        Stage(trees, data["threshold"], data["hit_rate"], data["false_alarm"]),
        data["positives"],
        data["negatives"],
        data["rate_before"],
        data["windows"],
        tuple(data["rounds"]),
        data["held_out_hit_rate"],
        (data["seconds_mining"], data["seconds_boosting"]),
    )
