#!/bin/sh
# Makes .venv-compiled, which has the wheel of this tree with its core compiled, and of everything else
# what .venv has. Where there is no C compiler it says so, and makes none.
set -eu

python=$PWD/.venv/bin/python
asked() { "$python" -c "import sysconfig; print(sysconfig.$1)"; }

rm -rf .venv-compiled
if ! echo '#include <Python.h>' |
    ${CC:-$(asked 'get_config_var("CC")')} -I"$(asked 'get_path("include")')" -E - >/dev/null 2>&1
then
    echo "the core stays pure Python: there is no C compiler, or it lacks the headers of Python" >&2
    exit
fi

echo "compiling the core into .venv-compiled" >&2
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
pip() { "$python" -m pip --disable-pip-version-check --quiet "$@"; }
OSMO_COMPILE=1 pip wheel --no-deps --wheel-dir "$wheels" .

# Not the editable installation that .venv has besides: it would stand in for what the wheel lacks.
"$python" -m venv --without-pip .venv-compiled
packages=$(.venv-compiled/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\n' "$(asked 'get_path("purelib")')" "$PWD/benchmarks" >"$packages/shared.pth"
pip --python .venv-compiled/bin/python install --no-deps --ignore-installed "$wheels"/*.whl
touch .venv-compiled/.done
