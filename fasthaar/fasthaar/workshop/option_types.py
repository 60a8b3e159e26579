"""What options of commands may be: sizes, colours, numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from fasthaar.workshop.effects import Size


class Real(click.FloatRange):
    """A number in a range; what is no number is outside of it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


class SizeType(click.ParamType[Size]):
    """WIDTHxHEIGHT in pixels."""

    name = "WxH"

    def __init__(self, least: int, most: int) -> None:
        """Sides that are allowed."""
        self.least, self.most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Size:
        """A pair of sides."""
        if isinstance(value, tuple):
            return value
        sides = str(value).lower().split("x")
        if len(sides) != 2 or not all(side.isdecimal() and self.least <= int(side) <= self.most for side in sides):
            self.fail(f"{value!r} should be WIDTHxHEIGHT, {self.least} to {self.most} pixels each", param, ctx)
        return int(sides[0]), int(sides[1])


class ColourType(click.ParamType[tuple[int, int, int]]):
    """RRGGBB, hexadecimal."""

    name = "RRGGBB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        """Red, green, blue."""
        if isinstance(value, tuple):
            return value
        try:
            if len(value) != 6:
                raise ValueError
            red, green, blue = bytes.fromhex(value)
        except ValueError:
            self.fail(f"{value!r} should be RRGGBB, as 00ff00 for green", param, ctx)
        return red, green, blue


def options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator."""

    def add(function: Any) -> Any:
        for decorate in reversed(decorators):
            function = decorate(function)
        return function

    return add
