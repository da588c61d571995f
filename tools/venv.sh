#!/bin/sh
# Makes .venv, once, and installs into it what one verb of the Makefile needs:
#
#   tools/venv.sh demo|examples|test|dev
#
# A second call sees from a stamp that nothing changed and ends at once. Packages come from wherever
# pip is configured to look. PYTHON=... names the interpreter to use.
set -eu
cd "$(dirname "$0")/.."
here=$(pwd -P)
venv=.venv

# pip would refuse a user install in a virtual environment; a user's pip.conf may ask for one.
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1

goal=${1-}
case $goal in # what else holds all of it
  demo) covering="demo examples test dev" ;;
  examples) covering="examples test dev" ;;
  test) covering="test dev" ;;
  dev) covering="dev" ;;
  *) echo "usage: tools/venv.sh demo|examples|test|dev" >&2; exit 2 ;;
esac
case $goal in
  demo) set -- ;;
  *) set -- --group "$goal" ;;
esac
state="$here $(cat pyproject.toml constraints.txt tools/venv.sh | cksum)"

ready() {
  "$venv/bin/python" -c '' 2>/dev/null || return 1
  for stamp in $covering; do
    [ "$(cat "$venv/.ready-$stamp" 2>/dev/null)" = "$state" ] && return 0
  done
  return 1
}

# Usable: new enough, and able to put pip into a virtual environment. A pyenv shim may stand there and refuse to run.
find_python() {
  too_bare=
  for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1 && python=$candidate pip_from=ensurepip && return 0
    "$candidate" -c 'import pip, venv' >/dev/null 2>&1 && python=$candidate pip_from=pip && return 0
    too_bare=$candidate
  done
  if [ -n "$too_bare" ]; then
    echo "$too_bare has neither pip nor ensurepip, so it can't fill a virtual environment." >&2
    echo "On Debian and Ubuntu: apt-get install python3-venv" >&2
  elif [ -n "${PYTHON:-}" ]; then
    echo "PYTHON=$PYTHON does not run, or is older than Python 3.11." >&2
  else
    echo "No Python 3.11 or newer found on PATH: install one, or name it with PYTHON=/path/to/python3." >&2
  fi
  return 1
}

# An environment that was moved, half made, or whose interpreter is gone is made anew.
usable_venv() {
  [ "$(cat "$venv/.home" 2>/dev/null || echo "$here")" = "$here" ] || return 1
  "$venv/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

make_venv() {
  find_python
  echo "Making $venv with $("$python" --version)."
  if [ "$pip_from" = ensurepip ]; then
    "$python" -m venv --clear "$venv"
  else # Debian without python3-venv: the pip that is there installs another one
    "$python" -m venv --clear --without-pip "$venv"
    "$python" -m pip --python "$venv/bin/python" install --quiet 'pip>=25.1'
  fi
  echo "$here" >"$venv/.home"
}

ready && exit 0
usable_venv || make_venv
echo "Installing what '$goal' needs into $venv: a minute or two the first time."
# --group came with pip 25.1.
"$venv/bin/python" -m pip install --quiet 'pip>=25.1'
"$venv/bin/python" -m pip install --quiet --constraint constraints.txt --editable '.[redis,sandbox]' "$@"
echo "$state" >"$venv/.ready-$goal"
