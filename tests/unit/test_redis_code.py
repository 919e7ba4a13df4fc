"""The store's operations in Lua: what is made of their files, for servers of each age."""

from __future__ import annotations

import re

import pytest

from holon.storage.redis.scripts import code_for, functions, scripts
from holon.storage.redis.scripts.code import Functions, Scripts
from holon.storage.redis.scripts.compose import definitions, lua, needed, plain_lua

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


def test_only_what_is_used_is_needed_and_what_that_uses_in_turn() -> None:
    known = definitions(FILE)
    assert names(needed(known, definitions("local function mine() return second(3) end"))) == [
        ("ONE", "TWO"),
        ("first",),
        ("second",),
    ]
    assert needed(known, definitions("local function mine() return other.second, 'first' end")) == []


def test_functions_of_a_table_are_needed_one_by_one_and_with_them_their_table() -> None:
    known = definitions("local held = {}\nfunction held.one() end\nfunction held.two() held.one() end\n")
    assert names(known) == [("held",), ("held.one",), ("held.two",)]
    mine = definitions("local function mine() return held.one() end")
    assert names(needed(known, mine)) == [("held",), ("held.one",)]
    assert needed(known, definitions("local function mine() return row.held.two() end")) == []


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


def test_a_script_has_less_than_all_and_readers_hardly_anything() -> None:
    texts = scripts((6, 2))._texts
    assert b"function steps.land(" in texts["commit"]
    assert b"function steps.land(" not in texts["keep"]
    assert b"local function write_all(" not in texts["job"]
    assert all(b"redis.register_function" not in text for text in texts.values())


def test_servers_get_functions_if_they_have_them_and_scripts_with_flags_where_those_are_refused() -> None:
    [old] = code_for((6, 2, 14))
    assert isinstance(old, Scripts)
    assert old._texts["commit"].startswith(b"local SHRINKS, REMEMBERS = true, false\n")
    assert old._texts["create_jobs"].startswith(b"local SHRINKS, REMEMBERS = false, false\n")
    better, other = code_for((8, 0, 2))
    assert isinstance(better, Functions)
    assert isinstance(other, Scripts)
    assert other._texts["commit"].startswith(b"#!lua flags=allow-oom\n")
    assert other._texts["job"].startswith(b"#!lua flags=no-writes\n")
    assert other._texts["create_jobs"].startswith(b"#!lua\n")


def test_a_library_is_named_by_its_text_and_has_each_operation_once_with_its_flags() -> None:
    library = functions()
    text = library._text.decode()
    assert library.call("commit") == ("FCALL", f"{library._library}_commit")
    assert text.startswith(f"#!lua name={library._library}\n")
    flags = dict(re.findall(r"LIBRARY \.\. '_(\w+)', callback = call, flags = \{(.*?)\}\}", text))
    assert flags.keys() == scripts((6, 2))._texts.keys()
    assert (flags["create_jobs"], flags["commit"], flags["job"]) == ("", "'allow-oom'", "'no-writes'")
