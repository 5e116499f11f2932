#!/usr/bin/env python3
"""Lets system calls of `kvm-timeline` fail, one per run, and kills it at random moments, and looks at what is left.

    tests/faults/run.py target/release/kvm-timeline [--moments N] [--seed N] [--table FILE]

Whatever fails, a run must end by itself, and either with the output that it has without a fault, or with an error that
says what failed; never with a panic or a signal of its own, never with another file under the output's name, and never
with anything else left behind. The table says how often which of these came out. Needs strace and a C compiler.
"""

import argparse
import collections
import hashlib
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CAPTURE = ROOT / "fixtures/arrows"
# What fails, and how. EINTR is no failure: the call is to be made again.
ERRORS = {
    "openat": ["ENOENT", "EACCES", "EMFILE", "EINTR", "EIO"],
    "statx": ["EACCES", "EIO"],
    "pread64": ["EIO", "EINTR", "ESTALE"],
    "read": ["EIO", "EINTR"],
    "write": ["ENOSPC", "EIO", "EINTR", "EDQUOT"],
    "renameat": ["EACCES", "ENOSPC", "EIO"],
    "unlinkat": ["EIO"],
    "getdents64": ["EIO"],
    "mmap": ["ENOMEM"],
    "clone3": ["EAGAIN"],
    "lseek": ["EIO"],
}
# What Rust's runtime says, and aborts, where a new thread finds no memory for its signal stack.
NO_THREAD = "failed to allocate an alternative stack"
SECONDS = 20
HEADING = """# Faults

What came out of a run of `convert` in which one thing failed; written by `tests/faults/run.py`, see [reliability.md](reliability.md).

"""


