"""Several detectors that look at one picture as if they were one, and what is left out of what they find."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import chain
from typing import Any

import numpy as np

from imgdetect import boxes
from imgdetect.detection import Detection, DetectionResult, DetectOptions, Facts
from imgdetect.detectors import Detector, Image
from imgdetect.errors import InvalidRequest

# How many detections of each detector the filters choose from; no answer has more.
_MOST = 1000
_OPTIONS = tuple(field.name for field in fields(DetectOptions) if field.name != "detector")


class Several:
    """One detector or several under one name, with the filters on top; see `Detector` for the members.

    Args:
        members: what looks, in the order in which the client named them.
    """

    def __init__(self, members: Sequence[Detector]) -> None:
        self._members = tuple(members)
        first = self._members[0]
        tasks = {member.task for member in self._members}
        self.name = ",".join(member.name for member in self._members)
        self.task = "segmentation" if tasks == {"detection", "segmentation"} else first.task
        self.class_names = tuple(dict.fromkeys(name for member in self._members for name in member.class_names))
        self.facts, self.fingerprint = first.facts, first.fingerprint
        if len(self._members) > 1:
            facts = [member.facts for member in self._members]
            engine, version = (
                ",".join(dict.fromkeys(part)) for part in ((f.engine for f in facts), (f.engine_version for f in facts))
            )
            self.facts = Facts(self.name, engine, version, None, {})
            prints = " ".join(member.fingerprint for member in self._members)
            self.fingerprint = hashlib.sha256(prints.encode()).hexdigest()

    def resolve(self, options: DetectOptions) -> DetectOptions:
        """The options with every None replaced on whose default all detectors agree.

        Raises:
            InvalidRequest: one of the detectors does not have an option, or they do not go together.
        """
        if len(self._members) > 1:
            for member in self._members:
                if member.task == "classification":
                    raise InvalidRequest.field(
                        "detector", f"{member.name} tells what a whole picture shows; ask for it alone"
                    )
        errors: list[dict[str, str]] = []
        resolved = []
        for member in self._members:
            try:
                resolved.append(member.resolve(replace(options, detector=member.name)))
            except InvalidRequest as problem:
                errors += problem.members["errors"]
        if unknown := sorted(set(options.class_confidence or ()) - set(self.class_names)):
            reason = f"no {unknown[0][:80]!r} is known to {self.name}"
            errors += [] if errors else [{"field": "class_confidence", "message": reason}]
        if errors:
            raise InvalidRequest("; ".join(f"{e['field']}: {e['message']}" for e in errors[:3]), errors)
        agreed: dict[str, Any] = {}
        for name in _OPTIONS:
            value = getattr(resolved[0], name)
            if all(getattr(one, name) == value for one in resolved[1:]):
                agreed[name] = value
        return replace(options, **agreed)

    def cost(self, size_wh: tuple[int, int], options: DetectOptions) -> int:
        """The windows of all of them together."""
        return sum(member.cost(size_wh, replace(options, detector=member.name)) for member in self._members)

    def detect(self, image: Image, options: DetectOptions) -> DetectionResult:
        """Look at an upright BGR image with each in turn.

        The best of all come first: by neighbors, then score. Near misses are told where none found anything.
        """
        results = [self._look(member, image, options) for member in self._members]
        filtered = options.has_filters
        if len(results) == 1 and not filtered:
            return results[0]
        seen = chain.from_iterable(result.detections for result in results)
        kept = sorted(_kept(list(seen), options), key=lambda d: (d.neighbors, d.score), reverse=True)
        found = len(kept) if filtered else sum(result.found for result in results)
        working = max((result.working_size_wh for result in results), key=lambda wh: wh[0] * wh[1])
        nothing = not any(result.found for result in results)
        near = self._nearest(results) if nothing else None
        return DetectionResult(tuple(kept[: options.max_detections]), results[0].classes, found, working, near)

    def _look(self, member: Detector, image: Image, options: DetectOptions) -> DetectionResult:
        own = member.resolve(replace(options, detector=member.name))
        if not options.has_filters:
            return member.detect(image, own)
        own = replace(own, max_detections=_MOST)
        thresholds = options.class_confidence
        if not thresholds:
            return member.detect(image, own)
        least = own.confidence or 0.0
        result = member.detect(image, replace(own, confidence=min(least, *thresholds.values())))
        sure = [d for d in result.detections if (d.confidence or 0.0) >= thresholds.get(d.class_name, least)]
        return replace(result, detections=tuple(sure))

    def _nearest(self, results: list[DetectionResult]) -> dict[str, Any] | None:
        """The near misses of the detector that came closest: that needs the least lowering of its strictness."""
        told = [
            (result.near_misses, member.name)
            for result, member in zip(results, self._members, strict=True)
            if result.near_misses
        ]
        if not told:
            return None

        def lowest(near: tuple[dict[str, Any], str]) -> int:
            lower = near[0].get("lower_min_neighbors") or [{"min_neighbors": -1}]
            return int(lower[0]["min_neighbors"])

        near, name = max(told, key=lowest)
        return near | ({"detector": name} if len(self._members) > 1 else {})


def _kept(detections: list[Detection], options: DetectOptions) -> list[Detection]:
    """What is neither too small nor too large, with its centre inside the polygon."""
    least, most = options.min_area or 0, options.max_area
    kept = [d for d in detections if least <= (area := d.box.width * d.box.height) and (most is None or area <= most)]
    if options.mask is None or not kept:
        return kept
    centers = np.array([(d.box.x + d.box.width / 2, d.box.y + d.box.height / 2) for d in kept], np.float64)
    inside = boxes.inside_polygon(centers, np.array(options.mask, np.float64).reshape(-1, 2))
    return [detection for detection, there in zip(kept, inside.tolist(), strict=True) if there]
