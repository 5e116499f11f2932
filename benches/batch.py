#!/usr/bin/env python3
"""Throughput over many captures: `batch` against a shell's loop over `convert`, with and without the audit that `batch`
does as well, and against `trace-cmd report` of the same captures, two at a time. One table, the runs in turn.

    benches/batch.py [--rounds N] [-o docs/batch.md]
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- begin of what benches/batch.py wrote -->", "<!-- end of what benches/batch.py wrote -->"
COPIES = 6
FIXTURES = ("two-vm", "arrows", "kvmclock", "overwritten", "reboot", "unstable", "agent")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=pathlib.Path)
    args = parser.parse_args()
    if not shutil.which("trace-cmd"):
        sys.exit("trace-cmd is not installed")
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked", "--bin", "kvm-timeline"], cwd=ROOT, check=True)
    program = ROOT / "target/release/kvm-timeline"
    with tempfile.TemporaryDirectory(prefix="kvm-timeline-batch.") as scratch:
        scratch = pathlib.Path(scratch)
        tree = scratch / "captures"
        for copy in range(COPIES):
            for name in FIXTURES:
                shutil.copytree(ROOT / "fixtures" / name, tree / f"{copy}/{name}")
        size = sum(file.stat().st_size for file in tree.rglob("*.dat"))
        captures = COPIES * len(FIXTURES)
        out = scratch / "out"
        loop = f'for c in "{tree}"/*/*; do mkdir -p "{out}/$(basename "$(dirname "$c")")"; {{}}; done'
        convert = f'"{program}" -q convert "$c" --span all -o "{out}/$(basename "$(dirname "$c")")/$(basename "$c").pftrace"'
        runs = {
            "`batch`": [program, "-q", "batch", tree, "--span", "all", "--out", out],
            "`batch` again, all finished": [program, "-q", "batch", tree, "--span", "all", "--out", out],
            "a loop over `convert`": ["sh", "-c", loop.format(convert)],
            "a loop over `convert` and `check`": ["sh", "-c", loop.format(f'{convert}; "{program}" -q check "$c" >/dev/null')],
            "`xargs -P2 trace-cmd report`, each file": [
                "sh", "-c", f'find "{tree}" -name "*.dat" -print0 | xargs -0 -P2 -n1 trace-cmd report -i >/dev/null 2>&1 || true'],
        }
        walls = {name: [] for name in runs}
        for _ in range(args.rounds):
            for name, command in runs.items():
                if "again" not in name:
                    shutil.rmtree(out, ignore_errors=True)
                    out.mkdir()
                start = time.monotonic()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                walls[name].append(time.monotonic() - start)
    first = walls["`batch`"]
    lines = [f"{captures} captures, {size / 1e6:.0f} MB, on {os.cpu_count()} CPUs; load average before {os.getloadavg()[2]:.1f}.", "",
             "| run | seconds: median (min – max) | captures per second | times `batch` |", "|---|---|---|---|"]
    for name, wall in walls.items():
        median = statistics.median(wall)
        ratio = statistics.median(w / f for w, f in zip(wall, first))
        lines.append(f"| {name} | {median:.2f} ({min(wall):.2f} – {max(wall):.2f}) | {captures / median:.1f} | {ratio:.2f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if args.output:
        page = args.output.read_text()
        before, rest = page.split(BEGIN)
        args.output.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
