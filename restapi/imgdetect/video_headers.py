"""What a video is, how large and how long, from its container's own structure, without decoding anything.

Like headers.py a bounded walk of our own: this runs in the process that answers requests. A file's claims are only good
for refusing it early; what the child finds while it decodes counts in the end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from imgdetect.errors import UnreadableVideo, UnsupportedVideo

# Media type: the extension of its files, and FFmpeg's name of the container.
ACCEPTED = {
    "video/mp4": ".mp4",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
}
FORMATS = {
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
    "video/x-msvideo": "avi",
}
CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg")
_MAX_PARTS = 20_000
# The largest index of a video that is read as a whole; an hour at 60 frames a second takes about 4 MB.
_MAX_INDEX_BYTES = 64_000_000

_FOURCCS = {
    **dict.fromkeys(("avc1", "avc3", "h264", "x264"), "h264"),
    **dict.fromkeys(("hvc1", "hev1", "hevc", "dvh1", "dvhe"), "hevc"),
    **dict.fromkeys(("vp08", "vp80", "v_vp8"), "vp8"),
    **dict.fromkeys(("vp09", "vp90", "v_vp9"), "vp9"),
    **dict.fromkeys(("av01", "v_av1"), "av1"),
    **dict.fromkeys(("mp4v", "xvid", "divx", "dx50", "fmp4"), "mpeg4"),
    **dict.fromkeys(("mjpg", "mjpa", "mjpb", "jpeg", "v_mjpeg"), "mjpeg"),
    **dict.fromkeys(("v_mpeg4/iso/avc",), "h264"),
    **dict.fromkeys(("v_mpegh/iso/hevc",), "hevc"),
    **dict.fromkeys(("v_mpeg4/iso/asp", "v_mpeg4/iso/sp", "v_mpeg4/iso/ap"), "mpeg4"),
}


@dataclass(frozen=True)
class VideoHeader:
    """What a file claims."""

    media_type: str
    codec: str  # one of CODECS
    width: int  # of a frame as stored, before it is turned upright
    height: int
    seconds: float | None  # None where the file does not say, as a live recording
    frames: int | None


class _Part(NamedTuple):
    """A named piece of a container."""

    kind: bytes
    start: int  # of its content
    end: int


def read_video_header(stream: BinaryIO) -> VideoHeader:
    """Read what a video says of itself.

    Args:
        stream: can be sought; it is left anywhere.
    Raises:
        UnsupportedVideo: another container or codec than the accepted ones.
        UnreadableVideo: it is broken.
    """
    size = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(16)
    reader = _reader_of(head)
    if reader is None:
        raise _unsupported("It is neither MP4, MOV, WebM, Matroska nor AVI.")
    try:
        header = reader(_File(stream, size))
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError):
        raise UnreadableVideo("Its structure is broken.") from None
    if header.width < 1 or header.height < 1:
        raise UnreadableVideo("Its frames have no size.")
    return header


def _reader_of(head: bytes) -> Callable[[_File], VideoHeader] | None:
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _mp4
    if head[:4] == b"\x1aE\xdf\xa3":
        return _matroska
    return _avi if head[:4] == b"RIFF" and head[8:12] == b"AVI " else None


def _unsupported(detail: str) -> UnsupportedVideo:
    return UnsupportedVideo(detail, accepted=[*ACCEPTED], codecs=[*CODECS])


def _codec(name: str) -> str:
    codec = _FOURCCS.get(name.lower())
    if codec is None:
        shown = "".join(c for c in name if " " < c <= "~")[:32]
        raise _unsupported(f"Its codec {shown!r} is not one of {', '.join(CODECS)}.")
    return codec


class _File:
    """A file that is read in small pieces."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self.size = size
        self._parts = 0

    def read(self, start: int, count: int) -> bytes:
        self._stream.seek(start)
        return self._stream.read(count)

    def step(self) -> None:
        """Count a part of the file; a file of too many is not worth our time."""
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise UnreadableVideo(f"It has more than {_MAX_PARTS} parts.")


# MP4 and MOV: boxes of length, kind, content


def _boxes(file: _File, start: int, end: int) -> Iterator[_Part]:
    while start + 8 <= end:
        file.step()
        length, kind = struct.unpack(">I4s", file.read(start, 8))
        head = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(start + 8, 8))
            head = 16
        elif length == 0:
            length = end - start
        if length < head:
            raise UnreadableVideo("Its structure is broken.")
        if start + length > end:
            raise UnreadableVideo("It ends in the middle.")
        yield _Part(kind, start + head, start + length)
        start += length


