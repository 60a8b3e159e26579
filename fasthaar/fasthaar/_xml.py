"""Reading cascade files, the new XML format of OpenCV and the old one, without trusting them.

expat checks that the XML is well-formed and cuts it into tags and texts. The reader follows them through the table
of known elements below and keeps nothing but numbers, so the memory it takes is bounded by the size of the file.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any
from xml.parsers import expat

import numpy as np

from fasthaar._cascade import (
    MAX_BYTES,
    MAX_NODES_PER_OLD_TREE,
    MAX_STAGES,
    MAX_TREES,
    Cascade,
    Columns,
    Integers,
    build,
)
from fasthaar._numbers import Numbers
from fasthaar._write import write

__all__ = ["MAX_BYTES", "Cascade", "parse", "write"]

MAX_DEPTH = 16
MAX_TEXT = 64 * 1024  # characters in one element
MAX_UNUSUAL_TAGS = 1000  # with attributes, or of names that mean nothing here
_CHUNK = 64 * 1024

_NAME = re.compile(r"<([^\s/>!]+)")
_TYPE_ID = re.compile(r"type_id\s*=\s*[\"'](?:str|seq|binary)[\"']")


def parse(data: bytes) -> Cascade:
    """Reads a cascade file, the new format or the old one, HAAR or LBP.

    Everything is admitted that OpenCV 4.14 loads and that keeps the rules of `Cascade`; elements that OpenCV does not
    look at are passed over. Numbers equal OpenCV's to the last bit. What OpenCV reads but hardly as it was meant is
    refused: an element that is there twice, a fraction or more than 32 bits where a whole number belongs, octal and
    hexadecimal numbers, more numbers than an element takes, entities and character references, bytes before the XML
    declaration.

    Args:
        data: the file, UTF-8, at most 4 MiB.

    Returns:
        The cascade.

    Raises:
        ValueError: the first broken rule, and what would be right, in one line.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"the file has {len(data)} bytes; should have at most {MAX_BYTES}")
    if b"\0" in data or data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise ValueError("the file has NUL bytes or is UTF-16; should be UTF-8")
    if not data.startswith(b"<?xml"):
        raise ValueError('the file starts otherwise; should start with <?xml version="1.0"?>')
    # Resolved references would look like the text and the tags that they stand for.
    if b"&" in data and _has_reference(data):
        raise ValueError("there is an entity or character reference; should be none")
    return build(_Reader().read(data))


def _has_reference(data: bytes) -> bool:
    """Whether there is an & outside of comments; finding from end to end takes time in proportion to the size."""
    start = 0
    while start >= 0:
        comment = data.find(b"<!--", start)
        if data.find(b"&", start, comment if comment >= 0 else len(data)) >= 0:
            return True
        start = data.find(b"-->", comment) if comment >= 0 else -1
    return False


class _Element:
    """What may stand inside one kind of element, and what is done at its end.

    Attributes:
        children: the elements that may stand inside, by their opening tag; none in an element of text.
        bit: marks the element as seen in the one around it, where it may stand once; 0 for an item of a list.
        is_list: every child is an item, <_>.
        done: called at the end, with the text if there are no children and with the bits of those seen otherwise.
    """

    __slots__ = ("bit", "children", "done", "is_list", "name")

    def __init__(self, name: str, done: Callable[[Any], object], children: Sequence[_Element] = ()) -> None:
        self.name = name
        self.done = done
        self.bit = 0
        self.children = {f"<{child.name}>": child for child in children}
        self.is_list = "<_>" in self.children
        if not self.is_list:
            for place, child in enumerate(children):
                child.bit = 1 << place


def _nothing(_: object) -> None:
    pass


# Elements that OpenCV does not look at; what stands inside them is not looked at here either.
_SKIPPED = _Element("_", _nothing)


