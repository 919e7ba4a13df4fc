"""What the protos promise to whoever generates code from them, in a language that nobody here has seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "proto"
FILES = [f"holon/rxon/v1/{name}.proto" for name in ("job", "node", "token", "types", "worker")]
WELL_KNOWN = {"google/protobuf/duration.proto", "google/protobuf/timestamp.proto"}
PACKAGE = ".holon.rxon.v1."


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[bytes]:
    """Runs a command to its end, without raising."""
    return subprocess.run(command, cwd=cwd, capture_output=True, check=False)


@pytest.fixture(scope="module")
def drift() -> subprocess.CompletedProcess[bytes]:
    return run(sys.executable, "scripts/gen_proto", "--check")


@pytest.fixture(scope="module")
def generator(drift: subprocess.CompletedProcess[bytes]) -> Path:
    """The interpreter of the generator's environment, which the drift check makes when it is missing."""
    python = ROOT / (os.environ.get("HOLON_VENV", ".venv") + "-gen") / "bin" / "python"
    assert python.exists(), drift.stderr.decode()
    return python


@pytest.fixture(scope="module")
def files(buf: str) -> list[FileDescriptorProto]:
    built = run(buf, "build", str(PROTOS), "-o", "-#format=binpb")
    assert built.returncode == 0, built.stderr.decode()
    ours = [
        file for file in FileDescriptorSet.FromString(built.stdout).file if not file.name.startswith("google/protobuf/")
    ]
    assert sorted(file.name for file in ours) == FILES
    return ours


def messages(files: list[FileDescriptorProto]) -> Iterator[DescriptorProto]:
    """Every message but the entries of maps; the protos nest none, so that no generator has to join names."""
    for file in files:
        for message in file.message_type:
            assert all(nested.options.map_entry for nested in message.nested_type), message.name
            yield message


def enums(files: list[FileDescriptorProto]) -> Iterator[EnumDescriptorProto]:
    for file in files:
        yield from file.enum_type


def map_fields(message: DescriptorProto) -> list[str]:
    entries = {f"{PACKAGE}{message.name}.{nested.name}" for nested in message.nested_type}
    return [f"{message.name}.{field.name}" for field in message.field if field.type_name in entries]


