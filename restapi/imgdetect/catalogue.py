"""What can be fetched by name: who made it, under which licence, where it is, and what it has to be.

Only models whose licence (Apache-2.0, MIT, BSD) allows every use are here. A checksum is that of the publisher's own
records, for these the Git LFS pointers of the ONNX Model Zoo and the OpenCV Zoo; where there was none to be seen it is
empty, and a fetch needs a person who says what it should be.

Of the datasets, nobody publishes a checksum. COCO's own server has no certificate for its name; what it serves is a
bucket of Amazon's, which can be asked by its own name over https.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_ZOO = "https://huggingface.co/onnxmodelzoo/{0}/resolve/main/{0}.onnx"
_OPENCV = "https://github.com/opencv/opencv_zoo/raw/main/models/"


@dataclass(frozen=True)
class Offer:
    """A model, or a ZIP archive of pictures, that can be fetched."""

    name: str
    task: str
    licence: str  # SPDX
    publisher: str
    url: str
    size_bytes: int  # 0: not known
    sha256: str  # hexadecimal; "" where it could not be verified
    parameters: dict[str, str] = field(default_factory=dict)  # of the detector's URL

    @property
    def verified(self) -> bool:
        return bool(self.sha256)


_OFFERS = (
    Offer(
        "yolox_s",
        "detection",
        "Apache-2.0",
        "Megvii, by the OpenCV Zoo",
        f"{_OPENCV}object_detection_yolox/object_detection_yolox_2022nov.onnx",
        35_858_002,
        "c5c2d13e59ae883e6af3b45daea64af4833a4951c92d116ec270d9ddbe998063",
        {"family": "yolox"},
    ),
    Offer(
        "fasterrcnn",
        "detection",
        "Apache-2.0",
        "ONNX Model Zoo",
        _ZOO.format("FasterRCNN-12"),
        176_713_194,
        "789104f5a47f008450a37e02da8a8d3642766ed10d91238312b1532fe72789a6",
        {"family": "fasterrcnn", "form": "zoo"},
    ),
    Offer(
        "ssd_mobilenet",
        "detection",
        "Apache-2.0",
        "ONNX Model Zoo",
        _ZOO.format("ssd_mobilenet_v1_12"),
        29_461_455,
        "b8fba5e404077d4048d27fcd1667e85e27e192eb9bf51e696c46a3acd7d21058",
        {"family": "ssd", "form": "tensorflow"},
    ),
    Offer(
        "ssd",
        "detection",
        "Apache-2.0",
        "ONNX Model Zoo",
        _ZOO.format("ssd-12"),
        80_366_315,
        "5ec1e058e666ef980a6213ac40088877865aafb2b6676b9af204b3828e4bb9d5",
        {"family": "ssd", "form": "zoo"},
    ),
    Offer(
        "resnet50",
        "classification",
        "Apache-2.0",
        "ONNX Model Zoo",
        _ZOO.format("resnet50-v1-12"),
        102_576_419,
        "ab65bdc02c5b3123eb3cdf6dac01742438517d8635d4f233913b2be1c70db3b6",
        {"family": "classification"},
    ),
    Offer(
        "mobilenet_v2",
        "classification",
        "Apache-2.0",
        "ONNX Model Zoo",
        _ZOO.format("mobilenetv2-7"),
        14_246_826,
        "c1c513582d56afceff8516c73804e484c81c6a830712ab6d682253f4a3cd042f",
        {"family": "classification"},
    ),
    Offer(
        "mobilenet_v3_large",
        "classification",
        "BSD-3-Clause",
        "torchvision, by the ONNX Model Zoo",
        _ZOO.format("mobilenet_v3_large_Opset17"),
        0,
        "",
        {"family": "classification"},
    ),
    Offer(
        "ultraface",
        "detection",
        "MIT",
        "Linzaer, by the ONNX Model Zoo",
        _ZOO.format("version-RFB-320"),
        1_270_727,
        "34cd7e60aeff28744c657de7a3dc64e872d506741de66987f3426f2b79f88017",
        {"family": "ultraface"},
    ),
    Offer(
        "yunet",
        "detection",
        "MIT",
        "Shiqi Yu, by the OpenCV Zoo",
        f"{_OPENCV}face_detection_yunet/face_detection_yunet_2023mar.onnx",
        232_589,
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        {"family": "yunet"},
    ),
)
CATALOGUE: dict[str, Offer] = {offer.name: offer for offer in _OFFERS}

_OF_FLICKR = "pictures of Flickr's users, each under a licence of its own"
_DATASETS = (
    Offer(
        "coco128",
        "dataset",
        _OF_FLICKR,
        "COCO, by Ultralytics",
        "https://github.com/ultralytics/assets/releases/download/v0.0.0/coco128.zip",
        0,
        "",
    ),
    Offer(
        "coco-val",
        "dataset",
        _OF_FLICKR,
        "COCO",
        "https://s3.amazonaws.com/images.cocodataset.org/zips/val2017.zip",
        0,
        "",
    ),
)
DATASETS: dict[str, Offer] = {offer.name: offer for offer in _DATASETS}
