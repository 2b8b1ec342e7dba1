#!/usr/bin/env bash
# Runs the peers and retally over the same files, compares their tables byte for byte, and prints wall times.
#
#     bench/peers/compare.sh EVENTS SERVERS [RESULTS]
#
# Needs python3 with duckdb (pip install duckdb) and a built retally: RETALLY names the program (default: target/release/retally).
# With RESULTS, a result line for each program is appended to that file. PEERS chooses among "expert natural" (default: both).
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 EVENTS SERVERS [RESULTS]" >&2
    exit 2
fi
events=$1 servers=$2 results=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
retally=${RETALLY:-$here/../../target/release/retally}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
tables="online_daily online_rolling_28d"

commit() {
    local changed
    changed=$(git -C "$here" status --porcelain -- :/ ':!/bench/results')
    echo "$(git -C "$here" rev-parse --short HEAD)${changed:+-dirty}"
}

# measure NAME COMMAND...: runs it, and says and notes how long it took.
measure() {
    local name=$1 load started wall
    shift
    load=$(cut -d' ' -f1 /proc/loadavg)
    mkdir -p "$out/$name"
    started=$(date +%s.%N)
    "$@" >"$out/$name/log"
    wall=$(echo "$(date +%s.%N) - $started" | bc | sed 's/^\./0./')
    printf '%-10s %8.2f s   (load average before: %s)\n' "$name" "$wall" "$load"
    if [ -n "$results" ]; then
        printf '{"date":"%s","commit":"%s","machine":{"cpu":"%s","cores":%s,"memory_bytes":%s},"load_average":%s,"bench":"peers","dataflow":"online","program":"%s","events":%s,"threads":2,"wall_s":%.3f}\n' \
            "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(commit)" "$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -1)" "$(nproc)" \
            "$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) * 1024))" "$load" "$name" "$(($(wc -l <"$events") - 1))" "$wall" >>"$results"
    fi
}

measure retally "$retally" run online "events=$events" "servers=$servers" --quiet -w 2 --tables "${tables// /,}" --out "$out/retally"
for peer in ${PEERS:-expert natural}; do
    measure "$peer" python3 "$here/online_$peer.py" "$events" "$servers" "$out/$peer"
    for table in $tables; do
        if ! cmp "$out/retally/$table.csv" "$out/$peer/$table.csv"; then
            diff "$out/retally/$table.csv" "$out/$peer/$table.csv" | head -20
            echo "$table differs" >&2
            exit 1
        fi
    done
done
echo "the tables are identical: $(cd "$out/retally" && wc -l online_*.csv | tr -s ' \n' ' ')"
