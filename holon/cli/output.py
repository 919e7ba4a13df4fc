"""The command line: what it prints, as JSON for programs and as text for people."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, TextIO, TypeAlias

import orjson
import typer

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
# No row is as wide, in characters.
_UNBROKEN = 10**9
# Blanks between two columns.
_BETWEEN = 2
# Python's way to hold bytes that are no UTF-8.
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def silence_grpc() -> None:
    """Keep off standard error what gRPC itself logs, unless that is asked for; before gRPC is imported.

    Programs read lines of ours there, and what fails between us and another side is told in those.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def json_text(value: Any) -> str:
    """A value as one line of JSON; what is no text, as in the name of a file, is escaped as `safe` does it."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        import json

        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return _SURROGATE.sub(lambda found: rf"\\u{ord(found[0]):04x}", text)


def show_json(value: Any) -> None:
    """Print a value as one line of JSON, at once."""
    print(json_text(value), flush=True)


def discard(stream: TextIO) -> None:
    """Let go of a standard stream that takes nothing: what its buffer has would be tried once more at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def safe(text: object) -> str:
    """A text with its control characters as escapes, so that what a stranger wrote cannot drive the terminal."""
    return "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape", "backslashreplace").decode()
        for one in str(text)
    )


def one_line(text: object, most: int | None = None) -> str:
    """A text as one line that is safe for a terminal, cut to `most` characters."""
    line = safe(text).replace("\n", " ")
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"


def show_lines(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line."""
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        first, *more = safe(value).split("\n")
        print(f"{name:<{width}}  {first}".rstrip())
        for line in more:
            print(f"{'':<{width}}  {line}")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table, on a terminal within its width; into a file or a pipe each row as one line.

    The first column, which other commands are given, is not broken, and no column is narrower than its name: on a
    terminal that is too narrow for these, rows go on in its next line.
    """
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column is columns[0])
    to_people = sys.stdout.isatty()
    shown = safe if to_people else one_line
    widest = 0
    for row in rows:
        cells = [shown("" if cell is None else cell) for cell in row]
        widest = max(widest, cell_len(cells[0]))
        table.add_row(*map(Text, cells))
    console = Console(width=None if to_people else _UNBROKEN)
    console.width = max(console.width, widest + sum(len(column) + _BETWEEN for column in columns))
    console.print(table)


def short_time(seconds: float | None) -> str:
    """Epoch seconds as a time of today, a day of this year, or a date, on this machine's clock; empty for None."""
    moment = _local(seconds)
    if moment is None:
        return local_time(seconds)
    now = datetime.now(moment.tzinfo)
    if moment.date() == now.date():
        return f"{moment:%H:%M:%S}"
    return f"{moment:%b %d %H:%M}" if moment.year == now.year else f"{moment:%Y-%m-%d}"


def precise_time(seconds: float | None) -> str:
    """Epoch seconds as the time on this machine's clock to the millisecond, with the date if that is not today's."""
    moment = _local(seconds)
    if moment is None:
        return local_time(seconds)
    time = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"
    now = datetime.now(moment.tzinfo)
    if moment.date() == now.date():
        return time
    return f"{moment:%b %d} {time}" if moment.year == now.year else f"{moment:%Y-%m-%d} {time}"


def local_time(seconds: float | None) -> str:
    """Epoch seconds as the time on this machine's clock; empty for None. As they are where it has no such time."""
    if seconds is None:
        return ""
    moment = _local(seconds)
    if moment is None:
        # A stranger's clock, such as a worker's, may be at the last hour of the year 9999.
        return f"{seconds:.3f} s after 1970"
    return moment.isoformat(sep=" ", timespec="milliseconds")


def _local(seconds: float | None) -> datetime | None:
    """Epoch seconds as a local time; None where there is none."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds).astimezone()
    except (ValueError, OverflowError, OSError):
        return None
