"""The content store: files by the digest of what they hold, in a folder or in anything that speaks S3, through fsspec.

What is stored is whole or not there: a local file is written beside its place, synced and moved; S3 shows an object
when all of it has come. Nothing is ever appended to, because S3 cannot.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import structlog
from fsspec.core import url_to_fs  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from fieldsvc.base.errors import FieldsvcError

PIECE = 256 * 1024
"""Bytes held in memory at a time while a file is read or copied."""

_CHUNK = 5 * 1024 * 1024
"""The smallest piece S3 takes of a large object."""

log = structlog.get_logger(__name__)


class Store:
    """Files under one address: ``file:///srv/evidence`` or ``s3://bucket/prefix``. Opens nothing until it is used.

    Paths are relative, with slashes. Every method raises FieldsvcError ``unavailable`` when the store does not answer.

    :raises ImportError: the address needs a package that is not installed (``s3``: the extra of that name).
    """

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {} if url.startswith("file://") else {"use_listings_cache": False}
        self._fs, root = url_to_fs(url, skip_instance_cache=True, **options)
        self._root = root.rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def put(self, path: str, data: bytes) -> None:
        """Store ``data`` at ``path``, in place of what may be there."""
        with _asking():
            if self._local:
                with self._beside(path) as file:
                    file.write(data)
            else:
                self._fs.pipe_file(self._at(path), data)

    def put_file(self, path: str, source: Path) -> None:
        """Store the content of a local file at ``path``."""
        with _asking():
            if not self._local:
                self._fs.put_file(str(source), self._at(path), chunksize=_CHUNK, max_concurrency=2)
                return
            with source.open("rb") as content, self._beside(path) as file:
                shutil.copyfileobj(content, file, PIECE)

    def exists(self, path: str) -> bool:
        """Whether there is a file at ``path``."""
        with _asking():
            return bool(self._fs.exists(self._at(path)))

    def pieces(self, path: str) -> Iterator[bytes]:
        """What is at ``path``, piece by piece.

        :raises FileNotFoundError: nothing is there; told before the first piece.
        """
        with _asking(FileNotFoundError):
            file = self._fs.open(self._at(path), "rb", block_size=PIECE)
        return self._read(file)

    def _read(self, file: Any) -> Iterator[bytes]:
        with file:
            while True:
                with _asking():
                    piece = file.read(PIECE)
                if not piece:
                    return
                yield piece

    def remove_all(self, folder: str) -> None:
        """Remove everything under ``folder``; nothing happens when nothing is there."""
        with suppress(FileNotFoundError), _asking(FileNotFoundError):
            if self._fs.exists(self._at(folder)):
                self._fs.rm(self._at(folder), recursive=True)

    def remove(self, path: str) -> None:
        """Remove the file at ``path``; nothing happens when nothing is there."""
        with suppress(FileNotFoundError), _asking(FileNotFoundError):
            if self._fs.exists(self._at(path)):
                self._fs.rm_file(self._at(path))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextmanager
    def _beside(self, path: str) -> Iterator[BinaryIO]:
        """A file beside its place, which it takes when the block has ended well."""
        place = Path(self._at(path))
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = place.with_name(f".{place.name}.{secrets.token_hex(6)}")
        try:
            with beside.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(place)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # else the name may be lost with the power, although the content is not
        finally:
            os.close(folder)


@contextmanager
def _asking(*meant: type[Exception]) -> Iterator[None]:
    """Whatever a driver or the system raises means one thing to who asked, but for what is ``meant``."""
    try:
        yield
    except meant:
        raise
    except Exception as error:
        log.error("evidence-store-away", error=type(error).__name__)
        raise FieldsvcError("unavailable", "the store of evidence does not answer right now", retry_after=5) from error
