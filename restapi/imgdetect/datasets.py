"""A folder of pictures that clients may name: nothing outside it is ever read, whatever the name is."""

from __future__ import annotations

import os
import random
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from imgdetect.errors import BackendUnavailable, NotFound, UploadTooLarge

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_NAMES = 200_000
_ID_LENGTH = 12  # digits of a COCO image's name
_TICK_NS = 2_000_000_000  # the coarsest clock of a file system


class Dataset:
    """The pictures of a folder, by name. Subfolders are not looked at.

    The list of names is made once and again when the folder changes, so that asking for one costs no walk.

    Args:
        folder: may be missing or empty, which means that there are no pictures.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._seen_at: int | None = None  # the folder's time of change, nanoseconds
        self._names: dict[str, None] = {}

    def names(self) -> MappingProxyType[str, None]:
        """The names of all pictures, in order."""
        with self._lock:
            try:
                changed_at = self._folder.stat().st_mtime_ns
            except OSError:
                return MappingProxyType({})
            if changed_at != self._seen_at:
                # A folder that has just changed may change again within the same tick of its clock.
                settled = time.time_ns() - changed_at > _TICK_NS
                self._names = dict.fromkeys(sorted(islice(self._pictures(), MAX_NAMES)))
                self._seen_at = changed_at if settled else None
            return MappingProxyType(self._names)

    def any_name(self) -> str:
        """The name of some picture.

        Raises:
            NotFound: there is none.
        """
        names = self.names()
        if not names:
            raise NotFound("The dataset folder has no pictures; 'imgdetect dataset fetch coco128' gets some.")
        return next(islice(names, random.randrange(len(names)), None))  # noqa: S311 - which picture it is is no secret

    def named(self, image_id: str) -> str | None:
        """The name of the JPEG with an id, or with the id as COCO writes it: padded with zeros to 12 digits."""
        names = self.names()
        candidates = (f"{image_id}.jpg", f"{image_id.rjust(_ID_LENGTH, '0')}.jpg")
        return next((name for name in candidates if name in names), None)

    def read(self, name: str, max_bytes: int) -> bytes:
        """The file of a picture.

        Raises:
            NotFound: there is no picture with this name.
            UploadTooLarge: it is larger than what this server looks at.
        """
        if name not in self.names() or not self._inside(name):
            raise NotFound(f"There is no picture {name[:80]!r} in the dataset folder.")
        try:
            # A pipe in its place must not make anybody wait for whoever writes into it.
            with os.fdopen(os.open(self._folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise NotFound(f"There is no picture {name[:80]!r} in the dataset folder.")
                data = file.read(max_bytes + 1)
        except FileNotFoundError:
            raise NotFound(f"There is no picture {name[:80]!r} in the dataset folder.") from None
        except OSError as error:
            raise BackendUnavailable("The dataset folder cannot be read.") from error
        if len(data) > max_bytes:
            raise UploadTooLarge(max_bytes=max_bytes)
        return data

    def _pictures(self) -> Iterator[str]:
        with suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                name = entry.name
                if not is_picture_name(name):
                    continue
                with suppress(OSError):
                    if entry.is_file(follow_symlinks=not entry.is_symlink() or self._inside(name)):
                        yield name

    def _inside(self, name: str) -> bool:
        """Whether a name stands for a file of the folder, also where it is a link."""
        try:
            return (self._folder / name).resolve(strict=True).is_relative_to(self._folder.resolve())
        except (OSError, RuntimeError):  # RuntimeError: links in a circle
            return False


def is_picture_name(name: str) -> bool:
    """Whether a file of this name, without folders, may be a picture of a dataset."""
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8, which neither JSON nor a database can carry
        return False
    return name.lower().endswith(SUFFIXES) and not name.startswith(".") and name.isprintable()
