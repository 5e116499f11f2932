//! Small text files beside the captures that say something about the VMs or the clock: process ids, debugfs offsets,
//! a kernel log. Recognised by content; anything else is left alone.

use std::path::Path;

use crate::clock::rate::hz_from_kernel_log;
use crate::time::TscOffset;

/// The largest text that is looked into.
pub const MAX_FACT_FILE: u64 = 4 << 20;

/// The state of one vCPU as debugfs showed it at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugfsVcpu {
    /// The VM's process.
    pub pid: u32,
    /// vcpu_id.
    pub vcpu: u32,
    /// `tsc-offset`, where it was copied.
    pub offset: Option<TscOffset>,
    /// `tsc-scaling-ratio`, where the CPU has scaling.
    pub ratio: Option<u64>,
    /// `tsc-scaling-ratio-frac-bits`, where the CPU has scaling.
    pub frac_bits: Option<u8>,
}

/// What the small files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// VM name and process id.
    pub pids: Vec<(String, u32)>,
    /// debugfs snapshots.
    pub debugfs: Vec<DebugfsVcpu>,
    /// The TSC rate of a kernel log, in Hz, refined calibration before detected.
    pub log_tsc_hz: Option<u64>,
}

impl Facts {
    /// Reads what `text` says, if it says anything. `path` matters only for single debugfs files, whose content is a
    /// bare number.
    pub fn read(&mut self, path: &Path, text: &str) -> bool {
        if let Some(pids) = pid_list(text) {
            self.pids.extend(pids);
            return true;
        }
        let before = self.debugfs.len();
        self.debugfs.extend(text.lines().filter_map(debugfs_line));
        if self.debugfs.len() > before || self.debugfs_file(path, text) {
            return true;
        }
        if let Some(hz) = hz_from_kernel_log(text) {
            self.log_tsc_hz = Some(hz);
            return true;
        }
        false
    }

    /// A file copied from `kvm/<pid>-<fd>/vcpu<N>/`.
    fn debugfs_file(&mut self, path: &Path, text: &str) -> bool {
        let mut parts = path.iter().rev().filter_map(|p| p.to_str());
        let (Some(file), Some(vcpu), Some(vm)) = (parts.next(), parts.next(), parts.next()) else { return false };
        let Some(vcpu) = vcpu.strip_prefix("vcpu").and_then(|n| n.parse().ok()) else { return false };
        let Some(pid) = vm.split('-').next().and_then(|pid| pid.parse().ok()) else { return false };
        let text = text.trim();
        let index = self.debugfs.iter().position(|d| d.pid == pid && d.vcpu == vcpu).unwrap_or_else(|| {
            let empty = DebugfsVcpu { pid, vcpu, offset: None, ratio: None, frac_bits: None };
            self.debugfs.push(empty);
            self.debugfs.len() - 1
        });
        let entry = &mut self.debugfs[index];
        match file {
            "tsc-offset" => text.parse().map(|v| entry.offset = Some(TscOffset::from_signed(v))).is_ok(),
            "tsc-scaling-ratio" => text.parse().map(|v| entry.ratio = Some(v)).is_ok(),
            "tsc-scaling-ratio-frac-bits" => text.parse().map(|v| entry.frac_bits = Some(v)).is_ok(),
            _ => false,
        }
    }

    /// The process of a VM by name.
    pub fn pid_of(&self, name: &str) -> Option<u32> {
        self.pids.iter().find(|(n, _)| n == name).map(|(_, pid)| *pid)
    }
}

/// `a=197 b=210`: nothing but NAME=PID.
fn pid_list(text: &str) -> Option<Vec<(String, u32)>> {
    if text.len() > 4096 {
        return None;
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        return None;
    }
    words
        .iter()
        .map(|word| {
            let (name, pid) = word.split_once('=')?;
            let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "._-".contains(c));
            let pid: u32 = pid.parse().ok()?;
            (plain && pid > 0).then(|| (name.to_owned(), pid))
        })
        .collect()
}

/// `/sys/kernel/debug/kvm/197-9/vcpu0 tsc-offset=-33610754878 ratio= frac=`.
fn debugfs_line(line: &str) -> Option<DebugfsVcpu> {
    let mut words = line.split_whitespace();
    let mut path = words.next()?.rsplit('/');
    let vcpu = path.next()?.strip_prefix("vcpu")?.parse().ok()?;
    let pid = path.next()?.split('-').next()?.parse().ok()?;
    let mut found = DebugfsVcpu { pid, vcpu, offset: None, ratio: None, frac_bits: None };
    for word in words {
        let (key, value) = word.split_once('=')?;
        match key {
            "tsc-offset" => found.offset = Some(TscOffset::from_signed(value.parse().ok()?)),
            "ratio" | "tsc-scaling-ratio" => found.ratio = value.parse().ok(),
            "frac" | "tsc-scaling-ratio-frac-bits" => found.frac_bits = value.parse().ok(),
            _ => {}
        }
    }
    found.offset.is_some().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_lies_beside_a_capture() {
        let mut facts = Facts::default();
        assert!(facts.read(Path::new("pids.txt"), "a=197 b=210\n"));
        assert!(
            facts.read(Path::new("o.txt"), "/sys/kernel/debug/kvm/210-9/vcpu1 tsc-offset=-39157969642 ratio= frac=\n")
        );
        assert!(facts.read(
            Path::new("dmesg"),
            "[    0.028000] tsc: Detected 2596.151 MHz processor\n\
             [    2.381019] tsc: Refined TSC clocksource calibration: 2596.116 MHz\n"
        ));
        assert!(!facts.read(Path::new("README.md"), "# two-vm\n\nThe rate is 2596.116 MHz, a=1\n"));
        assert_eq!(facts.pid_of("b"), Some(210));
        assert_eq!(facts.debugfs[0].offset.map(TscOffset::signed), Some(-39_157_969_642));
        assert_eq!(facts.debugfs[0].ratio, None);
        assert_eq!(facts.log_tsc_hz, Some(2_596_116_000));
    }

    #[test]
    fn reads_single_debugfs_files_by_their_path() {
        let mut facts = Facts::default();
        assert!(facts.read(Path::new("kvm/197-9/vcpu1/tsc-offset"), "-33610754878\n"));
        assert!(facts.read(Path::new("kvm/197-9/vcpu1/tsc-scaling-ratio"), "281474976710656\n"));
        assert!(facts.read(Path::new("kvm/197-9/vcpu1/tsc-scaling-ratio-frac-bits"), "48\n"));
        let expected = DebugfsVcpu {
            pid: 197,
            vcpu: 1,
            offset: Some(TscOffset::from_signed(-33_610_754_878)),
            ratio: Some(1 << 48),
            frac_bits: Some(48),
        };
        assert_eq!(facts.debugfs, [expected]);
    }
}
