//! Times as Kubernetes writes them, ages as people say them, and names of folders that sort by time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Seconds since 1970 of `2026-11-21T08:24:59Z`, with or without a fraction; `None` for anything else.
pub fn parse(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let number = |text: &str| text.parse::<i64>().ok();
    let date: Vec<i64> = date.split('-').map_while(number).collect();
    let time: Vec<i64> = time.split('.').next()?.split(':').map_while(number).collect();
    let ([year, month, day], [hour, minute, second]) = (date.as_slice(), time.as_slice()) else { return None };
    let seconds = days(*year, *month, *day) * 86_400 + hour * 3600 + minute * 60 + second;
    u64::try_from(seconds).ok()
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; the year begins in March, so a leap day ends it.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `20261121-082459`, in UTC.
pub fn stamp(seconds: u64) -> String {
    let (day, rest) = ((seconds / 86_400) as i64, seconds % 86_400);
    let days = day + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{date:02}-{:02}{:02}{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// `12 s`, `4 min`, `3 h`, `2 days`.
pub fn age(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s @ 7200..172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

/// The age of what was made at `created`, as Kubernetes writes it; what cannot be read is shown as it is.
pub fn since(created: &str) -> String {
    parse(created).map_or_else(
        || format!("since {created}"),
        |then| format!("since {} ({created})", age(Duration::from_secs(now().saturating_sub(then)))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_there_and_back() {
        for (text, seconds, stamped) in [
            ("1970-01-01T00:00:00Z", 0, "19700101-000000"),
            ("2024-02-29T12:30:05Z", 1_709_209_805, "20240229-123005"),
            ("2026-11-21T08:24:59.123456Z", 1_795_249_499, "20261121-082459"),
        ] {
            assert_eq!(parse(text), Some(seconds), "{text}");
            assert_eq!(stamp(seconds), stamped);
        }
        assert_eq!(parse("yesterday"), None);
        assert_eq!(parse("2026-11-21"), None);
    }

    #[test]
    fn ages_read_well() {
        let age = |s| age(Duration::from_secs(s));
        assert_eq!([age(7), age(300), age(7300), age(200_000)], ["7 s", "5 min", "2 h", "2 days"]);
    }
}
