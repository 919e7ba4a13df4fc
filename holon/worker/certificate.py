"""The worker SDK: the certificate that a connection shows, and whether its file has another one by now."""

from __future__ import annotations

from pathlib import Path

from holon.files import facts_of, read_private


class Certificate:
    """Read once, when its connection is made, which shows it as long as it lives. Blocks for the read.

    Arguments:
        path: its file; None where the connection shows none.

    Attributes:
        pem: what is shown; empty for none.

    Raises:
        OSError: the file cannot be read, or is empty.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        # First: a file that is replaced meanwhile is then read again.
        self._facts = facts_of(str(path)) if path is not None else None
        self.pem = read_pem(path)

    def __repr__(self) -> str:
        return f"Certificate({self._path})"

    def renewed(self) -> bool:
        """Whether there is another one in the file. Blocks for a look at it, and for a read where it was written."""
        if self._path is None or (facts := facts_of(str(self._path))) in (None, self._facts):
            return False
        try:
            other = read_pem(self._path) != self.pem
        except OSError:
            return False
        if not other:
            self._facts = facts
        return other


def read_key(path: Path | None, *, mounted: bool) -> bytes:
    """What is in the file of a private key; nothing where there is none to be read. Blocks for the read.

    Arguments:
        mounted: as of `read_private`.
    Raises:
        OSError: as `read_pem` does, or others could open it, or put it there.
    """
    try:
        return read_private(str(path), mounted=mounted) if path is not None else b""
    except ValueError as error:
        raise OSError(str(error)) from error


def read_pem(path: Path | None) -> bytes:
    """What is in a file; nothing where there is none to be read. Blocks for the read.

    Raises:
        OSError: it cannot be read, or is empty, as while it is being written: grpc would end the process by an abort.
    """
    if path is None:
        return b""
    if not (data := path.read_bytes()):
        raise OSError(f"{path} is empty; the worker reads it again when it connects")
    return data
