"""Files and folders that are there whole or not at all, whatever ends the process or fills the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fasthaar.workshop import WorkshopError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file in one step: under its name is what was there before, or all of the data.

    Raises:
        OSError: it names the file; nothing is left of the attempt.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with fresh.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when all is in it; nothing remains of it when that fails.

    Raises:
        WorkshopError: there is something of this name already, other than an empty folder.
        OSError: it cannot be made, or what is written into it cannot; it names this folder.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise WorkshopError(f"{path}: this is there already; name a new folder, or an empty one")
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.mkdir(parents=True)
        try:
            yield fresh
            fresh.replace(path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
