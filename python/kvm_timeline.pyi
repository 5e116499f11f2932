"""A Linux KVM host and its guests on one timeline: clocks, audit, traces to look at, and events as Arrow record batches."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Protocol, TypedDict, final, type_check_only

from typing_extensions import NotRequired, TypeAlias, Unpack

__all__ = ["__version__", "Capture", "Error", "Events", "check", "convert", "events", "offsets"]
__version__: str

_Path: TypeAlias = str | PathLike[str]
_Paths: TypeAlias = _Path | Sequence[_Path]

@type_check_only
class _Writer(Protocol):
    def write(self, data: bytes, /) -> object: ...

@type_check_only
class _Wanted(TypedDict):
    events: NotRequired[Sequence[str] | None]
    exclude: NotRequired[Sequence[str] | None]
    vms: NotRequired[Sequence[str] | None]
    vcpus: NotRequired[Sequence[str] | None]
    start: NotRequired[str | None]
    end: NotRequired[str | None]
    around: NotRequired[Sequence[str] | None]
    span: NotRequired[Literal["guests", "all"] | None]

@type_check_only
class _ConvertOptions(_Wanted):
    format: NotRequired[Literal["pftrace", "json"] | None]
    compress: NotRequired[bool]
    flows: NotRequired[Literal["stalls", "all", "none"] | None]
    layers: NotRequired[Sequence[Literal["overlay", "native", "native-all"]] | None]
    stall_ns: NotRequired[int | None]
    max_memory: NotRequired[int | None]

@type_check_only
class _EventOptions(_Wanted):
    fields: NotRequired[Sequence[str] | None]
    text: NotRequired[bool]
    batch_size: NotRequired[int]

class Error(Exception):
    """What went wrong, in which file, and what to do about it.

    ``str()`` is the message, with the hint on a line of its own.
    """

    kind: str
    """``io``, ``format``, ``unsupported``, ``usage``, ``evidence``, ``limit`` or ``interrupted``."""
    code: str
    """What went wrong, by a name that stays; docs/errors.md has the list."""
    hint: str | None
    file: PathLike[str] | None
    offset: int | None
    """In bytes, in ``file``."""

@final
class Events:
    """Placed events in host-time order, for whatever takes an Arrow C stream.

    ``pyarrow.RecordBatchReader.from_stream(events)``, ``pyarrow.table(events)``, ``polars.DataFrame(events)``,
    ``pandas.DataFrame.from_arrow(events)``, and ``FROM events`` in DuckDB. Batches are made while they are read, one
    ahead; each stream reads anew.

    Columns: ``time_ns`` (the axis of all outputs), ``host_tsc``, ``guest_tsc`` (null for the host's events), ``machine``
    (``host`` or the VM that recorded it), ``cpu``, ``vm`` and ``vcpu`` (what it is about: for the host's events the vCPU
    whose thread recorded it), ``pid``, ``system``, ``event``, ``placed`` (``host``, ``stamp``, ``repaired``,
    ``ambiguous``), ``offset_source``, ``uncertainty_ns`` (either way), ``lost_before`` (events that the CPU's ring buffer
    lost before this one; null: some, not counted). Then the fields.
    """

    @property
    def columns(self) -> list[str]: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any: ...
    def __arrow_c_schema__(self) -> Any: ...

@final
class Capture:
    """A host and its guests, read once and ready to be asked.

    ``paths`` are directories, archives or files whose roles are found out. ``guests`` maps ``NAME[,pid=N][,threads=A:B]``
    to files, ``offsets`` maps ``VM[/VCPU]`` to cycles: guest TSC = host TSC + cycles.
    """

    def __new__(
        cls,
        paths: _Paths | None = None,
        *,
        host: _Paths | None = None,
        guests: Mapping[str, _Paths] | None = None,
        offsets: Mapping[str, int] | None = None,
        tsc_hz: int | None = None,
        infer: bool = False,
        max_unpacked: int | None = None,
    ) -> Capture: ...
    @property
    def warnings(self) -> list[str]:
        """What a person should know before trusting any result."""
    @property
    def damaged(self) -> list[str]:
        """What of the inputs was damaged, cut short or skipped."""
    def check(self) -> dict[str, Any]:
        """The audit, as ``kvm-timeline check --json`` has it: whether every guest event lies inside a run window."""
    def offsets(self) -> list[dict[str, Any]]:
        """Each vCPU's TSC-offset history, one row per stretch, as in ``kvm-timeline offsets --json``."""
    def stats(
        self,
        *,
        events: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        vms: Sequence[str] | None = None,
        vcpus: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        around: Sequence[str] | None = None,
        span: Literal["guests", "all"] | None = None,
    ) -> dict[str, Any]:
        """Where each vCPU's time went, as ``kvm-timeline stats --json`` has it."""
    def convert(
        self,
        output: _Path | _Writer,
        *,
        format: Literal["pftrace", "json"] | None = None,
        compress: bool = False,
        flows: Literal["stalls", "all", "none"] | None = None,
        layers: Sequence[Literal["overlay", "native", "native-all"]] | None = None,
        stall_ns: int | None = None,
        max_memory: int | None = None,
        events: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        vms: Sequence[str] | None = None,
        vcpus: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        around: Sequence[str] | None = None,
        span: Literal["guests", "all"] | None = None,
    ) -> dict[str, Any]:
        """Writes a trace and returns the report.

        A file appears whole or not at all, and its name says the format unless ``format`` does; an object with ``write``
        gets bytes, of a Perfetto trace unless ``format`` says otherwise.
        """
    def events(
        self,
        *,
        fields: Sequence[str] | None = None,
        text: bool = False,
        batch_size: int = 65536,
        events: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        vms: Sequence[str] | None = None,
        vcpus: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        around: Sequence[str] | None = None,
        span: Literal["guests", "all"] | None = None,
    ) -> Events:
        """The events in host-time order.

        With ``fields`` each field named there is a column, null for events without it; ``exit_reason.name`` is what the
        kernel calls the value of ``exit_reason``. Without it there is one column ``fields``, a JSON object. ``text`` adds
        the kernel's own rendering.
        """

def check(capture: Capture | _Paths) -> dict[str, Any]: ...
def offsets(capture: Capture | _Paths) -> list[dict[str, Any]]: ...
def convert(
    capture: Capture | _Paths, output: _Path | _Writer, **options: Unpack[_ConvertOptions]
) -> dict[str, Any]: ...
def events(capture: Capture | _Paths, **options: Unpack[_EventOptions]) -> Events: ...
