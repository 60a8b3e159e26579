"""Files that break one rule each, with the message that names it."""

from __future__ import annotations

from small import HAAR, LBP, OLD, STAGE, TREE


def _haar(old: str, new: str, count: int = 1) -> bytes:
    return _changed(HAAR, old, new, count)


def _changed(text: str, old: str, new: str, count: int = 1) -> bytes:
    if old not in text:
        raise LookupError(old)
    return text.replace(old, new, count).encode()


_17_NODES = " ".join(f"{node + 1 if node < 16 else -16} {-node} 0 1." for node in range(17))
_DEEP = "".join(f"<a{depth}>" for depth in range(50_000))
_LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
_START = 'the file starts otherwise; should start with <?xml version="1.0"?>'
_UTF8 = "the file has NUL bytes or is UTF-16; should be UTF-8"
_NO_TYPE = "there is a document type declaration; should be none"
_NO_REFERENCE = "there is an entity or character reference; should be none"
_ONE_FORMAT = "the cascade has elements of the old format and of the new one; should be all of one"
_EMPTY_TREE = "tree 0: internalNodes has 0 numbers; should be a multiple of 4, at least 4"
_STAGES = HAAR[HAAR.index("<stages>") + 8 : HAAR.index("</stages>")]
_FEATURES = HAAR[HAAR.index("<features>") + 10 : HAAR.index("</features>")]


def _missing(name: str) -> str:
    names = "featureParams, featureType, features, height, stageType, stages, width"
    return f"the cascade has no {name}; should have {names}"


def _no_number(token: str) -> str:
    return f"internalNodes: {token!r} should be a decimal number like 1 or -2.5e-03"


def _no_child(node: int, side: str, child: int) -> str:
    return (
        f"node {node} of a tree of 2 nodes: {side} is {child}; "
        f"should be a later node, {node + 1} to 1, or a leaf, 0 to -2"
    )


def _outside(what: str) -> str:
    return f"{what} should lie inside the window of 24 x 20"


