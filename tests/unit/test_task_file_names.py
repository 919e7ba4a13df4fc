"""Names of files of a job: whatever text one is, nothing outside of the job is read, written or named by it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holon.errors import HolonError, InvalidArgument, PermissionDenied
from holon.task_files.folder import Folder
from holon.task_files.names import MAX_KEY_BYTES, key_of, named, parts_of, prefix_of

BUCKET, PREFIX = "payloads", prefix_of("0-1")
# What paths are made of, and what could lead elsewhere in them.
PIECES = st.sampled_from(
    ["..", ".", "", "/", "\\", "\0", "a", "b.txt", "~", "%2e%2e", "..\\", "C:", "jobs", "0-2", "é"]
)
NAMES = st.one_of(st.text(), st.lists(PIECES).map("/".join), st.lists(PIECES).map("".join))
URIS = st.builds(
    "s3://{}/{}{}".format, st.sampled_from([BUCKET, "other", ""]), st.sampled_from([PREFIX, "jobs/0-2/", ""]), NAMES
)


@given(NAMES | URIS)
@example(f"s3://{BUCKET}/{PREFIX}../0-2/x")
@example("a/../../0-2/x")
def test_a_key_is_always_below_the_prefix_of_its_job(text: str) -> None:
    try:
        parts = named(text, BUCKET, PREFIX)
        key = key_of(PREFIX, parts)
    except (InvalidArgument, PermissionDenied):
        return
    assert key.startswith(PREFIX)
    assert not {"..", "."} & {*key.split("/")}
    assert len(key.encode()) <= MAX_KEY_BYTES
    if parts:
        assert "//" not in key
        # It is what the same name means to whoever takes paths apart.
        assert os.path.normpath(key) == key == str(PurePosixPath(key))


@given(NAMES | NAMES.map(lambda text: f"/{text}"))
@example("/etc/passwd")
@example("folder/secret")
@example("link")
def test_nothing_outside_of_its_folder_is_read_or_written(text: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        (place / "secret").write_text("secret")
        folder = Folder(place / "job")
        folder.write(("kept",), b"kept")
        (folder.root / "folder").symlink_to(place)
        (folder.root / "link").symlink_to(place / "secret")
        try:
            parts = folder.parts_below(text)
            assert str(folder.path(parts)).startswith(str(folder.root))
            if parts and parts[0] != "kept":
                written = folder.write(parts, b"mine")
                file, _ = folder.open(parts)
                with file:
                    assert file.read() == b"mine"
                assert written.resolve().is_relative_to(folder.root)
        except HolonError as error:
            assert error.code in ("FILE_NAME_INVALID", "FILE_NOT_FOUND", "FILES_LOCAL")  # noqa: PT017  both are right
        assert sorted(one.name for one in place.iterdir()) == ["job", "secret"]
        assert (place / "secret").read_text() == "secret"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("/", "empty"),
        ("/a", "absolute"),
        ("a//b", "''"),
        ("./a", r"'\.'"),
        ("a/..", r"'\.\.'"),
        ("a\nb", "control"),
        ("a\\b", "backslash"),
        ("\ud800", "not UTF-8"),
        ("é" * 128, "255"),
        ("a/" * 600 + "a", "1024"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(name: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why) as refused:
        key_of(PREFIX, parts_of(name))
    assert refused.value.code == "FILE_NAME_INVALID"
    assert len(refused.value.message) < 500


def test_a_name_is_text() -> None:
    for name in (None, 5, b"a", ["a"]):
        with pytest.raises(InvalidArgument, match="give text"):
            parts_of(name)
    assert parts_of(PurePosixPath("a/b")) == ("a", "b")
    assert parts_of("a/b/") == ("a", "b")


def test_local_paths_are_those_of_the_folder_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "job")
    assert folder.parts_below(folder.path(("a", "b"))) == ("a", "b")
    assert folder.parts_below(str(folder.root / "a")) == ("a",)
    assert folder.parts_below(folder.root) == ()
    for elsewhere in (
        tmp_path,
        f"{folder.root}x/a",
        f"{folder.root}/../../secret",
        folder.root / ".." / "a",
        tmp_path / "job" / "partial" / "a",
    ):
        with pytest.raises(InvalidArgument):
            folder.parts_below(elsewhere)


def test_others_cannot_look_into_the_folder(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "job")
    folder.write(("deep", "a"), b"")
    for path in (tmp_path / "job", folder.root, folder.root / "deep", folder.root / "deep" / "a"):
        assert path.stat().st_mode & 0o077 == 0
