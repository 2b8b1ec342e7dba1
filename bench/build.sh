#!/usr/bin/env bash
# How long a clean release build of the program takes, and how large the program is: a line for bench/results.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(mktemp -d)
trap 'rm -rf "$target"' EXIT
load=$(cut -d' ' -f1 /proc/loadavg)
cpu=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1)
memory=$(awk '/^MemTotal:/ { printf "%.0f", $2 * 1024 }' /proc/meminfo)
started=$(date +%s)
CARGO_TARGET_DIR=$target cargo build --release --locked --quiet
printf '{"date":"%s","commit":"%s","machine":{"cores":%s,"cpu":"%s","memory_bytes":%s},"load_average":%s,"bench":"build","wall_s":%s,"program_bytes":%s}\n' \
    "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(git describe --always --dirty)" "$(nproc)" "$cpu" "$memory" "$load" \
    "$(($(date +%s) - started))" "$(stat -c %s "$target/release/retally")" | tee -a "bench/results/$(date -u +%Y-%m-%d).jsonl"
