"""Files of a running guest, by `mayfly cp`."""

from __future__ import annotations

import io
import os
import posixpath
import tarfile
import time
from typing import TYPE_CHECKING

from ._arguments import Path
from ._errors import MayflyError, OutputLimit

if TYPE_CHECKING:
    from ._sandbox import AsyncSandbox

READ_MAX = 64 << 20
TAR_ROOM = 1 << 20  # what an archive of one file has beside the file


class AsyncFiles:
    """Paths of the guest are absolute. A failure is a MayflyError that names the file."""

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self._sandbox = sandbox

    def _of_guest(self, path: str) -> str:
        if not path.startswith("/"):
            raise ValueError(f"{path!r}: a path of the guest begins with '/'")
        return f"{self._sandbox.name}:{path}"

    async def read(self, path: str, max_bytes: int = READ_MAX) -> bytes:
        """The contents of a file; symlinks are followed. Files of /proc and /sys have no size: run `cat` for them."""
        source = self._of_guest(path)
        try:
            archive = await self._sandbox._control(["cp", source, "-"], limit=max_bytes + TAR_ROOM, about=path)
        except OutputLimit:
            raise MayflyError(f"{path}: has more than {max_bytes} bytes") from None
        return read_archive(path, archive, max_bytes)

    async def write(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """Makes a file of root's, or replaces one. Its directory must exist."""
        folder, name = posixpath.split(path)
        if not name:
            raise ValueError(f"{path!r}: is no name of a file")
        target = self._of_guest(folder)
        await self._sandbox._control(["cp", "-", target], write_archive(name, data, mode), about=path)

    async def copy_in(self, source: Path, target: str, keep_owners: bool = False) -> None:
        """Copies a file or directory of the host into the guest, as cp -r does: into target, if that is a directory.
        "DIR/." is what is in DIR. In the guest, files belong to root unless keep_owners is set."""
        options = ["--archive"] if keep_owners else []
        await self._sandbox._control(["cp", *options, _of_host(source), self._of_guest(target)], about=target)

    async def copy_out(self, source: str, target: Path, max_size: str = "8G") -> None:
        """Copies a file or directory of the guest to the host, at most max_size. A confined process unpacks it."""
        argv = ["cp", "--max", max_size, self._of_guest(source), _of_host(target)]
        await self._sandbox._control(argv, about=source)


def _of_host(path: Path) -> str:
    # Begins with a slash, or a colon in it would end the name of a VM. A "/." at its end has a meaning: it stays.
    return os.path.join(os.getcwd(), os.fspath(path))


def read_archive(path: str, archive: bytes, max_bytes: int) -> bytes:
    """The contents of the one file in an archive that a guest has sent."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            member = tar.next()
            if member is None:
                raise MayflyError(f"{path}: the guest has sent nothing")
            if not member.isreg():
                raise MayflyError(f"{path}: is no file")
            if member.size > max_bytes:  # a hole takes no room in an archive
                raise MayflyError(f"{path}: has more than {max_bytes} bytes")
            file = tar.extractfile(member)
            data = file.read() if file else b""
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as e:
        raise MayflyError(f"{path}: the guest has sent a damaged archive: {e}") from None
    if len(data) != member.size:
        raise MayflyError(f"{path}: the guest has sent a part of it")
    return data


def write_archive(name: str, data: bytes | str, mode: int) -> bytes:
    """An archive with one file."""
    content = data.encode() if isinstance(data, str) else data
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = mode
    member.mtime = int(time.time())
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(member, io.BytesIO(content))
    return out.getvalue()
