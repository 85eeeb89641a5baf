#!/usr/bin/env bash
# Builds the benchmark's clients into DIRECTORY: librdkafka 2.12.0's rdkafka_performance and our bench_client.
#
#   build_client.sh DIRECTORY
#
# The sources of librdkafka come with the npm package node-rdkafka (deps/librdkafka). Needs npm, a C and a
# C++ compiler, make. Optional libraries are switched off, so that every machine builds the same client.
set -euo pipefail

package=node-rdkafka@3.6.1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=$1

for tool in npm gcc g++ make tar; do
    command -v "$tool" >/dev/null || {
        echo "build_client.sh: $tool is missing (Debian: npm build-essential)" >&2
        exit 1
    }
done

show_and_fail() {
    tail -n 20 "$1" >&2
    exit 1
}

cd "$target"
npm pack --silent "$package" >/dev/null
tar xf node-rdkafka-*.tgz package/deps/librdkafka
cd package/deps/librdkafka
./configure --disable-gssapi --disable-curl --disable-ssl --disable-zlib --disable-zstd --disable-lz4-ext \
    >configuring.txt 2>&1 || show_and_fail configuring.txt
make -s -j2 -C src librdkafka.a >making.txt 2>&1 || show_and_fail making.txt
gcc -O2 -o "$target/rdkafka_performance" -I. -Isrc examples/rdkafka_performance.c src/librdkafka.a \
    -lm -lpthread -ldl -lrt
gcc -O2 -Wall -o "$target/bench_client" -Isrc "$here/bench_client.c" src/librdkafka.a \
    -lm -lpthread -ldl -lrt
cd "$target"
rm -rf package node-rdkafka-*.tgz
