"""Pictures changed as a client asks; nothing is kept."""

from __future__ import annotations

from flask import Blueprint, Response, request

from imgdetect.config import MAX_SIDE
from imgdetect.detection import Upload
from imgdetect.errors import InvalidRequest
from imgdetect.parameters import ProcessParameters
from imgdetect.processing import ProcessOptions
from imgdetect.web import json_bodies, parameters
from imgdetect.web.api import received, require_key
from imgdetect.web.downloads import chosen_format
from imgdetect.web.parts import parts

blueprint = Blueprint("process", __name__)
blueprint.before_request(require_key)
_WEBP_SIDE = 16_383  # WebP has no larger pictures


@blueprint.post("/api/v1/process")
def process_image() -> Response:
    """The upload, changed."""
    service = parts().service
    upload = json_bodies.received(request) if request.mimetype == json_bodies.MEDIA_TYPE else received()
    asked = parameters.read(ProcessParameters, request)
    media_type = chosen_format(None, asked.format)
    options = ProcessOptions(**asked.model_dump(exclude={"format", "quality"}))
    pixels = _admit(upload, options, media_type)
    if asked.quality is not None and media_type == "image/png":
        raise InvalidRequest.field("quality", "belongs to jpeg and webp; png keeps everything")
    picture = service.pool.run(pixels, "process", upload.data, options, media_type, asked.quality)
    answer = Response(picture, content_type=media_type)
    answer.vary.add("Accept")
    return answer


def _admit(upload: Upload, options: ProcessOptions, media_type: str) -> int:
    """The most pixels that the picture has on its way.

    Raises:
        InvalidRequest: they are more than this server takes, or the crop reaches over the edge.
    """
    if options.crop:
        x, y, width, height = options.crop
        if x + width > upload.width or y + height > upload.height:
            raise InvalidRequest.field(
                "crop", f"should lie in the image, which is {upload.width}x{upload.height} pixels"
            )
    most, longest = parts().service.settings.max_pixels, _WEBP_SIDE if media_type == "image/webp" else MAX_SIDE
    sizes = options.sizes((upload.width, upload.height))
    for (width, height), what in zip(sizes, ("width" if options.scale is None else "scale", "rotate"), strict=True):
        if width * height > most or max(width, height) > longest:
            raise InvalidRequest.field(
                what,
                f"would make {width}x{height} pixels; at most {most} in all and {longest} a side are possible here",
            )
    return max(upload.pixels, *(width * height for width, height in sizes))
