#!/usr/bin/env python3
"""Runs `kvm-timeline batch` over random sound and damaged captures for some time, and watches what it uses.

    tests/soak/run.py target/release/kvm-timeline [--minutes N] [--seed N] [--threads N] [--table FILE] [--scratch DIR]

Each cycle makes an archive of captures anew (sound ones; cut, with flipped bits, zeroed ranges, swapped and doubled pages,
absurd counts, mixed with files of other captures, packed and damaged behind that), converts it by one process, by two
processes that share the destination, or by one that is killed and followed by another, and looks at
  - the highest resident memory and the number of open descriptors and threads, sampled while it runs,
  - how it ended: by itself, in time, without a panic or a signal of its own,
  - what is left: nothing in the temporary directory, no temporary file and no claim at the destination, nothing but
    readable outputs,
  - that the input was not written to.
Every fourth cycle converts the same large archive by one process, and every sixteenth four copies of it. It fails when any of
that is wrong, or when memory, descriptors or threads grow: from the first quarter of the cycles to the last, in the median of
each kind (by a tenth where the archive is the same, by three where chance draws it), or from one copy to four in a process
(by a quarter and 16 MB, in the median of three runs or more).
"""

import argparse
import collections
import gzip
import hashlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
PAGE = 4096
# No cycle of these small captures takes as long.
SECONDS = 300
# The same archive, and four copies of it.
SAME = ("same", "four times")
MEMORY = "256M"
# What one process may hold resident at most, whatever comes: the limit above, what it needs anyway, and some.
MOST_MB = 900


def small():
    """Captures that are quick to convert, as lists of files."""
    found = []
    for folder in ("agent", "arrows", "kvmclock", "overwritten", "reboot", "tsc-write", "unstable", "two-vm"):
        found.append([path for path in sorted((FIXTURES / folder).iterdir()) if path.name != "README.md"])
    found += [[path] for path in sorted((FIXTURES / "perf").glob("*.data"))]
    found += [[path] for path in sorted((FIXTURES / "markers").glob("*.dat"))]
    found.append([FIXTURES / "text/text.tar.xz"])
    return found


