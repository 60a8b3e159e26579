"""What a dialect is: another server's HTTP contract, spoken by this one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from flask import Blueprint

Problem = dict[str, Any]  # a problem document


class Dialect(NamedTuple):
    """One contract."""

    blueprint: Blueprint
    # Addresses where problems are told in its words, whether they exist or not; none when left out.
    speaks: re.Pattern[str] = re.compile("(?!)")
    # Status and JSON body that stand for a problem.
    told: Callable[[Problem], tuple[int, Any]] = lambda problem: (int(problem["status"]), problem)


def sentence(problem: Problem) -> str:
    """What a problem says to a person."""
    return str(problem.get("detail") or problem["title"])