BROKEN: list[tuple[str, bytes, str]] = [
    # The file
    (
        "4 MiB",
        HAAR.encode() + b" " * (4 << 20),
        f"the file has {len(HAAR) + (4 << 20)} bytes; should have at most 4194304",
    ),
    ("empty", b"", _START),
    ("no declaration", HAAR[22:].encode(), _START),
    ("UTF-8 mark", b"\xef\xbb\xbf" + HAAR.encode(), _START),
    ("YAML", b"%YAML:1.0\n---\ncascade:\n", _START),
    ("JSON", b'{"cascade": {"stageType": "BOOST"}}', _START),
    ("UTF-16", HAAR.encode("utf-16"), _UTF8),
    ("NUL", HAAR.encode() + b"\0", _UTF8),
    (
        "encoding",
        _haar("?>", ' encoding="ISO-8859-1"?>'),
        "the XML is version 1.0, ISO-8859-1; should be 1.0 and UTF-8 or ASCII",
    ),
    ("document type", _haar("?>", "?><!DOCTYPE a>"), _NO_TYPE),
    (
        "entities",
        _haar("?>", f"?><!DOCTYPE a [{_LAUGHS}]>"),
        _NO_REFERENCE,
    ),
    ("external entity", _haar("?>", '?><!DOCTYPE a SYSTEM "file:///etc/passwd">'), _NO_TYPE),
    ("parameter entity", _haar("?>", '?><!DOCTYPE a [<!ENTITY % b SYSTEM "c"> %b;]>'), _NO_TYPE),
    ("character reference", _haar("-0.5", "&#49;"), _NO_REFERENCE),
    ("reference behind a comment", _haar("-0.5", "<!-- & -->&#49;<!-- & -->"), _NO_REFERENCE),
    ("instruction", _haar("<cascade", "<?php a?><cascade"), "there is a processing instruction, php; should be none"),
    ("CDATA", _haar("-0.5", "<![CDATA[1]]>"), "there is a CDATA section; should be none"),
    (
        "long comment",
        _haar("<stages>", f"<!--{'x' * 200_000}--><stages>"),
        "a tag or comment is longer than 65536 bytes; should be shorter",
    ),
    # Elements
    ("root", b'<?xml version="1.0"?>\n<a></a>', "the file has the element a; should have opencv_storage"),
    ("nothing inside", b'<?xml version="1.0"?>\n<opencv_storage></opencv_storage>', _missing("featureParams")),
    (
        "two cascades",
        _haar("</cascade>", "</cascade><cascade></cascade>"),
        "cascade is there twice in opencv_storage; should be there once",
    ),
    ("depth", _haar("<stages>", _DEEP + "<stages>"), "elements are nested more than 16 deep"),
    (
        "many strange elements",
        _haar("<stages>", "<a></a>" * 1001 + "<stages>"),
        "there are more than 1000 tags that no cascade has",
    ),
    ("empty tag", _haar("<stages>", "<a/><stages>"), "<a/> is an empty tag; should be <a></a>"),
    ("element in a text", _haar("-0.5", "<a>1</a>"), "stageThreshold has the element a; should have text only"),
    (
        "text among elements",
        _haar("<stages>", "<stages>words"),
        "stages has the text 'words'; should have elements only",
    ),
    ("long text", _haar("-0.5", "0 " * 100_000), "stageThreshold has a text of more than 65536 characters"),
    ("name in a list", _haar("<stages>", "<stages><a></a>"), "stages has the element a; should have _"),
    (
        "item in a map",
        _haar("<stages>", "<_></_><stages>"),
        "cascade has the element _; should have stageType, featureType, width, height, featureParams, stages, "
        "features, size",
    ),
    (
        "attribute",
        _haar("<internalNodes>", '<internalNodes a="b">'),
        "internalNodes has the attribute 'a=\"b\"'; should have none",
    ),
    (
        "binary",
        _haar("opencv-cascade-classifier", "binary"),
        "cascade has the attribute 'type_id=\"binary\"'; should have none",
    ),
    (
        "twice",
        _haar("<width>24</width>", "<width>24</width><width>24</width>"),
        "width is there twice in cascade; should be there once",
    ),
    (
        "threshold twice",
        _haar("<stageThreshold>", "<stageThreshold>1</stageThreshold><stageThreshold>"),
        "stageThreshold is there twice in _; should be there once",
    ),
    ("no width", _haar("<width>24</width>", ""), _missing("width")),
    ("no features", _haar("features>", "other>", 2), _missing("features")),
    ("stage type", _haar("BOOST", "TREE"), "stageType is 'TREE'; should be BOOST"),
    ("feature type", _haar("HAAR", "HOG"), "featureType is 'HOG'; should be HAAR or LBP"),
    (
        "both formats",
        _haar("</weakClassifiers>", "</weakClassifiers><trees></trees>"),
        "stage 0 should have stageThreshold and weakClassifiers",
    ),
    (
        "stages of the old format",
        _haar("<stages>", "<stages><_><trees></trees><stage_threshold>1</stage_threshold></_>"),
        _ONE_FORMAT,
    ),
    ("features in the old format", _changed(OLD, "</stages>", "</stages><features></features>"), _ONE_FORMAT),
    # The window
    ("narrow", _haar("<width>24", "<width>7"), "the window's width is 7; should be 8 to 128 pixels"),
    ("high", _haar("<height>20", "<height>129"), "the window's height is 129; should be 8 to 128 pixels"),
    ("negative side", _haar("<height>20", "<height>-20"), "the window's height is -20; should be 8 to 128 pixels"),
    ("fraction of a side", _haar("<height>20", "<height>20.5"), "height should be 1 whole number"),
    ("huge side", _haar("<height>20", "<height>1e300"), "height should be 1 whole number"),
    ("two widths", _haar("<width>24", "<width>24 24"), "width should be 1 whole number"),
    ("no number", _haar("<width>24", "<width>"), "width should be 1 whole number"),
    ("old size", _changed(OLD, "24 20", "24"), "size should be 2 whole numbers"),
    (
        "categories of HAAR",
        _haar("<maxCatCount>0", "<maxCatCount>256"),
        "maxCatCount is 256; should be 0 for HAAR and 256 for LBP",
    ),
    (
        "categories of LBP",
        _changed(LBP, "<maxCatCount>256", "<maxCatCount>32"),
        "maxCatCount is 32; should be 0 for HAAR and 256 for LBP",
    ),
    # Stages and trees
    ("no stages", _haar(_STAGES, ""), "there are 0 stages; should be 1 to 64"),
    ("65 stages", _haar("<stages>", "<stages>" + STAGE * 64), "there are more than 64 stages; should be at most 64"),
    (
        "empty stage",
        _haar("<stages>", "<stages>" + STAGE.replace(TREE, "")),
        "stage 0 has no weak classifiers; should have at least 1",
    ),
    (
        "no threshold",
        _haar("<stageThreshold>-0.5</stageThreshold>", ""),
        "stage 0 should have stageThreshold and weakClassifiers",
    ),
    ("two numbers", _haar("-0.5", "1 2"), "stageThreshold has 2 numbers in one place; should have 1"),
    (
        "20,001 trees",
        _haar("<weakClassifiers>", "<weakClassifiers>" + TREE * 20_000),
        "there are more than 20000 weak classifiers; should be at most 20000",
    ),
    (
        "no leaves",
        _haar("<leafValues>1. -1.</leafValues>", ""),
        "weak classifier 2 should have internalNodes and leafValues",
    ),
    ("17 nodes", _haar("0 -1 1 3e-2", _17_NODES), "tree 1 has 17 nodes; should be at most 16"),
    (
        "three numbers of a node",
        _haar("0 -1 1 3e-2", "0 -1 1"),
        "tree 1: internalNodes has 3 numbers; should be a multiple of 4, at least 4",
    ),
    (
        "no nodes",
        _haar("0 -1 1 3e-2", ""),
        "tree 1: internalNodes has 0 numbers; should be a multiple of 4, at least 4",
    ),
    (
        "ten numbers of a node",
        _changed(LBP, "1 2 3 4 5 6 7 8", "1 2 3 4 5 6 7"),
        "tree 1: internalNodes has 10 numbers; should be a multiple of 11, at least 11",
    ),
    ("one leaf", _haar(">1. -1.<", ">1.<"), "tree 1 has 1 leaves for 1 nodes; should be 2"),
    ("three leaves", _haar(">1. -1.<", ">1. -1. 1<"), "tree 1 has 3 leaves for 1 nodes; should be 2"),
    ("tree to itself", _haar("0 -1 1 -0.02", "1 -1 1 -0.02"), _no_child(1, "left", 1)),
    ("tree back", _haar("1 -2 0 0.01 0 -1", "1 -2 0 0.01 0 1"), _no_child(1, "right", 1)),
    ("node behind the last", _haar("1 -2 0 0.01", "2 -2 0 0.01"), _no_child(0, "left", 2)),
    ("leaf behind the last", _haar("1 -2 0 0.01", "1 -3 0 0.01"), _no_child(0, "right", -3)),
    ("least whole number", _haar("1 -2 0 0.01", "1 -2147483648 0 0.01"), _no_child(0, "right", -2147483648)),
    ("feature", _haar("0 -1 1 3e-2", "0 -1 2 3e-2"), "node 2: feature 2 does not exist; should be 0 to 1"),
    ("negative feature", _haar("0 -1 1 3e-2", "0 -1 -1 3e-2"), "node 2: feature -1 does not exist; should be 0 to 1"),
    # Numbers
    ("NaN", _haar("3e-2", "nan"), _no_number("nan")),
    ("infinity", _haar("3e-2", ".Inf"), _no_number(".Inf")),
    ("1e999", _haar("3e-2", "1e999"), "internalNodes: threshold: inf should be finite as a 32-bit number"),
    ("1e39", _haar("-0.5", "-1e39"), "stageThreshold: -1e+39 should be finite as a 32-bit number"),
    ("infinite leaf", _haar("0.5 -1. 2.", "0.5 1e999 2."), "leafValues: inf should be finite as a 32-bit number"),
    ("infinite weight", _haar("3 4 2.", "3 4 -1e999"), "rects: weight: -inf should be finite as a 32-bit number"),
    ("octal", _haar("3e-2", "010"), _no_number("010")),
    ("hexadecimal", _haar("3e-2", "0x10"), _no_number("0x10")),
    ("underscore", _haar("3e-2", "1_0"), _no_number("1_0")),
    ("E without a point", _haar("3e-2", "1E5"), _no_number("1E5")),
    ("two signs", _haar("3e-2", "--1"), _no_number("--1")),
    ("Arabic digit", _haar("3e-2", "\u0663"), _no_number("\u0663")),
    ("quotes", _haar("3e-2", '"1"'), _no_number('"1"')),
    ("33 bits", _haar("3e-2", "4294967296"), "internalNodes: 4294967296 should be a whole number of 32 bits"),
    (
        "32 bits without a sign",
        _haar("3e-2", "2147483648"),
        "internalNodes: 2147483648 should be a whole number of 32 bits",
    ),
    ("10,000 digits", _haar("3e-2", "9" * 10_000), f"internalNodes: {'9' * 40} should be a whole number of 32 bits"),
    (
        "fraction of a node",
        _haar("0 -1 1 3e-2", "0 -1.5 1 3e-2"),
        "internalNodes: right: -1.5 should be a whole number of 32 bits",
    ),
    (
        "fraction of a subset",
        _changed(LBP, "1 2 3 4", "1.5 2 3 4"),
        "internalNodes: subset: 1.5 should be a whole number of 32 bits",
    ),
    (
        "subset of 33 bits",
        _changed(LBP, "1 2 3 4", "4294967295 2 3 4"),
        "internalNodes: 4294967295 should be a whole number of 32 bits",
    ),
    # Features
    ("empty features", _haar(_FEATURES, ""), "there are no features; should be at least 1"),
    (
        "feature of nothing",
        _haar("<features>", "<features><_></_>"),
        "feature 0 should have rects (HAAR) or rect (LBP)",
    ),
    (
        "feature of both",
        _haar("<features>\n<_>", "<features>\n<_><rect>0 0 1 1</rect>"),
        "feature 0 should have rects (HAAR) or rect (LBP)",
    ),
    (
        "LBP feature",
        _haar("<features>", "<features><_><rect>0 0 1 1</rect></_>"),
        "a feature has rect; should be rects, as the featureType is HAAR",
    ),
    (
        "HAAR feature",
        _changed(LBP, "<features>", "<features><_><rects></rects></_>"),
        "a feature has rects; should be rect, as the featureType is LBP",
    ),
    ("one rect", _haar("<_>0 0 3 4 2.</_>", ""), "feature 0 has 1 rects; should be 2 or 3"),
    ("four rects", _haar("<_>0 0 3 4 2.</_>", "<_>0 0 3 4 2.</_>" * 3), "feature 0 has 4 rects; should be 2 or 3"),
    (
        "four numbers",
        _haar("0 0 3 4 2.", "0 0 3 4"),
        "rects: a rectangle has 4 numbers; should be 5, x y width height weight",
    ),
    (
        "six numbers",
        _haar("0 0 3 4 2.", "0 0 3 4 2. 1"),
        "rects: a rectangle has 6 numbers; should be 5, x y width height weight",
    ),
    ("left of the window", _haar("0 0 3 4 2.", "-1 0 3 4 2."), _outside("feature 0: rectangle -1 0 3 4")),
    ("right of it", _haar("0 0 3 4 2.", "22 0 3 4 2."), _outside("feature 0: rectangle 22 0 3 4")),
    ("below it", _haar("0 0 3 4 2.", "0 17 3 4 2."), _outside("feature 0: rectangle 0 17 3 4")),
    ("rectangle 0 -1 3 4", _haar("0 0 3 4 2.", "0 -1 3 4 2."), _outside("feature 0: rectangle 0 -1 3 4")),
    ("rectangle 0 0 3 -1", _haar("0 0 3 4 2.", "0 0 3 -1 2."), _outside("feature 0: rectangle 0 0 3 -1")),
    ("negative width", _haar("0 0 3 4 2.", "9 0 -3 4 2."), _outside("feature 0: rectangle 9 0 -3 4")),
    ("sum of 33 bits", _haar("0 0 3 4 2.", "2147483647 0 1 4 2."), _outside("feature 0: rectangle 2147483647 0 1 4")),
    ("tilted to the left", _haar("8 2 4 6", "5 2 4 6"), _outside("feature 1: tilted rectangle 5 2 4 6")),
    ("tilted to the right", _haar("8 2 4 6", "21 2 4 6"), _outside("feature 1: tilted rectangle 21 2 4 6")),
    ("tilted below", _haar("8 2 4 6", "8 11 4 6"), _outside("feature 1: tilted rectangle 8 11 4 6")),
    ("tilted by half", _haar("<tilted>1", "<tilted>0.5"), "tilted: 0.5 should be a whole number of 32 bits"),
    ("tilted twice", _haar("<tilted>1", "<tilted>1 1"), "tilted has 2 numbers in one place; should have 1"),
    ("cells to the right", _changed(LBP, "3 2 7 6", "4 2 7 6"), _outside("feature 1: 3 x 3 cells 4 2 7 6")),
    ("cells -1 2 7 6", _changed(LBP, "3 2 7 6", "-1 2 7 6"), _outside("feature 1: 3 x 3 cells -1 2 7 6")),
    ("cells 3 -1 7 6", _changed(LBP, "3 2 7 6", "3 -1 7 6"), _outside("feature 1: 3 x 3 cells 3 -1 7 6")),
    ("cells 3 2 -1 6", _changed(LBP, "3 2 7 6", "3 2 -1 6"), _outside("feature 1: 3 x 3 cells 3 2 -1 6")),
    ("cells 3 2 7 -1", _changed(LBP, "3 2 7 6", "3 2 7 -1"), _outside("feature 1: 3 x 3 cells 3 2 7 -1")),
    ("cells below", _changed(LBP, "3 2 7 6", "3 3 7 6"), _outside("feature 1: 3 x 3 cells 3 3 7 6")),
    (
        "five numbers of cells",
        _changed(LBP, "3 2 7 6", "3 2 7 6 1"),
        "feature 1: rect has 5 numbers; should be 4, x y width height",
    ),
    # The old format
    (
        "three nodes",
        _changed(OLD, "<right_val>2.</right_val></_>", "<right_val>2.</right_val></_><_></_>"),
        "a tree of the old format should have at most 2 nodes",
    ),
    (
        "no threshold of a node",
        _changed(OLD, "<threshold>0.01</threshold>", ""),
        "a node should have feature and threshold",
    ),
    ("no feature", _changed(OLD, "feature>", "other>", 2), "a node should have feature and threshold"),
    (
        "both a leaf and a node",
        _changed(OLD, "<left_val>0.5", "<left_node>1</left_node><left_val>0.5"),
        "a node should have either left_val or left_node",
    ),
    ("neither", _changed(OLD, "<left_val>0.5</left_val>", ""), "a node should have either left_val or left_node"),
    (
        "two values",
        _changed(OLD, "<left_val>0.5", "<left_val>0.5 1"),
        "threshold, left_val, left_node, right_val, right_node should be one number each",
    ),
    (
        "old tree to itself",
        _changed(OLD, "<left_val>-1.</left_val>", "<left_node>1</left_node>"),
        "tree 0 has 2 leaves for 2 nodes; should be 3",
    ),
    ("empty tree", _changed(OLD, "<trees>", "<trees><_></_>"), _EMPTY_TREE),
]

REFUSED_BY_EXPAT: list[tuple[str, bytes]] = [
    ("half a tag", HAAR[:300].encode()),
    ("a wrong end", _haar("</stages>", "</features>")),
    ("text behind the end", HAAR.encode() + b"more"),
    ("a second root", HAAR.encode() + b"<a></a>"),
    ("an attribute twice", _haar("<stages>", '<stages a="1" a="2">')),
    ("no UTF-8", HAAR.encode().replace(b"-0.5", b"\xff")),
    ("a control character", _haar("-0.5", "\x01")),
]
