//! Pairs and vCPU orders that only the run windows tell: guest events happen while their vCPU runs, and nowhere else.

use std::collections::BTreeSet;

use crate::error::{Code, Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::report::share;
use crate::session::clocks::{FIT_CHUNKS, Guest, HostSide, INFER_CHUNKS, Pairing};
use crate::session::groups::{Group, neighbours};
use crate::session::inputs::Opened;
use crate::session::pairs::{Cluster, candidates};

/// Below this share of events inside its run windows a VM is no candidate for a guest file.
const FIT: (u64, u64) = (9, 10);
/// From this share on nothing better is looked for.
const SURE: (u64, u64) = (999, 1000);
/// A VM that fits no better than this is none even if all others fit far worse.
const FAR_BETTER: (u64, u64) = (3, 10);
/// Guest CPUs times threads that are tried one by one.
const MAX_CELLS: usize = 256;

/// (inside, checked) of a sample.
type Score = (u64, u64);

fn reaches((inside, checked): Score, least: (u64, u64)) -> bool {
    checked > 0 && u128::from(inside) * u128::from(least.1) >= u128::from(checked) * u128::from(least.0)
}

/// What is tried against the windows: a guest's files and the host's side.
struct Trial<'a> {
    side: &'a HostSide<'a>,
    name: String,
    guests: Vec<Guest<'a>>,
    /// Guest CPUs that recorded something.
    cpus: BTreeSet<u32>,
    monitor: &'a Monitor<'a>,
}

impl<'a> Trial<'a> {
    fn new(cluster: &Cluster, captures: &'a [Opened], side: &'a HostSide<'a>, monitor: &'a Monitor<'a>) -> Self {
        let files = || cluster.files.iter().map(|&f| &captures[f]);
        let streams = files().flat_map(|o| &o.survey.streams);
        Self {
            side,
            name: cluster.name.clone().unwrap_or_default(),
            guests: files().map(Guest::new).collect(),
            cpus: streams.filter(|s| s.events > 0).map(|s| s.cpu).collect(),
            monitor,
        }
    }

    /// How well the guest fits the VM as it is numbered; nothing where its clock cannot even be inferred.
    fn score(&self, group: &Group) -> Score {
        self.score_over(FIT_CHUNKS, group)
    }

    fn score_over(&self, chunks: usize, group: &Group) -> Score {
        Pairing::new(self.side, &self.name, group, &self.guests, self.monitor)
            .and_then(|pairing| pairing.score(self.side, &self.guests, chunks, self.monitor))
            .unwrap_or_default()
    }

    /// Whether every guest CPU has a vCPU.
    fn is_complete(&self, group: &Group) -> bool {
        let has = |cpu: &u32| (0..group.vcpus.len()).any(|rank| group.cpu(rank) == *cpu);
        self.cpus.iter().all(has)
    }

    /// The best choice of one of `threads` for each guest CPU, if it is a good one, as a group in guest CPU order.
    fn arrange(&self, of: &Group, threads: &[(u32, i32)]) -> Option<Group> {
        if self.cpus.len() * threads.len() > MAX_CELLS || self.cpus.is_empty() {
            return None;
        }
        let mut cells = Vec::new();
        for &cpu in &self.cpus {
            for &vcpu in threads {
                let one = Group { vcpus: vec![vcpu], cpus: vec![cpu], ..of.clone() };
                cells.push((cpu, vcpu, self.score(&one)));
            }
        }
        // An event outside weighs far more than one inside: windows may be wide.
        cells.sort_by_key(|&(cpu, vcpu, (inside, checked))| {
            (20 * (i128::from(checked) - i128::from(inside)) - i128::from(inside), cpu, vcpu)
        });
        let mut seats: Vec<(u32, (u32, i32))> = Vec::new();
        for &(cpu, vcpu, score) in &cells {
            let free = seats.iter().all(|(c, v)| *c != cpu && v.0 != vcpu.0 && v.1 != vcpu.1);
            if free && (score == (0, 0) || reaches(score, FIT)) {
                seats.push((cpu, vcpu));
            }
        }
        let sure = |seat: &(u32, (u32, i32))| {
            cells.iter().any(|(cpu, vcpu, score)| (*cpu, *vcpu) == *seat && reaches(*score, FIT))
        };
        if seats.len() < self.cpus.len() || !seats.iter().any(sure) {
            return None;
        }
        seats.sort_unstable();
        let (cpus, vcpus) = seats.into_iter().unzip();
        Some(Group { vcpus, cpus, ..of.clone() })
    }

