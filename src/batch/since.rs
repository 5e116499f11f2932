//! A moment as a user writes it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, ErrorKind, Result};

/// `36h`, `7d`: so long before `now`. `2026-11-26`, `2026-11-26T15:04:05Z`: in UTC.
///
/// # Errors
/// `Usage` where it is neither.
pub fn moment(text: &str, now: SystemTime) -> Result<SystemTime> {
    let wrong = || {
        Error::new(ErrorKind::Usage, format!("the time `{text}` cannot be read"))
            .hint("write how long ago, as in 36h or 7d, or a date in UTC, as in 2026-11-26 or 2026-11-26T15:04:05Z")
    };
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400), ('w', 7 * 86_400)];
    for (unit, seconds) in units {
        let number = text.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok());
        if let Some(number) = number {
            let ago = number.checked_mul(seconds).map(Duration::from_secs);
            return ago.and_then(|ago| now.checked_sub(ago)).ok_or_else(wrong);
        }
    }
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let numbers = |text: &str, separator: char| -> Option<Vec<u64>> {
        text.split(separator).map(|part| if part.len() <= 4 { part.parse().ok() } else { None }).collect()
    };
    let (date, time) = (numbers(date, '-').ok_or_else(wrong)?, numbers(time, ':').ok_or_else(wrong)?);
    let (&[year, month, day], &[hour, minute, ref second @ ..]) = (date.as_slice(), time.as_slice()) else {
        return Err(wrong());
    };
    let second = match second {
        [] => 0,
        &[second] => second,
        _ => return Err(wrong()),
    };
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = usize::try_from(month).ok().and_then(|month| months.get(month.checked_sub(1)?).copied());
    let sound = length.is_some_and(|length| (1..=length).contains(&day)) && year >= 1970;
    if !sound || hour > 23 || minute > 59 || second > 60 {
        return Err(wrong());
    }
    let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let before: u64 = months.iter().zip(1..month).map(|(days, _)| days).sum();
    let seconds = (years + before + day - 1) * 86_400 + hour * 3600 + minute * 60 + second;
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_durations() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let seconds = |text: &str| moment(text, now).ok()?.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        assert_eq!(seconds("1970-01-01"), Some(0));
        // As `date -u -d … +%s` says.
        assert_eq!(seconds("2026-11-26"), Some(1_795_651_200));
        assert_eq!(seconds("2024-02-29T12:34:56Z"), Some(1_709_210_096));
        assert_eq!(seconds("2000-03-01 00:01"), Some(951_868_860));
        assert_eq!(seconds("90m"), Some(1_000_000_000 - 5400));
        assert_eq!(seconds("2w"), Some(1_000_000_000 - 14 * 86_400));
        for bad in
            ["", "7", "d", "2025-02-29", "2026-13-01", "2026-00-01", "2026-1-1-1", "1969-01-01", "2026-01-01T24:00"]
        {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        assert_eq!(seconds("99999999999w"), None);
    }
}
