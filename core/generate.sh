#!/bin/sh
# Regenerates the Go code of every .proto in this repository.
# Needs protoc 3.21 (Debian package protobuf-compiler); the plugins are tools of go.mod.
set -eu
cd "$(dirname "$0")/.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
for p in protoc-gen-go protoc-gen-go-grpc; do
	printf '#!/bin/sh\nexec go tool %s "$@"\n' $p >"$bin/$p"
	chmod +x "$bin/$p"
done
export PATH="$bin:$PATH"
mod=github.com/liop-project/liop
protoc -I core/proto --go_out=. --go_opt=module=$mod --go-grpc_out=. --go-grpc_opt=module=$mod \
	core/proto/liop/v1/*.proto
protoc -I node/sandbox/wire --go_out=. --go_opt=module=$mod node/sandbox/wire/wire.proto
