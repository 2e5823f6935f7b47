# Sourced by build.sh: where the two source packages come from. Nothing is used before its hash is checked.

tpm_package=golang-github-google-go-tpm-tools-dev
tpm_version=0.4.8-5
tpm_file=${tpm_package}_${tpm_version}_all.deb
openssl_version=3.0.22
openssl_file=openssl_$openssl_version.orig.tar.gz
# The part of it that is compiled here, with the headers its Configure wrote.
openssl_part_file=openssl-$openssl_version-needed-files.tgz

fail() {
  echo "$(basename "$0"): $1" >&2
  exit 1
}

# locked_hash FILE: the SHA-256 that sources.lock names for an input.
locked_hash() {
  awk -v file="$1" '$1 == "input" && $2 == file { print $3 }' "$lock"
}

# check_hash FILE
check_hash() {
  local name wanted got
  name=$(basename "$1")
  wanted=$(locked_hash "$name")
  [ -n "$wanted" ] || fail "$name is not an input that $lock knows"
  got=$(sha256sum "$1" | cut -d' ' -f1)
  [ "$got" = "$wanted" ] ||
    fail "$1 is not the file it should be: SHA-256 $got, sources.lock says $wanted. Get it again, or give the right folder with --sources."
}

# check_inputs DIR: both inputs are there, and are what sources.lock says.
check_inputs() {
  [ -d "$1" ] || fail "no folder $1"
  [ -f "$1/$tpm_file" ] || fail "$1 has no $tpm_file"
  check_hash "$1/$tpm_file"
  if [ -f "$1/$openssl_part_file" ]; then
    check_hash "$1/$openssl_part_file"
  elif [ -f "$1/$openssl_file" ]; then
    check_hash "$1/$openssl_file"
  else
    fail "$1 has neither $openssl_file nor $openssl_part_file"
  fi
}

# debian_mirror LABEL: the address this machine's apt uses for Debian's archive of that label.
debian_mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Label: $1" | head -n 1
}

# fetch_inputs DIR APT: gets both from Debian through an apt configuration of its own in the folder APT; the
# machine's stays as it is.
fetch_inputs() {
  local dir=$1 apt=$2 main security
  command -v apt-get >/dev/null || fail "this is no Debian; give a folder that holds $tpm_file and $openssl_file with --sources"
  main=$(debian_mirror Debian)
  security=$(debian_mirror Debian-Security)
  [ -n "$main" ] || fail "this machine's apt has no Debian mirror; give a folder with --sources"
  mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/parts"
  {
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $main sid main"
    for suite in bookworm bookworm-updates bookworm-proposed-updates; do
      echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $main $suite main"
    done
    [ -z "$security" ] ||
      echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $security bookworm-security main"
  } >"$apt/sources.list"
  local options=(-qq
    -o "Dir::Etc::SourceList=$apt/sources.list" -o "Dir::Etc::SourceParts=$apt/parts"
    -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt" -o "Dir::Cache::Archives=$apt/archives"
    -o APT::Sandbox::User=root -o APT::Get::List-Cleanup=0)
  apt-get "${options[@]}" update || fail "apt could not read Debian's package lists"
  local source
  source=$(apt-cache "${options[@]}" showsrc openssl |
    awk -v wanted="$openssl_version-" '$1 == "Version:" && index($2, wanted) == 1 { print $2; exit }')
  (
    cd "$dir"
    apt-get "${options[@]}" download "$tpm_package=$tpm_version"
    [ -n "$source" ] && apt-get "${options[@]}" --download-only --tar-only source "openssl=$source"
  ) || true
  [ -f "$dir/$tpm_file" ] || fail "Debian's mirror no longer has $tpm_package $tpm_version; give a folder that holds $tpm_file with --sources"
  [ -f "$dir/$openssl_file" ] || fail "Debian's mirror no longer has the source of openssl $openssl_version; give a folder that holds $openssl_file with --sources"
}
