# shellcheck shell=bash
# Sourced by the scripts beside it: from a bare machine to the locked Python environment.

# Prints the path of any Python that can run the harness, which itself then chooses the one to use.
some_python() {
    local candidate
    for candidate in python3 python3.{13,12,11} "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/*/bin/python3 /usr/bin/python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
            echo "$candidate"
            return
        fi
    done
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get install -q --yes python3 python3-venv >&2
        command -v python3
        return
    fi
    echo "error: Python 3.11 or newer is needed: install the packages python3 and python3-venv" >&2
    return 1
}

# Prints the directory of the locked environment, and makes it the first time.
locked_environment() {
    local python
    python=$(some_python)
    "$python" -m tests.harness.environment newest
}
