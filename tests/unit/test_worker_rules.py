"""Who may be which worker: workers.toml is read strictly, an id's own table counts, then the narrowest pattern."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from holon.errors import ConfigError
from holon.security import globs, worker_rules
from holon.security.globs import matches, overlap
from holon.security.identity import Identity
from holon.security.tokens import digest_of, hashed
from holon.security.worker_rules import WorkerRules
from holon.security.workers_file import load_workers

A, B, SHARED = "a" * 40, "b" * 40, "s" * 40


def load(folder: Path, text: str | bytes, shared: str = SHARED, mode: int = 0o600) -> WorkerRules:
    path = folder / "workers.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return load_workers(str(path), shared)


def problems(folder: Path, text: str | bytes, shared: str = SHARED, mode: int = 0o600) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, shared, mode)
    assert A not in str(caught.value)
    assert "workers.toml" in caught.value.message
    return {one.field.partition("workers.toml")[2].strip(): one.reason for one in caught.value.details}


def allows(rules: WorkerRules, worker_id: str, token: str) -> bool:
    return rules.standing(worker_id).allows_token(digest_of(token), digest_of(SHARED))


def test_f05_f06_a_worker_with_a_token_of_its_own_takes_that_alone_and_others_the_shared_one(tmp_path: Path) -> None:
    rules = load(tmp_path, f'[w1]\ntoken = "{A}"\n["gpu-*"]\ntoken = "{B}"')
    assert [allows(rules, "w1", token) for token in (A, B, SHARED)] == [True, False, False]
    assert [allows(rules, "gpu-7", token) for token in (A, B, SHARED)] == [False, True, False]
    assert [allows(rules, "another", token) for token in (A, B, SHARED)] == [False, False, True]


def test_the_shared_token_proves_no_id_that_a_table_names(tmp_path: Path) -> None:
    text = '[w1]\ncn = "host-7"\n[w2]\n["gpu-*"]\n[w3]\nreplicas = true\n[h]\nkind = "holon"\ncn = "h"\n'
    rules = load(tmp_path, text + f'[w4]\ncn = "host-8"\ntoken = "{A}"')
    for worker_id in ("w1", "w2", "gpu-7", "w3", "w3.a", "h", "w4"):
        assert not allows(rules, worker_id, SHARED)
    assert allows(rules, "w4", A)
    assert allows(rules, "another", SHARED)


def test_a_token_may_be_given_as_its_hash(tmp_path: Path) -> None:
    digest = hashlib.sha256(A.encode()).hexdigest()
    for key in ("token", "token_hash"):
        assert allows(load(tmp_path, f'[w1]\n{key} = "sha256:{digest}"', mode=0o644), "w1", A)


def test_a_worker_may_have_several_tokens_while_one_takes_anothers_place(tmp_path: Path) -> None:
    rules = load(tmp_path, f'[w1]\ntokens = ["{A}", "{hashed(B)}"]')
    assert [allows(rules, "w1", token) for token in (A, B, SHARED)] == [True, True, False]
    found = [rules.of_token(digest_of(token)) for token in (A, B)]
    assert [rule.name for rule in found if rule is not None] == ["w1", "w1"]
    assert "[w1]" in problems(tmp_path, f'[w1]\ntokens = ["{A}", "{B}"]\n[w2]\ntoken = "{B}"')["[w2] token"]


def test_an_own_table_counts_before_a_pattern_and_a_narrow_pattern_before_a_wide_one(tmp_path: Path) -> None:
    text = '["*"]\ncn = "any"\n["gpu-*"]\ncn = "gpu"\n["gpu-1*"]\ncn = "one"\n[gpu-12]\ncn = "twelve"'
    rules = load(tmp_path, text)
    for worker_id, name in {"gpu-12": "twelve", "gpu-13": "one", "gpu-2": "gpu", "cpu": "any"}.items():
        rule = rules.standing(worker_id).rule
        assert rule is not None
        assert rule.cn == name


def test_replicas_have_a_suffix_and_only_where_that_is_said(tmp_path: Path) -> None:
    rules = load(tmp_path, f'[w1]\nreplicas = true\ntoken = "{A}"\n[w2]\ntoken = "{B}"\n["p-?"]\nreplicas = true')
    assert allows(rules, "w1.a-1", A)
    assert rules.standing("w1.a").ids == ("w1",)
    assert not allows(rules, "w2.a", B)
    assert rules.standing("p-1.x").ids == ("p-1",)
    for worker_id in ("w1.", "w1.a.b", "w1." + "a" * 65, ".w1"):
        assert rules.standing(worker_id).rule is None


def test_the_own_table_of_a_replica_counts_before_that_of_all_of_them(tmp_path: Path) -> None:
    rules = load(tmp_path, f'[w1]\nreplicas = true\ntoken = "{A}"\n["w1.a"]\ntoken = "{B}"')
    assert [allows(rules, "w1.a", token) for token in (A, B)] == [False, True]
    assert [allows(rules, "w1.b", token) for token in (A, B)] == [True, False]


def test_everything_that_is_wrong_is_reported_at_once_by_table_and_key(tmp_path: Path) -> None:
    text = f"""