def damage(rng, data):
    """The same bytes, no longer sound; and in a word, how."""
    data, size = bytearray(data), len(data)
    if size < 64:
        return bytes(data), "sound"
    kind = rng.choice(["cut", "flips", "zeroed", "noise", "swapped", "doubled", "counts", "removed"])
    pages = max(1, size // PAGE)
    page = lambda: rng.randrange(pages) * PAGE
    if kind == "cut":
        del data[rng.randrange(1, size) :]
    elif kind == "flips":
        for _ in range(rng.choice([1, 10, 1000])):
            data[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif kind == "zeroed":
        at = rng.randrange(size)
        end = min(size, at + rng.choice([16, PAGE, 16 * PAGE]))
        data[at:end] = bytes(end - at)
    elif kind == "noise":
        at = rng.randrange(size)
        end = min(size, at + rng.choice([8, 256, PAGE]))
        data[at:end] = rng.randbytes(end - at)
    elif kind == "swapped":
        a, b = page(), page()
        data[a : a + PAGE], data[b : b + PAGE] = data[b : b + PAGE], data[a : a + PAGE]
    elif kind == "doubled":
        at = page()
        data[at:at] = data[at : at + PAGE] * rng.choice([1, 8])
    elif kind == "removed":
        at = page()
        del data[at : at + PAGE]
    else:
        at = rng.randrange(min(size - 8, 65536))
        count = rng.choice([0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0x80000000, 1 << 40])
        data[at : at + 8] = count.to_bytes(8, "little")
    return bytes(data), kind


class Archive:
    """The captures of a cycle."""

    def __init__(self, folder, rng, most):
        self.kinds = collections.Counter()
        captures = small()
        for number in range(rng.randrange(most // 2, most)):
            files = rng.choice(captures)
            files = [(path.name, path.read_bytes()) for path in files]
            if rng.random() < 0.15:
                # A file of another capture in the place of one of these.
                files[rng.randrange(len(files))] = (lambda path: (path.name, path.read_bytes()))(rng.choice(rng.choice(captures)))
                self.kinds["mixed"] += 1
            whole = rng.random() < 0.4
            if not whole:
                victim = rng.randrange(len(files))
                name, data = files[victim]
                data, kind = damage(rng, data)
                files[victim] = (name, data)
                self.kinds[kind] += 1
            else:
                self.kinds["sound"] += 1
            target = folder / f"rack{rng.randrange(3)}" / f"capture{number}"
            if rng.random() < 0.25:
                self.pack(rng, target, files)
            else:
                target.mkdir(parents=True)
                for name, data in files:
                    (target / name).write_bytes(data)

    def pack(self, rng, target, files):
        target.parent.mkdir(parents=True, exist_ok=True)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, data in files:
                member = tarfile.TarInfo(f"capture/{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        data = gzip.compress(packed.getvalue(), 1)
        if rng.random() < 0.3:
            data, kind = damage(rng, data)
            self.kinds[f"packed, {kind}"] += 1
        target.with_name(f"{target.name}.tar.gz").write_bytes(data)


class Watched:
    """A process under observation."""

    def __init__(self, command, env):
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
        self.memory = self.descriptors = self.threads = 0
        os.set_blocking(self.process.stdout.fileno(), False)
        os.set_blocking(self.process.stderr.fileno(), False)
        self.out, self.err = [], []

    def look(self):
        """One sample. Whether it still runs."""
        proc = pathlib.Path(f"/proc/{self.process.pid}")
        try:
            status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line)
            self.memory = max(self.memory, int(status.get("VmHWM", "0 kB").split()[0]) / 1024)
            self.threads = max(self.threads, int(status.get("Threads", "0")))
            self.descriptors = max(self.descriptors, len(os.listdir(proc / "fd")))
        except (OSError, ValueError):
            pass
        for pipe, into in ((self.process.stdout, self.out), (self.process.stderr, self.err)):
            try:
                into.append(pipe.read() or "")
            except (BlockingIOError, TypeError):
                pass
        return self.process.poll() is None


class Soak:
    def __init__(self, args, scratch):
        self.args, self.scratch = args, scratch
        self.random = random.Random(args.seed)
        self.rows, self.wrong = [], []
        self.kinds = collections.Counter()

    def watch(self, processes, kill_after=None):
        start = time.monotonic()
        running = list(processes)
        while running:
            running = [watched for watched in running if watched.look()]
            now = time.monotonic() - start
            if kill_after and now > kill_after:
                for watched in running:
                    watched.process.send_signal(signal.SIGKILL)
                kill_after = None
            if now > SECONDS:
                for watched in running:
                    watched.process.kill()
                self.wrong.append(f"does not end within {SECONDS} s: {[w.process.args for w in running]}")
                break
            time.sleep(0.02)
        for watched in processes:
            watched.process.wait()
            watched.look()
            watched.process.stdout.close()
            watched.process.stderr.close()
        return time.monotonic() - start

    def cycle(self, number):
        kind = "four times" if number % 16 == 15 else ("one", "two", "killed", "same")[number % 4]
        rng = random.Random(self.args.seed) if kind in SAME else self.random
        source, out, temporary = (self.scratch / name for name in ("source", "out", "tmp"))
        for folder in (source, out, temporary):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        archive = Archive(source, rng, 60 if kind in SAME else 14)
        self.kinds += archive.kinds
        if kind == "four times":
            once = list(source.iterdir())
            for copy in range(1, 4):
                for rack in once:
                    shutil.copytree(rack, source / f"{rack.name}-{copy}")
        before = digest(source)
        env = {**os.environ, "TMPDIR": str(temporary), "RUST_BACKTRACE": "0"}
        command = [self.args.program, "-q", "--threads", str(self.args.threads), "batch", str(source), "--out", str(out), "--json",
                   "--stats", "--max-memory", MEMORY, "--max-unpacked", "1G", "--stale-after", "1s"]
        if kind in SAME:
            # Else four copies of what is large would meet, and rightly need more.
            command += ["--jobs", "1"]
        processes = []
        seconds = 0.0
        if kind == "killed":
            first = Watched(command, env)
            seconds += self.watch([first], kill_after=rng.uniform(0.1, 2.0))
            # What was killed leaves its temporary files; the next removes none that is not its own.
            for leftover in temporary.iterdir():
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        processes += [Watched(command, env) for _ in range(2 if kind == "two" else 1)]
        seconds += self.watch(processes)
        say = lambda what: self.wrong.append(f"cycle {number} ({kind}): {what}")
        for watched in processes:
            code, err = watched.process.returncode, "".join(watched.err)
            if code not in (0, 3):
                say(f"ended with {code}: {err[-2000:]}")
            if "panicked" in err or "overflow" in err:
                say(err[-2000:])
            if watched.memory > MOST_MB:
                say(f"{watched.memory:.0f} MB")
        if before != digest(source):
            say("an input was written to")
        left = [str(path.relative_to(temporary)) for path in temporary.rglob("*")]
        if left:
            say(f"left in the temporary directory: {left[:5]}")
        stray = [str(p.relative_to(out)) for p in out.rglob("*") if p.name.startswith(".kvm-timeline-")]
        if kind != "killed" and stray:
            say(f"left at the destination: {stray[:5]}")
        outputs = [path for path in out.rglob("*.pftrace*") if ".kvm-timeline" not in path.parts and path.is_file()]
        outputs = [path for path in outputs if path.suffix in (".pftrace", ".gz")]
        for path in outputs:
            first = path.open("rb").read(1)
            if first not in (b"\x0a", b"\x1f"):
                say(f"{path.name} begins with {first!r}")
        summaries = [text for text in ("".join(watched.out) for watched in processes) if text.strip()]
        summary = json.loads(summaries[-1]) if summaries else {}
        self.rows.append({
            "cycle": number, "kind": kind, "seconds": seconds, "captures": sum(1 for _ in outputs) + summary.get("failed", 0),
            "outputs": len(outputs), "failed": summary.get("failed", 0), "damaged": summary.get("damaged", 0),
            "memory": max(w.memory for w in processes), "descriptors": max(w.descriptors for w in processes),
            "threads": max(w.threads for w in processes),
        })
        row = self.rows[-1]
        print(f"{number:5} {kind:10} {seconds:6.1f} s {row['outputs']:4} outputs {row['failed']:3} failed {row['damaged']:3} damaged "
              f"{row['memory']:6.1f} MB {row['descriptors']:4} descriptors {row['threads']:3} threads", flush=True)

    def growth(self):
        """What grew, by kind of cycle."""
        table = []
        for kind in ("one", "two", "killed", *SAME):
            rows = [row for row in self.rows if row["kind"] == kind]
            if not rows:
                continue
            quarter = max(1, len(rows) // 4)
            for what in ("memory", "descriptors", "threads"):
                first = statistics.median(row[what] for row in rows[:quarter])
                last = statistics.median(row[what] for row in rows[-quarter:])
                most = max(row[what] for row in rows)
                table.append((kind, len(rows), what, first, last, most))
                most_growth = 1.1 if kind in SAME else 1.3
                if len(rows) >= 8 and last > first * most_growth + (8 if what == "memory" else 2):
                    self.wrong.append(f"{kind}: {what} grew from {first:.1f} to {last:.1f}")
        once, often = ([row for row in self.rows if row["kind"] == kind] for kind in SAME)
        # High-water marks of single runs differ; what is kept per capture adds up to more: 0.4 MB are seen.
        if once and len(often) >= 3:
            for what in ("memory", "descriptors", "threads"):
                few, many = (statistics.median(row[what] for row in rows) for rows in (once, often))
                if many > few * 1.25 + (16 if what == "memory" else 2):
                    self.wrong.append(f"{what} grew from {few:.1f} for one archive to {many:.1f} for four of it")
        return table

    def report(self):
        table = self.growth()
        lines = ["| processes | cycles | what | first quarter, median | last quarter, median | most |", "|---|---|---|---|---|---|"]
        for kind, count, what, first, last, most in table:
            unit = " MB" if what == "memory" else ""
            lines.append(f"| {kind} | {count} | {what} | {first:.1f}{unit} | {last:.1f}{unit} | {most:.1f}{unit} |")
        total = lambda key: sum(row[key] for row in self.rows)
        lines.append("")
        lines.append(f"{len(self.rows)} cycles, {total('outputs')} outputs, {total('failed')} captures refused, {total('damaged')} damaged; "
                     f"drawn: {', '.join(f'{count} {kind}' for kind, count in sorted(self.kinds.items()))}")
        lines += [f"WRONG: {what}" for what in self.wrong]
        text = "\n".join(lines)
        print(text, flush=True)
        if self.args.table:
            pathlib.Path(self.args.table).write_text(text + "\n")


def digest(folder):
    sums = [(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return hashlib.sha256(repr(sums).encode()).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table")
    parser.add_argument("--scratch")
    args = parser.parse_args()
    args.program = str(pathlib.Path(args.program).resolve())
    end = time.monotonic() + args.minutes * 60
    with tempfile.TemporaryDirectory(dir=args.scratch, prefix="soak-") as folder:
        soak = Soak(args, pathlib.Path(folder))
        number = 0
        while time.monotonic() < end:
            soak.cycle(number)
            number += 1
            if len(soak.wrong) > 20:
                break
        soak.report()
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
