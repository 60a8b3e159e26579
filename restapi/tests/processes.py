"""The processes of a live server, as the kernel sees them (Linux)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.live_server import LiveServer

PROC = Path("/proc")


class Process(NamedTuple):
    """A process for good: its id may come again, never with the same start."""

    pid: int
    started: int  # clock ticks since the machine's start


def status_of(pid: int) -> tuple[Process, int, str] | None:
    """The process of an id, its parent's id and its state; None when there is none."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(pid, int(fields[19])), int(fields[1]), fields[0]


def alive(process: Process) -> bool:
    """Whether it runs; one that only waits to be reaped does not."""
    found = status_of(process.pid)
    return found is not None and found[0] == process and found[2] not in "ZX"


def everybody_with(variable: str) -> list[Process]:
    """The living processes that were started with NAME=VALUE in their environment, in the order of their ids."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            status = status_of(int(entry.name))
            if variable.encode() in environment and status and status[2] not in "ZX":
                found.append(status[0])
    return sorted(found)


class Family(NamedTuple):
    """A gunicorn master and all that comes from it; the nursery is nobody's child, so its environment is its mark."""

    master: Process
    workers: list[Process]
    nurseries: list[Process]
    children: list[Process]  # that look at pictures

    @classmethod
    def of(cls, server: LiveServer) -> Family:
        """The family as it is now."""
        assert server.process is not None
        members = everybody_with(f"IMGDETECT_BIND={server.environment['IMGDETECT_BIND']}")
        parents = {process: status[1] for process in members if (status := status_of(process.pid))}
        master = next(process for process in parents if process.pid == server.process.pid)
        workers = [process for process, parent in parents.items() if parent == master.pid]
        family = {process.pid for process in (master, *workers)}
        strangers = [process for process in parents if process.pid not in family]
        ids = {process.pid for process in strangers}
        nurseries = [process for process in strangers if parents[process] not in ids]
        return cls(master, workers, nurseries, [process for process in strangers if parents[process] in ids])

    @property
    def everybody(self) -> list[Process]:
        """All of them."""
        return [self.master, *self.workers, *self.nurseries, *self.children]


def until(condition: Callable[[], object], seconds: float = 20) -> bool:
    """Wait for something to become true; returns whether it did."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def memory_kib(pid: int, what: str) -> int:
    """VmRSS, what a process has in memory now, or VmHWM, the most since `forget_peak`; KiB."""
    lines = (PROC / str(pid) / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def forget_peak(pid: int) -> None:
    """Let VmHWM begin anew."""
    (PROC / str(pid) / "clear_refs").write_text("5")


def busiest(processes: list[Process]) -> Process:
    """The one that has used most of the processor so far."""

    def ticks(process: Process) -> int:
        fields = (PROC / str(process.pid) / "stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    return max(processes, key=ticks)
