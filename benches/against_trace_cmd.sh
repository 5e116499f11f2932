#!/usr/bin/env bash
# Times `kvm-timeline convert --span all` against `trace-cmd report` of the same files, in turn, on one machine.
#
#   benches/against_trace_cmd.sh [DIRECTORY [RUNS]]
#
# Prints user + system CPU seconds and wall seconds of every run and the ratio of the medians.
set -euo pipefail
cd "$(dirname "$0")/.."
capture=${1:-fixtures/two-vm}
runs=${2:-5}
command -v trace-cmd >/dev/null || { echo "trace-cmd is not installed" >&2; exit 1; }
cargo build --release --quiet
tool=target/release/kvm-timeline
inputs=()
for file in "$capture"/host*.dat "$capture"/guest*.dat; do
    [ -e "$file" ] && inputs+=(-i "$file")
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
TIMEFORMAT='%U %S %R'
measure() { # NAME COMMAND...
    local name=$1
    shift
    { time "$@" >/dev/null 2>/dev/null; } 2>>"$scratch/$name"
}
for ((i = 0; i < runs; i++)); do
    measure trace-cmd trace-cmd report "${inputs[@]}"
    measure one-thread "$tool" --quiet --threads 1 convert "$capture" --span all -o "$scratch/out.pftrace"
    measure two-threads "$tool" --quiet --threads 2 convert "$capture" --span all -o "$scratch/out.pftrace"
done
python3 - "$scratch" <<'PY'
import pathlib, statistics, sys
rows = {}
for name in ("trace-cmd", "one-thread", "two-threads"):
    runs = [tuple(map(float, line.split())) for line in pathlib.Path(sys.argv[1], name).read_text().splitlines()]
    cpu, wall = [u + s for u, s, _ in runs], [w for *_, w in runs]
    rows[name] = statistics.median(cpu), statistics.median(wall)
    print(f"{name:12} CPU min {min(cpu):6.3f} median {rows[name][0]:6.3f} max {max(cpu):6.3f} s"
          f"   wall min {min(wall):6.3f} median {rows[name][1]:6.3f} max {max(wall):6.3f} s")
for name in ("one-thread", "two-threads"):
    print(f"{name}: {rows['trace-cmd'][1] / rows[name][1]:.1f} times faster than trace-cmd report (wall),"
          f" {rows['trace-cmd'][0] / rows[name][0]:.1f} times less CPU")
PY
