//! Which part of the captures is this worker's.

use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// Part `number` (from 1) of `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    number: u32,
    of: u32,
}

/// What a user says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardSpec {
    /// `K/N`.
    Given(Shard),
    /// `auto`: an array of Slurm or of AWS Batch, which say how many there are.
    Auto,
    /// `auto/N`: an indexed job of Kubernetes, which does not.
    AutoOf(u32),
}

const HINT: &str = "write K/N with K from 1 to N; auto in an array job of Slurm or AWS Batch; auto/N in an Indexed Job of \
                    Kubernetes with N completions";

impl FromStr for ShardSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: &str| Error::new(ErrorKind::Usage, format!("shard `{text}`: {what}")).hint(HINT);
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let (number, of) = text.split_once('/').ok_or_else(|| wrong("no `/`"))?;
        let of: u32 = of.parse().map_err(|_| wrong("the count is not a number"))?;
        if number == "auto" {
            return if of > 0 { Ok(Self::AutoOf(of)) } else { Err(wrong("the count is 0")) };
        }
        let number = number.parse().map_err(|_| wrong("the part is not a number"))?;
        Shard::new(number, of).map(Self::Given).ok_or_else(|| wrong("the part is not from 1 to the count"))
    }
}

impl ShardSpec {
    /// The part, where need be from the environment.
    ///
    /// # Errors
    /// `Usage` where the environment does not say.
    pub fn resolve(self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Shard> {
        let number = |name: &str| -> Result<Option<u32>> {
            let Some(text) = environment(name) else { return Ok(None) };
            text.trim()
                .parse()
                .map(Some)
                .map_err(|_| Error::new(ErrorKind::Usage, format!("{name} is `{text}`, expected a number")).hint(HINT))
        };
        let needed = |name: &str| -> Result<u32> {
            number(name)?.ok_or_else(|| Error::new(ErrorKind::Usage, format!("{name} is not set")).hint(HINT))
        };
        match self {
            Self::Given(shard) => Ok(shard),
            Self::AutoOf(of) => {
                let index = needed("JOB_COMPLETION_INDEX")?;
                let shard = index.checked_add(1).and_then(|number| Shard::new(number, of));
                shard.ok_or_else(|| not_one_of("JOB_COMPLETION_INDEX", index, of))
            }
            Self::Auto => {
                if let Some(id) = number("SLURM_ARRAY_TASK_ID")? {
                    let (min, of) = (needed("SLURM_ARRAY_TASK_MIN")?, needed("SLURM_ARRAY_TASK_COUNT")?);
                    let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
                    let ahead = id.checked_sub(min).filter(|ahead| ahead % step == 0).map(|ahead| ahead / step);
                    let shard = ahead.and_then(|ahead| Shard::new(ahead.checked_add(1)?, of));
                    return shard.ok_or_else(|| {
                        let message = format!(
                            "SLURM_ARRAY_TASK_ID {id} is not one of {of} in steps of {step} from {min}: an array with gaps?"
                        );
                        Error::new(ErrorKind::Usage, message).hint("submit --array=1-N, or give --shard K/N")
                    });
                }
                if let Some(index) = number("AWS_BATCH_JOB_ARRAY_INDEX")? {
                    let of = needed("AWS_BATCH_JOB_ARRAY_SIZE")?;
                    let shard = index.checked_add(1).and_then(|number| Shard::new(number, of));
                    return shard.ok_or_else(|| not_one_of("AWS_BATCH_JOB_ARRAY_INDEX", index, of));
                }
                let message = "neither SLURM_ARRAY_TASK_ID nor AWS_BATCH_JOB_ARRAY_INDEX is set";
                Err(Error::new(ErrorKind::Usage, message).hint(HINT))
            }
        }
    }
}

fn not_one_of(name: &str, index: u32, of: u32) -> Error {
    Error::new(ErrorKind::Usage, format!("{name} is {index}, which is not below the count {of}")).hint(HINT)
}

impl Shard {
    /// The whole.
    pub const ALL: Self = Self { number: 1, of: 1 };

    /// Part `number` of `of`, unless there is no such part.
    pub fn new(number: u32, of: u32) -> Option<Self> {
        (1..=of).contains(&number).then_some(Self { number, of })
    }

    /// Its number, from 1.
    pub fn number(self) -> u32 {
        self.number
    }

    /// How many there are.
    pub fn of(self) -> u32 {
        self.of
    }

