"""Events as Arrow: what pyarrow, pandas, polars and duckdb make of them."""

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow
import pyarrow.compute as pc
import pytest

import kvm_timeline

GUEST_EVENTS = {"a": 37_468, "b": 44_397}
"""As the capture's README counts them."""
ALL_EVENTS = 711_518
SECOND_COPIES = 12
"""Offset writes that two tracing instances recorded."""


def placed(table: pyarrow.Table, machine: str) -> pyarrow.Table:
    return table.filter(pc.equal(table["machine"].cast(pyarrow.string()), machine))


def test_every_event_is_there_in_order_with_its_clock(two_vm):
    table = pyarrow.table(two_vm.events(fields=[]))
    assert table.column_names == two_vm.events(fields=[]).columns
    assert table.num_rows == ALL_EVENTS - SECOND_COPIES
    times = table["host_tsc"].to_numpy()
    assert (times[1:] >= times[:-1]).all()
    for vm, count in GUEST_EVENTS.items():
        rows = placed(table, vm)
        assert rows.num_rows == count
        offset = next(row["offset"] for row in two_vm.offsets() if row["vm"] == vm)
        apart = rows["guest_tsc"].to_numpy().astype("int64") - rows["host_tsc"].to_numpy().astype("int64")
        assert (apart == offset).all()
        assert set(rows["placed"].cast(pyarrow.string()).to_pylist()) == {"stamp"}
        assert set(rows["uncertainty_ns"].to_pylist()) == {0}
    host = placed(table, "host")
    assert host["guest_tsc"].null_count == host.num_rows


def test_fields_become_typed_columns(two_vm):
    names = ["prev_pid", "prev_comm", "exit_reason", "exit_reason.name"]
    events = two_vm.events(events=["sched:sched_switch", "kvm:kvm_exit"], fields=names, text=True)
    table = pyarrow.table(events)
    assert [str(table.schema.field(name).type) for name in names] == ["int64", "string", "int64", "string"]
    rows = table.slice(0, 2000).to_pylist()
    assert {row["event"] for row in rows} == {"sched_switch", "kvm_exit"}
    for row in rows:
        if row["event"] == "sched_switch":
            assert row["prev_pid"] == row["pid"] and row["exit_reason"] is None
            assert row["prev_comm"] in row["text"]
        else:
            assert row["prev_pid"] is None and row["exit_reason.name"] in row["text"]
            assert row["machine"] == "host" and row["vm"] in GUEST_EVENTS and row["vcpu"] in (0, 1)


def test_without_a_list_all_fields_are_one_json_object(two_vm):
    events = two_vm.events(events=["host/sched:sched_switch"], end="+100ms")
    typed = two_vm.events(events=["host/sched:sched_switch"], end="+100ms", fields=["next_comm", "next_pid"])
    objects = [json.loads(text) for text in pyarrow.table(events)["fields"].to_pylist()]
    assert objects
    assert [(o["next_comm"], o["next_pid"]) for o in objects] == [
        (row["next_comm"], row["next_pid"]) for row in pyarrow.table(typed).to_pylist()
    ]


def test_pandas_polars_and_duckdb_count_alike(two_vm):
    events = two_vm.events(events=["kvm:kvm_exit"], fields=["exit_reason.name"])
    expected = {}
    for vcpu in (v for vm in two_vm.stats()["vms"] for v in vm["vcpus"]):
        for exit in vcpu["exits"]:
            expected[exit["reason"]] = expected.get(exit["reason"], 0) + exit["count"]
    frame = pandas.DataFrame.from_arrow(events)
    assert pyarrow.table(events).to_pandas().equals(frame)
    by_pandas = frame.groupby("exit_reason.name").size().to_dict()
    by_polars = dict(polars.DataFrame(events).group_by("exit_reason.name").len().iter_rows())
    by_duckdb = dict(duckdb.sql('SELECT "exit_reason.name", count(*) FROM events GROUP BY ALL').fetchall())
    assert by_pandas == by_polars == by_duckdb
    # An exit that was never followed by an entry is counted here and not there.
    assert by_pandas.keys() >= expected.keys()
    for reason, count in expected.items():
        assert count <= by_pandas[reason] <= count + 8, reason


def test_batches_have_the_size_that_is_asked_for_and_do_not_change_the_rows(two_vm):
    small = two_vm.events(events=["sched:sched_switch"], fields=["next_pid"], batch_size=1000)
    reader = pyarrow.RecordBatchReader.from_stream(small)
    batches = list(reader)
    assert {b.num_rows for b in batches[:-1]} == {1000} and 0 < batches[-1].num_rows <= 1000
    large = pyarrow.table(two_vm.events(events=["sched:sched_switch"], fields=["next_pid"]))
    assert pyarrow.Table.from_batches(batches).combine_chunks().equals(large.combine_chunks())


def test_no_event_is_an_empty_table_with_columns(two_vm):
    table = pyarrow.table(two_vm.events(events=["sched:sched_process_exec"], end="+1ns", fields=["filename"]))
    assert table.num_rows == 0 and "filename" in table.column_names


def test_a_reader_that_is_dropped_early_ends(two_vm):
    for _ in range(3):
        reader = pyarrow.RecordBatchReader.from_stream(two_vm.events(batch_size=10))
        assert reader.read_next_batch().num_rows == 10
        del reader
    pyarrow.schema(two_vm.events(fields=[]))


def test_an_error_in_the_middle_reaches_the_reader(fixtures, tmp_path):
    source = (fixtures / "two-vm" / "host.dat").read_bytes()
    path = tmp_path / "host.dat"
    path.write_bytes(source)
    capture = kvm_timeline.Capture(path)
    reader = pyarrow.RecordBatchReader.from_stream(capture.events(batch_size=1000))
    reader.read_next_batch()
    with path.open("r+b") as file:
        file.truncate(len(source) // 3)
    with pytest.raises((OSError, pyarrow.ArrowException), match="host.dat"):
        for _ in reader:
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is in KiB on Linux")
def test_memory_does_not_grow_with_the_events():
    script = """
import resource, sys
import pyarrow, kvm_timeline
capture = kvm_timeline.Capture(sys.argv[1])
reader = pyarrow.RecordBatchReader.from_stream(capture.events(text=True, batch_size=8192))
reader.read_next_batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = sum(batch.nbytes for batch in reader)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(total, grown)
"""
    path = Path(__file__).resolve().parents[2] / "fixtures" / "two-vm"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True, text=True)
    total, grown = map(int, done.stdout.split())
    assert total > 100_000_000, total
    assert grown < 40_000_000, grown