class Faults:
    def __init__(self, program, seed, most, scratch):
        self.program, self.random, self.most, self.scratch = program, random.Random(seed), most, scratch
        self.input, self.log = scratch / "capture", scratch / "log"
        shutil.copytree(CAPTURE, self.input)
        self.out_dir = scratch / "out"
        self.library = scratch / "short.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", self.library, ROOT / "tests/faults/short.c", "-ldl"], check=True)
        self.table = collections.defaultdict(collections.Counter)
        self.wrong = []
        self.run(["plain"], [], {})
        self.expected = self.digest()
        assert self.expected, "the run without a fault writes nothing"

    def command(self):
        return [self.program, "--threads", "2", "convert", self.input, "-o", self.out_dir / "out.pftrace"]

    def run(self, what, wrapper, env, kill=None, limit=None):
        shutil.rmtree(self.out_dir, ignore_errors=True)
        self.out_dir.mkdir()
        before = (lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))) if limit else None
        process = subprocess.Popen(wrapper + self.command(), env={**os.environ, "RUST_BACKTRACE": "0", **env}, preexec_fn=before,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
        if kill:
            after, number = kill
            time.sleep(after)
            process.send_signal(number)
        try:
            errors = process.communicate(timeout=SECONDS)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return None, ""
        return process.returncode, errors

    def digest(self):
        out = self.out_dir / "out.pftrace"
        return hashlib.sha256(out.read_bytes()).hexdigest() if out.exists() else None

    def left(self):
        return sorted(entry.name for entry in self.out_dir.iterdir() if entry.name != "out.pftrace")

    def judge(self, row, what, code, errors, killed=False, may_leave=False):
        """Counts what came out of a run; what must not come out is kept in words."""
        digest, left = self.digest(), self.left()
        said = [line for line in errors.splitlines() if not line.startswith(("strace:", "warning:", "+++", "["))]
        problem = None
        if code is None:
            outcome, problem = "hangs", "does not end"
        elif NO_THREAD in errors and not digest and not left:
            outcome = "ended by the language's runtime, no output"
        elif "panicked" in errors:
            outcome, problem = "panics", errors
        elif digest not in (None, self.expected) and not (code == 3 and "kallsyms cannot be read" in errors):
            outcome, problem = "other output", "another file stands under the output's name"
        elif left and not may_leave:
            outcome, problem = "left behind", f"left behind: {left}"
        elif code == 0 and digest:
            outcome = "whole output"
        elif code in (0, 3):
            outcome = "less, and said so" if code == 3 else "no output"
            problem = None if code == 3 else f"code {code} without output: {errors}"
        elif killed and code in (-signal.SIGKILL, 130, -signal.SIGINT, -signal.SIGTERM):
            outcome = "killed, no output" if digest is None else "killed, whole output"
        elif code == 127:
            outcome = "did not start"
        elif code < 0 and not digest and self.log.exists() and "sigaltstack(" not in self.log.read_text(errors="replace"):
            outcome = "did not start"
        elif code < 0 or code > 128:
            outcome, problem = f"signal {-code}", f"code {code}: {errors!r}"
        elif digest:
            outcome = "error after the output"
        elif "EINTR" in row:
            outcome, problem = "gives up", f"an interrupted call is not made again: {errors!r}"
        elif any(line.startswith("kvm-timeline: ") for line in said):
            outcome = "error"
        elif "`write`" in row and code == 1 and not left:
            # Each thread's nth write fails, and so does the one that would have said it.
            outcome = "error that could not be printed"
        else:
            outcome, problem = "silent failure", f"code {code} and no error: {errors!r}"
        self.table[row][outcome] += 1
        if problem:
            self.wrong.append(f"{what}: {problem}")

    def calls(self, name):
        """How often the program makes a call."""
        log = self.scratch / "calls"
        self.run(["count"], ["strace", "-f", "-qq", "-o", log, "-e", f"trace={name}", "-e", "signal=none"], {})
        return len(re.findall(rf"^\d+ +{name}\(", log.read_text(errors="replace"), re.M))

    def moments(self, count):
        if count <= self.most:
            return list(range(1, count + 1))
        some = self.random.sample(range(2, count), self.most - 2)
        return sorted({1, count, *some})

    def errors(self):
        for call, errors in ERRORS.items():
            count = self.calls(call)
            for error in errors:
                for nth in self.moments(count):
                    what = f"{call} {nth} of {count} fails with {error}"
                    # The language's runtime begins with an alternative stack: what happens before is the loader's.
                    inject = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", self.log, "-e", f"trace={call},sigaltstack", "-e", "signal=none",
                              "-e", f"inject={call}:error={error}:when={nth}"]
                    self.judge(f"`{call}` fails with {error}", what, *self.run([what], inject, {}))
                    self.log.unlink(missing_ok=True)

    def short(self):
        for call in ("pread", "read", "write"):
            for nth in range(0, 21):
                env = {"LD_PRELOAD": str(self.library), "SHORT": f"{call}:{nth}", "SHORT_UNDER": str(self.scratch)}
                code, errors = self.run([call], [], env)
                self.judge(f"`{call}` does half", f"short {call} {nth}", code, errors)
                if self.digest() != self.expected:
                    self.wrong.append(f"short {call} {nth}: no output: {errors}")

    def kills(self):
        took = min(self.timed() for _ in range(3))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            for _ in range(30):
                after = self.random.uniform(0, took * 1.2)
                code, errors = self.run(["kill"], [], {}, kill=(after, number))
                name = signal.Signals(number).name
                # Nobody can tidy up after a SIGKILL; the file left is hidden and has another name.
                self.judge(f"{name} at a random moment", f"{name} after {after:.3f} s", code, errors, True, number == signal.SIGKILL)

    def timed(self):
        start = time.time()
        self.run(["time"], [], {})
        return time.time() - start

    def memory(self):
        for mebibytes in (8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 256):
            code, errors = self.run(["memory"], [], {}, limit=mebibytes << 20)
            # Where not even the loader has room, or an allocation fails, the program ends at once, and leaves what it has.
            ended = code is not None and code < 0 and "panicked" not in errors
            if ended and self.digest() is None:
                self.table["`ulimit -v`"]["ended by the allocator, no output"] += 1
            else:
                self.judge("`ulimit -v`", f"{mebibytes} MiB of address space", code, errors)

    def files(self):
        # A file that becomes shorter while it is read.
        host = self.input / "host.dat"
        whole = host.read_bytes()
        for _ in range(20):
            shutil.rmtree(self.out_dir, ignore_errors=True)
            self.out_dir.mkdir()
            process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            time.sleep(self.random.uniform(0, 0.06))
            os.truncate(host, self.random.randrange(len(whole)))
            errors = process.communicate(timeout=SECONDS)[1]
            digest = self.digest()
            row = self.table["the input is cut while it is read"]
            if process.returncode in (0, 3) and digest and not self.left():
                row["whole output" if digest == self.expected else "less, and said so"] += 1
                if digest != self.expected and process.returncode != 3:
                    self.wrong.append(f"a file that is cut: code 0 with less output: {errors}")
            else:
                self.judge("the input is cut while it is read", "a file that is cut", process.returncode, errors)
            host.write_bytes(whole)
        # A reader who has seen enough.
        for size in (0, 1, 100, 4096, 100_000):
            command = [self.program, "convert", self.input, "-o", "-", "--format", "pftrace"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            process.stdout.read(size)
            process.stdout.close()
            errors = process.stderr.read().decode()
            code = process.wait(timeout=SECONDS)
            quiet = "error" not in errors and "panicked" not in errors
            self.table["a closed pipe"]["ends quietly" if quiet else "complains"] += 1
            if not quiet:
                self.wrong.append(f"a closed pipe after {size} bytes: code {code}: {errors}")
        # A disk that is full, for real.
        with open("/dev/full", "w") as full:
            done = subprocess.run([self.program, "convert", self.input, "-o", "-", "--format", "pftrace"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.table["/dev/full"]["error" if done.returncode == 1 and "error" in done.stderr else "other"] += 1
        if done.returncode != 1:
            self.wrong.append(f"/dev/full: code {done.returncode}: {done.stderr}")
        # A directory that cannot be written to, by somebody who is not root.
        shutil.rmtree(self.out_dir, ignore_errors=True)
        self.out_dir.mkdir(mode=0o555)
        self.scratch.chmod(0o755)
        command = self.command()
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.judge("a directory without write permission", "read-only directory", done.returncode, done.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--moments", type=int, default=40, help="at how many of a call's moments at most (default 40)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kvm-timeline-faults.") as scratch:
        faults = Faults(args.program.resolve(), args.seed, args.moments, pathlib.Path(scratch))
        for part in (faults.errors, faults.short, faults.kills, faults.memory, faults.files):
            part()
    lines = ["| what fails | runs | what came out |", "|---|---|---|"]
    for row, outcomes in faults.table.items():
        words = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        lines.append(f"| {row} | {outcomes.total()} | {words} |")
    text = "\n".join(lines) + "\n"
    total = sum(outcomes.total() for outcomes in faults.table.values())
    if args.table:
        args.table.write_text(HEADING + text)
    print(text)
    for wrong in faults.wrong:
        print(f"WRONG: {wrong}")
    print(f"{total} faults, {len(faults.wrong)} wrong outcomes")
    sys.exit(bool(faults.wrong))


if __name__ == "__main__":
    main()
