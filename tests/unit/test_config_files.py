"""The settings of files of jobs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from holon.config import Config
from holon.errors import ConfigError
from holon.node.job_files import files_of
from tests.strangers import owned_by_another
from tests.unit.configs import reasons

S3 = {
    "S3_ENDPOINT_URL": "https://s3.example.com",
    "S3_ACCESS_KEY": "an-id",
    "S3_SECRET_KEY": "a-secret",
}


def test_without_s3_jobs_have_no_files() -> None:
    config = Config({})
    config.check()
    assert not config.keeps_files
    assert files_of(config, "holon") is None


def test_all_three_are_needed_and_what_is_missing_is_named() -> None:
    Config(S3).check()
    assert Config(S3).keeps_files
    for name in S3:
        (wrong,) = reasons(Config({**S3, name: ""})).items()
        assert wrong[0] == name
        assert "belong together" in wrong[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3_ENDPOINT_URL", "s3.example.com"),
        ("S3_ENDPOINT_URL", "s3://bucket"),
        ("S3_ENDPOINT_URL", "https://user:hush@s3.example.com"),
        ("S3_ENDPOINT_URL", "https://s3.example.com/bucket"),
        ("S3_ENDPOINT_URL", "https://s3.example.com:99999"),
        ("S3_ACCESS_KEY", "an id"),
        ("S3_SECRET_KEY", "hush\n"),
        ("S3_REGION", "us east"),
        ("S3_DEFAULT_BUCKET", "a/b"),
        ("S3_DEFAULT_BUCKET", "b"),
        ("S3_MAX_CONCURRENCY", "0"),
        ("TASK_FILES_DIR", "/etc/passwd"),
    ],
)
def test_what_cannot_be_is_refused_and_no_secret_is_shown(name: str, value: str) -> None:
    (wrong,) = reasons(Config({**S3, name: value})).items()
    assert wrong[0] == name
    assert "hush" not in wrong[1]


def test_a_folder_for_files_that_there_are_none_of_is_refused() -> None:
    (wrong,) = reasons(Config({"TASK_FILES_DIR": "/srv/files"})).items()
    assert wrong[0] == "TASK_FILES_DIR"
    assert "S3_ENDPOINT_URL" in wrong[1]


def test_keys_are_hidden_where_settings_are_shown() -> None:
    config = Config(S3)
    shown = f"{config!r} {config.effective()}"
    assert "a-secret" not in shown
    assert "an-id" not in shown
    assert config.effective()["S3_SECRET_KEY"] == "(hidden)"


def test_the_folder_is_the_nodes_own(tmp_path: Path) -> None:
    place = files_of(Config({**S3, "TASK_FILES_DIR": str(tmp_path / "deep" / "files")}), "a-holon")
    assert place is not None
    assert place.folder == tmp_path / "deep/files/a-holon"
    assert place.folder.stat().st_mode & 0o077 == 0
    assert "a-secret" not in repr(place)


def test_a_folder_that_others_can_change_or_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    for name, why in (("shared", "chmod"), ("link", "link")):
        with pytest.raises(ConfigError, match=f"TASK_FILES_DIR: .*{why}"):
            files_of(Config({**S3, "TASK_FILES_DIR": str(tmp_path / name)}), "a-holon")


def test_what_s3_needs_and_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "holon.storage.blobs", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigError, match=r"obstore.*holon-node\[s3\]"):
        files_of(Config({**S3, "TASK_FILES_DIR": str(tmp_path)}), "a-holon")


def test_an_s3_that_is_reached_without_encryption_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = []
    for endpoint in ("http://127.0.0.1:9000", "http://[::1]:9000", "https://s3.example.com", "http://minio:9000"):
        caplog.clear()
        files_of(Config({**S3, "S3_ENDPOINT_URL": endpoint, "TASK_FILES_DIR": str(tmp_path / "files")}), "a-holon")
        told.append("not encrypted" in caplog.text)
    assert told == [False, False, False, True]


def planted(folder: Path) -> dict[str, Path]:
    """A place for each setting that names one, in a folder of its own."""
    folder = folder.resolve()
    (folder / "blueprints").mkdir()
    for name in ("store", "history", "socket"):
        (folder / name).mkdir()
    return {
        "STORAGE_URI": folder / "store/holon.db",
        "HISTORY_DATABASE_URI": folder / "history/history.db",
        "ADMIN_SOCKET": folder / "socket/admin.sock",
        "BLUEPRINTS_DIR": folder / "blueprints",
    }


def settings_of(places: dict[str, Path], **more: str) -> Config:
    uris = {name: f"sqlite:///{path}" if name.endswith("_URI") else str(path) for name, path in places.items()}
    return Config({**uris, **more})


def test_places_of_this_user_alone_are_taken(tmp_path: Path) -> None:
    settings_of(planted(tmp_path)).check()


@pytest.mark.parametrize("name", ["STORAGE_URI", "HISTORY_DATABASE_URI", "ADMIN_SOCKET", "BLUEPRINTS_DIR"])
def test_a_place_that_another_user_may_have_planted_or_may_change_is_refused_by_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    places = planted(tmp_path)
    folder = places[name] if name == "BLUEPRINTS_DIR" else places[name].parent
    folder.chmod(0o1777)
    assert f"create files in {folder}" in reasons(settings_of(places))[name]
    folder.chmod(0o777)
    assert f"chmod o-w {folder}" in reasons(settings_of(places))[name]
    settings_of(places, SECRETS_MOUNTED="true").check()
    folder.chmod(0o755)
    if name.endswith("_URI"):
        places[name].touch(0o666)
        places[name].chmod(0o666)
        assert f"chmod o-w {places[name]}" in reasons(settings_of(places))[name]
        places[name].chmod(0o600)
    settings_of(places).check()
    owned_by_another(monkeypatch, folder)
    assert f"{folder} belongs to another user" in reasons(settings_of(places))[name]


def test_a_store_that_is_reached_by_a_link_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = planted(tmp_path)
    link = tmp_path.resolve() / "link.db"
    link.symlink_to(places["STORAGE_URI"])
    settings_of({"STORAGE_URI": link}).check()
    owned_by_another(monkeypatch, link)
    (reason,) = reasons(settings_of({"STORAGE_URI": link})).values()
    assert f"{link} is a link of another user" in reason
