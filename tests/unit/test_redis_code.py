"""The store's operations in Lua: the library that is made of their files."""

from __future__ import annotations

import re

import pytest

from holon.storage.redis.scripts import functions
from holon.storage.redis.scripts.compose import definitions, lua, plain_lua

FILE = """
-- What others need.
local ONE, TWO = 1, 2
local function first(x)
    -- A comment.
    return x + ONE
end

local function second(x) return first(x) * 'unused' end
local unused = {
    first,
}
"""


def names(some: object) -> list[tuple[str, ...]]:
    return [one.names for one in some]  # type: ignore[attr-defined]


def test_a_file_is_its_definitions_without_comments() -> None:
    found = definitions(FILE)
    assert names(found) == [("ONE", "TWO"), ("first",), ("second",), ("unused",)]
    assert "--" not in plain_lua(found)
    assert plain_lua(definitions(plain_lua(found))) == plain_lua(found)


def test_what_only_its_own_file_uses_is_out_of_sight_of_others() -> None:
    file = definitions("local seen, other\nlocal own = {}\nfunction own.one() seen = 1 end\nlocal two = own\n", "a")
    others = definitions("local mine = seen\n", "b")
    text = "local seen, other\ndo\nlocal own = {}\nfunction own.one() seen = 1 end\nlocal two = own\nend\n"
    assert lua(file, others) == text
    assert lua([*file, *others], definitions("local call = two\n", "c")) == (
        "local seen, other, two\ndo\nlocal own = {}\nfunction own.one() seen = 1 end\ntwo = own\nend\n"
        "do\nlocal mine = seen\nend\n"
    )
    assert lua(file, definitions("local all = {seen, own, two}\n", "c")) == plain_lua(file)


@pytest.mark.parametrize("source", ["done = 1\n", "for i = 1, 2 do\nend\n", "return 1\n", "function f()\nend\n"])
def test_a_file_that_does_more_than_define_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="begins with local"):
        definitions(source)


def test_a_library_is_named_by_its_text_and_has_each_operation_once_with_its_flags() -> None:
    library = functions()
    text = library.text.decode()
    assert library.call("commit") == ("FCALL", f"{library.library}_commit")
    assert text.startswith(f"#!lua name={library.library}\n")
    flags = dict(re.findall(r"LIBRARY \.\. '_(\w+)', callback = call, flags = \{(.*?)\}\}", text))
    assert {"commit", "start", "job"} <= flags.keys()
    assert (flags["create_jobs"], flags["commit"], flags["job"]) == ("", "'allow-oom'", "'no-writes'")
