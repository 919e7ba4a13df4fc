# Environments for the scripts; source it from the project's root. It needs bash 3.2, a Python 3.11-3.13 and its venv.

# Prints a Python that can make environments; else says on stderr what is missing, and fails.
find_python() {
    local name seen=""
    for name in python3.11 python3.12 python3.13 python3 python; do
        "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null || continue
        if "$name" -c 'import ensurepip, venv' 2>/dev/null; then
            command -v "$name"
            return 0
        fi
        seen="${seen:-$name}"
    done
    if [ -n "$seen" ]; then
        echo "$seen is here, but not its venv; on Debian or Ubuntu: apt-get install $seen-venv" >&2
    else
        echo "there is no Python 3.11, 3.12 or 3.13 on PATH; install one with its venv" >&2
    fi
    return 1
}

# make_venv FOLDER LOCK: an environment at FOLDER with what LOCK pins, by hash, and this project in editable form.
# One that is there is kept and brought up to date; what is in it besides stays.
make_venv() {
    local folder="$1" lock="$2" python
    local install=("$folder/bin/python" -m pip --disable-pip-version-check install --quiet)
    if ! "$folder/bin/python" -c 'import sys, pip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
        python="$(find_python)" || return 1
        echo "making $folder with $python" >&2
        "$python" -m venv --clear "$folder" || return 1
    fi
    echo "installing $lock (the first time takes a minute)" >&2
    # The pip that Python brings may be an old and slow one.
    "${install[@]}" --require-hashes --only-binary :all: -r scripts/requirements/pip.txt || return 1
    # pip compiles one file after the other, and slowly; what cannot be compiled is of another Python, and not needed.
    "${install[@]}" --no-compile --require-hashes --only-binary :all: -r "$lock" || return 1
    "$folder/bin/python" -m compileall -q -j 0 "$folder"/lib/python3*/site-packages >/dev/null 2>&1 || true
    "${install[@]}" --no-deps --no-build-isolation --editable .
}

# run_in_venv LOCK MODULES PROGRAM...: runs a program of the project in the environment at HOLON_VENV, .venv by default.
# One that lacks any of these modules (with commas between them), or is none, is brought up to LOCK first.
run_in_venv() {
    local root venv="${HOLON_VENV:-.venv}" lock="$1" modules="$2"
    shift 2
    root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
    case "$venv" in
        /*) ;;
        *) venv="$root/$venv" ;;
    esac
    "$venv/bin/python" -c "import $modules" 2>/dev/null || (cd "$root" && make_venv "$venv" "$lock") || return 1
    PYTHONPATH="$root" exec "$venv/bin/python" -P -m "$@"
}
