"""The families of networks: how each wants its picture, and what its answer means."""

from __future__ import annotations

from dataclasses import dataclass, replace

from imgdetect.detectors import _outputs, _transforms
from imgdetect.detectors._graph import GraphFile
from imgdetect.detectors._outputs import Decoder
from imgdetect.detectors._transforms import Transform


@dataclass(frozen=True)
class Family:
    """One family. A network is pre-processing, a forward pass and post-processing; two of the three stand here."""

    transform: Transform
    decode: Decoder | None  # None: a classification
    confidence: float = 0.0
    iou_threshold: float | None = None  # None: the network merges its boxes itself
    size_wh: tuple[int, int] | None = (640, 640)  # of an input that may vary; None: as the picture's
    labels: str = ""  # a name of _labels.KNOWN, or the one class
    channels_last: bool = False  # where the shape of the input leaves it open
    extra: int | None = None  # numbers beside the classes in each row of the first output
    rows_first: bool = True  # whether that output is (1, rows, numbers) or (1, numbers, rows)


_LETTERBOX = Transform("letterbox", _transforms.UNIT, 114)
_YOLO = Family(_LETTERBOX, _outputs.yolov8, 0.25, 0.45, labels="coco80", extra=4, rows_first=False)
_TENSORFLOW = Family(
    Transform("stretch", _transforms.UNIT), _outputs.tensorflow, 0.5, labels="coco91", size_wh=None, channels_last=True
)
_CLASSES = Family(Transform("centre", _transforms.IMAGENET), None, size_wh=(224, 224))

FAMILIES: dict[str, Family] = {
    "yolov5": replace(_YOLO, decode=_outputs.yolov5, extra=5, rows_first=True),
    "yolov8": _YOLO,
    "yolov11": _YOLO,
    "yolox": Family(Transform("corner", _transforms.BGR, 114), _outputs.yolox, 0.3, 0.45, labels="coco80", extra=5),
    "nanodet": Family(
        Transform("stretch", _transforms.IMAGENET_BGR),
        _outputs.nanodet,
        *(0.35, 0.6),
        size_wh=(416, 416),
        labels="coco80",
        extra=32,
    ),
    "ultraface": Family(
        Transform("stretch", _transforms.ULTRAFACE), _outputs.ultraface, 0.7, 0.3, size_wh=(320, 240), labels="face"
    ),
    "yunet": Family(Transform("corner", _transforms.BGR), _outputs.yunet, 0.7, 0.3, labels="face"),
    "ssd": Family(Transform("stretch", _transforms.UNIT), _outputs.torchvision, 0.5, labels="coco91", size_wh=None),
    "fasterrcnn": Family(
        Transform("as_is", _transforms.UNIT), _outputs.torchvision, 0.5, labels="coco91", size_wh=None
    ),
    "classification": _CLASSES,
}
# The families of which several forms are around, and what differs; `form=` names one.
FORMS: dict[str, dict[str, Family]] = {
    "ssd": {
        "torchvision": FAMILIES["ssd"],
        "zoo": Family(
            Transform("stretch", _transforms.IMAGENET),
            _outputs.relative,
            0.5,
            labels="coco81",
            size_wh=(1200, 1200),
        ),
        "tensorflow": _TENSORFLOW,
    },
    "fasterrcnn": {
        "torchvision": FAMILIES["fasterrcnn"],
        "zoo": Family(
            Transform("shorter", _transforms.DETECTRON), _outputs.torchvision, 0.5, labels="coco81", size_wh=None
        ),
        "tensorflow": _TENSORFLOW,
    },
}
# The ways of preparing a picture for a classification; `transform=` names one.
TRANSFORMS: dict[str, Family] = {
    "torchvision": _CLASSES,
    "keras_resnet50": replace(_CLASSES, transform=Transform("stretch", _transforms.CAFFE), channels_last=True),
}


def choose(family: str, form: str | None, transform: str | None, file: GraphFile) -> Family:
    """The family of a model by the names that a URL or the metadata gives.

    Raises:
        ValueError: there is no such one, or it takes no such choice; the end of a sentence.
    """
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        given = f"is of an unknown family {family[:40]!r}" if family else "does not say of which family it is"
        raise ValueError(f"{given}; add family=NAME to its URL, with one of {known}")
    if transform is not None and family != "classification":
        raise ValueError(f"takes no transform: that belongs to classification, and it is of the family {family}")
    if form is not None and family not in FORMS:
        raise ValueError(f"takes no form: that belongs to {', '.join(FORMS)}, and it is of the family {family}")
    choices = TRANSFORMS if family == "classification" else FORMS.get(family, {"": FAMILIES[family]})
    chosen = transform or form or _form_of(family, file)
    if chosen not in choices:
        raise ValueError(f"has no {chosen[:40]!r}; known for {family}: {', '.join(choices)}")
    return choices[chosen]


def _form_of(family: str, file: GraphFile) -> str:
    """What the names of the outputs tell."""
    if family == "classification":
        return "torchvision"
    if family not in FORMS:
        return ""
    names = {output.name.partition(":")[0].rpartition("/")[2].lower() for output in file.outputs}
    if "detection_boxes" in names:
        return "tensorflow"
    return "torchvision" if {"boxes", "labels", "scores"} <= names else "zoo"
