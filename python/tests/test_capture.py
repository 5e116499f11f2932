"""Clocks, audit, conversion, errors."""

import gzip
import io
import json
import signal
import threading
import time
from pathlib import Path

import pytest

import kvm_timeline


def test_check_proves_what_the_fixture_holds(two_vm):
    report = kvm_timeline.check(two_vm)
    assert report["verdict"] == "proved"
    # As the capture's README counts them.
    events = {vm["name"]: sum(v["checked"] for v in vm["vcpus"]) for vm in report["vms"]}
    assert events == {"a": 37_468, "b": 44_397}


def test_offsets_are_those_of_debugfs(fixtures):
    rows = kvm_timeline.offsets(str(fixtures / "two-vm"))
    # Beside the capture: what debugfs said when it was recorded.
    known = {("a", 0): -33_610_754_878, ("a", 1): -33_610_754_878, ("b", 0): -39_157_969_642, ("b", 1): -39_157_969_642}
    assert {(row["vm"], row["vcpu"]): row["offset"] for row in rows} == known
    assert all(row["uncertainty"] == 0 for row in rows)


def test_inputs_can_be_named_one_by_one(fixtures):
    dat = fixtures / "two-vm"
    capture = kvm_timeline.Capture(
        host=dat / "host.dat", guests={"web,pid=197": dat / "guest-a.dat", "db": [dat / "guest-b.dat"]}
    )
    assert {row["vm"] for row in capture.offsets()} == {"web", "db"}
    # VM a is given 50 us off, vCPU 0 of b right.
    given = kvm_timeline.Capture(dat, offsets={"a": -33_610_754_878 + 129_806, "b/0": -39_157_969_642})
    sources = {(row["vm"], row["vcpu"]): row["source"] for row in given.offsets()}
    assert [by for by in sources.values() if by == "given by the user"] == ["given by the user"] * 3
    assert sources["b", 1] != "given by the user"
    a, b = given.check()["vms"]
    assert {v["verdict"] for v in a["vcpus"]} <= {"doubtful", "wrong"}
    assert {v["verdict"] for v in b["vcpus"]} <= {"proved", "consistent"}
    inferred = kvm_timeline.Capture(dat, infer=True)
    assert all(row["uncertainty"] > 0 for row in inferred.offsets())


def test_stats_add_up(two_vm):
    stats = two_vm.stats(vms=["a"])
    for vcpu in stats["vms"][0]["vcpus"]:
        states = ["guest_ns", "exit_ns", "preempted_ns", "waiting_ns", "halted_ns", "blocked_ns"]
        assert sum(vcpu[state] for state in states) == vcpu["span_ns"]


def test_convert_to_a_file_and_to_an_object_are_the_same(fixtures, tmp_path):
    capture = kvm_timeline.Capture(fixtures / "arrows")
    report = kvm_timeline.convert(capture, tmp_path / "out.pftrace")
    events = report["events"]
    assert events["read"] == events["written"] + events["filtered"] + sum(events["not_placed"].values())
    out = io.BytesIO()
    capture.convert(out)
    assert out.getvalue() == (tmp_path / "out.pftrace").read_bytes()
    kvm_timeline.convert(capture, str(tmp_path / "out.json.gz"), events=["sched:*"], flows="none", span="all")
    with gzip.open(tmp_path / "out.json.gz") as file:
        assert json.load(file)["traceEvents"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json.gz", "out.pftrace"]


def test_errors_have_a_kind_and_a_hint(two_vm, fixtures, tmp_path):
    with pytest.raises(kvm_timeline.Error) as caught:
        kvm_timeline.Capture(tmp_path / "nothing")
    assert caught.value.kind == "io"
    assert Path(caught.value.file) == tmp_path / "nothing"
    for wrong in [
        lambda: two_vm.convert(tmp_path / "out.txt"),
        lambda: two_vm.events(events=["no_such_event"]),
        lambda: two_vm.events(fields=["no_such_field"]),
        lambda: two_vm.events(batch_size=0),
        lambda: two_vm.stats(vms=["nobody"]),
        lambda: two_vm.stats(start="soon"),
        lambda: two_vm.convert(io.BytesIO(), format="xml"),
        lambda: two_vm.convert(fixtures / "two-vm" / "host.dat", format="pftrace"),
        lambda: kvm_timeline.Capture(),
        lambda: kvm_timeline.Capture(fixtures / "two-vm", offsets={"nobody": 1}),
        lambda: kvm_timeline.Capture(fixtures / "two-vm", guests={"web,colour=red": "x"}),
    ]:
        with pytest.raises(kvm_timeline.Error) as caught:
            wrong()
        assert caught.value.kind == "usage"
        assert str(caught.value).endswith(f"\nhint: {caught.value.hint}"), caught.value
    with pytest.raises(TypeError):
        two_vm.stats(no_such_option=1)
    assert not list(tmp_path.iterdir())


def test_what_write_raises_is_said(two_vm):
    class Full:
        def write(self, data):
            raise OSError("the disk is full")

    with pytest.raises(kvm_timeline.Error, match="the disk is full"):
        two_vm.convert(Full())


def test_other_threads_run_while_it_works(fixtures):
    ticks, over = [], threading.Event()

    def tick():
        while not over.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begun = time.monotonic()
    kvm_timeline.check(fixtures / "two-vm")
    lasted = time.monotonic() - begun
    over.set()
    thread.join()
    ticks = [begun, *(t for t in ticks if t >= begun), begun + lasted]
    longest = max(b - a for a, b in zip(ticks, ticks[1:]))
    assert len(ticks) > 20 and longest < lasted / 2, (len(ticks), longest, lasted)


def test_a_signal_ends_the_work_and_leaves_no_output(fixtures, tmp_path):
    class Enough(Exception):
        pass

    class Slow:
        def __init__(self):
            self.writes = 0

        def write(self, data):
            self.writes += 1
            time.sleep(0.05)

    def enough(*_):
        raise Enough

    capture = kvm_timeline.Capture(fixtures / "two-vm")
    before = signal.signal(signal.SIGALRM, enough)
    try:
        whole = Slow()
        capture.convert(whole)
        cut = Slow()
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Enough):
            capture.convert(cut)
        assert 0 < cut.writes < whole.writes
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # The same capture works on.
    assert capture.check()["verdict"] == "proved"
