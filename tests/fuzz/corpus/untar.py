#!/usr/bin/python3 -IS
"""Makes the seeds of fuzz_untar, in corpus/untar: archives as init sends them, and as it does not."""

import io
import tarfile
from pathlib import Path

OUT = Path(__file__).resolve().parent / "untar"


def member(name, kind=tarfile.REGTYPE, data=b"", link="", mode=0o644):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.mode = kind, len(data), link, mode
    return info, data


def sparse(name, pieces, size):
    """A file with holes, in GNU's old form: a header, a block of the pieces for which it has no room, and the data."""
    number = b"%011o\0"
    fields = b"".join(number % at + number % len(data) for at, data in pieces)
    data = b"".join(data for _, data in pieces)
    info = tarfile.TarInfo(name)
    info.type, info.size = b"S", len(data)
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[386 : 386 + len(fields[:96])] = fields[:96]
    head[482:495] = b"\1" + number % size
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + fields[96:].ljust(512, b"\0") + data + bytes(-len(data) % 512)


SEEDS = {
    "good": [
        member("a/", tarfile.DIRTYPE, mode=0o755),
        member("a/file", data=b"x" * 700),
        member("a/b/", tarfile.DIRTYPE),
        member("a/b/" + "n" * 120, data=b"long"),
        member("a/link", tarfile.SYMTYPE, link="l" * 120),
    ],
    "file": [member("a", data=b"x")],
    "link": [member("a/c", tarfile.SYMTYPE, link="/tmp"), member("a/c/x", data=b"evil")],
    "names": [member("a/../../x", data=b"x"), member("/a", data=b"x")],
    "hard": [
        member("a/", tarfile.DIRTYPE, mode=0o755),
        member("a/file", data=b"x" * 700),
        member("a/again", tarfile.LNKTYPE, link="a/file"),
        member("a/fifo", tarfile.FIFOTYPE),
    ],
    "node": [member("a/n", tarfile.CHRTYPE), member("a/h", tarfile.LNKTYPE, link="a/n")],
}

for name, members in SEEDS.items():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    data = out.getvalue()
    if name == "hard":
        data = sparse("a/holes", [(n << 16, b"x" * 100 * n) for n in range(1, 8)], 2 << 20) + data
    # A record is filled with zeros, of which the end needs two blocks.
    (OUT / name).write_bytes(data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512 + 1024))
