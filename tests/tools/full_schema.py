#!/usr/bin/env python3
"""Reads what `kvm-timeline convert` writes by Perfetto's own, whole schema, and is strict about it.

    python3 tests/tools/full_schema.py target/release/kvm-timeline [CAPTURE ...]

The schema in `protos/` is the part that we write, so reading by it proves nothing about its numbers. The Python package
`perfetto` brings all of upstream's. Every fixture (or the captures named) is converted with each choice of layers, and of
each trace, every message:
  - parses, and has no field at any depth that upstream does not know; kernel events that upstream has no message for are
    described in the file itself (FtraceEvent's fields from 65536 on), and read by that description;
  - has no enum value without a name, and no text that is no UTF-8;
  - is the same after it was written again by the other code;
  - refers to names, tracks and sequences that exist, as readers of the format need it.
Chrome JSON is held against that format's own rules. Ends with 1 at the first file that fails.
"""

import collections
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields
from google.protobuf.descriptor import FieldDescriptor
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
WAYS = {
    "perfetto": ["--format", "pftrace"],
    "perfetto, native layers": ["--format", "pftrace", "--layers", "native-all"],
    "json": ["--format", "json"],
}
COUNTER = 4
FIRST_GENERIC = 65536
INCREMENTAL_STATE_CLEARED, NEEDS_INCREMENTAL_STATE = 1, 2


def captures():
    folders = [d for d in sorted(FIXTURES.iterdir()) if d.name not in ("markers", "perf", "variants")]
    files = [FIXTURES / f"markers/{n}.dat" for n in ("host", "function")] + sorted((FIXTURES / "perf").glob("*.data"))
    yield from ([path] for path in folders + files)
    # A recording of a guest whose host is not there: a machine by itself.
    yield from (["--host", path] for path in sorted((FIXTURES / "variants").glob("*.dat")))


class Wrong(Exception):
    pass


class Strict:
    """Walks messages."""

    def __init__(self):
        self.messages = 0
        self.kinds = collections.Counter()
        self.machine = 0
        # By machine and number: the bytes of events, and, maybe later in the file, what they are.
        self.generic = collections.defaultdict(set)
        self.described = {}

    def look(self, message, where):
        self.messages += 1
        unknown = unknown_fields.UnknownFieldSet(message)
        wrong = [field.field_number for field in unknown]
        if message.DESCRIPTOR.name == "FtraceEvent":
            wrong = [number for number in wrong if number < FIRST_GENERIC]
            for field in unknown:
                if field.wire_type != 2:
                    raise Wrong(f"{where}: {field.field_number} is no message")
                self.generic[self.machine, field.field_number].add(field.data)
        if wrong:
            raise Wrong(f"{where}: fields {wrong} are not in the schema")
        if message.DESCRIPTOR.name == "GenericEventDescriptor":
            key = self.machine, message.field_id
            if message.field_id < FIRST_GENERIC or key in self.described:
                raise Wrong(f"{where}: {message.field_id} is described twice, or not to be described")
            self.described[key] = message.event_descriptor
        for field, value in message.ListFields():
            name = f"{where}.{field.name}"
            self.kinds[f"{message.DESCRIPTOR.name}.{field.name}"] += 1
            values = value if field.is_repeated else [value]
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                for one in values:
                    self.look(one, name)
            elif field.type == FieldDescriptor.TYPE_ENUM:
                for one in values:
                    if one not in field.enum_type.values_by_number:
                        raise Wrong(f"{name}: {one} has no name")


    @staticmethod
    def rename(message):
        """A u64 has two fields under one name: a number, and text for what SQL cannot hold as a number. The trace
        processor takes that, protobuf's own library does not."""
        names = collections.defaultdict(list)
        for field in message.field:
            names[field.name].append(field)
        for fields in names.values():
            if len(fields) > 2 or len(fields) == 2 and [f.type for f in fields] != [FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_STRING]:
                raise Wrong(f"event {message.name}: {fields[0].name} is described {len(fields)} times")
            for second in fields[1:]:
                second.name += "_as_text"

    def finish(self):
        """Events that only the file describes."""
        for number, (key, events) in enumerate(sorted(self.generic.items())):
            if key not in self.described:
                raise Wrong(f"events {key[1]} of machine {key[0]} are described nowhere")
            file = descriptor_pb2.FileDescriptorProto(name=f"generic{number}.proto", package=f"generic{number}")
            file.message_type.add().ParseFromString(self.described[key])
            self.rename(file.message_type[0])
            pool = descriptor_pool.DescriptorPool()
            pool.Add(file)
            kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{file.message_type[0].name}"))
            for raw in events:
                self.look(kind.FromString(raw), f"event {file.message_type[0].name}")


def packets(data):
    """The bytes of each packet: a trace is nothing but a repeated field 1."""
    at = 0
    while at < len(data):
        if data[at] != 0x0A:
            raise Wrong(f"byte {at:#x}: tag {data[at]:#x} where a packet begins")
        at += 1
        length = shift = 0
        while True:
            byte = data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if at + length > len(data):
            raise Wrong(f"byte {at:#x}: a packet of {length} bytes ends behind the file")
        yield at, data[at : at + length]
        at += length


