"""The demo: what it shows, on a terminal with colours and a bar, elsewhere as plain lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from scripts.demonstration.evidence import Rerun, Stage, number

_PLAIN_WIDTH = 110
_PLAIN_EVERY = 10.0
_HEADINGS = {"modules": "modules imported", "broken": "not parsed"}


class Meter(Protocol):
    """Shows how far a job is."""

    def __call__(self, percent: float, note: str, tree: Sequence[str] = ()) -> None:
        """Show it, with a few words of what it is doing, and the job's tree as it is."""


class Screen:
    """Where the demo prints. Text from outside is shown as it is."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        if not self._console.is_terminal:
            self._console = Console(file=self._console.file, highlight=False, width=_PLAIN_WIDTH)

    def title(self, text: str) -> None:
        """Begin."""
        self._console.print(f"[bold]{escape(text)}[/]\n")

    def step(self, what: str, text: str) -> None:
        """One thing that is done: a word for it, and what there is to know."""
        self._console.print(f"[green]{what:>12}[/]  {escape(text)}", soft_wrap=True)

    def more(self, text: str = "") -> None:
        """A further line to the last step."""
        self._console.print(f"{'':12}  {escape(text)}", soft_wrap=True)

    def alarm(self, what: str, text: str) -> None:
        """As `step`, for what is bad on purpose."""
        self._console.print(f"[red]{what:>12}[/]  {escape(text)}", soft_wrap=True)

    @contextmanager
    def meter(self) -> Iterator[Meter]:
        """A bar; without a terminal, a line now and then."""
        if not self._console.is_terminal:
            yield self._plain_meter()
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:>10}"),
            BarColumn(),
            TextColumn("{task.percentage:>5.1f} %"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
        )
        progress, below = Progress(*columns, console=self._console), Text(no_wrap=True, overflow="ellipsis")
        task = progress.add_task("counting", total=100.0, note="")

        def show(percent: float, note: str, tree: Sequence[str] = ()) -> None:
            progress.update(task, completed=percent, note=escape(note))
            below.plain = "\n".join(tree)

        with Live(Group(progress, below), console=self._console):
            yield show

    def tree(self, lines: Sequence[str]) -> None:
        """Show the tree of a job."""
        self.step("tree", "the job, as the node sees it, down to the workers of its child")
        for line in lines:
            self.more(line)

    def report(self, report: Mapping[str, Any]) -> None:
        """Show a census."""
        totals = report["totals"]
        table = Table(title="Totals", title_justify="left", title_style="bold")
        for name in totals:
            table.add_column(_HEADINGS.get(name, name), justify="right")
        table.add_row(*(f"{value:,}" for value in totals.values()))
        self._console.print()
        self._console.print(table)
        table = Table(title="The longest functions", title_justify="left", title_style="bold")
        table.add_column("lines", justify="right")
        table.add_column("function")
        table.add_column("where")
        for one in report["longest_functions"]:
            table.add_row(f"{one['lines']:,}", escape(one["name"]), escape(f"{one['file']}:{one['line']}"))
        if table.row_count:
            self._console.print(table)
        used = ", ".join(f"{one['module']} ({one['files']})" for one in report["most_imported"][:8])
        self._console.print(f"Imported by the most files: {escape(used)}", soft_wrap=True)
        broken = "; ".join(f"{one['file']}, {one['reason']}" for one in report["broken_files"][:2])
        if broken:
            self._console.print(f"Not parsed, to begin with: {escape(broken)}", soft_wrap=True)
        self._console.print()

    def reruns(self, tasks: Sequence[tuple[Rerun, Stage]]) -> None:
        """Show the tasks that ran again, each with how far it was before."""
        table = Table(title="Tasks that ran again", title_justify="left", title_style="bold")
        for name in ("task", "first leased by", "when that was killed", "ended by", "as attempt"):
            table.add_column(name, justify="right" if name in ("task", "as attempt") else "left")
        for one, stage in tasks:
            table.add_row(str(number(one.task_id)), escape(one.first), stage.value, escape(one.then), str(one.attempt))
        self._console.print(table)
        self._console.print()

    def verdict(self, text: str) -> None:
        """The last line of a good end."""
        self._console.print(f"\n[bold green]{escape(text)}[/]", soft_wrap=True)

    def _plain_meter(self) -> Meter:
        shown = (-_PLAIN_EVERY, "")

        def show(percent: float, note: str, tree: Sequence[str] = ()) -> None:  # noqa: ARG001  lines cannot be redrawn
            nonlocal shown
            if percent - shown[0] >= _PLAIN_EVERY or (note != shown[1] and note) or percent == 100.0 != shown[0]:
                shown = (percent, note)
                self._console.print(f"{'counting':>12}  {percent:5.1f} %  {escape(note)}".rstrip())

        return show
