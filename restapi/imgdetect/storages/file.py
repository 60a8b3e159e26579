"""Artifacts as files: `file:./data/images`.

The key `3f9c5e.original.jpg` is the file `3f/3f9c5e.original.jpg`: many folders keep each of them short. A write goes
to a temporary file in that folder, is synced, renamed into place, and the folder is synced: that is the least that
keeps a key whole and an acknowledged upload on the disk whatever the file system. Deleting is not synced: a file that
comes back after a power loss has no row and is swept.
"""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from imgdetect import errors
from imgdetect.backends import refuse_unknown
from imgdetect.storages import StoredFile
from imgdetect.storages._keys import check_key, check_range, is_key
from imgdetect.storages._pieces import pieces

_PIECE_BYTES = 1 << 20
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# What an interrupted write left behind: `keys` lists it and `delete` removes it, under the name of its file.
_LEFTOVER = re.compile(r"tmp-([0-9a-z]{2})-[0-9a-f]{16}", re.ASCII)
_SHARD = re.compile(r"[0-9a-z]{2}", re.ASCII)


def create(target: str, parameters: dict[str, str]) -> FileStorage:
    """Open the storage in a folder, which is made when it is not there.

    Args:
        target: the folder.
    Raises:
        ValueError: no folder given, an unknown parameter, or the folder cannot be made.
    """
    refuse_unknown(parameters)
    if not target:
        raise ValueError("the file storage needs a folder, as in 'file:./data/images'")
    root = Path(target).absolute()
    try:
        _make_folders(root)
    except OSError as error:
        raise ValueError(f"cannot make the folder {root}: {error.strerror}") from error
    return FileStorage(root)


class FileStorage:
    """Keeps artifacts in a folder that several processes may share.

    Args:
        root: an existing folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._synced_shards: set[str] = set()

    def put(self, key: str, data: bytes | BinaryIO, media_type: str) -> None:
        """Store or replace the whole of a key; nothing of what cannot be kept for sure is left there."""
        file = self._file(key)
        with _translated():
            written, descriptor = self._open_temporary(file.parent)
        try:
            try:
                for piece in pieces(data, _PIECE_BYTES):  # an error of the stream's own is not the storage's
                    with _translated():
                        _write_all(descriptor, piece)
                with _translated():
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            with _translated():
                written.replace(file)
                written = file
                _sync_folder(file.parent)
        except BaseException:
            with suppress(OSError):
                written.unlink(missing_ok=True)
            raise

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """A stream of the bytes start..end (end exclusive, None: to the end); the caller closes it."""
        check_range(start, end)
        file = self._file(key)
        with _translated(missing_is_an_answer=True):
            stream = file.open("rb")
            if start:
                stream.seek(start)
        return stream if end is None else cast(BinaryIO, io.BufferedReader(_Slice(stream, end - start)))

    def locate(self, key: str) -> Path | None:
        """The file of a key; None when the key is not there."""
        file = self._file(key)
        return file if file.is_file() else None

    def link(self, key: str, headers: dict[str, str]) -> str | None:
        """None: clients come to us."""
        check_key(key)
        return None

    def delete(self, key: str) -> None:
        """Remove a key or a leftover; one that is not there is no error."""
        leftover = _LEFTOVER.fullmatch(key)
        file = self.root / leftover[1] / key if leftover else self._file(key)
        with _translated():
            file.unlink(missing_ok=True)

    def keys(self) -> Iterator[StoredFile]:
        """Every stored file, leftovers of interrupted writes (`tmp-...`) included; files of others are passed over."""
        with _translated():
            shards = sorted(entry.name for entry in os.scandir(self.root) if _SHARD.fullmatch(entry.name))
        for shard in shards:
            yield from self._keys_of(shard)

    def check(self) -> None:
        """Prove by a real write, read and delete that the storage works."""
        key = f"{secrets.token_hex(16)}.check"
        written = secrets.token_bytes(16)
        try:
            self.put(key, written, "application/octet-stream")
            with self.open(key) as stream:
                read = stream.read()
        except FileNotFoundError as error:
            raise errors.BackendUnavailable("The storage lost what was just written.") from error
        finally:
            self.delete(key)
        if read != written:
            raise errors.BackendUnavailable("The storage gives back other bytes than were written.")

    def _file(self, key: str) -> Path:
        check_key(key)
        return self.root / key[:2] / key

    def _keys_of(self, shard: str) -> Iterator[StoredFile]:
        found = []
        with _translated(), suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.root / shard) as entries:
            for entry in entries:
                leftover = _LEFTOVER.fullmatch(entry.name)
                ours = leftover[1] == shard if leftover else is_key(entry.name) and entry.name.startswith(shard)
                # A file that vanishes while we look was deleted or renamed by someone else.
                with suppress(FileNotFoundError):
                    if ours and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        found.append(StoredFile(entry.name, status.st_size, status.st_mtime))
        yield from found

    def _open_temporary(self, folder: Path) -> tuple[Path, int]:
        self._make_shard(folder)
        temporary = folder / f"tmp-{folder.name}-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        try:
            return temporary, os.open(temporary, flags, 0o666)
        except FileNotFoundError:  # somebody removed the folder since this process saw it
            self._synced_shards.discard(folder.name)
            self._make_shard(folder)
            return temporary, os.open(temporary, flags, 0o666)

    def _make_shard(self, folder: Path) -> None:
        """Make sure of a shard's folder; synced by each process once, for another may have died between the two."""
        if folder.name not in self._synced_shards:
            _make_folders(folder.parent)
            folder.mkdir(exist_ok=True)
            _sync_folder(folder.parent)
            self._synced_shards.add(folder.name)


class _Slice(io.RawIOBase):
    """The next so many bytes of a stream, which it owns."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        super().__init__()
        self._stream = stream
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # typeshed's Buffer is not sliceable
        data = self._stream.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


@contextmanager
def _translated(*, missing_is_an_answer: bool = False) -> Iterator[None]:
    """Turn the operating system's errors into the seam's."""
    try:
        yield
    except FileNotFoundError as error:
        if missing_is_an_answer:
            raise
        raise errors.BackendUnavailable("The storage cannot be used.") from error
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise errors.StorageFull from error
        raise errors.BackendUnavailable("The storage cannot be used.") from error


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _make_folders(folder: Path) -> None:
    """Make a folder and its parents, each of them durable."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
