#!/bin/sh
# Runs pytest under another torch, with the module as it is built here: what one wheel must bear.
#
#   sh scripts/under_torch.sh [--if-found] [--ops] torch==VERSION[,torchvision==VERSION] [pytest's]
#
# The torch goes into an environment of its own, build/under/<what>, which is kept.
#   --if-found  where pip finds no such torch, say so and end well
#   --ops       install what the ops need alone; otherwise what models need too
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
torch=${1:?"name a torch, such as torch==2.10.0,torchvision==0.25.0"}
shift
here="build/under/$torch"
python="$here/bin/python"
if ! [ -e "$here/.ready" ]; then
    echo "--- setting up $here"
    .venv/bin/python -m venv "$here"
    pip="$python -m pip install --quiet --disable-pip-version-check"
    # what is asked for by name is no matter of this machine's constraints
    if ! PIP_CONSTRAINT=/dev/null $pip $(echo "$torch" | tr , ' ') 2>"$here/pip.log"; then
        if [ $if_found = yes ]; then
            echo "--- not tested under $torch: pip finds no such torch here"
            exit 0
        fi
        cat "$here/pip.log" >&2
        exit 1
    fi
    # torch stays what it is
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
