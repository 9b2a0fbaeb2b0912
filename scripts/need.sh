#!/bin/sh
# Makes sure that a command exists: scripts/need.sh COMMAND PACKAGE installs the Debian package that
# contains it if this runs as root, and otherwise says what an administrator must install.
set -eu
command=$1 package=$2
command -v "$command" >/dev/null && exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "detcore: $command is not installed; on Debian, as root: apt-get install $package" >&2
  exit 1
fi
echo "--- installing Debian's $package"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
command -v "$command" >/dev/null || {
  echo "detcore: $package is installed but has no $command" >&2
  exit 1
}