    /// Puts the vCPUs of `group` into the order of the guest's CPUs.
    ///
    /// The first guess is by rank. It is wrong where the guest numbered its CPUs otherwise, or where a vCPU never ran.
    fn settle(&self, group: &mut Group) {
        let mut best = (self.is_complete(group), self.score(group));
        if best.0 && (group.vcpus.len() <= 1 || reaches(best.1, SURE)) {
            return;
        }
        let by_id = Group { cpus: group.vcpus.iter().map(|(id, _)| *id).collect(), ..group.clone() };
        let arranged = self.arrange(group, &group.vcpus).map(|mut found| {
            // vCPUs that recorded nothing get the numbers that are left.
            let rest = group.vcpus.iter().filter(|v| !found.vcpus.contains(v)).copied().collect::<Vec<_>>();
            let mut free = (0..).filter(|cpu| !self.cpus.contains(cpu));
            for vcpu in rest {
                found.vcpus.push(vcpu);
                found.cpus.extend(free.next());
            }
            found
        });
        for other in [Some(by_id), arranged].into_iter().flatten() {
            let found = (self.is_complete(&other), self.score(&other));
            let better = found.1.0 * best.1.1.max(1) > best.1.0 * found.1.1.max(1);
            if found > best && reaches(found.1, FIT) && (better || !best.0) {
                best = found;
                *group = other;
            }
        }
        group.sort_by_cpu();
    }
}

/// Finds the VM of each guest that has none, and the order of its vCPUs.
pub(super) fn fit_pairs(
    captures: &[Opened],
    clusters: &mut [Cluster],
    groups: &mut Vec<Group>,
    side: &HostSide<'_>,
    monitor: &Monitor<'_>,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let open: Vec<usize> = (0..clusters.len())
        .filter(|&c| clusters[c].group.is_none())
        .filter(|&c| clusters[c].files.iter().any(|&f| captures[f].survey.events() > 0))
        .collect();
    let taken: Vec<usize> = clusters.iter().filter_map(|c| c.group).collect();
    for &g in &taken {
        // Threads that the user named are in the user's order.
        for cluster in clusters.iter().filter(|c| c.group == Some(g)) {
            if cluster.spec.as_ref().is_none_or(|s| s.threads.is_empty()) {
                Trial::new(cluster, captures, side, monitor).settle(&mut groups[g]);
            }
        }
    }
    for &c in &open {
        let trial = Trial::new(&clusters[c], captures, side, monitor);
        let path = &captures[clusters[c].files[0]].capture.path;
        let free: Vec<usize> =
            (0..groups.len()).filter(|g| !taken.contains(g) && !groups[*g].vcpus.is_empty()).collect();
        if free.is_empty() {
            return Err(Error::new(ErrorKind::Evidence, "nothing on the host's side belongs to this guest")
                .coded(Code::NoMatch)
                .in_file(path)
                .hint(candidates(groups)));
        }
        let found = match (open.as_slice(), free.as_slice()) {
            // One VM and one guest: nothing to choose, and the audit tells if it is wrong.
            ([_], [only]) => *only,
            _ => choose(&trial, groups, &free, &mut warnings).map_err(|e| match e.kind() {
                ErrorKind::Evidence => e.in_file(path).hint(candidates(groups)),
                _ => e,
            })?,
        };
        trial.settle(&mut groups[found]);
        groups[found].firm = true;
        clusters[c].group = Some(found);
    }
    Ok(warnings)
}

