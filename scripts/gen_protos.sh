#!/bin/sh
# Generates the Python code of protos/. With --check it changes nothing and fails if the code in the
# tree is not what would be generated.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH" # protoc-gen-mypy is a program that protoc looks for

generate() {
    python -m grpc_tools.protoc --proto_path=protos --python_out="$1" --mypy_out=quiet:"$1" \
        protos/osmo_protos/*.proto
    python -m grpc_tools.protoc --proto_path=protos \
        --descriptor_set_out="$1/osmo_protos/kubernetes.binpb" protos/osmo_protos/kubernetes.proto
}

if [ "${1-}" != --check ]; then
    generate protos
    exit
fi

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
generate "$fresh"
for file in "$fresh"/osmo_protos/*; do
    if ! diff -u "protos/osmo_protos/${file##*/}" "$file"; then
        echo "generated code is not up to date: run make protos" >&2
        exit 1
    fi
done
