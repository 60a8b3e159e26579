"""ZIP archives: reading those that strangers send, and writing one while it is sent.

Nothing that an archive says of itself is believed. Its list of entries is read with our own bounded walk and checked as
a whole before anything is unpacked: how many there are, how much they claim to be, that none overlaps another. Then
each entry is unpacked into no more bytes than it claimed. Names are only names; nothing is ever written under one.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple, NoReturn

from imgdetect.errors import UnusableArchive, UploadTooLarge

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX_COMMENT = 0xFFFF
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000  # also strong encryption, and a hidden list of entries
_UTF8 = 0x0800
# Of an entry in the list, names and extra fields included; real ones are near 150.
_LIST_BYTES_PER_ENTRY = 2048
# Folders and the junk of file managers come on top of the pictures.
_ENTRIES_PER_PICTURE = 4
_SPARE_ENTRIES = 100
_MAX_RATIO = 500  # deflate reaches 1032; of pictures, only large ones of one colour that are not compressed themselves
_RATIO_MATTERS_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16
_UNIX = 3
_FILE_TYPES, _REGULAR = 0o170000, 0o100000
_JUNK = re.compile(r"\.|__MACOSX$|Thumbs\.db$|desktop\.ini$", re.IGNORECASE)


class Limits(NamedTuple):
    """How much of an archive is read."""

    entries: int  # pictures
    entry_bytes: int  # of one, unpacked
    total_bytes: int  # of all, unpacked


class Entry(NamedTuple):
    """A file in an archive, as the archive tells it."""

    name: str
    size: int  # unpacked, claimed
    packed: int
    method: int
    crc: int
    offset: int  # of its local header
    end: int  # where the next entry, or the list, begins
    regular: bool


class Archive:
    """The pictures of a ZIP archive.

    Args:
        file: the archive; it is read at any place and not closed.
    Raises:
        UnusableArchive: it is none, or is built to do harm.
        UploadTooLarge: it has more in it than may be.
    """

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        entries = list(self._listed())
        self.entries = [entry for entry in entries if not _is_junk(entry.name)]
        if not self.entries:
            raise UnusableArchive("There is no file in the ZIP archive.")
        if len(self.entries) > limits.entries:
            raise UploadTooLarge(
                f"The ZIP archive holds {len(self.entries)} files; {limits.entries} are taken at once.",
                max_bytes=limits.total_bytes,
                max_images=limits.entries,
            )
        if sum(entry.size for entry in self.entries) > limits.total_bytes:
            raise UploadTooLarge(
                f"The files in the ZIP archive are larger than {limits.total_bytes} bytes together.",
                max_bytes=limits.total_bytes,
            )

    def read(self, entry: Entry) -> bytes:
        """Unpack an entry, into no more than it claimed to be.

        Raises:
            UnusableArchive: it is no regular file, is damaged, or is not what it claimed to be.
            UploadTooLarge: it is larger than a picture may be.
        """
        if not entry.regular:
            raise UnusableArchive("This entry of the ZIP archive is a link or a device, not a file.")
        if entry.size > self._limits.entry_bytes:
            raise UploadTooLarge(max_bytes=self._limits.entry_bytes)
        begin = entry.offset + _LOCAL.size
        header = self._exactly(entry.offset, _LOCAL.size)
        signature, _, flags, method, _, _, _, _, _, name_length, extra_length = _LOCAL.unpack(header)
        begin += name_length + extra_length
        if signature != b"PK\x03\x04" or flags & _ENCRYPTED or method != entry.method:
            _damaged()
        if begin + entry.packed > entry.end:
            raise UnusableArchive("Entries of the ZIP archive overlap.")
        data = bytearray()
        for piece in self._unpacked(entry, begin):
            data += piece
            if len(data) > entry.size:
                _damaged()
        if len(data) != entry.size or zlib.crc32(data) != entry.crc:
            _damaged()
        return bytes(data)

    def _unpacked(self, entry: Entry, begin: int) -> Iterator[bytes]:
        """The bytes of an entry, at most one more than it claimed to have."""
        pieces = self._pieces(begin, entry.packed)
        if entry.method == _STORED:
            yield from pieces
            return
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        left = entry.size + 1
        try:
            for piece in pieces:
                packed = piece
                while packed and left and not inflate.eof:
                    data = inflate.decompress(packed, min(left, _PIECE_BYTES))
                    left -= len(data)
                    yield data
                    packed = inflate.unconsumed_tail
            if not inflate.eof and left:
                # What is still in the decompressor fits into what is left, or the entry lied.
                yield inflate.decompress(b"", left)
        except zlib.error:
            _damaged()

    def _listed(self) -> Iterator[Entry]:
        """Every entry of the list that is not a folder, with what is wrong with the list as a whole refused."""
        size = self._file.seek(0, 2)
        count, length, begin = self._end(size)
        limits = self._limits
        most = _ENTRIES_PER_PICTURE * limits.entries + _SPARE_ENTRIES
        if count > most or length > most * _LIST_BYTES_PER_ENTRY:
            raise UploadTooLarge(
                f"The ZIP archive lists more than {most} entries; {limits.entries} files are taken at once.",
                max_bytes=limits.total_bytes,
                max_images=limits.entries,
            )
        read = list(_entries(self._exactly(begin, length), count))
        if len({entry.name for entry in read}) != len(read):
            raise UnusableArchive("The ZIP archive holds two entries of the same name.")
        # Each has to end before the next one begins; how long its own header is, is seen when it is read.
        following = [*sorted(entry.offset for entry in read), begin]
        places = {offset: following[number + 1] for number, offset in enumerate(following[:-1])}
        if len(places) != len(read):
            raise UnusableArchive("Entries of the ZIP archive overlap.")
        for entry in read:
            end = places[entry.offset]
            if entry.offset + _LOCAL.size + entry.packed > end:
                raise UnusableArchive("Entries of the ZIP archive overlap.")
            if not entry.name.endswith("/"):
                yield entry._replace(end=end)

    def _end(self, size: int) -> tuple[int, int, int]:
        """How many entries the list has, its length and where it begins; it ends where the end record begins."""
        start = max(0, size - _END.size - _MAX_COMMENT)
        tail = self._exactly(start, size - start)
        place = len(tail) - _END.size
        while place >= 0:
            place = tail.rfind(b"PK\x05\x06", 0, place + 4)
            if place >= 0 and place + _END.size + _END.unpack_from(tail, place)[7] == len(tail):
                break
            place -= 1
        if place < 0:
            raise UnusableArchive("The file is not a ZIP archive, or it is cut short.")
        _, disk, list_disk, here, count, length, begin, _ = _END.unpack_from(tail, place)
        end = start + place
        if end >= _LOCATOR.size and self._exactly(end - _LOCATOR.size, 4) == b"PK\x06\x07":
            _, _, at, _ = _LOCATOR.unpack(self._exactly(end - _LOCATOR.size, _LOCATOR.size))
            if at > end - _LOCATOR.size - _END64.size:
                _damaged_list()
            signature, _, _, _, disk, list_disk, here, count, length, begin = _END64.unpack(
                self._exactly(at, _END64.size)
            )
            if signature != b"PK\x06\x06":
                _damaged_list()
            end = at
        if disk or list_disk or here != count:
            raise UnusableArchive("The ZIP archive is one part of several; send one that is whole.")
        if begin + length != end:
            _damaged_list()
        return count, length, begin

    def _exactly(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(length)
        if len(data) != length:
            _damaged_list()
        return data

    def _pieces(self, offset: int, length: int) -> Iterator[bytes]:
        while length:
            piece = self._exactly(offset, min(length, _PIECE_BYTES))
            yield piece
            offset += len(piece)
            length -= len(piece)


class _Sink(io.RawIOBase):
    """Keeps what is written until it is taken; nothing can be written again, as in a connection."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self._written.append(bytes(data))  # type: ignore[call-overload]
        return len(self._written[-1])

    def take(self) -> bytes:
        """What was written since the last time."""
        written = b"".join(self._written)
        self._written.clear()
        return written


