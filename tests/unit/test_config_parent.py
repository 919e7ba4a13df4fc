"""Settings of a node that has a parent."""

from __future__ import annotations

from pathlib import Path

import pytest

from holon.config import Config
from holon.domain.blueprint import Blueprint
from holon.errors import BlueprintError
from tests.unit.configs import reasons


@pytest.mark.parametrize("text", ["grpcs://root:7700", "grpcs://a:7700, grpcs://[::1]:7701", "grpc://127.0.0.1"])
def test_a_parent_is_named_by_addresses_of_worker_doors(text: str) -> None:
    Config({}, PARENT_URL=text).check()


@pytest.mark.parametrize(
    "text",
    [
        "grpc://root:7700",
        "root:7700",
        "https://root",
        "grpcs://root:7700/path",
        "grpcs://root:99999",
        "grpcs://[1:2]",
        ",",
    ],
)
def test_what_is_no_address_of_a_worker_door_or_not_encrypted_is_refused_as_a_parent(text: str) -> None:
    assert set(reasons(Config({}, PARENT_URL=text))) == {"PARENT_URL"}


def test_a_node_without_clients_needs_a_parent_and_a_socket_a_folder(tmp_path: Path) -> None:
    assert set(reasons(Config({}, ENABLE_CLIENT_API=False))) == {"ENABLE_CLIENT_API"}
    parent = "grpcs://root:7700"
    Config({}, ENABLE_CLIENT_API=False, PARENT_URL=parent, ADMIN_SOCKET=str(tmp_path / "s")).check()
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path / "none" / "s", tmp_path / ("s" * 100), tmp_path, tmp_path / "file", tmp_path / "a,b"):
        assert set(reasons(Config({}, ADMIN_SOCKET=str(path)))) == {"ADMIN_SOCKET"}
    pure = Config({}, ENABLE_CLIENT_API=False, PARENT_URL=parent, SCHEDULES_CONFIG_PATH="schedules.toml")
    assert "works only for its parent" in reasons(pure)["SCHEDULES_CONFIG_PATH"]
    Config({}, PARENT_URL=parent, SCHEDULES_CONFIG_PATH="schedules.toml").check()
    lacking = reasons(Config({}, PARENT_TLS_CERT_PATH=str(tmp_path / "cert")))["PARENT_TLS_KEY_PATH"]
    assert lacking.endswith("PARENT_TLS_CERT_PATH and PARENT_TLS_KEY_PATH belong together; set both or neither")


def test_a_node_without_a_socket_runs_in_a_folder_with_a_long_path_or_a_comma(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("d" * 100) / "a,b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    Config({}).check()
    assert set(reasons(Config({}, ADMIN_SOCKET="s"))) == {"ADMIN_SOCKET"}


def test_a_limit_of_skills_for_the_parent_has_those_that_are_passed_on() -> None:
    Config({}, UPLINK_ALLOWED_SKILLS="ocr, resize", UPLINK_SKILLS="resize").check()
    wrong = Config({}, UPLINK_ALLOWED_SKILLS="ocr", UPLINK_SKILLS="ocr,resize")
    assert reasons(wrong)["UPLINK_ALLOWED_SKILLS"].startswith("lacks 'resize'")


@pytest.mark.parametrize("skill", ["a b", "ö", "s" * 129, "a.b"])
def test_a_skill_that_no_blueprint_could_have_the_name_of_is_not_passed_on(skill: str) -> None:
    with pytest.raises(BlueprintError):
        Blueprint(skill)
    assert set(reasons(Config({}, UPLINK_SKILLS=f"ocr,{skill}"))) == {"UPLINK_SKILLS"}
