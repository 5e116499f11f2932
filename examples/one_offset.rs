//! How far one offset per vCPU gets: the share of guest events inside their vCPU's run windows if each is shifted by the
//! vCPU's last offset, as `trace-cmd attach` and TIME_SHIFT do it, and if its whole history is used.
//!
//! `cargo run --release --example one_offset -- DIRECTORY…`

use std::io::Write as _;

use kvm_timeline::capture::Chunk;
use kvm_timeline::check::check;
use kvm_timeline::clock::scaling::HostRange;
use kvm_timeline::clock::windows::State;
use kvm_timeline::error::Result;
use kvm_timeline::monitor::Monitor;
use kvm_timeline::report::share;
use kvm_timeline::session::request::Request;
use kvm_timeline::session::runs::windows;
use kvm_timeline::session::{Session, is_tsc};
use kvm_timeline::time::HostTsc;

fn main() -> Result<()> {
    let mut out = std::io::stdout().lock();
    for path in std::env::args_os().skip(1) {
        let request = Request { paths: vec![path.clone().into()], ..Request::default() };
        let session = Session::open(&request, &Monitor::silent())?;
        let (inside, events) = last_offset(&session)?;
        let report = check(&session, &Monitor::silent())?;
        let vcpus = || report.vms.iter().flat_map(|vm| &vm.vcpus);
        let (ours, checked) = vcpus().fold((0, 0), |(i, c), v| (i + v.inside, c + v.checked));
        let verdict = report.verdict.map_or("-", |v| v.name());
        let _ = writeln!(
            out,
            "{}: one offset per vCPU {inside} of {events} ({}), with the history {ours} of {checked} ({}), {verdict}",
            path.display(),
            share(inside, events),
            share(ours, checked),
        );
    }
    Ok(())
}

/// Events inside, and all events of guests that recorded x86-tsc.
fn last_offset(session: &Session) -> Result<(u64, u64)> {
    let windows = windows(&session.hosts(), &[HostRange::ALL], &Monitor::silent())?;
    let (mut inside, mut events) = (0, 0);
    for stream in &session.streams {
        let input = &session.inputs[stream.input];
        let Some(vcpu) = stream.vcpu.map(|v| &session.vms[stream.vm].vcpus[v]) else { continue };
        let (Some(last), true) = (vcpu.history.segments.last(), is_tsc(&input.capture, stream.buffer)) else {
            continue;
        };
        let Some(windows) = vcpu.thread.and_then(|thread| windows.get(&thread)) else { continue };
        let source = &input.capture.buffers[stream.buffer].streams[stream.stream].source;
        let mut chunk = Chunk::default();
        for index in 0..source.chunks() {
            chunk.clear();
            source.read(index, &mut chunk)?;
            for record in &chunk.records {
                let host = HostTsc::new(record.ts.wrapping_sub(last.offset.raw()));
                inside += u64::from(windows.state(host) == State::Inside);
                events += 1;
            }
        }
    }
    Ok((inside, events))
}