@pytest.mark.parametrize("name", FILES)
def test_protoc_needs_nothing_but_the_proto_folder(name: str, generator: Path, tmp_path: Path) -> None:
    shutil.copytree(PROTOS, tmp_path / "proto")
    command = [str(generator), "-W", "ignore", "-m", "grpc_tools.protoc", "-I", "proto"]
    done = run(*command, "--include_imports", "--descriptor_set_out=out.binpb", name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert name in {file.name for file in FileDescriptorSet.FromString((tmp_path / "out.binpb").read_bytes()).file}


def test_files_import_only_each_other_and_timestamp_and_duration(files: list[FileDescriptorProto]) -> None:
    for file in files:
        assert set(file.dependency) <= WELL_KNOWN | set(FILES), file.name
        assert file.syntax == "proto3"


def test_what_clients_need_does_not_bring_in_what_workers_need(files: list[FileDescriptorProto]) -> None:
    by_name = {file.name: set(file.dependency) for file in files}
    assert "holon/rxon/v1/worker.proto" not in by_name["holon/rxon/v1/job.proto"] | by_name["holon/rxon/v1/node.proto"]


def test_every_element_says_what_it_is_for(files: list[FileDescriptorProto]) -> None:
    silent = []
    for file in files:
        said = {tuple(at.path): at.leading_comments.strip() for at in file.source_code_info.location}
        paths: dict[tuple[int, ...], str] = {(12,): "the file itself"}
        for i, message in enumerate(file.message_type):
            paths[4, i] = message.name
            paths |= {(4, i, 2, j): f"{message.name}.{field.name}" for j, field in enumerate(message.field)}
            paths |= {
                (4, i, 8, j): f"{message.name}.{oneof.name}"
                for j, oneof in enumerate(message.oneof_decl)
                if not oneof.name.startswith("_")
            }
        for i, enum in enumerate(file.enum_type):
            paths[5, i] = enum.name
            paths |= {(5, i, 2, j): value.name for j, value in enumerate(enum.value)}
        for i, service in enumerate(file.service):
            paths[6, i] = service.name
            paths |= {(6, i, 2, j): f"{service.name}.{method.name}" for j, method in enumerate(service.method)}
        silent += [f"{file.name}: {name}" for path, name in paths.items() if not said.get(path)]
    assert silent == []


def test_an_enum_value_that_was_never_set_means_nothing(files: list[FileDescriptorProto]) -> None:
    for enum in enums(files):
        zero = next(value.name for value in enum.value if value.number == 0)
        assert zero.endswith("_UNSPECIFIED"), enum.name


def test_no_map_is_in_what_is_signed_hashed_or_compared(files: list[FileDescriptorProto]) -> None:
    assert sorted(field for message in messages(files) for field in map_fields(message)) == [
        "Error.metadata",
        "Hello.labels",
        "WorkerInfo.labels",
        "WorkerInfo.prices",
    ]
    by_name = {PACKAGE + message.name: message for message in messages(files)}
    for root in ("Receipt", "TaskResult", "WorkerEvents", "Catalog", "CreateJobRequest", "HistoryEvent", "JobSummary"):
        reached, todo = set[str](), [PACKAGE + root]
        while todo:
            name = todo.pop()
            if name in reached or name not in by_name:
                continue
            reached.add(name)
            assert map_fields(by_name[name]) == [], f"{root} reaches a map in {name}"
            todo += [field.type_name for field in by_name[name].field]


def test_numbers_have_types_that_every_language_has(files: list[FileDescriptorProto]) -> None:
    kinds = FieldDescriptorProto
    allowed = {kinds.TYPE_INT32, kinds.TYPE_INT64, kinds.TYPE_DOUBLE, kinds.TYPE_BOOL, kinds.TYPE_STRING}
    allowed |= {kinds.TYPE_BYTES, kinds.TYPE_MESSAGE, kinds.TYPE_ENUM}
    assert [
        f"{message.name}.{field.name}"
        for message in messages(files)
        for field in message.field
        if field.type not in allowed
    ] == []


def test_no_name_is_bent_by_a_known_generator(files: list[FileDescriptorProto]) -> None:
    # The package's own first part hides it in typed Python; the rest is a method of every object in Ruby, C#, Go, Java
    # or JavaScript, or a word of the language in several.
    taken = {"holon", "google", "hash", "method", "send", "display", "freeze", "clone", "class", "object", "string"}
    taken |= {"reset", "descriptor", "parser", "types", "constructor", "length", "arguments", "namespace", "operator"}
    taken |= {"from", "import", "in", "is", "not", "default", "delete", "register", "union", "async", "await", "self"}
    bent = []
    for message in messages(files):
        names = {field.name for field in message.field} | {oneof.name for oneof in message.oneof_decl}
        derived = {f"{name}_{suffix}" for name in names for suffix in ("count", "list", "bytes", "value", "case")}
        derived |= {f"{prefix}_{name}" for name in names for prefix in ("has", "clear", "get", "set")}
        same_as_class = {name for name in names if name.replace("_", "").lower() == message.name.lower()}
        bent += [f"{message.name}.{name}" for name in names & (derived | taken) | same_as_class]
    assert sorted(bent) == []


def test_every_file_says_the_same_about_every_language(files: list[FileDescriptorProto]) -> None:
    for file in files:
        options = file.options
        outer = Path(file.name).stem.capitalize() + "Proto"
        assert (options.go_package, options.java_package) == ("holon/rxon/v1;rxonv1", "holon.rxon.v1")
        assert (options.java_multiple_files, options.java_outer_classname) == (True, outer)
        assert (options.csharp_namespace, options.ruby_package) == ("Holon.Rxon.V1", "Holon::Rxon::V1")
        assert (options.php_namespace, options.objc_class_prefix) == ("Holon\\Rxon\\V1", "HRX")


def test_only_the_session_and_the_watch_are_streams(files: list[FileDescriptorProto]) -> None:
    streams = {
        f"{service.name}.{method.name}": (method.client_streaming, method.server_streaming)
        for file in files
        for service in file.service
        for method in service.method
        if method.client_streaming or method.server_streaming
    }
    assert streams == {"WorkerService.Session": (True, True), "JobService.WatchJob": (False, True)}


def test_buf_finds_nothing_to_say(buf: str) -> None:
    for command in (["lint"], ["format", "-d", "--exit-code"]):
        done = run(buf, *command, cwd=PROTOS)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()


BROKEN = {
    "a presence": ("worker", "  optional int32 credits = 5;", "  int32 credits = 5;"),
    "a type": ("job", "  string job_id = 1;", "  bytes job_id = 1;"),
    "a number": ("types", "  string lease_id = 2;", "  string lease_id = 3;"),
    "a name": ("types", "  string lease_id = 2;", "  string fencing_token = 2;"),
    "a cardinality": ("worker", "  repeated TaskOffer offers = 1;", "  TaskOffer offers = 1;"),
    "a field that is gone": ("worker", "  google.protobuf.Duration grace = 4;\n", "  reserved 4;\n"),
    "a value that is gone": ("types", "  CAPABILITY_CANCEL = 2;\n", ""),
    "a stream": ("job", "returns (stream WatchJobResponse)", "returns (WatchJobResponse)"),
    "a call that is gone": ("node", "  rpc GetStats(GetStatsRequest) returns (GetStatsResponse);\n", ""),
    "a package": ("token", '"holon/rxon/v1;rxonv1"', '"holon/v1;holonv1"'),
}
GROWN = {
    "a field": ("types", "  string lease_id = 2;", "  string lease_id = 2;\n  optional int32 more = 1000;"),
    "a member": ("worker", "    Drain drain = 6;", "    Drain drain = 6;\n    Drain more = 1000;"),
    "a value": ("types", "  CAPABILITY_CANCEL = 2;", "  CAPABILITY_CANCEL = 2;\n  CAPABILITY_MORE = 1000;"),
    "a call": (
        "node",
        "  rpc GetStats(",
        "  rpc GetMore(GetStatsRequest) returns (GetStatsResponse);\n  rpc GetStats(",
    ),
}


@pytest.fixture
def against_baseline(buf: str, tmp_path: Path) -> Callable[[str, str, str], subprocess.CompletedProcess[bytes]]:
    """Compares the protos, with one text in one file replaced, with what was promised."""

    def compare(name: str, old: str, new: str) -> subprocess.CompletedProcess[bytes]:
        shutil.copytree(PROTOS, tmp_path / "proto")
        changed = tmp_path / f"proto/holon/rxon/v1/{name}.proto"
        text = changed.read_text(encoding="utf-8")
        assert old in text
        changed.write_text(text.replace(old, new, 1), encoding="utf-8")
        return run(buf, "breaking", "proto", "--against", str(PROTOS / "baseline.binpb"), cwd=tmp_path)

    return compare


def test_the_protocol_is_still_what_was_promised(buf: str) -> None:
    done = run(buf, "breaking", "proto", "--against", "proto/baseline.binpb")
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_change_that_breaks_what_was_promised_is_found(
    change: tuple[str, str, str],
    against_baseline: Callable[[str, str, str], subprocess.CompletedProcess[bytes]],
) -> None:
    done = against_baseline(*change)
    assert done.returncode == 100, done.stderr.decode()
    assert f"{change[0]}.proto" in done.stdout.decode()


@pytest.mark.parametrize("change", GROWN.values(), ids=GROWN)
def test_growth_breaks_nothing(
    change: tuple[str, str, str],
    against_baseline: Callable[[str, str, str], subprocess.CompletedProcess[bytes]],
) -> None:
    done = against_baseline(*change)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_the_committed_code_is_what_the_protos_give(drift: subprocess.CompletedProcess[bytes]) -> None:
    assert drift.returncode == 0, drift.stderr.decode()


def stubs(generator: Path, out: Path, protos: Path, *files: str) -> None:
    """Generates stubs in Python as a user does it."""
    command = [str(generator), "-W", "ignore", "-m", "grpc_tools.protoc", "-I", str(protos)]
    done = run(*command, f"--python_out={out}", f"--grpc_python_out={out}", *files, cwd=out)
    assert done.returncode == 0, done.stderr.decode()


def imported(program: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program in the environment of the SDK, with a folder of stubs before it."""
    env = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=path.parent, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("are_packages", [False, True])
def test_stubs_of_ones_own_are_imported_before_the_sdk_once_their_folders_are_packages(
    generator: Path, tmp_path: Path, are_packages: bool
) -> None:
    stubs(generator, tmp_path, PROTOS, *FILES)
    if are_packages:
        for folder in ("holon", "holon/rxon", "holon/rxon/v1"):
            (tmp_path / folder / "__init__.py").touch()
    done = imported("from holon.rxon.v1 import job_pb2, job_pb2_grpc; print(job_pb2.__file__)", tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path if are_packages else ROOT / "holon")


def test_one_process_takes_one_copy_of_the_stubs(generator: Path, tmp_path: Path) -> None:
    moved = tmp_path / "protos/mine/rxon/v1"
    moved.mkdir(parents=True)
    for path in (PROTOS / "holon/rxon/v1").glob("*.proto"):
        text = path.read_text(encoding="utf-8").replace('import "holon/rxon/v1/', 'import "mine/rxon/v1/')
        (moved / path.name).write_text(text, encoding="utf-8")
    stubs(generator, tmp_path, tmp_path / "protos", *(name.replace("holon/", "mine/") for name in FILES))
    assert imported("import mine.rxon.v1.job_pb2", tmp_path).returncode == 0
    both = imported("import holon.rxon.v1.job_pb2, mine.rxon.v1.job_pb2", tmp_path)
    assert both.returncode == 1
    assert "duplicate symbol 'holon.rxon.v1." in both.stderr


def test_the_generated_code_imports_without_a_warning() -> None:
    modules = [path.stem for path in (ROOT / "holon/rxon/v1").glob("*_pb2*.py")]
    assert len(modules) == 9
    done = run(sys.executable, "-W", "error", "-c", "\n".join(f"import holon.rxon.v1.{name}" for name in modules))
    assert done.returncode == 0, done.stderr.decode()