def _inside(file: _File, part: _Part, *path: bytes) -> _Part | None:
    """The first box below another by its path."""
    for kind in path:
        found = next((box for box in _boxes(file, part.start, part.end) if box.kind == kind), None)
        if found is None:
            return None
        part = found
    return part


def _mp4(file: _File) -> VideoHeader:
    media_type, movie = "video/quicktime", None
    for part in _boxes(file, 0, file.size):
        if part.kind == b"ftyp":
            media_type = "video/quicktime" if file.read(part.start, 4) == b"qt  " else "video/mp4"
        elif part.kind == b"moov" and movie is None:
            movie = part
    if movie is None:
        raise UnreadableVideo("It has no index (moov): it was not finished, or it ends in the middle.")
    if movie.end - movie.start > _MAX_INDEX_BYTES:
        raise UnreadableVideo(f"Its index is larger than {_MAX_INDEX_BYTES} bytes.")
    for track in _boxes(file, movie.start, movie.end):
        if track.kind == b"trak" and (header := _mp4_track(file, track, media_type)):
            return header
    raise UnreadableVideo("There is no picture in it.")


def _mp4_track(file: _File, track: _Part, media_type: str) -> VideoHeader | None:
    """What a track says; None where it is no video."""
    media = _inside(file, track, b"mdia")
    handler = media and _inside(file, media, b"hdlr")
    if not media or not handler or file.read(handler.start + 8, 4) != b"vide":
        return None
    times, samples = _inside(file, media, b"mdhd"), _inside(file, media, b"minf", b"stbl")
    entries = samples and _inside(file, samples, b"stsd")
    if not times or not samples or not entries:
        raise UnreadableVideo("Its structure is broken.")
    fourcc, width, height = struct.unpack(">4s24xHH", file.read(entries.start + 12, 32))
    seconds = _mp4_seconds(file.read(times.start, 36))
    sizes = _inside(file, samples, b"stsz")
    frames = struct.unpack(">I", file.read(sizes.start + 8, 4))[0] if sizes else None
    return VideoHeader(media_type, _codec(fourcc.decode("latin-1")), width, height, seconds, frames or None)


def _mp4_seconds(times: bytes) -> float | None:
    if times[0] == 1:
        scale, duration = struct.unpack_from(">IQ", times, 20)
        unknown = (1 << 64) - 1
    else:
        scale, duration = struct.unpack_from(">II", times, 12)
        unknown = (1 << 32) - 1
    return duration / scale if scale and duration not in (0, unknown) else None


# Matroska and WebM: elements of id, length, content, where numbers have a length of their own

_UNKNOWN = -1
_SEGMENT, _INFO, _TRACKS, _ENTRY = 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE
_DOC_TYPE, _TIME_SCALE, _DURATION = 0x4282, 0x2AD7B1, 0x4489
_KIND, _CODEC_ID, _VIDEO, _WIDTH, _HEIGHT, _FRAME_NS = 0x83, 0x86, 0xE0, 0xB0, 0xBA, 0x23E383
_MAX_VALUE_BYTES = 4096


def _number(file: _File, at: int, *, keep_marker: bool) -> tuple[int, int]:
    """A number of 1 to 8 bytes, and how many it takes."""
    data = file.read(at, 8)
    length = 9 - data[0].bit_length()
    if length > 8 or len(data) < length:
        raise UnreadableVideo("Its structure is broken.")
    value = int.from_bytes(data[:length], "big")
    if keep_marker:
        return value, length
    value &= (1 << 7 * length) - 1
    return (_UNKNOWN if value == (1 << 7 * length) - 1 else value), length


