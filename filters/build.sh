#!/bin/sh
# Rebuilds every committed .wasm of this repository from source, byte for byte:
# the filters, the modules for tests, and the hostile ones.
#
#   sh filters/build.sh          writes the modules, SHA256SUMS and TOOLCHAIN
#   sh filters/build.sh --check  builds to a temporary folder and compares
#
# C modules need clang 14, lld 14, wasi-libc and compiler-rt for wasm32, text
# modules need wabt, all of Debian 12; the Go modules need the Go version that
# TOOLCHAIN records. With another Go version --check leaves them to their
# checksums and says so.
set -eu
export LC_ALL=C
cd "$(dirname "$0")/.."

hostile=node/sandbox/testdata/hostile/modules
packages='clang-14 lld-14 libclang-rt-14-dev-wasm32 wasi-libc wabt'
go_modules='grep head-schema merge-stats'

say() { echo "build.sh: $*" >&2; }
die() { say "$*"; exit 1; }

check=
case "${1-}" in
'') ;;
--check) check=yes ;;
*) die 'usage: sh filters/build.sh [--check]' ;;
esac

# version PACKAGE prints the installed version, or nothing.
version() { dpkg-query -W -f '${db:Status-Status} ${Version}' "$1" 2>/dev/null | sed -n 's/^installed //p'; }

missing=
for p in $packages; do
	[ -n "$(version "$p")" ] || missing="$missing $p"
done
if [ -n "$missing" ]; then
	[ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] || die "missing on this system; install the Debian 12 packages:$missing"
	say "installing with apt-get:$missing"
	apt-get update >&2
	# shellcheck disable=SC2086 # a list of names
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >&2
fi
command -v go >/dev/null || die "missing on this system; install Go, $(grep '^go ' filters/TOOLCHAIN)"

toolchain() {
	echo "go $(go env GOVERSION)"
	for p in $packages; do echo "$p $(version "$p")"; done
}

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
mkdir -p "$out/filters/stats" "$out/filters/testguest" "$out/$hostile"

# c_module builds OUTPUT from sources. It compiles and links in two steps, as
# clang would run any wasm-opt it finds in one. Paths are relative, so that
# nothing of this machine gets into a module. The stack lies below the data, so
# that its overflow traps.
c_module() { # OUTPUT SOURCE...
	module=$1
	shift
	rm -f "$out"/*.o
	for source in "$@"; do
		# memset as memory.fill is what fill is about; wasi-libc of Debian 12
		# has errno in a form that does not go with it elsewhere.
		case $source in */fill.c) bulk=-mbulk-memory ;; *) bulk=-mno-bulk-memory ;; esac
		clang-14 $target -isystem /usr/include/wasm32-wasi -std=gnu11 -O2 $bulk -Wall -Wextra -Werror \
			"-ffile-prefix-map=$PWD=." -c "$source" -o "$out/$(basename "$source" .c).o"
	done
	clang-14 $target -Wl,--strip-all -Wl,--stack-first -Wl,-z,stack-size=262144 "$out"/*.o -o "$out/$module"
}
target='--target=wasm32-wasi --sysroot=/usr'

c_module filters/stats/stats.wasm filters/stats/*.c
for c in $hostile/*.c filters/testguest/*.c; do
	c_module "${c%.c}.wasm" "$c"
done
for source in $hostile/*.wat filters/testguest/*.wat; do
	wat2wasm "$source" -o "$out/${source%.wat}.wasm"
done

recorded=$(sed -n 's/^go //p' filters/TOOLCHAIN 2>/dev/null || true)
have=$(go env GOVERSION)
if [ -n "$check" ] && [ "$have" != "$recorded" ]; then
	say "skipping $go_modules: this is $have, TOOLCHAIN records $recorded"
else
	for m in $go_modules; do
		mkdir "$out/filters/$m"
		env GOFLAGS= GOWASM= GOEXPERIMENT= GOWORK=off CGO_ENABLED=0 GOOS=wasip1 GOARCH=wasm \
			go build -trimpath -buildvcs=false -ldflags='-s -w -buildid=' -o "$out/filters/$m/$m.wasm" "./filters/$m"
	done
fi

sums() { find filters $hostile -name '*.wasm' -type f | sort | xargs sha256sum; }

if [ -z "$check" ]; then
	(cd "$out" && find . -name '*.wasm') | while read -r m; do
		cat "$out/$m" >"$m"
	done
	sums >filters/SHA256SUMS
	toolchain >filters/TOOLCHAIN
	exit
fi

toolchain | while read -r name now; do
	then=$(sed -n "s/^$name //p" filters/TOOLCHAIN)
	[ "$now" = "$then" ] || say "note: $name is $now, TOOLCHAIN records $then"
done
(cd "$out" && find . -name '*.wasm' | sort) | while read -r m; do
	cmp -s "$out/$m" "$m" || die "${m#./} is not what its source builds to; run: sh filters/build.sh"
done
sums | cmp -s - filters/SHA256SUMS || die 'SHA256SUMS does not list the modules that are here; run: sh filters/build.sh'
say 'all modules are what their sources build to'
