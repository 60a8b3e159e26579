"""Disks that are full, and folders that nobody may write to: real ones, made by mounting where that is allowed.

Where it is not (a container without that capability, a user that is not root) the kernel is asked for the same errors
in another way: a limit on the size of files, and a folder of its own that takes no files.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live_server import LiveServer
from tests.processes import Family

NOT_WRITABLE = Path("/sys/kernel")  # for anybody


def _mount(*arguments: object) -> bool:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False)
    return done.returncode == 0


def _unmount(folder: Path) -> None:
    # Lazily: a server that is about to end may still have a file open there.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class SmallDisk:
    """A folder that can be full; use it as a context manager.

    Args:
        mebibytes: its size.
        files: how many files and folders it can hold; 0: as many as fit.
    """

    def __init__(self, mebibytes: int, files: int = 0) -> None:
        self._size = mebibytes << 20
        self.folder = Path(tempfile.mkdtemp(prefix="imgdetect-disk-"))
        self.mounted = _mount("-t", "tmpfs", "-o", f"size={self._size},nr_inodes={files}", "tmpfs", self.folder)
        self._filler = self.folder / "filler"

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(self, *unused: object) -> None:
        if self.mounted:
            _unmount(self.folder)
        shutil.rmtree(self.folder)

    def fill(self, server: LiveServer) -> None:
        """Leave no room for another page."""
        if not self.mounted:
            for worker in Family.of(server).workers:
                resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
            return
        with self._filler.open("wb", buffering=0) as filler:
            for piece in (1 << 16, 1 << 10, 1):
                try:
                    while filler.write(bytes(piece)):
                        pass
                except OSError:
                    continue

    def clear(self, server: LiveServer) -> None:
        """Let there be room again."""
        self._filler.unlink(missing_ok=True)
        for worker in Family.of(server).workers:
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nothing be written into a folder while the block runs."""
    if _mount("--bind", folder, folder):
        try:
            assert _mount("-o", "remount,bind,ro", folder)
            yield
        finally:
            _unmount(folder)
        return
    away = folder.with_name(f"{folder.name}.away")
    folder.rename(away)
    folder.symlink_to(NOT_WRITABLE)
    try:
        assert not os.path.ismount(folder)
        yield
    finally:
        folder.unlink()
        away.rename(folder)
