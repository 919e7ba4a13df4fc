"""The worker SDK: one file on its way from a URL or to one. It blocks its thread; any other may stop it."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from http.client import HTTPException, HTTPMessage, HTTPResponse
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPRedirectHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from holon.worker.connections import OverHttp, OverHttps
from holon.worker.outcome import INVALID_INPUT_ERROR, PERMANENT_ERROR, TRANSIENT_ERROR, TaskError

T = TypeVar("T")

# A connection, the next bytes of a file, and all of it may take so long.
CONNECT_S = 5
SILENCE_S = 30
LONGEST_S = 86_400
# What fails is tried again so often, within so long, first after so long and then twice that each time.
RETRIES = 3
RETRYING_S = 60
FIRST_WAIT_S = 0.1
CHUNK_BYTES = 2**18
MISMATCH = "INTEGRITY_MISMATCH_ERROR"
_SCHEMES = ("http", "https")
# These may be over in a moment, as what is wrong with a server itself may be.
_AGAIN = frozenset({408, 425, 429})
_CAUSE = re.compile(rb"<Code>(\w{1,64})</Code>")
_SHOWN = 200
_OK = 200


class _AgainError(Exception):
    """Expected: it has failed, and may not when it is tried again; its text says how."""


class Transfer:
    """One file on its way. What its URL has for a query is a secret, and is in no error.

    Arguments:
        url: where it comes from, or goes to: https or http.
    Raises:
        TaskError: (INVALID_INPUT_ERROR) the URL is none.
    """

    def __init__(self, url: object) -> None:
        self._url, parts = _read(url)
        self._shown = _shown(parts)
        self.name = parts.path.rpartition("/")[2]
        self._socket: socket.socket | None = None
        self._stopped = threading.Event()
        self._until = time.monotonic() + LONGEST_S

    def __repr__(self) -> str:
        return f"Transfer({self._shown})"

    def stop(self) -> None:
        """Have it end at once, wherever it is; it raises TaskError then. One that is over stays as it is."""
        self._stopped.set()
        if (connected := self._socket) is not None:
            with suppress(OSError):
                # Not that of TLS, which would take its state away from whoever reads.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def connected(self, connected: socket.socket) -> None:
        """There is a connection. Raises ConnectionAbortedError where it is not wanted any more."""
        connected.settimeout(SILENCE_S)
        self._socket = connected
        if self._stopped.is_set():
            raise ConnectionAbortedError

    def fetch(self, path: Path, size: int | None, sha256: str | None) -> None:
        """Write what is there to a file.

        Arguments:
            size, sha256: what it must have; None: that is not looked at.
        Raises:
            TaskError: (INTEGRITY_MISMATCH_ERROR) it is not that; (INVALID_INPUT_ERROR) it is not there, or not for us;
                (TRANSIENT_ERROR) it could not be fetched, as often as that was tried.
        """
        self._trying("fetched", lambda: self._fetch(path, size, sha256))

    def send(self, path: Path) -> tuple[int, str]:
        """Store a file there; its size, and its SHA-256.

        Raises:
            TaskError: as `fetch`; (PERMANENT_ERROR) there is no such file here.
        """
        return self._trying("stored", lambda: self._send(path))

    def check(self) -> None:
        """Raise TaskError if it is to end."""
        if self._stopped.is_set():
            raise self._over("the task was stopped")
        if time.monotonic() > self._until:
            raise self._over(f"it took over {LONGEST_S} s")

    # How ------------------------------------------------------------------------------------------------------------

    def _trying(self, what: str, once: Callable[[], T]) -> T:
        left, wait, until = RETRIES, FIRST_WAIT_S, 0.0
        while True:
            try:
                return self._translated(once)
            except _AgainError as error:
                self.check()
                until = until or time.monotonic() + RETRYING_S
                if not left or time.monotonic() > until:
                    message = f"{self._shown} cannot be {what}: {error}"
                    raise TaskError(TRANSIENT_ERROR, message) from None
            left -= 1
            self._stopped.wait(wait)
            self.check()
            wait *= 2

    def _translated(self, once: Callable[[], T]) -> T:
        """What the library raises, as an error of ours: its own texts may have all of the URL."""
        try:
            return once()
        except HTTPError as error:
            try:
                if error.code in _AGAIN or error.code >= 500:
                    raise _AgainError(f"the answer was {error.code}") from None
                raise self._answered(error) from None
            finally:
                error.close()
        except (OSError, HTTPException, ValueError) as error:
            # The last of an answer that is no HTTP, where the library does not look at it.
            raise _AgainError(_why(error)) from None
        finally:
            if (connected := self._socket) is not None:
                self._socket = None
                connected.close()

    def _fetch(self, path: Path, size: int | None, sha256: str | None) -> None:
        with self._open(Request(self._url)) as response:  # noqa: S310  it was looked at
            if response.status != _OK:
                raise TaskError(INVALID_INPUT_ERROR, f"{self._shown} answered {response.status} instead of the file")
            told = response.length
            if None not in (size, told) and told != size:
                raise self._mismatch(f"it has {told} bytes, but should have {size}")
            came, hashed = 0, hashlib.sha256()
            with _local(path, lambda: path.open("wb")) as file:
                while chunk := response.read1(CHUNK_BYTES):
                    self.check()
                    came += len(chunk)
                    if size is not None and came > size:
                        raise self._mismatch(f"it has over {size} bytes")
                    if sha256 is not None:
                        hashed.update(chunk)
                    _local(path, lambda: file.write(chunk))
                _local(path, file.flush)
        # Its connection may have ended with that.
        self.check()
        if told is not None and came < told:
            raise _AgainError(f"only {came} of {told} bytes arrived")
        if size is not None and came != size:
            raise self._mismatch(f"it has {came} bytes, but should have {size}")
        if sha256 is not None and hashed.hexdigest() != sha256:
            raise self._mismatch(f"its SHA-256 is {hashed.hexdigest()}, but should be {sha256}")

    def _send(self, path: Path) -> tuple[int, str]:
        with _local(path, lambda: path.open("rb")) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise TaskError(PERMANENT_ERROR, f"{path} is not a file")
            source = _Source(self, path, file, facts.st_size)
            headers = {"Content-Length": str(facts.st_size), "Content-Type": "application/octet-stream"}
            with self._open(Request(self._url, source, headers, method="PUT")):  # noqa: S310  it was looked at
                pass
        if source.left:
            raise _AgainError("the answer came before the whole file was sent")
        return facts.st_size, source.hashed.hexdigest()

    def _open(self, request: Request) -> HTTPResponse:
        opener = OpenerDirector()
        for handler in (
            ProxyHandler(),
            OverHttp(self),
            OverHttps(self, _context()),
            _Redirects(),
            UnknownHandler(),
            HTTPDefaultErrorHandler(),
            HTTPErrorProcessor(),
        ):
            opener.add_handler(handler)
        self.check()
        response = opener.open(request, timeout=CONNECT_S)
        if not isinstance(response, HTTPResponse):
            raise _AgainError("there was no answer")
        return response

    def _answered(self, error: HTTPError) -> TaskError:
        # What leads on has been closed by now.
        cause = _CAUSE.search(error.read(2**12)) if error.code >= 400 else None
        said = f"{error.code} ({cause[1].decode()})" if cause else str(error.code)
        # Whoever wrote the URL can mend it: that it leads nowhere is no fault of this worker.
        return TaskError(INVALID_INPUT_ERROR, f"{self._shown} answered {said}; check whether the URL is still valid")

    def _mismatch(self, why: str) -> TaskError:
        return TaskError(MISMATCH, f"{self._shown} is not the expected file: {why}")

    def _over(self, why: str) -> TaskError:
        return TaskError(TRANSIENT_ERROR, f"the transfer of {self._shown} was stopped: {why}")


class _Source:
    """A file as it is sent: so many bytes of it, whatever becomes of it meanwhile."""

    def __init__(self, transfer: Transfer, path: Path, file: BufferedReader, size: int) -> None:
        self._transfer = transfer
        self._path = path
        self._file = file
        self.left = size
        self.hashed = hashlib.sha256()

    def read(self, most: int = CHUNK_BYTES, /) -> bytes:
        self._transfer.check()
        chunk = _local(self._path, lambda: self._file.read(min(most, self.left)))
        if not chunk and self.left:
            raise TaskError(TRANSIENT_ERROR, f"{self._path} became shorter while it was sent")
        self.left -= len(chunk)
        self.hashed.update(chunk)
        return chunk


class _Redirects(HTTPRedirectHandler):
    """Follows, but never out of TLS, and to nothing but HTTP; and not with a file."""

    def http_error_302(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError:
            fp.close()
            where = _shown(urlsplit(req.full_url))
            raise TaskError(INVALID_INPUT_ERROR, f"{where} redirects to an invalid URL") from None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        # All that it says would be read otherwise, however much that is.
        fp.close()
        if req.get_method() == "GET":
            begin, target = urlsplit(req.full_url), urlsplit(newurl)
            if target.scheme not in _SCHEMES or (begin.scheme == "https" and target.scheme != "https"):
                where = f"{_shown(begin)} redirects to {_shown(target)}"
                raise TaskError(
                    INVALID_INPUT_ERROR, f"{where}, which has another scheme; such a redirect is not followed"
                )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@cache
def _context() -> ssl.SSLContext:
    # A fraction of a second of work, the same for all.
    return ssl.create_default_context()


def _read(url: object) -> tuple[str, SplitResult]:
    why = ""
    if not isinstance(url, str):
        raise TaskError(INVALID_INPUT_ERROR, f"the URL of a file must be text, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES:
            why = "it must begin with https:// or http://"
        elif not parts.hostname or parts.port == 0:
            why = "it has no host"
        elif "@" in parts.netloc:
            why = "it has a name or password before the host"
        elif not (url.isascii() and url.isprintable()) or " " in url:
            why = "it has characters that need percent-encoding"
        else:
            # As it is looked up: an empty part, or one over 63 characters, is found only then.
            parts.hostname.encode("idna")
    except ValueError:
        why = "it cannot be parsed"
    if why:
        raise TaskError(INVALID_INPUT_ERROR, f"this is not the URL of a file: {why}")
    return url, parts


def _shown(parts: SplitResult) -> str:
    """A URL without what is secret of it."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:_SHOWN]


def _why(error: Exception) -> str:
    reason: Any = error.reason if isinstance(error, URLError) else error
    said = getattr(reason, "verify_message", None) or getattr(reason, "strerror", None)
    return f"{type(reason).__name__}: {said}" if said else type(reason).__name__


def _local(path: Path, call: Callable[[], T]) -> T:
    """What is done with a file of this machine: what the system says of that is not said of the URL."""
    try:
        return call()
    except FileNotFoundError:
        raise TaskError(PERMANENT_ERROR, f"there is no file {path}") from None
    except OSError as error:
        raise TaskError(TRANSIENT_ERROR, f"{path} cannot be used: {error.strerror}") from error