class _Reader:
    """Follows the tags of one file and collects its numbers."""

    def __init__(self) -> None:
        self._tokens: list[str] = []
        self._text: list[str] = []
        self._unusual_tags = 0
        self._words: dict[str, str] = {}
        self._names: set[str] = set()
        self._singles = {name: Numbers(name) for name in ("width", "height", "maxCatCount")}
        self._size = Numbers("size")
        self._thresholds = Numbers("stageThreshold")
        self._nodes = Numbers("internalNodes")
        self._leaves = Numbers("leafValues")
        self._rects = Numbers("rects")
        self._tilted = Numbers("tilted")
        self._trees_until: list[int] = []  # trees of all stages up to each one
        self._rects_until = array("q")  # rectangles of all HAAR features up to each one
        self._old_stages = 0
        self._old_nodes = 0
        self._old_node: dict[str, str] = {}
        self._old_tree: list[str] = []
        self._old_leaves: list[str] = []
        self._document = self._known_elements()
        self._element = self._document
        self._seen = 0
        self._around: list[tuple[_Element, int]] = []

    def read(self, data: bytes) -> Columns:
        # No interning: hostile files have a million different names.
        parser = expat.ParserCreate("UTF-8", None, None)
        parser.buffer_text = True
        parser.XmlDeclHandler = _check_declaration
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.ProcessingInstructionHandler = _refuse_instruction
        # Appending in C and looking at many tokens at a time is three times faster than a call for each.
        parser.CharacterDataHandler = self._tokens.append
        parser.CommentHandler = lambda _: self._tokens.append(" ")  # it parts two numbers
        parser.DefaultHandler = self._tokens.append
        view = memoryview(data)
        try:
            for start in range(0, len(data), _CHUNK):
                parser.Parse(view[start : start + _CHUNK], False)
                if not self._tokens and start + _CHUNK < len(data):
                    raise ValueError(f"a tag or comment is longer than {_CHUNK} bytes; should be shorter")
                self._follow()
            parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise ValueError(f"this is no well-formed XML: {error}") from None
        self._follow()
        return self._columns()

    def _follow(self) -> None:
        """Takes the tokens that expat has cut since the last call."""
        element, seen, around, text = self._element, self._seen, self._around, self._text
        for token in self._tokens:
            if token[0] != "<":
                if not element.children:
                    text.append(token)
                elif not token.isspace():
                    raise ValueError(f"{element.name} has the text {token.strip()[:40]!r}; should have elements only")
            elif token[1] != "/":
                child = element.children.get(token) or self._unusual(element, token)
                if seen & child.bit:
                    raise ValueError(f"{child.name} is there twice in {element.name}; should be there once")
                around.append((element, seen | child.bit))
                element, seen = child, 0
            else:
                element.done(seen if element.children else "".join(text))
                text.clear()
                element, seen = around.pop()
        self._element, self._seen = element, seen
        self._tokens.clear()
        self._keep_limits()

    def _keep_limits(self) -> None:
        if sum(map(len, self._text)) > MAX_TEXT:
            raise ValueError(f"{self._element.name} has a text of more than {MAX_TEXT} characters")
        for numbers in (self._size, self._thresholds, self._nodes, self._leaves, self._rects, self._tilted):
            numbers.flush()
        for numbers in self._singles.values():
            numbers.flush()
        if len(self._nodes) > MAX_TREES:
            raise ValueError(f"there are more than {MAX_TREES} weak classifiers; should be at most {MAX_TREES}")

    def _unusual(self, element: _Element, token: str) -> _Element:
        """The element of a tag that is not among the known ones just as it stands."""
        match = _NAME.match(token)
        if match is None:
            raise ValueError("there is a CDATA section; should be none")
        name, attributes = match[1], token[match.end() : -1].strip()
        self._unusual_tags += 1
        if self._unusual_tags > MAX_UNUSUAL_TAGS:
            raise ValueError(f"there are more than {MAX_UNUSUAL_TAGS} tags that no cascade has")
        if len(self._around) >= MAX_DEPTH:
            raise ValueError(f"elements are nested more than {MAX_DEPTH} deep")
        if token.endswith("/>"):
            raise ValueError(f"{token[:40]} is an empty tag; should be <{name[:40]}></{name[:40]}>")
        if element is _SKIPPED:
            return _SKIPPED
        return self._child(element, name, attributes)

    def _child(self, element: _Element, name: str, attributes: str) -> _Element:
        if not element.children:
            raise ValueError(f"{element.name} has the element {name[:40]}; should have text only")
        outermost = element is self._document or element.name == "opencv_storage"
        # The cascade itself may have any name.
        child = element.children.get("<cascade>" if element.name == "opencv_storage" else f"<{name}>")
        if child is None and (outermost or element.is_list or name == "_"):
            expected = ", ".join(tag[1:-1] for tag in element.children)
            raise ValueError(f"{element.name} has the element {name[:40]}; should have {expected}")
        if child is not None and attributes and (not outermost or _TYPE_ID.search(attributes)):
            raise ValueError(f"{name} has the attribute {attributes[:40]!r}; should have none")
        return child or _SKIPPED

    def _known_elements(self) -> _Element:
        """Both formats in one table; which of them a stage, a feature and the cascade follow shows at its end."""

        def items(name: str, item: _Element, done: Callable[[Any], object] = _nothing) -> _Element:
            return _Element(name, done, [item])

        def texts(names: str, done: Callable[[str, str], None]) -> list[_Element]:
            return [_Element(name, partial(done, name)) for name in names.split()]

        rects = items("rects", _Element("_", self._rects.pending.append))
        tilted = _Element("tilted", self._tilted.pending.append)
        cells = _Element("rect", self._rects.pending.append)
        tree = _Element(
            "_",
            self._end_tree,
            [_Element(column.name, column.pending.append) for column in (self._nodes, self._leaves)],
        )
        old_values = texts("threshold left_val left_node right_val right_node", self._old_node.__setitem__)
        old_feature = _Element("feature", self._end_feature, [rects, tilted])
        old_tree = items("_", _Element("_", self._end_old_node, [old_feature, *old_values]), self._end_old_tree)
        stage = _Element(
            "_",
            self._end_stage,
            [
                _Element("stageThreshold", self._thresholds.pending.append),
                items("weakClassifiers", tree),
                _Element("stage_threshold", self._thresholds.pending.append),
                items("trees", old_tree),
            ],
        )
        sides = [_Element(name, self._singles[name].pending.append) for name in ("width", "height")]
        categories = _Element("maxCatCount", self._singles["maxCatCount"].pending.append)
        self._cascade = _Element(
            "cascade",
            self._end_cascade,
            [
                *texts("stageType featureType", self._words.__setitem__),
                *sides,
                _Element("featureParams", _nothing, [categories]),
                items("stages", stage),
                items("features", _Element("_", self._end_feature, [rects, tilted, cells])),
                _Element("size", self._size.pending.append),
            ],
        )
        return _Element("the file", _nothing, [_Element("opencv_storage", _nothing, [self._cascade])])

    def _end_tree(self, seen: int) -> None:
        if seen != 0b11:
            raise ValueError(f"weak classifier {len(self._nodes)} should have internalNodes and leafValues")

    def _end_stage(self, seen: int) -> None:
        # Bits in the order of the table: stageThreshold, weakClassifiers, stage_threshold, trees.
        if seen not in {0b0011, 0b1100}:
            raise ValueError(f"stage {len(self._trees_until)} should have stageThreshold and weakClassifiers")
        self._old_stages += seen == 0b1100
        self._trees_until.append(len(self._nodes))
        if len(self._trees_until) > MAX_STAGES:
            raise ValueError(f"there are more than {MAX_STAGES} stages; should be at most {MAX_STAGES}")

    def _end_feature(self, seen: int) -> None:
        # Bits in the order of the table: rects, tilted, rect.
        if seen & 0b101 not in {0b001, 0b100}:
            raise ValueError(f"feature {len(self._tilted)} should have rects (HAAR) or rect (LBP)")
        if seen & 0b001:
            self._rects_until.append(len(self._rects))
        if not seen & 0b010:
            self._tilted.pending.append("0")

    def _end_old_node(self, _: int) -> None:
        """Writes a node of the old format as internalNodes and leafValues have it: leaves numbered as they are met."""
        values = self._old_node
        if len(self._old_tree) == MAX_NODES_PER_OLD_TREE:
            raise ValueError(f"a tree of the old format should have at most {MAX_NODES_PER_OLD_TREE} nodes")
        if len(self._tilted) != self._old_nodes + 1 or "threshold" not in values:
            raise ValueError("a node should have feature and threshold")
        children = []
        for side in ("left", "right"):
            leaf, node = values.get(f"{side}_val"), values.get(f"{side}_node")
            if (leaf is None) == (node is None):
                raise ValueError(f"a node should have either {side}_val or {side}_node")
            children.append(node or f"-{len(self._old_leaves)}")
            if leaf is not None:
                self._old_leaves.append(leaf)
        numbers = [*children, str(self._old_nodes), values["threshold"]]
        if any(len(text.split()) != 1 for text in (*numbers, *self._old_leaves)):
            raise ValueError("threshold, left_val, left_node, right_val, right_node should be one number each")
        self._old_tree.append(" ".join(numbers))
        self._old_nodes += 1
        values.clear()

    def _end_old_tree(self, _: int) -> None:
        self._nodes.pending.append(" ".join(self._old_tree))
        self._leaves.pending.append(" ".join(self._old_leaves))
        self._old_tree.clear()
        self._old_leaves.clear()

    def _end_cascade(self, seen: int) -> None:
        self._names = {child.name for child in self._cascade.children.values() if seen & child.bit}

    def _columns(self) -> Columns:
        names = self._names
        new = {"stageType", "featureType", "height", "width", "featureParams", "stages", "features"}
        old = {"size", "stages"}
        old_format = "stageType" not in names and "size" in names
        missing = (old if old_format else new) - names
        if missing:
            raise ValueError(f"the cascade has no {min(missing)}; should have {', '.join(sorted(new))}")
        if (old_format and names & (new - old)) or self._old_stages != (len(self._trees_until) if old_format else 0):
            raise ValueError("the cascade has elements of the old format and of the new one; should be all of one")
        if not old_format and self._words["stageType"].strip() != "BOOST":
            raise ValueError(f"stageType is {self._words['stageType'].strip()[:40]!r}; should be BOOST")
        feature_type = "HAAR" if old_format else self._words["featureType"].strip()
        if feature_type not in {"HAAR", "LBP"}:
            raise ValueError(f"featureType is {feature_type[:40]!r}; should be HAAR or LBP")
        if old_format:
            categories, (width, height) = 0, self._size.integers(2)
        else:
            (width,), (height,), (categories,) = (self._singles[name].integers(1) for name in self._singles)
        return Columns(
            feature_type=feature_type,
            categories=categories,
            old_format=old_format,
            window_wh=(width, height),
            stage_thresholds=self._thresholds.singles(),
            stage_trees=_counts(self._trees_until),
            nodes=self._nodes.values(),
            node_lengths=self._nodes.lengths(),
            leaves=self._leaves.values(),
            leaf_lengths=self._leaves.lengths(),
            feature_count=len(self._tilted),
            rects=self._rects.values(),
            rect_lengths=self._rects.lengths(),
            feature_rects=_counts(self._rects_until),
            tilted=self._tilted.singles(),
        )


def _counts(until: Iterable[int]) -> Integers:
    totals = np.array([0, *until], np.int64)
    return totals[1:] - totals[:-1]


def _check_declaration(version: str, encoding: str | None, _: int) -> None:
    if version != "1.0" or (encoding or "UTF-8").upper() not in {"UTF-8", "ASCII", "US-ASCII"}:
        raise ValueError(f"the XML is version {version[:40]}, {str(encoding)[:40]}; should be 1.0 and UTF-8 or ASCII")


def _refuse_doctype(*_: object) -> None:
    raise ValueError("there is a document type declaration; should be none")


def _refuse_instruction(target: str, _: str) -> None:
    raise ValueError(f"there is a processing instruction, {target[:40]}; should be none")
