#!/usr/bin/env bash
# Builds tpm.wasm: the TCG reference TPM and the part of OpenSSL it calls, for wasm32.
#
#   build.sh [--sources DIR] [--out DIR]
#
# --sources  folder with the two inputs that sources.lock names; without it they come from Debian's mirror
# --out      where tpm.wasm goes; without it beside load.ts, and sources.lock gets its hash
set -euo pipefail
export LC_ALL=C TZ=UTC
umask 022
here=$(cd "$(dirname "$0")" && pwd)
wasm=$(dirname "$here")
lock=$wasm/sources.lock
. "$here/inputs.sh"
. "$here/toolchain.sh"

sources='' out=''
while [ $# -gt 0 ]; do
  case $1 in
  --sources | --out)
    [ $# -gt 1 ] || fail "$1 wants a folder"
    [ "$1" = --out ] && out=$2 || sources=$2
    shift 2
    ;;
  *) fail "no option $1; usage: build.sh [--sources DIR] [--out DIR]" ;;
  esac
done
[ -z "$sources" ] || check_inputs "$sources"
need_toolchain

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "$sources" ]; then
  sources=$work/inputs
  mkdir "$sources"
  fetch_inputs "$sources" "$work/apt"
  check_inputs "$sources"
fi

dpkg-deb -x "$sources/$tpm_file" "$work/package"
simulator=$work/package/usr/share/gocode/src/github.com/google/go-tpm-tools/simulator
tpm=$simulator/ms-tpm-20-ref/TPMCmd/tpm

openssl=$work/openssl
mkdir "$openssl"
if [ -f "$sources/$openssl_part_file" ]; then
  tar -xzf "$sources/$openssl_part_file" -C "$openssl" --strip-components=1
else
  tar -xzf "$sources/$openssl_file" -C "$openssl" --strip-components=1
  cp "$here/openssl-target.conf" "$openssl/Configurations/99-tpm.conf"
  for tool in perl make; do command -v $tool >/dev/null || fail "OpenSSL's headers need $tool: apt-get install $tool"; done
  (
    cd "$openssl"
    ./Configure wasm32-tpm no-asm no-threads no-shared no-dso no-engine no-sock no-tests no-ui-console \
      no-stdio no-posix-io no-autoload-config no-async no-ec2m no-err
    make build_generated
  ) >"$work/configure.log" 2>&1 || {
    tail -n 20 "$work/configure.log" >&2
    fail "OpenSSL's Configure failed"
  }
fi

# The package's own list of the files that make a TPM, without its platform, and with our checks around one file.
sed -n 's/^#include "\(.*\.c\)"$/\1/p' "$simulator/internal/include.c" |
  grep -v -x -e Clock.c -e Entropy.c -e NVMem.c -e Run.c |
  sed -e 's,^crypt/CryptUtil.c$,checked-crypt.c,' -e '$a platform.c' |
  sed 's,.*,#include "&",' >"$work/tpm.c"
grep -q checked-crypt.c "$work/tpm.c" || fail "the list of files in $tpm_file is not the one this build knows"

compile=(clang-19 --target=wasm32-wasi -O2 -mbulk-memory -msign-ext -mnontrapping-fptoint -mmutable-globals
  -ffunction-sections -fdata-sections -fno-ident -fno-strict-aliasing -g0 -DNDEBUG
  "-ffile-prefix-map=$work=/build" "-ffile-prefix-map=$here=/build" -c)
include_openssl=(-I"$openssl" -I"$openssl/include" -I"$openssl/crypto/ec")
"${compile[@]}" -std=gnu11 -w -include "$here/platform/config.h" "-DREFERENCE_SOURCE=0x$(locked_hash "$tpm_file" | cut -c1-8)" \
  -I"$here/platform" -I"$tpm/include" -I"$tpm/include/prototypes" -I"$tpm/src" -I"$openssl/include" \
  -o "$work/tpm.o" "$work/tpm.c"
"${compile[@]}" -Wall -Wextra -Werror "${include_openssl[@]}" -I"$here/platform" -o "$work/libcrypto.o" "$here/platform/libcrypto.c"
objects=()
for file in bn/bn_{add,asm,ctx,div,exp,gcd,lib,mod,mont,mul,shift,sqr,word,nist,recp,intern,kron,sqrt,rand} \
  ec/ec_{lib,cvt,mult} ec/ecp_{smpl,mont,nist} sha/sha1dgst sha/sha256 sha/sha512 aes/aes_core mem_clr; do
  object=$work/$(basename "$file").o
  "${compile[@]}" -w -DOPENSSL_NO_ASM "${include_openssl[@]}" -o "$object" "$openssl/crypto/$file.c"
  objects+=("$object")
done

wasm-ld-19 --no-entry --gc-sections --strip-all -O2 --export=__stack_pointer --export-memory \
  -z stack-size=131072 --stack-first --initial-memory=1048576 --max-memory=16777216 \
  -o "$work/tpm.wasm" "$work/tpm.o" "$work/libcrypto.o" "${objects[@]}" \
  -L/usr/lib/wasm32-wasi -lc /usr/lib/llvm-19/lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a

hash=$(sha256sum "$work/tpm.wasm" | cut -d' ' -f1)
if [ -n "$out" ]; then
  mkdir -p "$out"
  mv "$work/tpm.wasm" "$out/tpm.wasm"
else
  mv "$work/tpm.wasm" "$wasm/tpm.wasm"
  { grep -v -e '^toolchain ' -e '^output ' "$lock"; toolchain_versions; echo "output tpm.wasm $hash"; } >"$work/sources.lock"
  cp "$work/sources.lock" "$lock"
fi
echo "tpm.wasm $hash"
