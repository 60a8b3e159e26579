"""Files of samples: `.npz` of NumPy, and the `.vec` of opencv_createsamples."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fasthaar.workshop import WorkshopError
from fasthaar.workshop.effects import Bytes, Size
from fasthaar.workshop.whole import write_whole

SUFFIXES = (".npz", ".vec")
_HEADER_BYTES = 12


def check_name(path: Path) -> None:
    """Refuse a name that says no known form, before any work is done.

    Raises:
        WorkshopError: it ends otherwise, or its folder is not there.
    """
    if path.suffix not in SUFFIXES:
        raise WorkshopError(f"{path}: samples are written as {' or '.join(SUFFIXES)}; end the name with one of these")
    if not path.parent.is_dir():
        raise WorkshopError(f"{path}: there is no folder {path.parent}")


def write_samples(path: Path, samples: Bytes, meta: dict[str, Any]) -> None:
    """Write samples, uint8 (N, h, w); what `meta` says about them goes into an `.npz` only.

    Raises:
        OSError: there is no room, or it cannot be written; nothing is left of the attempt.
    """
    data = io.BytesIO()
    if path.suffix == ".vec":
        data.write(_vec(samples))
    else:
        np.savez_compressed(data, samples=samples, meta=np.array(json.dumps(meta, sort_keys=True)))
    write_whole(path, data.getvalue())


def _vec(samples: Bytes) -> bytes:
    """As opencv_createsamples writes them on the usual processors: little endian.

    A count and the pixels of a sample, 32 bits each; two unused numbers of 16 bits; then for each sample a zero byte
    and 16 bits for every pixel.
    """
    count, height, width = samples.shape
    header = np.array([count, height * width], "<i4").tobytes() + bytes(4)
    pixels = samples.reshape(count, -1).astype("<i2").view(np.uint8)
    return header + np.hstack([np.zeros((count, 1), np.uint8), pixels]).tobytes()


def read_samples(path: Path, window_wh: Size | None = None) -> Bytes:
    """Samples from a file, uint8 (N, height, width), at least one.

    Args:
        path: ends with .npz or .vec.
        window_wh: of the samples; a .vec does not say it, so without it samples have to be square.

    Raises:
        WorkshopError: no such file, no samples in it, or none of this size.
        OSError: it cannot be read.
    """
    if path.suffix not in SUFFIXES or not path.is_file():
        raise WorkshopError(f"{path}: there is no such file; samples are {' or '.join(SUFFIXES)}")
    samples = _read_vec(path, window_wh) if path.suffix == ".vec" else _read_npz(path)
    if not len(samples):
        raise WorkshopError(f"{path}: there are no samples in it")
    return samples


def _read_npz(path: Path) -> Bytes:
    try:
        with np.load(path, allow_pickle=False) as file:
            samples = np.asarray(file["samples"])
    except KeyError:
        raise WorkshopError(f"{path}: there is no array called samples in it") from None
    except (ValueError, zipfile.BadZipFile, EOFError, TypeError, AttributeError):
        raise WorkshopError(f"{path}: this is no .npz file that can be read") from None
    if samples.dtype != np.uint8 or samples.ndim != 3:
        raise WorkshopError(f"{path}: samples is {samples.dtype} {samples.shape}; should be uint8 (N, height, width)")
    return samples


def _read_vec(path: Path, window_wh: Size | None) -> Bytes:
    data = path.read_bytes()
    # The order of bytes is that of the machine which wrote it; the file's length says which one it was.
    for order in "<>":
        count, pixels = np.frombuffer(data[:8].ljust(8, b"\0"), f"{order}i4").tolist()
        if min(count, pixels) < 1 or len(data) != _HEADER_BYTES + count * (1 + 2 * pixels):
            continue
        side = round(pixels**0.5)
        width, height = window_wh or (side, side)
        if width * height != pixels:
            raise WorkshopError(
                f"{path}: samples have {pixels} pixels, but a window of {width}x{height} has {width * height}; "
                "name the size that they have"
            )
        rows = np.frombuffer(data, np.uint8, offset=_HEADER_BYTES).reshape(count, 1 + 2 * pixels)
        values = np.ascontiguousarray(rows[:, 1:]).view(f"{order}i2")
        if values.min() < 0 or values.max() > 255:
            raise WorkshopError(f"{path}: there are pixels outside of 0 to 255")
        return values.astype(np.uint8).reshape(count, height, width)
    raise WorkshopError(f"{path}: this is no complete .vec file with samples")
