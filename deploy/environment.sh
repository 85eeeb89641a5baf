# Sourced by deploy/run and deploy/test: private Python environments inside the checkout.
#
# An environment is made on first use from the versions pinned in setup.cfg, and made anew when setup.cfg,
# the Python or the checkout's place changes (a stamp inside says what it was made from). Outside the
# checkout nothing is touched, except that root on Debian installs python3-venv where it is missing.

shopt -s inherit_errexit # or a failed step inside $(...) would go unnoticed

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

is_debian_root() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

# apt_install PACKAGE...
apt_install() {
    say "Installing Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update >&2 && apt-get -qq install -y --no-install-recommends "$@" >&2
}

is_usable_python() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

has_venv() { "$1" -c 'import venv, ensurepip' 2>/dev/null; }

# The Python to build environments from: OTTLA_PYTHON, or the first of 3.11 and newer that is there.
find_python() {
    local candidate
    for candidate in ${OTTLA_PYTHON:+"$OTTLA_PYTHON"} python3.11 python3 python3.12 python3.13; do
        if is_usable_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed; none was found (OTTLA_PYTHON can name one)."
}

# environment_stamp PYTHON CHECKOUT EXTRAS: all that an environment depends on.
environment_stamp() {
    "$1" -V
    printf '%s %s %s\n' "$1" "$2" "$3"
    sha256sum <"$2/setup.cfg"
    sha256sum <"$2/pyproject.toml"
}

# make_environment CHECKOUT NAME EXTRAS: prints the environment's directory. EXTRAS is '' or '[test]'.
make_environment() {
    local checkout=$1 directory=$1/$2 extras=$3 python stamp
    python=$(find_python)
    stamp=$(environment_stamp "$python" "$checkout" "$extras")
    (
        flock 9 # two first uses at once: the second waits and finds the work done
        if [ "$(cat "$directory/made-from" 2>/dev/null)" != "$stamp" ]; then
            build_environment "$python" "$checkout" "$directory" "$extras"
            printf '%s\n' "$stamp" >"$directory/made-from"
        fi
    ) 9<"$checkout/setup.cfg"
    printf '%s\n' "$directory"
}

build_environment() {
    local python=$1 checkout=$2 directory=$3 extras=$4
    if ! has_venv "$python"; then
        is_debian_root || die "$python has no venv module; as root: apt-get install python3-venv"
        apt_install python3-venv
    fi
    say "Making $directory from the versions pinned in setup.cfg (once) ..."
    rm -rf "$directory"
    "$python" -m venv "$directory"
    printf '*\n' >"$directory/.gitignore"
    "$directory/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$checkout$extras" >&2
}
