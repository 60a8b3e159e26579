"""What light and a camera do to a picture: fractal noise, shadows, blur, grain, sharpening, JPEG.

A picture here is float32 (height, width), grey, 0 black to 255 white; it may run over in between and is cut at the end.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Size = tuple[int, int]
Range = tuple[float, float]


def rounded(picture: Floats) -> Bytes:
    """The picture in whole grey levels, cut at black and white."""
    levels: Bytes = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return levels


def enlarged(grid: Floats, size_wh: Size) -> Floats:
    """A small grid of values as a smooth picture of this size."""
    return np.asarray(Image.fromarray(grid).resize(size_wh, Image.Resampling.BICUBIC), np.float32)


def fractal(rng: np.random.Generator, size_wh: Size, coarsest: float, finest: float = 2, fading: float = 0.6) -> Floats:
    """Noise with structure from coarse to fine, as clouds, leaves and dirt have it; mean 0, deviation 1.

    Args:
        rng: where the randomness comes from.
        size_wh: of the picture, pixels.
        coarsest: the size of the largest spots, pixels.
        finest: the size of the smallest spots, pixels.
        fading: how much weaker each halving of the size is.
    """
    width, height = size_wh
    total = np.zeros((height, width), np.float32)
    cell, strength = max(coarsest, finest), 1.0
    while cell >= finest:
        columns, rows = int(width / cell) + 2, int(height / cell) + 2
        grid = rng.standard_normal((rows, columns), np.float32)
        whole = enlarged(grid, (int(columns * cell) + 1, int(rows * cell) + 1))
        x, y = rng.integers(whole.shape[1] - width + 1), rng.integers(whole.shape[0] - height + 1)
        total += np.float32(strength) * whole[y : y + height, x : x + width]
        cell, strength = cell / 2, strength * fading
    spread = float(total.std())
    flat: Floats = (total - total.mean()) / np.float32(spread if spread > 1e-6 else 1)
    return flat


def slope(rng: np.random.Generator, size_wh: Size, depth: Range) -> Floats:
    """Factors of light that grows steadily in some direction; mean 1."""
    width, height = size_wh
    angle, change = rng.uniform(0, 2 * np.pi), rng.uniform(*depth)
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(np.cos(angle) * change)
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32) * np.float32(np.sin(angle) * change)
    return np.asarray(1 + np.add.outer(y, x), np.float32)


def leaf_shadow(rng: np.random.Generator, size_wh: Size, spot: float) -> Floats:
    """Factors of the light that falls through a tree, or past an edge; 1 where nothing shades.

    Args:
        rng: where the randomness comes from.
        size_wh: of the picture, pixels.
        spot: the size of the largest shadows, pixels.
    """
    noise = fractal(rng, size_wh, spot, max(2, spot / 8), 0.55)
    covered = 1 / (1 + np.exp(-(noise - rng.uniform(-0.6, 0.8)) * rng.uniform(3, 12)))
    return np.asarray(1 - rng.uniform(0.3, 0.65) * covered, np.float32)


def cast_shadow(rng: np.random.Generator, size_wh: Size) -> Floats:
    """Factors of the light where a straight edge, of a roof or a pole, throws a shadow."""
    width, height = size_wh
    angle, softness = rng.uniform(0, 2 * np.pi), max(width, height) * rng.uniform(0.005, 0.05)
    x, y = np.arange(width) - width * rng.uniform(0.2, 0.8), np.arange(height) - height * rng.uniform(0.2, 0.8)
    across = np.add.outer(y * np.sin(angle), x * np.cos(angle)) / softness
    if rng.random() < 0.5:  # a pole's, with two edges
        across = max(width, height) * rng.uniform(0.03, 0.12) / softness - np.abs(across)
    covered = 1 / (1 + np.exp(-np.clip(across, -30, 30)))
    return np.asarray(1 - rng.uniform(0.3, 0.65) * covered, np.float32)


def blurred(picture: Floats, sigma: float) -> Floats:
    """Out of focus: a Gaussian of this deviation in pixels."""
    if sigma < 0.15:
        return picture
    return np.asarray(Image.fromarray(rounded(picture)).filter(ImageFilter.GaussianBlur(sigma)), np.float32)


def smeared(picture: Floats, length: float, angle: float) -> Floats:
    """Moved while it was taken: the mean along a line of this length in pixels."""
    steps = int(np.ceil(length)) + 1
    source = Image.fromarray(picture)
    total = np.zeros_like(picture)
    for way in np.linspace(-length / 2, length / 2, steps):
        matrix = (1, 0, float(way * np.cos(angle)), 0, 1, float(way * np.sin(angle)))
        moved = source.transform(source.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        total += np.asarray(moved, np.float32)
    total /= np.float32(steps)
    margin = int(np.ceil(length / 2)) + 1  # what came from outside the picture is black
    total[:margin], total[-margin:] = picture[:margin], picture[-margin:]
    total[:, :margin], total[:, -margin:] = picture[:, :margin], picture[:, -margin:]
    return total


@dataclass(frozen=True)
class Camera:
    """One way of taking a picture, drawn once for all that is in it.

    Attributes:
        gain, lift, gamma: grey levels become ((level / 255) ** gamma * gain + lift) * 255.
        haze, haze_level: the part of fog or rain in every pixel, and its grey level.
        blur: deviation of the blur, pixels.
        smear, smear_angle: length of the way moved, pixels, and its direction, radians.
        grain: deviation of the noise in grey levels, where it is bright.
        sharpening: percent of an unsharp mask, as cameras apply it; 0 for none.
        quality: of the JPEG; 0 for none.
    """

    gain: float = 1
    lift: float = 0
    gamma: float = 1
    haze: float = 0
    haze_level: float = 200
    blur: float = 0
    smear: float = 0
    smear_angle: float = 0
    grain: float = 0
    sharpening: float = 0
    quality: int = 0

    def shoot(self, picture: Floats, rng: np.random.Generator) -> Bytes:
        """The picture as this camera gives it, uint8; `rng` is for the grain."""
        seen = np.clip(picture, 0, 255) / np.float32(255)
        seen = (seen ** np.float32(self.gamma) * np.float32(self.gain) + np.float32(self.lift)) * np.float32(255)
        seen = seen * np.float32(1 - self.haze) + np.float32(self.haze * self.haze_level)
        seen = blurred(seen, self.blur)
        if self.smear >= 1:
            seen = smeared(seen, self.smear, self.smear_angle)
        if self.grain > 0:
            # Sensors count photons: noise grows with the light, only slower.
            strength = self.grain * (0.5 + 0.5 * np.sqrt(np.clip(seen, 0, 255) / 255))
            seen = seen + strength * rng.standard_normal(seen.shape, np.float32)
        taken = Image.fromarray(rounded(seen.astype(np.float32)))
        if self.sharpening > 0:
            taken = taken.filter(ImageFilter.UnsharpMask(1.2, int(self.sharpening), 2))
        if self.quality:
            stored = io.BytesIO()
            taken.save(stored, "JPEG", quality=self.quality)
            taken = Image.open(stored)
        return np.array(taken, np.uint8)


def draw_camera(rng: np.random.Generator, object_px: float, bright: float = 1) -> Camera:
    """A camera as it may have been.

    Args:
        rng: where the randomness comes from.
        object_px: the size of what has to remain recognisable; it bounds the blur.
        bright: factor of the mean exposure.
    """
    blur = rng.uniform(0.3, 0.6) + (abs(rng.normal(0, 0.012)) * object_px if rng.random() < 0.6 else 0)
    is_hazy, is_moved = rng.random() < 0.15, rng.random() < 0.12
    return Camera(
        gain=float(rng.uniform(0.7, 1.2)) * bright,
        lift=float(rng.uniform(-0.04, 0.08)),
        gamma=float(np.exp(rng.normal(0, 0.22))),
        haze=float(rng.uniform(0.1, 0.5)) if is_hazy else 0,
        haze_level=float(rng.uniform(120, 235)) * bright,
        blur=float(min(blur, 0.035 * object_px)),
        smear=float(rng.uniform(0.03, 0.08) * object_px) if is_moved else 0,
        smear_angle=float(rng.normal(0, 0.5)),
        grain=float(min(rng.gamma(1.2, 2.5), 12)),
        sharpening=float(rng.uniform(30, 160)) if rng.random() < 0.4 else 0,
        quality=int(rng.integers(35, 96)) if rng.random() < 0.7 else 0,
    )
