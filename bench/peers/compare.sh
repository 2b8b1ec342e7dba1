#!/usr/bin/env bash
# Runs the peers and retally over the same files, compares their tables byte for byte, and prints wall times.
#
#     bench/peers/compare.sh EVENTS SERVERS [RESULTS]
#
# Files: those of `retally generate online`, and hard ones of bench/peers/hard.py DIR.
# Needs python3 with duckdb (pip install duckdb) and a built retally: RETALLY names the program (default: target/release/retally).
# With RESULTS, a result line for each program is appended to that file. PEERS chooses among "expert natural" (default: both).
# REPEAT (default: 1) rounds are run, each program once in each, so that what else the machine does meets all of them alike.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 EVENTS SERVERS [RESULTS]" >&2
    exit 2
fi
events=$1 servers=$2 results=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
retally=${RETALLY:-$here/../../target/release/retally}
peers=${PEERS:-expert natural}
repeat=${REPEAT:-1}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
tables="online_daily online_rolling_28d"
load=$(cut -d' ' -f1 /proc/loadavg)

commit() {
    local changed
    changed=$(git -C "$here" status --porcelain -- :/ ':!/bench/results')
    echo "$(git -C "$here" rev-parse --short HEAD)${changed:+-dirty}"
}

# measure NAME COMMAND...: runs it, and notes how long it took.
measure() {
    local name=$1 started
    shift
    mkdir -p "$out/$name"
    started=$(date +%s.%N)
    "$@" >"$out/$name.log"
    echo "$(date +%s.%N) - $started" | bc | sed 's/^\./0./' >>"$out/$name.times"
}

# compare PEER: its tables must be those of retally.
compare() {
    local table
    for table in $tables; do
        if ! cmp "$out/retally/$table.csv" "$out/$1/$table.csv"; then
            diff "$out/retally/$table.csv" "$out/$1/$table.csv" | head -20
            echo "$table differs" >&2
            exit 1
        fi
    done
}

# report NAME: says what a program took, and appends its result line.
report() {
    local times median low high
    times=$(sort -n "$out/$1.times")
    low=$(echo "$times" | head -1) high=$(echo "$times" | tail -1)
    median=$(echo "$times" | sed -n "$(((repeat + 1) / 2))p")
    printf '%-10s %8.2f s   (%.2f to %.2f)\n' "$1" "$median" "$low" "$high"
    if [ -n "$results" ]; then
        printf '{"date":"%s","commit":"%s","machine":{"cpu":"%s","cores":%s,"memory_bytes":%s},"load_average":%s,"bench":"peers","dataflow":"online","program":"%s","events":%s,"threads":2,"repeats":%s,"wall_s":%.3f,"wall_min_s":%.3f,"wall_max_s":%.3f}\n' \
            "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(commit)" "$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -1)" "$(nproc)" \
            "$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) * 1024))" "$load" "$1" "$(($(wc -l <"$events") - 1))" \
            "$repeat" "$median" "$low" "$high" >>"$results"
    fi
}

for _ in $(seq "$repeat"); do
    measure retally "$retally" run online "events=$events" "servers=$servers" --quiet -w 2 --tables "${tables// /,}" --out "$out/retally"
    for peer in $peers; do
        measure "$peer" python3 "$here/online_$peer.py" "$events" "$servers" "$out/$peer"
        compare "$peer"
    done
done
echo "the tables are identical; the load average was $load before"
for program in retally $peers; do
    report "$program"
done
