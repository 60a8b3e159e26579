"""What a shared library of Linux needs and offers, read from its file: no such tool is on every machine."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

SHT_DYNAMIC, SHT_DYNSYM, SHT_VERNEED = 6, 11, 0x6FFFFFFE
DT_NEEDED = 1


@dataclass(frozen=True)
class Elf:
    """A 64-bit little-endian library.

    Args:
        needed: names of the libraries that are loaded with it
        exported: names of its functions and variables that others may use
        versions: names of the symbol versions that it asks of other libraries, such as GLIBC_2.17
    """

    needed: frozenset[str]
    exported: frozenset[str]
    versions: frozenset[str]


def read(library: Path) -> Elf:
    """Read a library's dynamic section, dynamic symbols and version needs."""
    data = library.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01", library
    start, size, count = *struct.unpack_from("<Q", data, 0x28), *struct.unpack_from("<HH", data, 0x3A)
    # name, type, flags, address, offset, size, link, info, alignment, size of an entry
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, start + i * size) for i in range(count)]
    needed, exported, versions = set(), set(), set()
    for _, kind, _, _, offset, length, link, info, _, _ in sections:
        names = sections[link][4]
        if kind == SHT_DYNAMIC:
            for tag, value in struct.iter_unpack("<qQ", data[offset : offset + length]):
                if tag == DT_NEEDED:
                    needed.add(_text(data, names + value))
        elif kind == SHT_DYNSYM:
            for name, binding, _, section, _, _ in struct.iter_unpack("<IBBHQQ", data[offset : offset + length]):
                if section and binding >> 4:
                    exported.add(_text(data, names + name))
        elif kind == SHT_VERNEED:
            entry = offset
            for _ in range(info):
                _, children, _, first, following = struct.unpack_from("<HHIII", data, entry)
                child = entry + first
                for _ in range(children):
                    _, _, _, name, next_child = struct.unpack_from("<IHHII", data, child)
                    versions.add(_text(data, names + name))
                    child += next_child
                entry += following
    return Elf(frozenset(needed), frozenset(exported), frozenset(versions))


def _text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode("ascii")
