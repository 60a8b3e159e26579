"""Bodies of requests: small ones stay in memory, bounded by the largest upload; large ones go to a file without a name.

What a request may send is decided by its view, before anything is read: `Request.allow` for a large one. A file without
a name takes its space along when it is closed, however the process ends. Where the file system has none, the file has
a name for a moment; what a crash leaves in that moment is swept at the next start.
"""

from __future__ import annotations

import errno
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, BinaryIO, cast

import flask

from imgdetect.errors import BackendUnavailable, Busy, StorageFull
from imgdetect.web.parts import parts

# Multipart boundaries, part headers and the few text fields around one picture.
FORM_OVERHEAD_BYTES = 65_536
# werkzeug counts its read buffer, 64 KiB, as well.
FORM_TEXT_BYTES = 4 * FORM_OVERHEAD_BYTES
MAX_FORM_PARTS = 40
_PART_OVERHEAD_BYTES = 1024
# Large bodies that one process takes in at once. Each holds a thread and its share of the disk.
_LARGE_AT_ONCE = 4
_large = threading.BoundedSemaphore(_LARGE_AT_ONCE)
_PREFIX = "spool-"
_LEFTOVER_SECONDS = 3600.0
_COPY_BYTES = 1 << 20
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Request(flask.Request):
    """A request that knows how large it may be, and where its files go."""

    max_bytes: int  # of the files in it, and
    max_files: int  # how many they may be: for the problem of one that is larger
    _spool: BinaryIO | None = None

    def allow(self, max_bytes: int, max_files: int = 1) -> None:
        """Let the body be this large, and keep its files on the disk; before anything of it is read.

        Raises:
            Busy: as many large bodies as may be are on their way in.
        """
        if not _large.acquire(blocking=False):
            raise Busy("As many large uploads as this server takes at once are on their way in.")
        try:
            self._spool = _spool_file(parts().service.settings.effective_spool_dir)
        except BaseException:
            _large.release()
            raise
        self.max_bytes, self.max_files = max_bytes, max_files
        self.max_content_length = max_bytes + FORM_OVERHEAD_BYTES + max_files * _PART_OVERHEAD_BYTES
        self.max_form_parts = max_files + MAX_FORM_PARTS

    def spooled_body(self) -> BinaryIO:
        """The whole body as a file, from its beginning; the request closes it. `allow` was called before."""
        spool = self._spool
        assert spool is not None
        part = SpooledPart(spool)
        while piece := self.stream.read(_COPY_BYTES):
            part.write(piece)
        part.seek(0)
        return cast(BinaryIO, part)

    def close(self) -> None:
        """Give back what the request held, at its end."""
        super().close()
        self.let_go()

    def let_go(self) -> None:
        """Give back the place and the space of a large body, once all of it has been read."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None
            _large.release()

    def _get_file_stream(self, *unused: object, **also_unused: object) -> IO[bytes]:
        # Small ones are read whole anyway. One file for all parts of a large one: a thousand would be too many.
        return cast(IO[bytes], SpooledPart(self._spool) if self._spool is not None else io.BytesIO())


class SpooledPart(io.RawIOBase):
    """A part of a file, from its end as it is now to its end when another part begins.

    Parts are written one after the other; closing one leaves the file open.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.seek(0, io.SEEK_END)
        self.size = 0  # bytes
        self._position = 0

    def write(self, data: object) -> int:
        """Append bytes; what is written twice or in the middle is a mistake of ours."""
        view = memoryview(data)  # type: ignore[arg-type]
        with _translated():
            self._file.seek(self._start + self.size)
            self._file.write(view)
        self.size += view.nbytes
        self._position = self.size
        return view.nbytes

    def readinto(self, buffer: object) -> int:
        """Read from where the part stands."""
        view = memoryview(buffer)[: max(0, self.size - self._position)]  # type: ignore[arg-type]
        with _translated():
            self._file.seek(self._start + self._position)
            count = self._file.readinto(view)  # type: ignore[attr-defined]
        self._position += count
        return int(count)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the part."""
        self._position = max(0, offset + (0, self._position, self.size)[whence])
        return self._position

    def tell(self) -> int:
        """Where the part stands."""
        return self._position

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


@contextmanager
def _translated() -> Iterator[None]:
    """A disk's trouble as a problem."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StorageFull from error
        raise BackendUnavailable("The folder of large uploads fails.") from error


def sweep(folder: Path) -> None:
    """Remove what crashes left in a spool folder; files of a process that lives have no name there."""
    with suppress(OSError):
        for leftover in folder.glob(f"{_PREFIX}*"):
            with suppress(OSError):
                if leftover.stat().st_mtime < time.time() - _LEFTOVER_SECONDS:
                    leftover.unlink()


def _spool_file(folder: Path) -> BinaryIO:
    with _translated():
        folder.mkdir(parents=True, exist_ok=True)
        return cast(BinaryIO, TemporaryFile(dir=folder, prefix=_PREFIX))
