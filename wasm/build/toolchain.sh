# Sourced by build.sh and verify.sh: the Debian packages that compile the TPM.

toolchain_packages=(clang-19 lld-19 llvm-19 libclang-rt-19-dev-wasm32 wasi-libc)

# One line per package, as sources.lock has them.
toolchain_versions() {
  local package
  for package in "${toolchain_packages[@]}"; do
    echo "toolchain $package $(dpkg-query -W -f '${Version}' "$package")"
  done
}

missing_packages() {
  local package
  for package in "${toolchain_packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null)" = 'ii ' ] || echo "$package"
  done
}

need_toolchain() {
  local missing
  missing=$(missing_packages | tr '\n' ' ')
  [ -z "$missing" ] || {
    echo "The toolchain is not complete. As root on Debian 12: apt-get install --no-install-recommends $missing" >&2
    exit 2
  }
}
