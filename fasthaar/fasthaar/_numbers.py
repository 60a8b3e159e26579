"""Reading lists of decimal numbers exactly as OpenCV does, or refusing them."""

from __future__ import annotations

import re
from array import array
from itertools import chain

import numpy as np

from fasthaar._cascade import Floats, Integers

_NUMBER_CHARACTERS = b"0123456789+-.eE \t\r\n"
# OpenCV reads 010 as 8 and stops at the E of 1E5.
_READ_DIFFERENTLY = re.compile(r"(?:^|\s)[+-]?(?:0\d|\d+E)")


class Numbers:
    """Lists of numbers in the order met; texts wait until `flush` reads many at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pending: list[str] = []
        self._values = array("d")
        self._lengths = array("q")

    def __len__(self) -> int:
        return len(self._lengths) + len(self.pending)

    def flush(self) -> None:
        if not self.pending:
            return
        joined = " ".join(self.pending)
        if joined.encode().translate(None, _NUMBER_CHARACTERS) or _READ_DIFFERENTLY.search(joined):
            self._refuse_text(joined)
        lists = [text.split() for text in self.pending]
        try:
            numbers = list(map(float, chain.from_iterable(lists)))
        except ValueError:
            self._refuse_text(joined)
            raise
        if numbers and (max(numbers) >= 2**31 or min(numbers) < -(2**31)):
            self._refuse_long_integers(joined)
        self._lengths.extend(map(len, lists))
        self._values.extend(numbers)
        self.pending.clear()

    def values(self) -> Floats:
        return np.frombuffer(self._values) if self._values else np.zeros(0)

    def lengths(self) -> Integers:
        return np.frombuffer(self._lengths, np.int64) if self._lengths else np.zeros(0, np.int64)

    def integers(self, count: int) -> list[int]:
        """The numbers of the only list."""
        if self.lengths().tolist() != [count] or not all(map(float.is_integer, self._values)):
            raise ValueError(f"{self.name} should be {count} whole number{'s'[: count - 1]}")
        return list(map(int, self._values))

    def _refuse_text(self, text: str) -> None:
        for token in text.split():
            if not re.fullmatch(r"[+-]?(?:0|[1-9]\d*|(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+e[+-]?\d+)", token, re.A):
                raise ValueError(f"{self.name}: {token[:40]!r} should be a decimal number like 1 or -2.5e-03")

    def _refuse_long_integers(self, text: str) -> None:
        # OpenCV would cut them to 32 bits.
        for token in text.split():
            if not {".", "e"} & set(token) and not -(2**31) <= float(token) < 2**31:
                raise ValueError(f"{self.name}: {token[:40]} should be a whole number of 32 bits")
