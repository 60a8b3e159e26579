"""The same object over the frames of a video: detections linked into tracks, and what to draw between them.

Pure arithmetic on boxes; the same detections always give the same tracks. A *look* is a frame that a detector looked
at. Between two looks nothing is known, so what is drawn there is derived from the looks around it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imgdetect.boxes import box_iou, xywh_to_xyxy
from imgdetect.detection import Box, Detection

# The overlap (intersection over union) from which on a detection may continue a track.
MIN_IOU = 0.3
# Looks in a row that may miss an object before its track ends.
MAX_MISSED = 10
# Looks before the first and after the last sighting during which an object that is to be hidden is hidden all the same.
HIDDEN_MARGIN_LOOKS = 2


# What moves by more than its own box from look to look is looked for in boxes so many times as large.
_FAST_GROWTH = 2.0


@dataclass(eq=False)
class _Track:
    number: int
    class_name: str
    xywh: NDArray[np.float64]  # shape (4,), where it was seen last
    step: NDArray[np.float64]  # shape (2,), how far its centre moves from look to look
    missed: int = 0

    @property
    def expected(self) -> NDArray[np.float64]:
        """Where it should be at this look if it kept moving as it did."""
        return np.concatenate([self.xywh[:2] + self.step * (self.missed + 1), self.xywh[2:]])


class Tracker:
    """Gives the detections of look after look the numbers of their tracks, from 1 in the order of appearance.

    Each class for itself: the pair of track and detection with the largest overlap is linked first, until none overlaps
    by `min_iou`. A track is expected where its last step would have taken it, and where it was seen last; the better
    of the two counts, so that objects that cross keep their numbers and one that stops is not lost. What is left over
    is then linked by boxes of twice the size where the look before saw it, so that few looks a second are enough.

    Args:
        min_iou: overlap from which on a detection may continue a track.
        max_missed: looks in a row that may miss an object before its track ends.
    """

    def __init__(self, min_iou: float = MIN_IOU, max_missed: int = MAX_MISSED) -> None:
        self._min_iou = min_iou
        self._max_missed = max_missed
        self._tracks: list[_Track] = []
        self._count = 0

    def link(self, detections: Sequence[Detection]) -> list[int]:
        """The track of each detection of the next look."""
        linked: dict[int, _Track] = {}
        for class_name in sorted({d.class_name for d in detections}):
            tracks = [track for track in self._tracks if track.class_name == class_name]
            places = [place for place, d in enumerate(detections) if d.class_name == class_name]
            linked |= self._continued(tracks, places, detections, 1)
            moving = [track for track in tracks if track not in linked.values() and not track.missed]
            linked |= self._continued(moving, [p for p in places if p not in linked], detections, _FAST_GROWTH)
        for track in self._tracks:
            track.missed += 1
        for place, detection in enumerate(detections):
            seen = _xywh([detection])[0]
            if place in linked:
                _move(linked[place], seen)
            else:
                self._count += 1
                linked[place] = _Track(self._count, detection.class_name, seen, np.zeros(2))
                self._tracks.append(linked[place])
        self._tracks = [track for track in self._tracks if track.missed <= self._max_missed]
        return [linked[place].number for place in range(len(detections))]

    def _continued(
        self, tracks: list[_Track], places: list[int], detections: Sequence[Detection], growth: float
    ) -> dict[int, _Track]:
        """Which of some tracks each of some detections continues, by boxes grown about their centres."""
        if not tracks or not places:
            return {}
        seen = _grown(_xywh([detections[place] for place in places]), growth)
        expected = box_iou(_grown(np.array([track.expected for track in tracks]), growth), seen)
        last = box_iou(_grown(np.array([track.xywh for track in tracks]), growth), seen)
        overlap = np.maximum(expected, last)
        # Where the larger overlap is the same, the one with the better expectation, then the older track comes first.
        order = np.lexsort((np.arange(overlap.size), -expected.ravel(), -overlap.ravel()))
        chosen: dict[int, _Track] = {}
        taken: set[int] = set()
        for row, column in zip(*np.unravel_index(order, overlap.shape), strict=True):
            if overlap[row, column] < self._min_iou:
                break
            if row not in taken and places[column] not in chosen:
                taken.add(int(row))
                chosen[places[column]] = tracks[row]
        return chosen


def _move(track: _Track, seen: NDArray[np.float64]) -> None:
    """Let a track go on at a sighting; `missed` counts this look already."""
    moved = (seen[:2] + seen[2:] / 2 - track.xywh[:2] - track.xywh[2:] / 2) / track.missed
    # Half of the step before stays, since boxes jitter from look to look.
    track.step = (track.step + moved) / 2 if track.step.any() else moved
    track.xywh, track.missed = seen, 0


def _grown(xywh: NDArray[np.float64], growth: float) -> NDArray[np.float64]:
    """Boxes as xyxy, grown about their centres."""
    more = xywh[:, 2:] * (growth - 1) / 2
    return xywh_to_xyxy(np.hstack([xywh[:, :2] - more, xywh[:, 2:] + 2 * more]))


def _xywh(detections: Sequence[Detection]) -> NDArray[np.float64]:
    boxes = [(d.box.x, d.box.y, d.box.width, d.box.height) for d in detections]
    return np.array(boxes, np.float64).reshape(-1, 4)


class Timeline:
    """What to draw on each frame, from the looks before and after it.

    To outline, a box moves in a straight line from sighting to sighting and ends at the look that no longer sees it.
    To hide, the rule is rather too much than too little: between two sightings the smallest box that holds both is
    hidden, also where looks in between missed the object, and a track begins `HIDDEN_MARGIN_LOOKS` looks before its
    first sighting and lasts as long after its last, there with a box that also holds where it would be if it moved on.

    Args:
        every: frames from look to look.
        hide: whether the boxes are there to hide what is in them.
        max_missed: as the tracker's.
    """

    def __init__(self, every: int, *, hide: bool, max_missed: int = MAX_MISSED) -> None:
        self._every = every
        self._hide = hide
        # A frame is settled once no later look can still continue a track over it.
        self.ahead = every * max(max_missed + 1, HIDDEN_MARGIN_LOOKS)
        self._sightings: dict[int, list[tuple[int, Detection]]] = {}

    def see(self, frame: int, found: Sequence[tuple[int, Detection]]) -> None:
        """Take in a look: the tracks and detections of a frame."""
        for track, detection in found:
            self._sightings.setdefault(track, []).append((frame, detection))

    def shown(self, frame: int) -> list[Detection]:
        """What to draw on a frame; frames are asked for in order, each when looks are `ahead` of it or at the end."""
        self._forget(frame)
        return [*self._shown(frame)]

    def _shown(self, frame: int) -> Iterator[Detection]:
        margin = self._every * (HIDDEN_MARGIN_LOOKS if self._hide else 0)
        for sightings in self._sightings.values():
            frames = [seen for seen, _ in sightings]
            after = bisect_left(frames, frame)
            if after < len(frames) and frames[after] == frame:
                yield sightings[after][1]
            elif 0 < after < len(frames):
                yield self._between(sightings[after - 1], sightings[after], frame)
            elif after == 0 and frames[0] - frame <= margin:
                yield _beyond(sightings[:2], frame)
            elif after and self._hide and frame - frames[-1] <= margin:
                yield _beyond(sightings[:-3:-1], frame)
            elif after and frame - frames[-1] < self._every:
                yield sightings[-1][1]

    def _between(self, before: tuple[int, Detection], after: tuple[int, Detection], frame: int) -> Detection:
        a, b = before[1].box, after[1].box
        if self._hide:
            return _at(before[1], _both(a, b))
        part = (frame - before[0]) / (after[0] - before[0])
        x, y, width, height = (
            round(start + (end - start) * part)
            for start, end in ((a.x, b.x), (a.y, b.y), (a.width, b.width), (a.height, b.height))
        )
        return _at(before[1], Box(x, y, width, height))

    def _forget(self, frame: int) -> None:
        """Drop what no frame from this one on needs."""
        for track, sightings in [*self._sightings.items()]:
            needed = max(0, bisect_right([seen for seen, _ in sightings], frame) - 2)
            del sightings[:needed]
            if sightings[-1][0] + self.ahead < frame:
                del self._sightings[track]


def _at(detection: Detection, box: Box) -> Detection:
    """A detection at another place, where its mask says nothing."""
    return replace(detection, box=box, mask=None)


def _both(a: Box, b: Box) -> Box:
    """The smallest box that holds two."""
    left, top = min(a.x, b.x), min(a.y, b.y)
    right, bottom = max(a.x + a.width, b.x + b.width), max(a.y + a.height, b.y + b.height)
    return Box(left, top, right - left, bottom - top)


def _beyond(sightings: Sequence[tuple[int, Detection]], frame: int) -> Detection:
    """What to hide on a frame before the first or after the last sighting of a track.

    Args:
        sightings: the outermost one, then the one next to it, if there is one.
    """
    outer, detection = sightings[0]
    box = detection.box
    if len(sightings) == 1:
        # Nobody knows where it goes: half of its size on every side.
        dx, dy = box.width // 2, box.height // 2
        return _at(detection, Box(box.x - dx, box.y - dy, box.width + 2 * dx, box.height + 2 * dy))
    inner, other = sightings[1]
    part = (frame - outer) / (outer - inner)
    dx = round((box.x + box.width / 2 - other.box.x - other.box.width / 2) * part)
    dy = round((box.y + box.height / 2 - other.box.y - other.box.height / 2) * part)
    return _at(detection, _both(box, Box(box.x + dx, box.y + dy, box.width, box.height)))
