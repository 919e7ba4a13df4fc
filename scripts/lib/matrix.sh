# The interpreters and versions beside the pinned ones; source it from the project's root, after venv.sh.

# What runs in each: every rule, the wire in all its forms, and the quick start.
matrix_tests=(tests/unit tests/sweeps tests/pages tests/contract tests/interop
    tests/integration/test_worker_door.py tests/integration/test_client_door.py tests/e2e/test_readme.py
    --ignore tests/interop/test_oldest_versions.py)
wire_packages=(grpcio grpcio-health-checking grpcio-reflection grpcio-status googleapis-common-protos protobuf)

# Runs the whole matrix, one line for each of its environments, and what was printed where one fails.
run_matrix() {
    local python version oldest="" newest="" bad=0
    place="$(mktemp -d)"
    for python in $(find_pythons); do
        version="$("$python" -c 'import platform; print(platform.python_version())')"
        oldest="${oldest:-$python}"
        newest="$python"
        try_versions "python-$version" "$python" locked || bad=1
    done
    try_versions floor "$oldest" floor || bad=1
    try_versions newest "$newest" newest || bad=1
    return $bad
}

# Prints each Python from 3.11 to 3.13 that is here, on PATH or among pyenv's: one of each minor version.
find_pythons() {
    local minor python
    for minor in 11 12 13; do
        for python in "python3.$minor" "$HOME/.pyenv/versions/3.$minor".*/bin/python; do
            if "$python" -c "import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, $minor))" 2>/dev/null; then
                command -v "$python"
                break
            fi
        done
    done
}

# try_versions NAME PYTHON VERSIONS: the tests in an environment that is gone afterwards.
try_versions() {
    local name="$1" log="$place/$1.log" started=$SECONDS outcome="ok     "
    test_versions "$place/$name" "$2" "$3" >"$log" 2>&1 || outcome="FAILED "
    echo "$outcome matrix $name ($2) $((SECONDS - started)) s: $(tail -n 1 "$log")"
    grep -E "^(grpcio|protobuf)==|NOT CHECKED|^SKIPPED" "$log"
    rm -rf "${place:?}/$name"*/
    [ "$outcome" != "FAILED " ] || { cat "$log"; return 1; }
}

# test_versions FOLDER PYTHON VERSIONS: makes an environment of PYTHON in FOLDER and runs the tests in it. VERSIONS are
# "locked", "floor" (the oldest of each dependency that pyproject.toml allows) or "newest" (of gRPC and protobuf).
test_versions() {
    local venv="$1" install=("$1/bin/python" -m pip --disable-pip-version-check install --quiet --only-binary :all:)
    "$2" -m venv "$venv" && make_venv "$venv" scripts/requirements/test.txt || return 1
    case "$3" in
        floor) "${install[@]}" --no-deps --require-hashes -r scripts/requirements/floor.txt || return 1 ;;
        newest) "${install[@]}" --upgrade "${wire_packages[@]}" || return 1 ;;
    esac
    "$venv/bin/python" -m pip freeze --disable-pip-version-check | grep -E "^(grpcio|protobuf)=="
    HOLON_VENV="$venv" PATH="$venv/bin:$PATH" "$venv/bin/python" -m pytest -q -p no:cacheprovider "${matrix_tests[@]}"
}
