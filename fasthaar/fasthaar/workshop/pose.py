"""How a flat object stands before the camera, and putting it into a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fasthaar.workshop.effects import Floats, Size

Matrix = NDArray[np.float64]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Pose:
    """How an object is turned, degrees, and how far the camera is from it in halves of its larger side."""

    yaw: float = 0
    pitch: float = 0
    roll: float = 0
    distance: float = 20

    def matrix(self, side_px: float, center_xy: tuple[float, float]) -> Matrix:
        """From the object, whose larger side reaches from -1 to 1, to the picture's pixels; shape (3, 3).

        Args:
            side_px: the larger side in pixels, were the object not turned.
            center_xy: where the object's centre lies in the picture, pixels.
        """
        yaw, pitch, roll = np.radians((self.yaw, self.pitch, self.roll))
        turn_yaw = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        turn_pitch = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        turn_roll = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
        turned = turn_roll @ turn_pitch @ turn_yaw
        focal = self.distance * side_px / 2
        view = np.array([[focal, 0, center_xy[0]], [0, focal, center_xy[1]], [0, 0, 1]])
        return np.asarray(view @ np.column_stack([turned[:, :2], (0, 0, self.distance)]), np.float64)


def draw_pose(rng: np.random.Generator, yaw: float = 45, pitch: float = 15, roll: float = 8) -> Pose:
    """A pose within these limits in degrees; small turns are more frequent than large ones."""
    return Pose(
        yaw=float(np.clip(rng.normal(0, yaw * 0.42), -yaw, yaw)),
        pitch=float(np.clip(rng.normal(0, pitch * 0.4), -pitch, pitch)),
        roll=float(np.clip(rng.normal(0, roll * 0.4), -roll, roll)),
        distance=float(rng.uniform(8, 60)),
    )


def moved(matrix: Matrix, points: Points) -> Points:
    """Points (N, 2) taken through a perspective matrix."""
    seen = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return np.asarray(seen[:, :2] / seen[:, 2:], np.float64)


def bounds(points: Points) -> tuple[float, float, float, float]:
    """x, y, width, height of the smallest upright box around points."""
    low, high = points.min(0), points.max(0)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def paste(picture: Floats, layer: Floats, alpha: Floats, matrix: Matrix, fineness: int) -> None:
    """Put a flat object into a picture, in place, smooth at the edges.

    Args:
        picture: grey (H, W).
        layer: the object's grey levels, (h, w); its larger side is the object's from -1 to 1.
        alpha: how opaque it is, 0 to 1, (h, w).
        matrix: from the object to the picture, see `Pose.matrix`.
        fineness: samples along each side of a pixel.
    """
    height, width = layer.shape
    half = max(width, height) / 2
    corners = np.array([(-width, -height), (width, -height), (width, height), (-width, height)]) / (2 * half)
    x, y, wide, high = bounds(moved(matrix, corners))
    left, top = max(0, int(np.floor(x))), max(0, int(np.floor(y)))
    right, bottom = min(picture.shape[1], int(np.ceil(x + wide))), min(picture.shape[0], int(np.ceil(y + high)))
    if left >= right or top >= bottom:
        return
    to_texture = np.array([[half, 0, width / 2], [0, half, height / 2], [0, 0, 1.0]]) @ np.linalg.inv(matrix)
    place = to_texture @ np.array([[1 / fineness, 0, left], [0, 1 / fineness, top], [0, 0, 1.0]])
    cover = _warped(alpha, place, (right - left, bottom - top), fineness)
    colour = _warped(layer * alpha, place, (right - left, bottom - top), fineness)
    picture[top:bottom, left:right] *= 1 - cover
    picture[top:bottom, left:right] += colour


def _warped(layer: Floats, matrix: Matrix, size_wh: Size, fineness: int) -> Floats:
    fine = (size_wh[0] * fineness, size_wh[1] * fineness)
    source = Image.fromarray(np.pad(layer.astype(np.float32), 2))  # transparent around, so edges are smooth
    shift = np.array([[1, 0, 2], [0, 1, 2], [0, 0, 1.0]]) @ (matrix / matrix[2, 2])
    coefficients = tuple((shift / shift[2, 2]).ravel()[:8].tolist())
    seen = source.transform(fine, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(seen.reduce(fineness), np.float32)
