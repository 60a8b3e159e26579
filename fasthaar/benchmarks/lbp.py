"""An LBP cascade whose work on photographs is that of a trained one; OpenCV's wheel brings none along.

It finds nothing of use. Its features are drawn at random, and the threshold of each stage is set so that the stage
refuses about half of the windows that reached it, as training does.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from fasthaar._xml import Cascade, write
from pictures import Image

SIDE = 24
STAGE_TREES = (3, 3, 3, 4, 4, 4, 5, 5, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10)
FEWEST_WINDOWS = 400  # which say something about a stage

# The cells around the middle one, (column, row), from the highest bit of the code to the lowest.
RING = ((0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1))

Bits = npt.NDArray[np.bool_]


class _Windows:
    """Windows of all sizes in some pictures: where each begins in one flat row of integral images."""

    def __init__(self, images: list[Image]) -> None:
        integrals, origins, strides, length = [], [], [], 0
        for image in images:
            for scale in 1.25 ** np.arange(14):
                smaller = cv2.resize(image, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_LINEAR_EXACT)
                if min(smaller.shape) <= SIDE:
                    break
                integral = cv2.integral(smaller)
                stride, step = integral.shape[1], 1 if scale >= 2 else 2
                rows, columns = (np.arange(0, side - SIDE + 1, step) for side in smaller.shape)
                origins.append(length + np.add.outer(rows * stride, columns).ravel())
                strides.append(np.full(len(origins[-1]), stride))
                integrals.append(integral.ravel())
                length += integral.size
        self.integral = np.concatenate(integrals)
        self.origins, self.strides = np.concatenate(origins), np.concatenate(strides)

    def keep(self, passed: Bits) -> None:
        """Forget the windows that have not passed."""
        self.origins, self.strides = self.origins[passed], self.strides[passed]

    def codes(self, rect: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """The code, 0 to 255, of the feature in each window."""
        x, y, w, h = rect.tolist()
        corners = np.stack(
            [
                [self.integral[self.origins + (y + row * h) * self.strides + x + column * w] for column in range(4)]
                for row in range(4)
            ]
        )
        cells = corners[1:, 1:] - corners[1:, :-1] - corners[:-1, 1:] + corners[:-1, :-1]
        bits = [cells[row, column] >= cells[1, 1] for column, row in RING]
        codes: npt.NDArray[np.int64] = np.packbits(np.stack(bits), axis=0)[0].astype(np.int64)
        return codes


def lbp_cascade(images: list[Image]) -> bytes:
    """The cascade as XML.

    Args:
        images: grey photographs, uint8 (height, width), that the thresholds are fitted to.
    """
    rng = np.random.default_rng(24)
    windows = _Windows(images)
    trees = sum(STAGE_TREES)
    sides = rng.integers(1, SIDE // 3 + 1, (trees, 2))
    rects = np.hstack([rng.integers(0, SIDE - 3 * sides + 1), sides]).astype(np.int32)
    subsets = rng.integers(0, 2**32, (trees, 8), np.uint32)
    leaves = rng.uniform(0.3, 1, (trees, 2)).astype(np.float32) * np.array((-1, 1), np.float32)
    thresholds, first = [], 0
    for count in STAGE_TREES:
        sums = np.zeros(len(windows.origins))
        for tree in range(first, first + count):
            codes = windows.codes(rects[tree])
            inside = subsets[tree][codes >> 5] >> (codes & 31).astype(np.uint32) & 1
            sums += np.where(inside == 1, leaves[tree, 0], leaves[tree, 1])
        thresholds.append(np.median(sums))
        passed = sums > thresholds[-1]
        if passed.sum() >= FEWEST_WINDOWS:
            windows.keep(passed)
        first += count
    return write(
        Cascade(
            feature_type="LBP",
            window_wh=(SIDE, SIDE),
            stage_thresholds=np.array(thresholds, np.float32),
            stage_trees=np.array(STAGE_TREES, np.int32),
            tree_nodes=np.ones(trees, np.int32),
            left=np.zeros(trees, np.int32),
            right=np.full(trees, -1, np.int32),
            feature=np.arange(trees, dtype=np.int32),
            threshold=np.zeros(trees, np.float32),
            subsets=subsets,
            leaves=leaves.ravel(),
            rects=rects[:, None],
            weights=np.zeros((trees, 0), np.float32),
            tilted=np.zeros(trees, np.uint8),
        )
    )
