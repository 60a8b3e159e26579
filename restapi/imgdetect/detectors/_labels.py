"""Names of a network's classes: from a file, from the model's metadata, or the well-known lists by name."""

from __future__ import annotations

import ast
import json
from pathlib import Path

MAX_CLASSES = 100_000
_MAX_BYTES = 5_000_000
_MAX_NAME = 200

_COCO = """
person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,bench,
bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,
sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,
bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,
toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,
teddy bear,hair drier,toothbrush
"""
# The 80 classes of COCO that have objects, in order.
COCO80 = tuple(_COCO.replace("\n", "").split(","))
# The numbers that COCO's annotations leave out, of 1 to 90.
_UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
# A class that is never shown: the background, or a number that nothing has.
NOTHING = ""


def _coco91() -> tuple[str, ...]:
    names = iter(COCO80)
    return (NOTHING, *(NOTHING if number in _UNUSED else next(names) for number in range(1, 91)))


# By the name that `labels=` takes: 80 classes from 0; with a background before them; as numbered in the annotations.
KNOWN: dict[str, tuple[str, ...]] = {"coco80": COCO80, "coco81": (NOTHING, *COCO80), "coco91": _coco91()}


def read(where: str) -> tuple[str, ...]:
    """The list of a name in KNOWN, or of a file with a name on each line (or JSON).

    Raises:
        ValueError: there is no such file, or it holds no names; one line that names it.
    """
    if where in KNOWN:
        return KNOWN[where]
    path = Path(where)
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        known = ", ".join(KNOWN)
        raise ValueError(f"labels {where}: cannot be read: {error.strerror}; known by name: {known}") from None
    try:
        if len(content) > _MAX_BYTES:
            raise ValueError(f"is larger than {_MAX_BYTES} bytes")
        return parse(content.decode("utf-8"))
    except ValueError as error:  # of which UnicodeDecodeError is one
        reason = "is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise ValueError(f"labels {where}: {reason}") from None


def parse(text: str) -> tuple[str, ...]:
    """Names from a text: a JSON list or object, a Python dict or list as Ultralytics writes it, else one a line.

    Keras' `imagenet_class_index.json` is an object of pairs, whose second half is the name.

    Raises:
        ValueError: these are no names; the end of a sentence.
    """
    text = text.strip()
    names = _literal(text) if text[:1] in ("{", "[") else [line.strip() for line in text.splitlines()]
    if not names or len(names) > MAX_CLASSES:
        raise ValueError(f"holds {len(names)} class names; 1 to {MAX_CLASSES} are possible")
    return tuple("".join(c for c in name if c.isprintable())[:_MAX_NAME] for name in names)


def _literal(text: str) -> list[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text)  # constants only; nothing is called or looked up
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            raise ValueError("holds neither JSON nor a list or dict of class names") from None
    if isinstance(value, dict):
        try:
            numbered = {int(key): name for key, name in value.items()}
        except (TypeError, ValueError):
            raise ValueError("has class numbers that are no numbers") from None
        if not numbered or min(numbered) < 0 or max(numbered) >= MAX_CLASSES:
            raise ValueError("has class numbers that are no such numbers")
        value = [numbered.get(number, NOTHING) for number in range(max(numbered) + 1)]
    if not isinstance(value, list | tuple):
        raise ValueError("holds no list of class names")
    names = [name[-1] if isinstance(name, list | tuple) and name else name for name in value]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("holds class names that are no texts")
    return names
