"""Files of secrets and of trust: who could have had a hand in them is found out before they are believed."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from holon import files
from holon.files import read_private, read_public, share_of_files


def a_file(folder: Path, mode: int = 0o600, content: bytes = b"secret") -> Path:
    path = folder / "it"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_secret_of_its_owner_alone_is_read(tmp_path: Path, mode: int) -> None:
    assert read_private(str(a_file(tmp_path, mode))) == b"secret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o620, 0o602, 0o601, 0o644, 0o666])
def test_a_secret_that_others_can_open_is_refused_and_the_way_out_is_said(tmp_path: Path, mode: int) -> None:
    path = a_file(tmp_path, mode)
    with pytest.raises(ValueError, match=f"chmod 600 {path}"):
        read_private(str(path))


@pytest.mark.parametrize(("mode", "good"), [(0o640, True), (0o440, True), (0o660, False), (0o644, False)])
def test_a_mounted_secret_may_be_readable_by_its_group_and_no_more(tmp_path: Path, mode: int, good: bool) -> None:
    path = a_file(tmp_path, mode)
    if good:
        assert read_private(str(path), mounted=True) == b"secret"
    else:
        with pytest.raises(ValueError, match="chmod 640"):
            read_private(str(path), mounted=True)


def test_a_link_is_followed_where_secrets_are_mounted_only(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(a_file(tmp_path))
    with pytest.raises(ValueError, match="SECRETS_MOUNTED"):
        read_private(str(link))
    assert read_private(str(link), mounted=True) == b"secret"
    assert read_public(str(link)) == b"secret"


def test_a_secret_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = a_file(tmp_path)
    owner = path.stat().st_uid
    if owner == 0:
        os.chown(path, 4711, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ValueError, match="another user"):
        read_private(str(path))


def test_what_every_user_can_change_is_not_trusted(tmp_path: Path) -> None:
    assert read_public(str(a_file(tmp_path, 0o644))) == b"secret"
    with pytest.raises(ValueError, match="chmod 644"):
        read_public(str(a_file(tmp_path, 0o646)))


@pytest.mark.parametrize("read", [read_private, read_public])
def test_what_is_no_file_of_content_is_refused_by_name(tmp_path: Path, read: object) -> None:
    assert callable(read)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path, reason in (
        (pipe, "no regular file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "missing", "No such file"),
        (a_file(tmp_path, content=b""), "is empty"),
    ):
        with pytest.raises(ValueError, match=reason) as refused:
            read(str(path))
        assert str(path) in str(refused.value)
    with pytest.raises(ValueError, match=f"over {files.MAX_BYTES}"):
        read(str(a_file(tmp_path, content=b"x" * (files.MAX_BYTES + 1))))
    with pytest.raises(ValueError, match="is no path"):
        read("a\0b")


@pytest.mark.parametrize(("limit", "share"), [(1200, 200), (10**6, 10_000), (resource.RLIM_INFINITY, 10_000)])
def test_a_door_takes_its_part_of_the_files_or_all_that_it_may_have(
    limit: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert share_of_files(6, 10_000) == share
