#!/usr/bin/env python3
"""Asks many captures one question, on a cluster of Dask: where did vCPUs wait longest, and what for?

    python longest_stalls.py /data/captures                                  # workers on this machine
    python longest_stalls.py /data/captures --scheduler tcp://10.0.0.1:8786  # workers that see the same paths

`kvm-timeline batch` makes traces; this is for answers. Only a few numbers travel back from each worker. With Ray it is the
same: decorate `stalls` with `@ray.remote`, and `ray.get([stalls.remote(path) for path in captures])`.
"""

import argparse
import pathlib

import kvm_timeline
from dask.distributed import Client, as_completed

HALTED = {"hlt", "HLT"}


def stalls(path, count=5):
    """The capture's verdict, and its longest exits: (milliseconds, VM, vCPU, reason)."""
    try:
        capture = kvm_timeline.Capture(path)
        verdict = capture.check().get("verdict")
        events = capture.events(events=["kvm:kvm_entry", "kvm:kvm_exit"], fields=["exit_reason.name"], span="all")
    except kvm_timeline.Error as error:
        return path, f"{error.kind}: {error}", []
    left, found = {}, []
    # Arrow batches, one at a time: a capture of any size takes some megabytes.
    import pyarrow

    for batch in pyarrow.RecordBatchReader.from_stream(events):
        columns = (batch.column(name).to_pylist() for name in ("time_ns", "vm", "vcpu", "event", "exit_reason.name"))
        for time, vm, vcpu, event, reason in zip(*columns):
            if vm is None:
                continue
            if event == "kvm_exit":
                left[vm, vcpu] = time, reason
            elif (vm, vcpu) in left:
                since, why = left.pop((vm, vcpu))
                # A vCPU that halts does not want to run.
                if why not in HALTED:
                    found.append(((time - since) / 1e6, vm, vcpu, why))
        found = sorted(found, reverse=True)[:count]
    return path, verdict, found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=pathlib.Path)
    parser.add_argument("--scheduler", help="of a cluster that is there; else one is made on this machine")
    args = parser.parse_args()
    captures = sorted(str(path.parent) for path in args.tree.rglob("host.dat"))
    with Client(args.scheduler) if args.scheduler else Client(threads_per_worker=1, dashboard_address=None) as client:
        rows = []
        for done in as_completed(client.map(stalls, captures, retries=2)):
            path, verdict, found = done.result()
            print(f"{path}: {verdict}")
            rows += [(*row, path) for row in found]
    print("\nlongest of all")
    for milliseconds, vm, vcpu, reason, path in sorted(rows, reverse=True)[:10]:
        print(f"{milliseconds:10.3f} ms  {vm} vCPU {vcpu}  {reason or 'unknown'}  {path}")


if __name__ == "__main__":
    main()
