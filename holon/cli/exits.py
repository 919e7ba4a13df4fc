"""The command line: its exit codes, and how errors end it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum

from holon import errors
from holon.errors import HolonError


class ExitCode(IntEnum):
    """What a script can tell from the end of a command; those from 10 on are how a job that was waited for ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    DENIED = 5
    JOB_FAILED = 10
    JOB_QUARANTINED = 11
    JOB_CANCELLED = 12
    WAIT_TIMED_OUT = 13
    INTERRUPTED = 130


class WaitTimedOut(HolonError):
    """A job that was waited for is not over in time, and goes on."""

    code = "WAIT_TIMED_OUT"


_CODES: Mapping[type[HolonError], ExitCode] = {
    HolonError: ExitCode.FAILED,
    errors.InvalidArgument: ExitCode.USAGE,
    errors.ConfigError: ExitCode.USAGE,
    errors.BlueprintError: ExitCode.USAGE,
    errors.NotFound: ExitCode.NOT_FOUND,
    errors.Unauthenticated: ExitCode.DENIED,
    errors.PermissionDenied: ExitCode.DENIED,
    errors.Unavailable: ExitCode.UNREACHABLE,
    errors.Unreachable: ExitCode.UNREACHABLE,
    WaitTimedOut: ExitCode.WAIT_TIMED_OUT,
}


# How a file that is written to says that it takes no more.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
# How a file that is named says that whoever runs the command may not have it so: that is no fault of ours.
_NOT_SO = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR})


def check_arguments() -> None:
    """Return when every argument of the command is text.

    Raises:
        InvalidArgument: one is no UTF-8: no file is named so, and nothing is sent so.
    """
    for argument in sys.argv[1:]:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(argument).decode(errors="backslashreplace")
            reason = "is not UTF-8; write it in UTF-8, or rename the file"
            raise errors.InvalidArgument(f"the argument {shown} {reason}") from error


def code_of(error: HolonError) -> ExitCode:
    """The exit code of an error; the nearest of its classes counts."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


@contextmanager
def ending() -> Iterator[None]:
    """End the process on an error of ours with its message on standard error, as JSON where the command asked for it.

    So it does where there is no room for what the command prints, no folder any more that it could run in, or a file
    that it may not have, as where the shell's own are not to be written. Anything else goes on as it is: a fault, with
    its traceback and exit code 1.
    """
    try:
        try:
            yield
        except SystemExit:
            # Else it is written at the very end of the process, which tells of a failure in words of its own.
            sys.stdout.flush()
            raise
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except HolonError as error:
        sys.exit(_tell(error))
    except OSError as error:
        if _folder_is_gone(error):
            reason = "the current folder was deleted; change to another folder and run the command again"
            sys.exit(_tell(errors.ConfigError(reason)))
        if error.errno in _NOT_SO and isinstance(error.filename, str):
            sys.exit(_tell(errors.FailedPrecondition(f"{error.filename}: {error.strerror}")))
        if error.errno not in (*_NO_ROOM, errno.EPIPE) or error.filename is not None:
            raise
        from holon.cli.output import discard

        discard(sys.stdout)
        if error.errno == errno.EPIPE:
            # Whoever read it has had enough.
            sys.exit(ExitCode.FAILED)
        reason = f"the output cannot be written: {error.strerror}; make room, or redirect it"
        sys.exit(_tell(errors.FailedPrecondition(reason)))
    except BaseExceptionGroup as group:
        found = _ours(group)
        if found is None:
            raise
        sys.exit(_tell(found))


def _folder_is_gone(error: OSError) -> bool:
    """Whether it failed because somebody has removed the folder that the process is in: then it names no file."""
    if error.errno != errno.ENOENT or error.filename is not None:
        return False
    try:
        os.getcwd()  # noqa: PTH109  only whether there is one
    except FileNotFoundError:
        return True
    return False


def _ours(group: BaseExceptionGroup[BaseException]) -> HolonError | None:
    """The error of ours that a group of tasks ended by, if that is all there is in it."""
    found: HolonError | None = None
    for error in group.exceptions:
        inner = _ours(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(inner, HolonError):
            return None
        found = found or inner
    return found


def _tell(error: HolonError) -> ExitCode:
    # Whether or not somebody can be told: what became of the command is its exit code.
    try:
        _say(error)
        sys.stderr.flush()
    except OSError:
        from holon.cli.output import discard

        discard(sys.stderr)
    return code_of(error)


def _say(error: HolonError) -> None:
    # The command's own options are out of reach by now.
    if "--json" in sys.argv[1:]:
        from holon.cli.output import json_text

        details = [{"field": one.field, "reason": one.reason} for one in error.details]
        print(json_text({"error": error.message, "code": error.code, "details": details}), file=sys.stderr)
    else:
        from holon.cli.output import safe

        print(f"holon: {safe(error.message)}", file=sys.stderr)
        for one in error.details:
            if one.field not in error.message or one.reason not in error.message:
                print(f"  {safe(one.field)}: {safe(one.reason)}", file=sys.stderr)
