#!/bin/sh
# Runs pytest under another torch, with the module built here: one wheel must work with all of them.
#
#   sh scripts/under_torch.sh [--if-found] [--ops] torch==VERSION[,torchvision==VERSION] [pytest's]
#
# The torch is installed in its own environment, build/under/<name>, which is kept.
# --if-found  if pip finds no such torch, say so and succeed
# --ops       install only what the ops need, not what models need
set -eu
cd "$(dirname "$0")/.."
if_found=no
extra=models
while :; do
    case "${1-}" in
        --if-found) if_found=yes ;;
        --ops) extra= ;;
        *) break ;;
    esac
    shift
done
torch=${1:?"give a torch version, such as torch==2.10.0,torchvision==0.25.0"}
shift
here="build/under/$torch"
python="$here/bin/python"
if ! [ -e "$here/.ready" ]; then
    echo "--- setting up $here"
    .venv/bin/python -m venv "$here"
    pip="$python -m pip install --quiet --disable-pip-version-check"
    # the torch was requested by name, so ignore the constraints of this machine
    if ! PIP_CONSTRAINT=/dev/null $pip $(echo "$torch" | tr , ' ') 2>"$here/pip.log"; then
        if [ $if_found = yes ]; then
            echo "--- not tested under $torch: pip finds no such torch"
            exit 0
        fi
        cat "$here/pip.log" >&2
        exit 1
    fi
    # keep this torch
    "$python" -m pip freeze | grep -E '^(torch|torchvision)[ =]' >"$here/torch.txt"
    PIP_CONSTRAINT="$here/torch.txt" $pip numpy pytest pytest-benchmark pytest-xdist \
        $(.venv/bin/python - "$extra" <<'END'
import sys, tomllib
extra = sys.argv[1]
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
print(*(project["optional-dependencies"][extra] if extra else []))
END
)
    touch "$here/.ready"
fi
echo "--- tests under $("$python" -c 'import torch; print("torch", torch.__version__)')"
"$python" -m pytest "$@"