/// The one group whose windows the guest fits; if there is none, one is made of threads whose VM is a mere guess; if that
/// does not do either, the one that it fits far better than any other, for the audit to tell what is wrong.
fn choose(trial: &Trial<'_>, groups: &mut Vec<Group>, free: &[usize], warnings: &mut Vec<String>) -> Result<usize> {
    let fits = |(_, score): &&(usize, Score)| reaches(*score, FIT);
    let complete = |g: usize| trial.cpus.len() <= groups[g].vcpus.len();
    let score = |chunks: usize, g: usize| if complete(g) { trial.score_over(chunks, &groups[g]) } else { (0, 0) };
    let mut scores: Vec<(usize, Score)> = free.iter().map(|&g| (g, score(FIT_CHUNKS, g))).collect();
    if scores.iter().filter(fits).count() > 1 {
        // A few chunks may fit by chance, or fall where the host lost its events.
        scores = free.iter().map(|&g| (g, score(INFER_CHUNKS, g))).collect();
    }
    let fitting: Vec<usize> = scores.iter().filter(fits).map(|(g, _)| *g).collect();
    if let [only] = fitting.as_slice() {
        return Ok(*only);
    }
    // Where the host lost events nothing can be outside: of two that fit, the one with the events inside is right.
    let mut inside: Vec<(u64, usize)> = scores.iter().filter(fits).map(|&(g, (inside, _))| (inside, g)).collect();
    inside.sort_unstable();
    if let [.., (second, _), (most, best)] = inside.as_slice()
        && *most >= 2 * second
    {
        return Ok(*best);
    }
    if fitting.is_empty() {
        let permuted: Vec<Option<Group>> =
            free.iter().map(|&g| groups[g].clone()).map(|g| trial.arrange(&g, &g.vcpus)).collect();
        let mut arranged = free.iter().zip(&permuted).filter(|(_, group)| group.is_some()).map(|(g, _)| *g);
        if let (Some(only), None) = (arranged.next(), arranged.next()) {
            return Ok(only);
        }
        let guessed: Vec<usize> = free.iter().copied().filter(|&g| !groups[g].firm).collect();
        let threads: Vec<(u32, i32)> = guessed.iter().flat_map(|&g| groups[g].vcpus.iter().copied()).collect();
        if let Some(grown) = grow(trial, groups, free, &threads) {
            return Ok(grown);
        }
        if let Some(made) = trial.arrange(&Group::default(), &threads) {
            let left = threads.iter().filter(|v| !made.vcpus.contains(v)).map(|&(id, tid)| (tid, Some(id))).collect();
            guessed.iter().for_each(|&g| groups[g].vcpus.clear());
            groups.extend(neighbours(&left));
            groups.push(made);
            return Ok(groups.len() - 1);
        }
        let mut best = scores.clone();
        best.sort_by_key(|&(_, (inside, checked))| std::cmp::Reverse(inside * 1_000_000 / checked.max(1)));
        if let [(g, first), (_, second), ..] = best.as_slice()
            && reaches(*first, FAR_BETTER)
            && u128::from(first.0) * u128::from(second.1.max(1)) >= 2 * u128::from(second.0) * u128::from(first.1)
        {
            let share = share(first.0, first.1);
            warnings.push(format!(
                "guest {}: only {share} of a sample fits the VM that fits best; something is wrong with its offsets",
                trial.name
            ));
            return Ok(*g);
        }
    }
    // A score that an interruption cut short says nothing about the guest.
    trial.monitor.check()?;
    let list: Vec<String> = scores
        .iter()
        .map(|&(g, (inside, checked))| {
            let threads: Vec<String> = groups[g].vcpus.iter().map(|(_, tid)| tid.to_string()).collect();
            format!("threads {} {} of {checked}", threads.join(":"), share(inside, checked))
        })
        .collect();
    let what = if fitting.is_empty() { "no VM's" } else { "more than one VM's" };
    let text = format!("the guest's events fit {what} run windows ({})", list.join("; "));
    Err(Error::new(ErrorKind::Evidence, text).coded(Code::NoMatch))
}

/// A VM of which some threads are known for sure may have more among those whose VM is a guess: their forks were lost.
fn grow(trial: &Trial<'_>, groups: &mut [Group], free: &[usize], guessed: &[(u32, i32)]) -> Option<usize> {
    for &g in free.iter().filter(|&&g| groups[g].firm) {
        let known = &groups[g].vcpus;
        let other = guessed.iter().filter(|(id, _)| known.iter().all(|(own, _)| own != id));
        let threads: Vec<(u32, i32)> = known.iter().chain(other).copied().collect();
        if threads.len() == known.len() {
            continue;
        }
        let Some(found) = trial.arrange(&groups[g], &threads) else { continue };
        let new: Vec<(u32, i32)> = found.vcpus.into_iter().filter(|v| !groups[g].vcpus.contains(v)).collect();
        groups.iter_mut().filter(|group| !group.firm).for_each(|group| group.vcpus.retain(|v| !new.contains(v)));
        groups[g].vcpus.extend(new);
        groups[g].vcpus.sort_unstable();
        return Some(g);
    }
    None
}