title = "ours"
[w1]
token = "short"
cn = 7
extra = true
[gpu.eu]
token = "{A}"
["a b"]
[w2]
token = "{A}"
token_hash = "sha256:12"
[w3]
spiffe = "https://example.org/w3"
replicas = "yes"
[w4]
token = "{B}"
[w5]
token = "{B}"
[w6]
token = "{SHARED}"
[w7]
tokens = "{A}-7"
[w8]
tokens = []
[w9]
tokens = ["{A}-9", "short", 7, "{B}"]
[w10]
tokens = ["{A}-10"]
token = "{A}-11"
["g-*"]
["*-g"]
[[revoked]]
worker = "w 1"
[[revoked]]
serial = "12"
[[revoked]]
thumbprint = "00"
"""
    found = problems(tmp_path, text)
    assert set(found) == {
        "[title]", "[w1] token", "[w1] cn", "[w1] extra", "[gpu] eu", '["a b"]', "[w2]", "[w2] token_hash",
        "[w3] spiffe", "[w3] replicas", "[w5] token", "[w6] token",
        "[w7] tokens", "[w8] tokens", "[w9] tokens 2", "[w9] tokens 3", "[w9] tokens 4", "[w10]",
        '["*-g"]', "[[revoked]] 1 worker", "[[revoked]] 2",
        "[[revoked]] 3 thumbprint",
    }  # fmt: skip
    assert '["gpu.eu"]' in found["[gpu] eu"]
    assert "[w4]" in found["[w5] token"]
    assert "GLOBAL_WORKER_TOKEN" in found["[w6] token"]


@pytest.mark.parametrize(
    "text",
    ["[w1", '[w1]\n[w1]\ntoken = "x"', b"\xff", f'[w1]\ntoken = "{A}', f'[w1]\ntoken = "{A}\0"', "a = nan\n[["],
)
def test_what_is_no_toml_is_refused_and_none_of_it_shown(tmp_path: Path, text: str | bytes) -> None:
    assert list(problems(tmp_path, text)) == [""]


def test_the_one_name_that_is_no_worker_is_said_where_it_is_used_as_one(tmp_path: Path) -> None:
    assert "[[revoked]]" in problems(tmp_path, '[revoked]\nworkers = ["w1"]')["[revoked]"]


def test_a_file_with_tokens_that_all_can_read_is_refused_and_one_without_is_not(tmp_path: Path) -> None:
    assert "chmod 600" in problems(tmp_path, f'[w1]\ntoken = "{A}"', mode=0o644)["[w1] token"]
    load(tmp_path, '[w1]\ncn = "host-7"', mode=0o644)


def test_a_table_without_a_token_is_refused_where_tokens_alone_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "workers.toml"
    path.touch(0o600)
    path.write_text(
        f'[w1]\n["gpu-*"]\nreplicas = true\n[w2]\nkind = "worker"\n[w3]\ntoken = "{A}"\n'
        '[w4]\ncn = "host-7"\n[[revoked]]\nworker = "old"\n'
    )
    load_workers(str(path))
    with pytest.raises(ConfigError) as caught:
        load_workers(str(path), certificates=False)
    found = {one.field.removeprefix(str(path)).strip(): one.reason for one in caught.value.details}
    assert set(found) == {"[w1]", '["gpu-*"]', "[w2]"}
    assert all("add one of token, token_hash, tokens" in reason for reason in found.values())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read"):
        load_workers(str(tmp_path / "none.toml"))


@pytest.mark.parametrize(("one", "other"), [("a*", "b*"), ("a?", "a"), ("*a", "*b"), ("ab", "a?b"), ("", "?")])
def test_patterns_without_a_common_name_do_not_overlap(one: str, other: str) -> None:
    assert not overlap(one, other)
    assert not overlap(other, one)


def test_a_holon_is_what_the_file_calls_one_and_has_no_replicas(tmp_path: Path) -> None:
    rules = load(tmp_path, '[w1]\n[w2]\nkind = "worker"\n["h-*"]\nkind = "holon"\ncn = "h-*"')
    found = {name: rules.standing(name).rule for name in ("w1", "w2", "h-1")}
    assert [rule is not None and rule.holon for rule in found.values()] == [False, False, True]
    wrong = problems(tmp_path, '[a]\nkind = "spirit"\n[b]\nkind = "holon"\ncn = "b"\nreplicas = true')
    assert wrong.keys() == {"[a] kind", "[b]"}


@pytest.mark.parametrize("certificates", [True, False])
def test_a_holon_needs_a_table_that_says_what_proves_it(tmp_path: Path, certificates: bool) -> None:
    path = tmp_path / "workers.toml"
    path.touch(0o600)
    path.write_text(
        '[h]\nkind = "holon"\n["h-*"]\nkind = "holon"\n'
        f'[a]\nkind = "holon"\ncn = "a"\n[b]\nkind = "holon"\nspiffe = "spiffe://x/b"\n'
        f'[c]\nkind = "holon"\ntoken = "{A}"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_workers(str(path), certificates=certificates)
    found = {one.field.removeprefix(str(path)).strip(): one.reason for one in caught.value.details}
    assert set(found) == {"[h]", '["h-*"]'}
    assert all("add cn, spiffe, or token" in reason for reason in found.values())


def an_identity(name: str, *, spiffe: bool = False) -> Identity:
    nothing: Any = None
    return Identity(name, 0, spiffe, nothing, b"")


def test_whose_certificate_it_is_among_thousands_is_found_without_a_look_at_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def noted(pattern: str, name: str) -> bool:
        looked.append(pattern)
        return matches(pattern, name)

    text = "".join(f'[w{n}]\ncn = "host-{n}"\nspiffe = "spiffe://a/host-{n}"\n' for n in range(1_000))
    rules = load(
        tmp_path,
        text
        + '[x]\ncn = "host-7*"\n[[revoked]]\nworker = "w-*"\n'
        + "".join(f'[[revoked]]\nworker = "v{n}"\n' for n in range(1_000)),
    )
    monkeypatch.setattr(worker_rules, "matches", noted)
    assert rules.of_certificate(an_identity("host-5")) == ["w5"]
    assert rules.of_certificate(an_identity("host-7")) == ["w7", "x"]
    assert rules.of_certificate(an_identity("spiffe://a/host-7", spiffe=True)) == ["w7"]
    assert rules.of_certificate(an_identity("w7")) == []
    assert [rules.revoked.names_worker(ids) for ids in (("w7",), ("v7",), ("a", "v7"), ("w-7",))] == [
        False,
        True,
        True,
        True,
    ]
    assert len(looked) < 20


def test_of_thousands_of_patterns_those_are_tried_whose_ends_are_a_names_own() -> None:
    before = globs._compiled.cache_info().misses
    patterns = [f"host-{number}.*" for number in range(2_000)] + [f"*.zone-{number}" for number in range(2_000)]
    found = [one for one in patterns if matches(one, "host-7.zone-8")]
    assert found == ["host-7.*", "*.zone-8"]
    assert globs._compiled.cache_info().misses <= before + 2


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a*a", {"a": False, "aa": True, "aba": True, "ab": False}),
        ("?", {"": False, "a": True, "ab": False}),
        ("a?c*e", {"abce": True, "abcde": True, "ace": False, "abc": False}),
        ("*b*", {"b": True, "abc": True, "ac": False}),
        ("a.c*", {"a.c": True, "abc": False}),
    ],
)
def test_a_pattern_stands_for_whole_names(pattern: str, names: dict[str, bool]) -> None:
    assert {name: matches(pattern, name) for name in names} == names


def test_the_example_of_the_page_is_a_file_that_a_node_reads(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/worker-access.md").read_text(encoding="utf-8")
    [text] = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    rules = load(tmp_path, text)
    assert rules.standing("crawler.b").ids == ("crawler",)
    assert rules.revoked.names_worker(["old-1"])
