"""fasthaar in processes of its own, one for each target that this machine can run.

The target is chosen when fasthaar is imported, so that comparing targets takes as many processes.
"""

from __future__ import annotations

import multiprocessing
import os
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

from cases import Answer, Case, source

NAMES = ("avx512", "avx2", "sse4", "neon", "scalar")


class Impossible(Exception):
    """This machine cannot run the target."""


class Engine:
    """fasthaar with one target, in a process that is started again when it dies."""

    def __init__(self, target: str) -> None:
        """Start the process.

        Raises:
            Impossible: fasthaar refuses the target here.
        """
        self.target = target
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, self.target), daemon=True)
        self._process.start()
        there.close()
        if (chosen := self._connection.recv()) != self.target:
            self.close()
            raise Impossible(chosen)

    def send(self, case: Case) -> None:
        """Let the process begin with a case; `receive` has its answer."""
        self._connection.send(case)

    def receive(self) -> Answer | str:
        """The answer to the last case, or a sentence about what went wrong."""
        try:
            answer: Answer | str = self._connection.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.close()
            self._start()
            return f"the process died with exit code {code}"
        return answer

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()


@cache
def engines() -> tuple[Engine, ...]:
    """An engine for every target that this machine can run."""
    found = []
    for name in NAMES:
        try:
            found.append(Engine(name))
        except Impossible:
            continue
    return tuple(found)


def _serve(connection: Connection, target: str) -> None:
    os.environ["FASTHAAR_TARGET"] = target
    try:
        import fasthaar  # the target is chosen here
    except ImportError as error:
        connection.send(str(error))
        return
    classifiers: dict[Any, fasthaar.CascadeClassifier] = {}
    connection.send(fasthaar.target())
    while True:
        try:
            case = connection.recv()
        except EOFError:
            return
        connection.send(_answer(case, classifiers))


def _answer(case: Case, classifiers: dict[Any, Any]) -> Answer | str:
    import fasthaar

    try:
        if case.cascade not in classifiers:
            classifiers[case.cascade] = fasthaar.CascadeClassifier(source(case.cascade))
        return case.ask(classifiers[case.cascade])
    except Exception as error:  # whatever it is, the parent reports it with the case
        return f"{type(error).__name__}: {error}"
