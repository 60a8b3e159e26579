"""Reading lists of decimal numbers exactly as OpenCV does, or refusing them."""

from __future__ import annotations

import re
from array import array
from itertools import chain

import numpy as np

from fasthaar._cascade import Floats, Integers

_NUMBER_CHARACTERS = b"0123456789+-.eE \t\r\n"
_SPACES = bytes.maketrans(b"\t\r\n", b"   ")
# OpenCV reads 010 as 8 and stops at the E of 1E5. Literal beginnings make the search fast.
_LEADING_ZERO = re.compile(rb" [+-]?0\d")
_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*|(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+e[+-]?\d+)", re.ASCII)


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
        text = f" {' '.join(self.pending)} ".encode().translate(_SPACES)
        unusual = text.translate(None, _NUMBER_CHARACTERS) or b"E" in text or _LEADING_ZERO.search(text)
        if unusual and (message := self._misspelled(text)):
            raise ValueError(message)
        if b"-0 " in text:
            # Without a point this is a whole number, which has no sign.
            self.pending[:] = [
                " ".join("0" if word == "-0" else word for word in item.split()) for item in self.pending
            ]
        lists = list(map(str.split, self.pending))
        try:
            numbers = array("d", list(map(float, chain.from_iterable(lists))))
        except ValueError:
            raise ValueError(self._misspelled(text)) from None
        if numbers and np.abs(numbers).max() >= 2**31:
            self._refuse_long_integers(text)
        self._lengths.extend(map(len, lists))
        self._values.extend(numbers)
        self.pending.clear()

    def values(self) -> Floats:
        return np.frombuffer(self._values) if self._values else np.zeros(0)

    def lengths(self) -> Integers:
        return np.frombuffer(self._lengths, np.int64) if self._lengths else np.zeros(0, np.int64)

    def singles(self) -> Floats:
        """One number of each list."""
        others = self.lengths()[self.lengths() != 1]
        if len(others):
            raise ValueError(f"{self.name} has {others[0]} numbers in one place; should have 1")
        return self.values()

    def integers(self, count: int) -> list[int]:
        """The numbers of the only list."""
        whole = all(value.is_integer() and abs(value) < 2**31 for value in self._values)
        if self.lengths().tolist() != [count] or not whole:
            raise ValueError(f"{self.name} should be {count} whole number{'s'[: count - 1]}")
        return list(map(int, self._values))

    def _misspelled(self, text: bytes) -> str | None:
        """What is wrong with the first token that is no number."""
        for token in text.decode().split():
            if not _NUMBER.fullmatch(token):
                return f"{self.name}: {token[:40]!r} should be a decimal number like 1 or -2.5e-03"
        return None

    def _refuse_long_integers(self, text: bytes) -> None:
        # OpenCV would cut them to 32 bits.
        for token in text.decode().split():
            if not {".", "e"} & set(token) and not -(2**31) <= float(token) < 2**31:
                raise ValueError(f"{self.name}: {token[:40]} should be a whole number of 32 bits")
