#!/bin/sh
# Creates .venv if necessary, and installs the packages that one group of make targets needs:
#
#   tools/venv.sh demo|examples|test|bench|dev
#
# A later call reads a stamp file and ends immediately if nothing has changed. Packages come from the index
# that pip is configured to use. PYTHON=... names the interpreter to use.
set -eu
cd "$(dirname "$0")/.."
here=$(pwd -P)
venv=.venv

# A user's pip.conf may turn on user installs, which pip refuses in a virtual environment.
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1

goal=${1-}
case $goal in # the groups that include every package of this one
  demo) covering="demo examples test bench dev" ;;
  examples) covering="examples test bench dev" ;;
  test) covering="test bench dev" ;;
  bench) covering="bench dev" ;;
  dev) covering="dev" ;;
  *) echo "usage: tools/venv.sh demo|examples|test|bench|dev" >&2; exit 2 ;;
esac
case $goal in
  demo) set -- ;;
  *) set -- --group "$goal" ;;
esac
# The installed metadata contains the version.
version=src/posten_signering/_values/version.py
state="$here $(cat pyproject.toml constraints.txt "$version" tools/venv.sh | cksum)"

ready() {
  "$venv/bin/python" -c '' 2>/dev/null || return 1
  for stamp in $covering; do
    [ "$(cat "$venv/.ready-$stamp" 2>/dev/null)" = "$state" ] && return 0
  done
  return 1
}

# Finds an interpreter that is new enough and can install pip into a virtual environment. Some commands on PATH do
# not run at all, such as pyenv's shims for versions that are not selected.
find_python() {
  without_pip=
  for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1 && python=$candidate pip_from=ensurepip && return 0
    "$candidate" -c 'import pip, venv' >/dev/null 2>&1 && python=$candidate pip_from=pip && return 0
    without_pip=$candidate
  done
  if [ -n "$without_pip" ]; then
    echo "$without_pip has neither pip nor ensurepip, so it can't install packages into a virtual environment." >&2
    echo "Install one of them. On Debian and Ubuntu: apt-get install python3-venv" >&2
  elif [ -n "${PYTHON:-}" ]; then
    echo "PYTHON=$PYTHON does not run, or is older than Python 3.11. Set PYTHON to another interpreter." >&2
  else
    echo "No Python 3.11 or newer found on PATH. Install one, or set PYTHON=/path/to/python3." >&2
  fi
  return 1
}

# An environment is replaced if it was moved, if its creation was interrupted, or if its interpreter is gone.
usable_venv() {
  [ "$(cat "$venv/.home" 2>/dev/null || echo "$here")" = "$here" ] || return 1
  "$venv/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

make_venv() {
  find_python
  echo "Creating $venv with $("$python" --version)."
  if [ "$pip_from" = ensurepip ]; then
    "$python" -m venv --clear "$venv"
  else # Debian without python3-venv: the interpreter's own pip installs a pip into the environment
    "$python" -m venv --clear --without-pip "$venv"
    "$python" -m pip --python "$venv/bin/python" install --quiet 'pip>=25.1'
  fi
  echo "$here" >"$venv/.home"
}

ready && exit 0
usable_venv || make_venv
echo "Installing the packages for '$goal' into $venv. The first time, this takes a minute or two."
# pip 25.1 introduced --group.
"$venv/bin/python" -m pip install --quiet 'pip>=25.1'
"$venv/bin/python" -m pip install --quiet --constraint constraints.txt --editable '.[cli,opentelemetry,redis,sandbox]' "$@"
echo "$state" >"$venv/.ready-$goal"
