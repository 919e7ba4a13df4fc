"""The project's own files agree: what it depends on is pinned, explained, and fetched from wherever the user says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import holon

REPOSITORY = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
LOCKS = sorted((REPOSITORY / "scripts/requirements").glob("*.txt"))


OWN = "holon-node["
# An extra may be made of others, which have their own lines.
OF_EXTRAS = [line for extra in EXTRAS.values() for line in extra if not line.startswith(OWN)]


def wanted(group: str) -> list[Requirement]:
    lines = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"][group]
    if group == "test":
        lines += OF_EXTRAS
    return [Requirement(line) for line in lines if isinstance(line, str)]


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", lock.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize(("lock", "group"), [("run.txt", "build"), ("test.txt", "test")])
def test_every_dependency_is_pinned_to_a_version_that_the_project_allows(lock: str, group: str) -> None:
    pinned = pins(REPOSITORY / "scripts/requirements" / lock)
    for requirement in wanted(group):
        assert requirement.specifier.contains(pinned[requirement.name], prereleases=True), requirement


def test_an_image_has_every_extra_and_nothing_that_only_builds() -> None:
    node, build = (pins(REPOSITORY / "scripts/requirements" / name) for name in ("node.txt", "build.txt"))
    for line in PROJECT["project"]["dependencies"] + OF_EXTRAS:
        assert Requirement(line).specifier.contains(node[Requirement(line).name], prereleases=True), line
    assert "hatchling" in build
    assert "hatchling" not in node


def installed_by(extra: str) -> set[str]:
    """Every package that an extra brings, also by the extras that it is made of."""
    lines = [Requirement(line) for line in EXTRAS[extra]]
    own = [inner for line in lines if str(line).startswith(OWN) for inner in line.extras]
    return {line.name for line in lines if not line.extras}.union(*map(installed_by, own))


def test_the_extra_all_brings_every_other_one_and_history_what_its_database_needs() -> None:
    assert installed_by("all") == {Requirement(line).name for line in OF_EXTRAS}
    assert installed_by("history") == {"asyncpg"}


@pytest.mark.parametrize("lock", ["run.txt", "node.txt", "build.txt"])
def test_what_runs_is_what_is_tested(lock: str) -> None:
    run, test = (pins(REPOSITORY / "scripts/requirements" / name) for name in (lock, "test.txt"))
    assert run.items() <= test.items()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_has_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links)\b", text, re.MULTILINE)
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)


def test_every_dependency_is_explained_and_nothing_else() -> None:
    page = (REPOSITORY / "docs/dependencies.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `([a-z0-9-]+)` \| .+ \|$", page, re.MULTILINE)
    assert sorted(explained) == sorted({requirement.name for requirement in wanted("test") + wanted("build")})


@pytest.mark.parametrize("room", ["holon.domain", "holon.engine"])
def test_no_driver_of_a_store_may_be_imported_by_what_knows_ports_only(room: str) -> None:
    drivers = {Requirement(line).name for extra in ("postgres", "redis") for line in EXTRAS[extra]}
    contracts = [one for one in PROJECT["tool"]["importlinter"]["contracts"] if one.get("source_modules") == [room]]
    [forbidden] = [one["forbidden_modules"] for one in contracts if one["type"] == "forbidden"]
    assert drivers | {"aiosqlite", "sqlite3"} <= set(forbidden)


def test_the_version_stands_in_one_place() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "holon/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", holon.__version__)


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\((docs/[^)#]+)", (REPOSITORY / "README.md").read_text(encoding="utf-8")))
    pages = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "docs").glob("*.md")}
    assert pages - linked == set()


def test_each_page_has_one_place_in_the_navigation_of_the_site() -> None:
    docs = REPOSITORY / "docs"
    pages = [path.relative_to(docs).as_posix() for path in docs.rglob("*.md") if "node_modules" not in path.parts]
    site = (REPOSITORY / "scripts/lib/site/mkdocs.yml").read_text(encoding="utf-8")
    placed = re.findall(r"^ +- .+: (\S+\.md)$", site, re.MULTILINE)
    assert sorted(placed) == sorted([*pages, "index.md", "CHANGELOG.md"])
