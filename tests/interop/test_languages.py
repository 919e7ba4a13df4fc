"""Code in other languages, generated from the protos with no option but where it goes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.interop import toolchains
from tests.interop.conftest import built

# Of each language, where a message of `job.proto` is, and the line that says where it belongs.
PLACES = {
    "csharp": ("Job.cs", "namespace Holon.Rxon.V1 {"),
    "go": ("src/example.org/you/gen/holon/rxon/v1/job.pb.go", "package rxonv1"),
    "java": ("holon/rxon/v1/CreateJobRequest.java", "package holon.rxon.v1;"),
    "php": ("Holon/Rxon/V1/CreateJobRequest.php", "namespace Holon\\Rxon\\V1;"),
    "ruby": ("holon/rxon/v1/job_pb.rb", "    module V1"),
}
# A module of somebody's own, which imports the code by where it is.
IMPORTING = """package main

import (
	"fmt"

	rxonv1 "example.org/you/gen/holon/rxon/v1"
)

func main() {
	fmt.Println(rxonv1.JobService_CreateJob_FullMethodName, &rxonv1.SkillLimit{NoSkills: true})
}
"""


@pytest.mark.parametrize("language", PLACES)
def test_what_is_generated_without_an_option_belongs_where_its_language_expects_it(
    generated_code: Path, language: str
) -> None:
    name, line = PLACES[language]
    assert line in (generated_code / language / name).read_text(encoding="utf-8").splitlines()


def test_generated_go_is_imported_by_where_it_is(
    generated_code: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def importing(_: Path) -> Path:
        path = generated_code / "go"
        (path / "src/example.org/you/main.go").write_text(IMPORTING, encoding="utf-8")
        toolchains.build_go(path, "example.org/you")
        return path / "program"

    program = built(tmp_path_factory, importing)
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["/holon.rxon.v1.JobService/CreateJob", "no_skills:true"]