def _elements(file: _File, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Id, start and end of the content of each element; one of unknown length reaches to the end."""
    while start < end:
        file.step()
        kind, id_bytes = _number(file, start, keep_marker=True)
        length, length_bytes = _number(file, start + id_bytes, keep_marker=False)
        start += id_bytes + length_bytes
        if length != _UNKNOWN and start + length > end:
            raise UnreadableVideo("It ends in the middle.")
        stop = end if length == _UNKNOWN else start + length
        yield kind, start, stop
        start = stop


def _values(file: _File, start: int, end: int) -> dict[int, bytes]:
    """The values below an element, those of the picture's own element included."""
    values: dict[int, bytes] = {}
    for kind, at, stop in _elements(file, start, end):
        if kind == _VIDEO:
            values |= {inner: file.read(a, min(b - a, _MAX_VALUE_BYTES)) for inner, a, b in _elements(file, at, stop)}
        else:
            values[kind] = file.read(at, min(stop - at, _MAX_VALUE_BYTES))
    return values


def _matroska(file: _File) -> VideoHeader:
    media_type = "video/x-matroska"
    info: dict[int, bytes] = {}
    tracks: list[dict[int, bytes]] = []
    for kind, at, stop in _elements(file, 0, file.size):
        if kind == _SEGMENT:
            info, tracks = _segment(file, at, stop)
            break
        if _values(file, at, stop).get(_DOC_TYPE, b"").startswith(b"webm"):
            media_type = "video/webm"
    for entry in tracks:
        if int.from_bytes(entry.get(_KIND, b""), "big") == 1:
            return _matroska_track(entry, info, media_type)
    raise UnreadableVideo("There is no picture in it.")


def _segment(file: _File, start: int, end: int) -> tuple[dict[int, bytes], list[dict[int, bytes]]]:
    """The values of the segment and of each of its tracks."""
    info: dict[int, bytes] = {}
    tracks: list[dict[int, bytes]] = []
    for kind, at, stop in _elements(file, start, end):
        if kind == _INFO:
            info = _values(file, at, stop)
        elif kind == _TRACKS:
            tracks = [_values(file, a, b) for k, a, b in _elements(file, at, stop) if k == _ENTRY]
    return info, tracks


def _matroska_track(entry: dict[int, bytes], info: dict[int, bytes], media_type: str) -> VideoHeader:
    codec = _codec(entry.get(_CODEC_ID, b"").rstrip(b"\0").decode("latin-1"))
    width, height = (int.from_bytes(entry.get(kind, b"")[:8], "big") for kind in (_WIDTH, _HEIGHT))
    scale_ns = int.from_bytes(info.get(_TIME_SCALE, b"\x0f\x42\x40")[:8], "big")
    given, seconds = info.get(_DURATION, b""), None
    if len(given) in (4, 8):
        (ticks,) = struct.unpack(">f" if len(given) == 4 else ">d", given)
        seconds = ticks * scale_ns / 1e9 if 0 < ticks < 1e15 else None
    frame_ns = int.from_bytes(entry.get(_FRAME_NS, b"")[:8], "big")
    frames = round(seconds * 1e9 / frame_ns) if seconds and frame_ns else None
    return VideoHeader(media_type, codec, width, height, seconds, frames)


# AVI: RIFF chunks of kind, length, content


def _chunks(file: _File, start: int, end: int) -> Iterator[_Part]:
    while start + 8 <= end:
        file.step()
        kind, length = struct.unpack("<4sI", file.read(start, 8))
        if start + 8 + length > end:
            raise UnreadableVideo("It ends in the middle.")
        if kind == b"LIST":
            kind = b"LIST" + file.read(start + 8, 4)
            yield _Part(kind, start + 12, start + 8 + length)
        else:
            yield _Part(kind, start + 8, start + 8 + length)
        start += 8 + length + (length & 1)


def _avi(file: _File) -> VideoHeader:
    (length,) = struct.unpack("<I", file.read(4, 4))
    if length + 8 > file.size:
        raise UnreadableVideo("It ends in the middle.")
    lists = next((part for part in _chunks(file, 12, length + 8) if part.kind == b"LISThdrl"), None)
    if lists is None:
        raise UnreadableVideo("Its structure is broken.")
    for part in _chunks(file, lists.start, lists.end):
        if part.kind == b"LISTstrl":
            pieces = {piece.kind: piece for piece in _chunks(file, part.start, part.end)}
            stream, picture = pieces.get(b"strh"), pieces.get(b"strf")
            if stream and picture and file.read(stream.start, 4) == b"vids":
                return _avi_stream(file, stream, picture)
    raise UnreadableVideo("There is no picture in it.")


def _avi_stream(file: _File, stream: _Part, picture: _Part) -> VideoHeader:
    scale, rate, _, frames = struct.unpack("<4I", file.read(stream.start + 20, 16))
    width, height = struct.unpack("<ii", file.read(picture.start + 4, 8))
    codec = _codec(file.read(picture.start + 16, 4).decode("latin-1"))
    seconds = frames * scale / rate if frames and scale and rate else None
    return VideoHeader("video/x-msvideo", codec, width, abs(height), seconds, frames or None)
