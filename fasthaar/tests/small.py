"""Three small cascades, and files of almost 4 MiB made from them."""

from __future__ import annotations

from functools import cache

from fasthaar._xml import MAX_BYTES

HAAR = """<?xml version="1.0"?>
<opencv_storage>
<cascade type_id="opencv-cascade-classifier">
<stageType>BOOST</stageType>
<featureType>HAAR</featureType>
<height>20</height>
<width>24</width>
<featureParams><maxCatCount>0</maxCatCount></featureParams>
<stages>
<_><stageThreshold>-0.5</stageThreshold>
<weakClassifiers>
<_><internalNodes>1 -2 0 0.01 0 -1 1 -0.02</internalNodes><leafValues>0.5 -1. 2.</leafValues></_>
<_><internalNodes>0 -1 1 3e-2</internalNodes><leafValues>1. -1.</leafValues></_></weakClassifiers></_></stages>
<features>
<_><rects><_>0 0 6 4 -1.</_><_>0 0 3 4 2.</_></rects></_>
<_><rects><_>8 2 4 6 -1.</_><_>8 2 2 3 2.</_><_>10 5 2 3 2.</_></rects><tilted>1</tilted></_></features></cascade>
</opencv_storage>
"""

LBP = """<?xml version="1.0"?>
<opencv_storage>
<cascade>
<stageType>BOOST</stageType>
<featureType>LBP</featureType>
<height>20</height>
<width>24</width>
<featureParams><maxCatCount>256</maxCatCount></featureParams>
<stages>
<_><stageThreshold>-0.5</stageThreshold>
<weakClassifiers>
<_><internalNodes>0 -1 0 -1 0 -2147483648 2147483647 4 5 6 7</internalNodes><leafValues>-1. 1.</leafValues></_>
<_><internalNodes>0 -1 1 1 2 3 4 5 6 7 8</internalNodes><leafValues>1. -1.</leafValues></_>
</weakClassifiers></_></stages>
<features>
<_><rect>0 0 3 5</rect></_>
<_><rect>3 2 7 6</rect></_></features></cascade>
</opencv_storage>
"""

OLD = """<?xml version="1.0"?>
<opencv_storage>
<eyes_24x20 type_id="opencv-haar-classifier">
<size>24 20</size>
<stages>
<_>
<trees>
<_><_><feature><rects><_>0 0 6 4 -1.</_><_>0 0 3 4 2.</_></rects><tilted>0</tilted></feature>
<threshold>0.01</threshold><left_val>0.5</left_val><right_node>1</right_node></_>
<_><feature><rects><_>8 2 4 6 -1.</_><_>8 2 2 3 2.</_><_>10 5 2 3 2.</_></rects><tilted>1</tilted></feature>
<threshold>-0.02</threshold><left_val>-1.</left_val><right_val>2.</right_val></_></_>
<_><_><feature><rects><_>1 1 6 6 -1.</_><_>3 1 2 6 3.</_><_>3 1 2 6 1e-8</_></rects></feature>
<threshold>3e-2</threshold><left_val>1.</left_val><right_val>-1.</right_val></_></_></trees>
<stage_threshold>-0.5</stage_threshold><parent>-1</parent><next>-1</next></_></stages></eyes_24x20>
</opencv_storage>
"""

TREE = "<_><internalNodes>0 -1 0 1</internalNodes><leafValues>1 1</leafValues></_>"
STAGE = f"<_><stageThreshold>0</stageThreshold><weakClassifiers>{TREE}</weakClassifiers></_>"


@cache
def big_files() -> dict[str, bytes]:
    """Files of almost 4 MiB; those whose names begin with "many" break no rule."""
    start, _, rest = HAAR.partition("<stages>")
    _, _, end = rest.partition("</stages>")
    lbp_start, _, lbp_rest = LBP.partition("<stages>")
    one_stage, zeros = f"{start}<stages>{STAGE}</stages>", "0 " * 30_000
    tree = "<_><internalNodes>{}</internalNodes><leafValues>{}</leafValues></_>"
    haar_tree = tree.format("0 0 0 1 " * 16, "1 " * 17)
    lbp_tree = tree.format("0 0 0 0 0 0 0 0 0 0 0 " * 16, "1 " * 17)
    stage = "<_><stageThreshold>0</stageThreshold><weakClassifiers>{}</weakClassifiers></_>"
    attributes = (" ".join(f"b{place}=''" for place in range(300 * tag, 300 * tag + 300)) for tag in range(980))
    names = "".join(f"<a{tag} {text}></a{tag}>" for tag, text in enumerate(attributes))
    files = {
        "many nodes": (f"{start}<stages>", stage.format(haar_tree * 400), f"</stages>{end}"),
        "many subsets": (
            f"{lbp_start}<stages>",
            stage.format(lbp_tree * 170),
            f"</stages>{lbp_rest.partition('</stages>')[2]}",
        ),
        "many features": (
            f"{one_stage}<features>",
            f"<_><rects>{'<_>0 0 2 2 1</_>' * 3}</rects></_>",
            "</features></cascade></opencv_storage>",
        ),
        "numbers in one element": (f"{start}<a>", "0 ", ""),
        "numbers in many elements": (
            f"{start}<stages><_><weakClassifiers>",
            f"<_><leafValues>{zeros}</leafValues><internalNodes>0</internalNodes></_>",
            "",
        ),
        "one attribute after the other": (f"{start}<a", " b=''", ""),
        "names": (f"{start}{names}", " ", ""),
        "nested elements": (start, "<a>", ""),
        "comments": (f"{start}<a>", "<!---->1", ""),
        "beginnings of comments": (f"{start}&", "<!--", ""),
        "comments inside each other": (f"{start}<!-- & -->", "<!--", ""),
        "one comment": (f"{start}<!--", "x", ""),
        "spaces": (start, " ", ""),
        "old trees": (
            f"{OLD.partition('<trees>')[0]}<trees>",
            OLD.partition("<trees>")[2].partition("</trees>")[0],
            "",
        ),
        "stages": (f"{start}<stages>", STAGE, ""),
        "start tags": (f"{start}<stages>", "<_>", ""),
        "other letters": (f"{start}<a>", "\U0001f600", ""),
    }
    return {
        name: (head + item * ((MAX_BYTES - len(head.encode()) - len(tail)) // len(item.encode())) + tail).encode()
        for name, (head, item, tail) in files.items()
    }