class Sequences:
    """What packets refer to."""

    def __init__(self):
        self.tracks = set()
        self.parents = {}
        self.used = set()
        self.interned = collections.defaultdict(lambda: collections.defaultdict(set))
        self.begun = set()
        self.flows = collections.Counter()

    def take(self, packet, where):
        sequence = packet.trusted_packet_sequence_id
        flags = packet.sequence_flags
        if flags & INCREMENTAL_STATE_CLEARED:
            self.interned.pop(sequence, None)
            self.begun.add(sequence)
        if flags & NEEDS_INCREMENTAL_STATE and sequence not in self.begun:
            raise Wrong(f"{where}: sequence {sequence} was never begun")
        known = self.interned[sequence]
        for field, entries in packet.interned_data.ListFields():
            for entry in entries:
                if not entry.iid:
                    raise Wrong(f"{where}: {field.name} without a number")
                known[field.name].add(entry.iid)
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            self.tracks.add(track.uuid)
            if track.HasField("parent_uuid"):
                self.parents[track.uuid] = track.parent_uuid
        if not packet.HasField("track_event"):
            return
        event = packet.track_event
        if event.HasField("track_uuid"):
            self.used.add(event.track_uuid)
        need = [("event_names", [event.name_iid] if event.name_iid else []), ("event_categories", event.category_iids)]
        stack = list(event.debug_annotations)
        while stack:
            note = stack.pop()
            stack += list(note.dict_entries) + list(note.array_values)
            need.append(("debug_annotation_names", [note.name_iid] if note.name_iid else []))
            need.append(("debug_annotation_string_values", [note.string_value_iid] if note.string_value_iid else []))
        for kind, numbers in need:
            for number in numbers:
                if number not in known[kind]:
                    raise Wrong(f"{where}: {kind} {number} is not known on sequence {sequence}")
        if event.type == COUNTER and not (event.HasField("counter_value") or event.HasField("double_counter_value")):
            raise Wrong(f"{where}: a counter without a value")
        for flow in list(event.flow_ids) + list(event.terminating_flow_ids):
            self.flows[flow] += 1

    def finish(self):
        lost = self.used - self.tracks - {0}
        if lost:
            raise Wrong(f"{len(lost)} tracks have events and no descriptor, such as {min(lost):#x}")
        orphans = {parent for parent in self.parents.values() if parent not in self.tracks and parent}
        if orphans:
            raise Wrong(f"{len(orphans)} tracks hang on none, such as {min(orphans):#x}")


def perfetto(data):
    strict, sequences, count = Strict(), Sequences(), 0
    for at, raw in packets(data):
        packet = schema.TracePacket()
        where = f"packet {count} at byte {at:#x}"
        try:
            packet.ParseFromString(raw)
        except Exception as error:
            raise Wrong(f"{where}: {error}") from error
        strict.machine = packet.machine_id
        strict.look(packet, where)
        again = schema.TracePacket.FromString(packet.SerializeToString(deterministic=True))
        if again != packet:
            raise Wrong(f"{where}: is another after it was written again")
        sequences.take(packet, where)
        count += 1
    sequences.finish()
    strict.finish()
    return f"{count} packets, {strict.messages} messages, {len(strict.kinds)} kinds of fields", strict.kinds


def once(pairs):
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise Wrong(f"a key twice: {keys}")
    return dict(pairs)


def refuse(constant):
    raise Wrong(f"{constant} is not JSON")


def chrome(data):
    trace = json.loads(data.decode("utf-8", errors="strict"), object_pairs_hook=once, parse_constant=refuse)
    events = trace["traceEvents"] if isinstance(trace, dict) else trace
    open_slices = collections.Counter()
    for number, event in enumerate(events):
        where, kind = f"event {number}", event.get("ph")
        if kind not in {"X", "B", "E", "i", "I", "M", "C", "s", "t", "f", "b", "e", "n"}:
            raise Wrong(f"{where}: phase {kind!r}")
        if kind != "M" and not isinstance(event.get("ts"), (int, float)):
            raise Wrong(f"{where}: no time")
        if kind == "X" and event.get("dur", -1) < 0:
            raise Wrong(f"{where}: duration {event.get('dur')}")
        if kind in "BE":
            key = (event.get("pid"), event.get("tid"))
            open_slices[key] += 1 if kind == "B" else -1
            if open_slices[key] < 0:
                raise Wrong(f"{where}: ends what was not begun")
        if kind != "E" and not isinstance(event.get("name"), str):
            raise Wrong(f"{where}: no name")
    return f"{len(events)} events", collections.Counter()


def main(program, *named):
    failed, seen, files = 0, collections.Counter(), 0
    todo = [[name] for name in named] or list(captures())
    with tempfile.TemporaryDirectory() as folder:
        for inputs in todo:
            shown = str(inputs[-1]).removeprefix(f"{FIXTURES}/")
            for way, options in WAYS.items():
                output = pathlib.Path(folder) / "trace"
                run = [program, "-q", "convert", *map(str, inputs), "-o", str(output), *options]
                done = subprocess.run(run, capture_output=True, text=True, errors="replace")
                files += 1
                if done.returncode not in (0, 3):
                    failed += 1
                    print(f"FAILED  {shown}, {way}: not converted: {done.stderr}")
                    continue
                data = output.read_bytes()
                if data[:2] == b"\x1f\x8b":
                    data = gzip.decompress(data)
                try:
                    said, kinds = chrome(data) if way == "json" else perfetto(data)
                    seen += kinds
                    print(f"{shown}, {way}: {said}", flush=True)
                except Wrong as error:
                    failed += 1
                    print(f"FAILED  {shown}, {way}: {error}", flush=True)
    print(f"{files} traces, {failed} failed; {len(seen)} kinds of fields of the whole schema")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
