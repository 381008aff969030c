//! Which share of answers fails, and with which status.

use std::fmt;
use std::str::FromStr;

use http::StatusCode;
use naru_base::Chance;

use crate::latency::unit;
use crate::settings::parse_status;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// 0 to 100.
    percent: f64,
    pub status: StatusCode,
}

impl Errors {
    pub fn strikes(self, chance: &mut Chance) -> bool {
        self.percent > 0.0 && unit(chance) * 100.0 < self.percent
    }
}

impl FromStr for Errors {
    type Err = String;

    fn from_str(text: &str) -> Result<Errors, String> {
        let (share, status) = text.split_once(':').unwrap_or((text, "503"));
        let number = share.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        let percent = number.filter(|percent| (0.0..=100.0).contains(percent));
        let percent = percent.ok_or_else(|| format!("'{text}' is no share: write 5%, or 5%:500"))?;
        Ok(Errors { percent, status: parse_status(status.trim())? })
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%:{}", self.percent, self.status.as_u16())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_with_its_status_and_said_so() {
        let check = |text: &str, expected: Option<&str>| {
            let said = text.parse::<Errors>().ok().map(|errors| errors.to_string());
            assert_eq!(said.as_deref(), expected, "{text}");
        };
        check("5%", Some("5%:503"));
        check("7%", Some("7%:503"));
        check("0.5%", Some("0.5%:503"));
        check("100%:500", Some("100%:500"));
        check("0%", Some("0%:503"));
        for wrong in ["", "5", "%", "x%", "101%", "-1%", "NaN%", "5%:99999", "5%:", "5%:100", "5%:x"] {
            check(wrong, None);
        }
    }

    #[test]
    fn errors_strike_their_share() {
        let struck = |text: &str| {
            let (errors, mut chance) = (text.parse::<Errors>().unwrap(), Chance::new(7));
            (0..20_000).filter(|_| errors.strikes(&mut chance)).count()
        };
        assert!((850..1_150).contains(&struck("5%")), "{}", struck("5%"));
        assert_eq!((struck("0%"), struck("100%")), (0, 20_000));
    }
}