    /// The positions of what is in it, ascending. All who see the same names and sizes, in whatever order, agree: the
    /// largest goes first, each to the part that has the fewest bytes so far.
    pub fn choose(self, captures: &[(&Path, u64)]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..captures.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(captures[i].1), captures[i].0));
        let mut loads: std::collections::BinaryHeap<_> =
            (1..=self.of.min(u32::try_from(captures.len()).unwrap_or(u32::MAX)))
                .map(|part| std::cmp::Reverse((0_u64, part)))
                .collect();
        let mut mine = Vec::new();
        for index in order {
            let Some(std::cmp::Reverse((load, part))) = loads.pop() else { break };
            if part == self.number {
                mine.push(index);
            }
            // A capture costs something whatever its size.
            loads.push(std::cmp::Reverse((load.saturating_add(captures[index].1.max(1 << 16)), part)));
        }
        mine.sort_unstable();
        mine
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    fn resolve(text: &str, environment: &[(&str, &str)]) -> Result<String> {
        let of = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        text.parse::<ShardSpec>()?.resolve(&of).map(|shard| shard.to_string())
    }

    #[test]
    fn arrays_say_which_part() {
        let slurm = |id: &'static str, min: &'static str, step: &'static str, count: &'static str| {
            [
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_STEP", step),
                ("SLURM_ARRAY_TASK_COUNT", count),
            ]
        };
        assert_eq!(resolve("2/4", &[]).unwrap(), "2/4");
        assert_eq!(resolve("auto", &slurm("1", "1", "1", "4")).unwrap(), "1/4");
        assert_eq!(resolve("auto", &slurm("0", "0", "1", "4")).unwrap(), "1/4");
        // --array=3-9:2
        assert_eq!(resolve("auto", &slurm("9", "3", "2", "4")).unwrap(), "4/4");
        // --array=1,3,7: one of three, but which?
        assert!(resolve("auto", &slurm("7", "1", "1", "3")).is_err());
        assert!(resolve("auto", &slurm("4", "3", "2", "4")).is_err());
        let aws = [("AWS_BATCH_JOB_ARRAY_INDEX", "9"), ("AWS_BATCH_JOB_ARRAY_SIZE", "10")];
        assert_eq!(resolve("auto", &aws).unwrap(), "10/10");
        assert_eq!(resolve("auto/3", &[("JOB_COMPLETION_INDEX", "0")]).unwrap(), "1/3");
        assert!(resolve("auto/3", &[("JOB_COMPLETION_INDEX", "3")]).is_err());
        assert!(resolve("auto/3", &[]).is_err() && resolve("auto", &[]).is_err());
        for bad in ["0/4", "5/4", "1", "x/2", "1/0", "auto/0", "auto/x"] {
            assert_eq!(bad.parse::<ShardSpec>().unwrap_err().kind(), ErrorKind::Usage, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_capture_is_in_exactly_one_part(
            sizes in proptest::collection::vec(0_u64..1 << 40, 0..60), of in 1_u32..9, turn in 0_usize..60,
        ) {
            let names: Vec<PathBuf> = (0..sizes.len()).map(|i| PathBuf::from(format!("c{i}"))).collect();
            let captures: Vec<(&Path, u64)> = names.iter().map(PathBuf::as_path).zip(sizes.iter().copied()).collect();
            let mut turned = captures.clone();
            turned.rotate_left(if captures.is_empty() { 0 } else { turn % captures.len() });
            let (mut all, mut loads) = (Vec::new(), Vec::new());
            for number in 1..=of {
                let shard = Shard::new(number, of).unwrap();
                let mine = shard.choose(&captures);
                let mut names: Vec<&Path> = mine.iter().map(|&i| captures[i].0).collect();
                names.sort();
                let mut again: Vec<&Path> = shard.choose(&turned).iter().map(|&i| turned[i].0).collect();
                again.sort();
                prop_assert_eq!(names, again);
                loads.push(mine.iter().map(|&i| captures[i].1.max(1 << 16)).sum::<u64>());
                all.extend(mine);
            }
            all.sort_unstable();
            prop_assert_eq!(all, (0..sizes.len()).collect::<Vec<_>>());
            // What largest-first is known for: no part is ahead of another by more than one capture.
            let largest = sizes.iter().copied().max().unwrap_or(0).max(1 << 16);
            let (most, least) = (loads.iter().max().unwrap(), loads.iter().min().unwrap());
            prop_assert!(most - least <= largest);
        }
    }
}
