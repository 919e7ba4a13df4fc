"""Files of secrets and of trust: who could have had a hand in them is found out before they are believed."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from holon import files
from holon.files import make_folder, read_private, read_public, share_of_files, trust_problem
from tests.strangers import UID, owned_by_another


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
        (pipe, "not a regular file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "missing", "No such file"),
        (a_file(tmp_path, content=b""), "is empty"),
    ):
        with pytest.raises(ValueError, match=reason) as refused:
            read(str(path))
        assert str(path) in str(refused.value)
    with pytest.raises(ValueError, match=f"over {files.MAX_BYTES}"):
        read(str(a_file(tmp_path, content=b"x" * (files.MAX_BYTES + 1))))
    with pytest.raises(ValueError, match="is not a path"):
        read("a\0b")


# Paths -----------------------------------------------------------------------------------------------------------


def place(folder: Path) -> Path:
    """A file in two folders that nobody else had a hand in."""
    inner = folder.resolve() / "outer/inner"
    inner.mkdir(parents=True, mode=0o755)
    return a_file(inner, 0o644)


def test_what_is_this_users_own_or_not_there_yet_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place(tmp_path)
    monkeypatch.chdir(path.parent.parent)
    for one in (
        path,
        path.parent,
        Path("inner/it"),
        Path("./inner/../inner/it"),
        path.with_name("none"),
        Path("none/it"),
    ):
        assert trust_problem(str(one)) is None
    # What only root could have put there.
    assert trust_problem("/bin/sh") is None
    assert trust_problem("a\0b") is None


@pytest.mark.parametrize("which", ["outer", "outer/inner", "outer/inner/it"])
def test_what_belongs_to_another_user_is_refused_wherever_it_is_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    path = place(tmp_path)
    owned_by_another(monkeypatch, tmp_path.resolve() / which)
    for mounted in (False, True):
        problem = trust_problem(str(path), mounted=mounted)
        assert problem is not None
        assert f"{tmp_path.resolve() / which} belongs to another user of this machine (uid {UID})" in problem
        assert str(path) in problem
        assert "chown it" in problem


@pytest.mark.parametrize(("which", "mode"), [("outer", 0o777), ("outer/inner", 0o757), ("outer/inner/it", 0o646)])
def test_what_every_user_can_write_is_refused_wherever_it_is_on_the_way(tmp_path: Path, which: str, mode: int) -> None:
    path = place(tmp_path)
    open_to_all = tmp_path.resolve() / which
    open_to_all.chmod(mode)
    problem = trust_problem(str(path))
    assert problem is not None
    assert f"every user of this machine can change {open_to_all}; chmod o-w {open_to_all}" in problem
    # A mounted folder is often open; its files are not.
    assert (trust_problem(str(path), mounted=True) is None) == open_to_all.is_dir()


def test_a_sticky_folder_may_be_on_the_way_and_hold_nothing_that_has_files_beside_it(tmp_path: Path) -> None:
    path = place(tmp_path)
    folder = path.parent
    for one in (folder.parent, folder):
        one.chmod(0o1777)
    said = f"every user of this machine can create files in {folder}; use a folder of your own"
    for name in ("it", "none"):
        assert trust_problem(str(folder / name)) is None
        assert trust_problem(str(folder / name), beside=True) == f"{folder / name}: {said}"
    assert trust_problem(str(folder)) == f"{folder}: {said}"
    folder.chmod(0o755)
    assert trust_problem(str(path), beside=True) is None
    assert trust_problem(str(folder)) is None


def test_a_link_of_another_user_is_refused_and_one_of_ones_own_is_looked_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place(tmp_path)
    here = tmp_path.resolve()
    (here / "link").symlink_to("outer/inner")
    (here / "absolute").symlink_to(path.parent)
    for link in ("link", "absolute"):
        assert trust_problem(str(here / link / "it")) is None
        assert trust_problem(str(here / link / ".." / "inner" / "it")) is None
    path.parent.chmod(0o777)
    for link in ("link", "absolute"):
        assert f"can change {path.parent}" in (trust_problem(str(here / link / "it")) or "")
    path.parent.chmod(0o755)
    (here / "round").symlink_to("round")
    assert trust_problem(str(here / "round")) is None
    owned_by_another(monkeypatch, here / "link")
    problem = trust_problem(str(here / "link/it"))
    assert problem is not None
    assert f"{here / 'link'} is a link of another user of this machine (uid {UID})" in problem


def test_folders_are_made_for_this_user_alone_and_those_that_are_there_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        make_folder(tmp_path / "there/one/two")
        make_folder(tmp_path / "there/one/two")
    finally:
        os.umask(before)
    modes = [(tmp_path / which).stat().st_mode & 0o777 for which in ("there", "there/one", "there/one/two")]
    assert modes == [0o755, 0o700, 0o700]

    # Somebody else is faster.
    own, mkdir = tmp_path.resolve() / "own", Path.mkdir

    def slow(path: Path, mode: int) -> None:
        mkdir(path)
        mkdir(path, mode)

    monkeypatch.setattr(Path, "mkdir", slow)
    make_folder(own)
    owned_by_another(monkeypatch, tmp_path.resolve() / "theirs")
    with pytest.raises(PermissionError, match="belongs to another user"):
        make_folder(tmp_path.resolve() / "theirs")


@pytest.mark.parametrize(("limit", "share"), [(1200, 200), (10**6, 10_000), (resource.RLIM_INFINITY, 10_000)])
def test_a_door_takes_its_part_of_the_files_or_all_that_it_may_have(
    limit: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert share_of_files(6, 10_000) == share
