#!/usr/bin/env bash
# Builds tpm.wasm again in a temporary folder and compares it with the one in this repository.
#
#   verify.sh [--sources DIR] [--install]
#
# --sources  as for build.sh
# --install  installs the toolchain when it is missing and this is root
#
# Exit code: 0 the same, 1 not the same, 2 could not be built.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
wasm=$(dirname "$here")
lock=$wasm/sources.lock
. "$here/toolchain.sh"

install='' options=()
while [ $# -gt 0 ]; do
  case $1 in
  --install)
    install=yes
    shift
    ;;
  --sources)
    [ $# -gt 1 ] || { echo 'verify.sh: --sources wants a folder' >&2; exit 2; }
    options=(--sources "$2")
    shift 2
    ;;
  *)
    echo "verify.sh: no option $1; usage: verify.sh [--sources DIR] [--install]" >&2
    exit 2
    ;;
  esac
done

if [ -n "$install" ] && [ "$(id -u)" = 0 ] && [ -n "$(missing_packages)" ]; then
  apt-get update -qq && apt-get install -y --no-install-recommends $(missing_packages)
fi
need_toolchain

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bash "$here/build.sh" "${options[@]}" --out "$work" || { echo 'verify.sh: the TPM could not be built' >&2; exit 2; }
locked=$(awk '$1 == "output" { print $3 }' "$lock")
rebuilt=$(sha256sum "$work/tpm.wasm" | cut -d' ' -f1)
present=$(sha256sum "$wasm/tpm.wasm" | cut -d' ' -f1)
if [ "$rebuilt" = "$present" ] && [ "$rebuilt" = "$locked" ]; then
  echo "wasm/tpm.wasm is what its sources make: $rebuilt"
  exit 0
fi
echo "wasm/tpm.wasm is not what its sources make: rebuilt $rebuilt, in the repository $present, sources.lock says $locked" >&2
if ! diff <(grep '^toolchain ' "$lock") <(toolchain_versions) >&2; then
  echo 'The toolchain above (< locked, > installed) differs, and that alone can change the bytes.' >&2
fi
exit 1
