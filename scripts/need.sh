#!/bin/sh
# Makes sure that a command is there: scripts/need.sh COMMAND PACKAGE installs Debian's package that
# brings it, where this runs as root, and otherwise says what to ask an administrator for.
set -eu
command=$1 package=$2
command -v "$command" >/dev/null && exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "detcore: $command is needed and not here; on Debian, as root: apt-get install $package" >&2
  exit 1
fi
echo "--- installing Debian's $package"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
command -v "$command" >/dev/null || {
  echo "detcore: $package was installed and brought no $command" >&2
  exit 1
}
