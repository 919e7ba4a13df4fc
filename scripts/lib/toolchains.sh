# Toolchains and servers for the tests; source it from the project's root. It needs bash 3.2.

# Prints, one a line, Debian's names for what is missing here of Node.js, Go, Go's gRPC, Redis and Valkey.
missing_packages() {
    local tool sources=/usr/share/gocode/src/google.golang.org
    for tool in node:nodejs npm:npm go:golang-go protoc:protobuf-compiler protoc-gen-go:protoc-gen-go \
        protoc-gen-go-grpc:protoc-gen-go-grpc redis-server:redis-server valkey-server:valkey-server; do
        command -v "${tool%%:*}" >/dev/null || echo "${tool#*:}"
    done
    [ -d "$sources/grpc" ] || echo golang-google-grpc-dev
    [ -d "$sources/protobuf" ] || echo golang-google-protobuf-dev
}

# Installs what is missing with apt-get; else says on stderr why it cannot, and fails. Changes nothing when all is there.
install_toolchains() {
    local missing
    missing="$(missing_packages | tr '\n' ' ')"
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        echo "scripts/test --system: needs apt-get and root to install what is missing: $missing" >&2
        return 1
    fi
    echo "installing $missing" >&2
    # The lists are fetched only where those that are there, if any, will not do.
    # shellcheck disable=SC2086
    {
        { apt-cache show $missing >/dev/null 2>&1 || apt_get update; } && apt_get install $missing \
            || { apt_get update && apt_get install $missing; }
    } || {
        echo "scripts/test --system: apt-get could not install $missing; see above" >&2
        return 1
    }
}

# Runs apt-get quietly, and shows what it said when it fails.
apt_get() {
    local log
    log="$(mktemp)"
    if DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 \
        --no-install-recommends "$@" </dev/null >"$log" 2>&1; then
        rm -f "$log"
    else
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
}
