#!/bin/sh
# Build the wheel through the sdist, install it alone, and run the tests against it away from the checkout.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
python=$(cd "$here" && command -v "${PYTHON:-python3}")
case $python in /*) ;; *) python=$here/$python ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

(cd "$here" && "$python" -m build --outdir "$work/dist" . >"$work/build.log" 2>&1) || { cat "$work/build.log"; exit 1; }
"$python" -m venv "$work/venv"
wheel=$(ls "$work"/dist/*.whl)
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  --constraint "$here/constraints.txt" "$wheel[edge,dev]"

# What is tested is the wheel: neither the checkout's packages nor its templates are within reach.
mkdir "$work/away"
cp -R "$here/tests" "$here/docs" "$here/pyproject.toml" "$here/README.md" "$here/CHANGELOG.md" "$work/away/"
cd "$work/away"
"$work/venv/bin/python" -c 'import agent, sys; assert "site-packages" in agent.__file__, agent.__file__'
"$work/venv/bin/python" -m pytest -q -n "$(expr 2 \* "$(nproc)")" -p no:cacheprovider
