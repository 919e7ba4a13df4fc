"""How an error ends a command: all that is wrong is said, each thing once."""

from __future__ import annotations

import pytest

from holon.cli.exits import ExitCode, ending
from holon.errors import InvalidArgument, Violation

WRONG = [Violation("data.nam", "is not allowed"), Violation("data.name", "is required")]


@pytest.mark.parametrize(
    ("message", "more"),
    [
        ("input is wrong: data.nam is not allowed", ["  data.name: is required"]),
        ("2 things are wrong: data.nam is not allowed; data.name is required", []),
    ],
)
def test_what_the_message_leaves_out_is_listed_below(
    message: str, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, ending():
        raise InvalidArgument(message, details=WRONG)
    assert end.value.code == ExitCode.USAGE
    assert capsys.readouterr().err.splitlines() == [f"holon: {message}", *more]