def written(files: Iterable[tuple[str, Iterable[bytes]]], date: tuple[int, int, int, int, int, int]) -> Iterator[bytes]:
    """A ZIP archive while it is made, with the large form (ZIP64) where it is needed; pictures are not packed again.

    Args:
        files: names, and the pieces of each file, which are asked for when it is its turn.
        date: of every file: year, month, day, hour, minute, second.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, pieces in files:
            with archive.open(zipfile.ZipInfo(name, date), "w") as entry:
                for piece in pieces:
                    entry.write(piece)
                    yield sink.take()
            yield sink.take()
    yield sink.take()


def _entries(data: bytes, count: int) -> Iterator[Entry]:
    """The entries of a list, each checked by itself."""
    place = 0
    for _ in range(count):
        if place + _ENTRY.size > len(data):
            _damaged_list()
        fields = _ENTRY.unpack_from(data, place)
        signature, made_by, _, flags, method, _, _, crc, packed, size, name_length, extra_length = fields[:12]
        comment_length, disk, _, attributes, offset = fields[12:]
        begin, place = place + _ENTRY.size, place + _ENTRY.size + name_length + extra_length + comment_length
        if signature != b"PK\x01\x02" or place > len(data) or disk not in (0, 0xFFFF):
            _damaged_list()
        raw = data[begin : begin + name_length]
        extra = data[begin + name_length : begin + name_length + extra_length]
        size, packed, offset = _large(extra, size, packed, offset)
        if flags & _ENCRYPTED:
            raise UnusableArchive("The ZIP archive is encrypted; send it without a password.")
        if method not in (_STORED, _DEFLATED):
            raise UnusableArchive(f"The ZIP archive uses the method {method}; stored (0) and deflated (8) are read.")
        if size > _RATIO_MATTERS_BYTES and size > packed * _MAX_RATIO:
            raise UnusableArchive(f"An entry of the ZIP archive unpacks to more than {_MAX_RATIO} times its size.")
        mode = attributes >> 16 & _FILE_TYPES if made_by >> 8 == _UNIX else 0
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437", "replace")
        yield Entry(name, size, packed, method, crc, offset, 0, mode in (0, _REGULAR))
    if place != len(data):
        _damaged_list()


def _large(extra: bytes, *fields: int) -> list[int]:
    """Size, packed size and offset, which stand in an extra field where they do not fit into 32 bits."""
    values = list(fields)
    missing = [number for number, value in enumerate(values) if value == 0xFFFFFFFF]
    place = 0
    while missing and place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == 1 and length >= 8 * len(missing) and place + 4 + length <= len(extra):
            for index, number in enumerate(missing):
                values[number] = struct.unpack_from("<Q", extra, place + 4 + 8 * index)[0]
            missing = []
        place += 4 + length
    if missing:
        _damaged_list()
    return values


def _is_junk(name: str) -> bool:
    """Whether an entry is something that file managers put beside the pictures."""
    return any(_JUNK.match(part) for part in re.split(r"[\\/]", name) if part not in ("", ".", ".."))


def _damaged() -> NoReturn:
    raise UnusableArchive("This entry of the ZIP archive is damaged, or is not what it claims to be.")


def _damaged_list() -> NoReturn:
    raise UnusableArchive("The list of entries in the ZIP archive is damaged.")
