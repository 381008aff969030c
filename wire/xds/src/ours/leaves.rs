//! What everything that is said comes down to: numbers, texts, times, and values that are right by construction.

use std::fmt::{Display, Write as _};
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;
use naru_base::share::Denominator;
use naru_base::{Fraction, Weight};
use naru_spec::limits::StatusRange as OpenRange;
use naru_spec::{
    Cookie, Domain, Format, Invalid, MaglevSize, Named, Pattern, Percent, ReadYourWrites, RetryOn, RingSize,
    SessionKey, StatusRange, Thousandths, Upgrades,
};
use serde_json::Value as Json;

use super::{Fields, Said, Wrong, object};

impl<T: Said> Said for Box<T> {
    fn say(&self) -> Json {
        (**self).say()
    }

    fn hear(said: Json) -> Result<Box<T>, Wrong> {
        T::hear(said).map(Box::new)
    }
}

impl<T: Said> Said for Arc<T> {
    fn say(&self) -> Json {
        (**self).say()
    }

    fn hear(said: Json) -> Result<Arc<T>, Wrong> {
        T::hear(said).map(Arc::new)
    }
}

impl<T: Said> Said for Vec<T> {
    fn say(&self) -> Json {
        T::say_all(self)
    }

    fn hear(said: Json) -> Result<Vec<T>, Wrong> {
        T::hear_all(said)
    }
}

/// In a list, so that nothing is another thing than something that is empty.
impl<T: Said> Said for Option<T> {
    fn say(&self) -> Json {
        self.as_ref().map_or(Json::Null, |it| Json::Array(vec![it.say()]))
    }

    fn hear(said: Json) -> Result<Option<T>, Wrong> {
        match said {
            Json::Null => Ok(None),
            Json::Array(mut all) if all.len() == 1 => {
                let it = all.pop().unwrap_or_default();
                T::hear(it).map(Some).map_err(|wrong| wrong.within("[0]"))
            }
            _ => Err(Wrong::expected("nothing, or a list of one")),
        }
    }
}

impl<A: Said, B: Said> Said for (A, B) {
    fn say(&self) -> Json {
        Json::Array(vec![self.0.say(), self.1.say()])
    }

    fn hear(said: Json) -> Result<(A, B), Wrong> {
        let expected = || Wrong::expected("a list of two");
        let Json::Array(pair) = said else { return Err(expected()) };
        let [first, second] = <[Json; 2]>::try_from(pair).map_err(|_| expected())?;
        let first = A::hear(first).map_err(|wrong| wrong.within("[0]"))?;
        Ok((first, B::hear(second).map_err(|wrong| wrong.within("[1]"))?))
    }
}

impl Said for bool {
    fn say(&self) -> Json {
        Json::Bool(*self)
    }

    fn hear(said: Json) -> Result<bool, Wrong> {
        match said {
            Json::Null => Ok(false),
            Json::Bool(is) => Ok(is),
            _ => Err(Wrong::expected("true or false")),
        }
    }
}

macro_rules! numbers {
    ($($name:ident)*) => { $(
        impl Said for $name {
            fn say(&self) -> Json {
                Json::from(*self)
            }

            fn hear(said: Json) -> Result<$name, Wrong> {
                let number = said.as_u64().and_then(|number| $name::try_from(number).ok());
                number.ok_or_else(|| Wrong::expected(concat!("a number of the kind ", stringify!($name))))
            }
        }
    )* };
}

numbers! { u16 u32 u64 usize }

impl Said for i64 {
    fn say(&self) -> Json {
        Json::from(*self)
    }

    fn hear(said: Json) -> Result<i64, Wrong> {
        said.as_i64().ok_or_else(|| Wrong::expected("a number of the kind i64"))
    }
}

/// Several are bytes: a text, or hexadecimal digits where they are none.
impl Said for u8 {
    fn say(&self) -> Json {
        Json::from(*self)
    }

    fn hear(said: Json) -> Result<u8, Wrong> {
        let number = said.as_u64().and_then(|number| u8::try_from(number).ok());
        number.ok_or_else(|| Wrong::expected("a number of the kind u8"))
    }

    fn say_all(all: &[u8]) -> Json {
        if let Ok(text) = std::str::from_utf8(all) {
            return Json::String(format!("={text}"));
        }
        let mut hex = String::with_capacity(1 + 2 * all.len());
        hex.push('#');
        for byte in all {
            // A text takes all that it is given.
            let _ = write!(hex, "{byte:02x}");
        }
        Json::String(hex)
    }

    fn hear_all(said: Json) -> Result<Vec<u8>, Wrong> {
        let expected = || Wrong::expected("bytes");
        let text = String::hear(said)?;
        if let Some(text) = text.strip_prefix('=') {
            return Ok(text.as_bytes().to_vec());
        }
        let hex = text.strip_prefix('#').filter(|hex| hex.len() % 2 == 0 && hex.is_ascii());
        let pairs = hex.ok_or_else(expected)?.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        });
        pairs.collect::<Option<Vec<u8>>>().ok_or_else(expected)
    }
}

impl Said for [u8; 32] {
    fn say(&self) -> Json {
        u8::say_all(self)
    }

    fn hear(said: Json) -> Result<[u8; 32], Wrong> {
        u8::hear_all(said)?.try_into().map_err(|_| Wrong::expected("32 bytes"))
    }
}

/// As text, which is read back to the same number.
impl Said for f64 {
    fn say(&self) -> Json {
        Json::String(self.to_string())
    }

    fn hear(said: Json) -> Result<f64, Wrong> {
        String::hear(said)?.parse().map_err(|_| Wrong::expected("a number, as text"))
    }
}

impl Said for String {
    fn say(&self) -> Json {
        Json::String(self.clone())
    }

    fn hear(said: Json) -> Result<String, Wrong> {
        match said {
            Json::String(text) => Ok(text),
            _ => Err(Wrong::expected("text")),
        }
    }
}

/// Seconds, with what is over them behind a point.
impl Said for Duration {
    fn say(&self) -> Json {
        Json::String(match self.subsec_nanos() {
            0 => self.as_secs().to_string(),
            nanos => format!("{}.{nanos:09}", self.as_secs()),
        })
    }

    fn hear(said: Json) -> Result<Duration, Wrong> {
        let text = String::hear(said)?;
        let (seconds, nanos) = text.split_once('.').unwrap_or((text.as_str(), "000000000"));
        let is_whole = nanos.len() == 9 && nanos.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = seconds.parse().ok().zip(nanos.parse().ok().filter(|_| is_whole));
        parsed.map(|(seconds, nanos)| Duration::new(seconds, nanos)).ok_or_else(|| Wrong::expected("a time"))
    }
}

/// As it is printed, and read again.
fn parsed<T: FromStr>(said: Json, what: &str) -> Result<T, Wrong> {
    String::hear(said)?.parse().map_err(|_| Wrong::expected(what))
}

fn valid<T>(made: Result<T, Invalid>) -> Result<T, Wrong> {
    made.map_err(|invalid| Wrong::new(invalid.message))
}

fn printed(it: &impl Display) -> Json {
    Json::String(it.to_string())
}

impl Said for IpNet {
    fn say(&self) -> Json {
        printed(self)
    }

    fn hear(said: Json) -> Result<IpNet, Wrong> {
        parsed(said, "a network")
    }
}

impl Said for SocketAddr {
    fn say(&self) -> Json {
        printed(self)
    }

    fn hear(said: Json) -> Result<SocketAddr, Wrong> {
        parsed(said, "an address with a port")
    }
}

impl Said for Method {
    fn say(&self) -> Json {
        printed(self)
    }

    fn hear(said: Json) -> Result<Method, Wrong> {
        parsed(said, "a method")
    }
}

impl Said for HeaderName {
    fn say(&self) -> Json {
        printed(self)
    }

    fn hear(said: Json) -> Result<HeaderName, Wrong> {
        parsed(said, "the name of a header")
    }
}

impl Said for HeaderValue {
    fn say(&self) -> Json {
        u8::say_all(self.as_bytes())
    }

    fn hear(said: Json) -> Result<HeaderValue, Wrong> {
        HeaderValue::try_from(u8::hear_all(said)?).map_err(|_| Wrong::expected("the value of a header"))
    }
}

impl Said for StatusCode {
    fn say(&self) -> Json {
        self.as_u16().say()
    }

    fn hear(said: Json) -> Result<StatusCode, Wrong> {
        StatusCode::from_u16(u16::hear(said)?).map_err(|_| Wrong::expected("a status"))
    }
}

impl Said for Domain {
    fn say(&self) -> Json {
        printed(self)
    }

    fn hear(said: Json) -> Result<Domain, Wrong> {
        valid(Domain::parse(&String::hear(said)?))
    }
}

impl Said for Pattern {
    fn say(&self) -> Json {
        Json::String(self.as_str().to_owned())
    }

    fn hear(said: Json) -> Result<Pattern, Wrong> {
        valid(Pattern::new(String::hear(said)?))
    }
}

impl Said for Format {
    fn say(&self) -> Json {
        printed(self)
    }

    fn hear(said: Json) -> Result<Format, Wrong> {
        valid(Format::parse(&String::hear(said)?))
    }
}

impl Said for Weight {
    fn say(&self) -> Json {
        self.0.say()
    }

    fn hear(said: Json) -> Result<Weight, Wrong> {
        u32::hear(said).map(Weight)
    }
}

impl Said for Thousandths {
    fn say(&self) -> Json {
        self.0.say()
    }

    fn hear(said: Json) -> Result<Thousandths, Wrong> {
        u32::hear(said).map(Thousandths)
    }
}

/// `1/100`
impl Said for Fraction {
    fn say(&self) -> Json {
        printed(self)
    }

    fn hear(said: Json) -> Result<Fraction, Wrong> {
        let text = String::hear(said)?;
        let expected = || Wrong::expected("a fraction of 100, 10000 or 1000000");
        let (numerator, denominator) = text.split_once('/').ok_or_else(expected)?;
        let all = [Denominator::Hundred, Denominator::TenThousand, Denominator::Million];
        let denominator = all.into_iter().find(|known| known.value().to_string() == denominator);
        let parts = numerator.parse().ok().zip(denominator);
        parts.map(|(numerator, of)| Fraction::new(numerator, of)).ok_or_else(expected)
    }
}

impl Said for Percent {
    fn say(&self) -> Json {
        self.hundredths().say()
    }

    fn hear(said: Json) -> Result<Percent, Wrong> {
        valid(Percent::of_hundredths(u32::hear(said)?))
    }
}

impl Said for StatusRange {
    fn say(&self) -> Json {
        (self.start(), self.end()).say()
    }

    fn hear(said: Json) -> Result<StatusRange, Wrong> {
        let (start, end) = Said::hear(said)?;
        valid(StatusRange::new(start, end))
    }
}

/// Whether there is any status in it is asked where it is used.
impl Said for OpenRange {
    fn say(&self) -> Json {
        (self.from, self.to).say()
    }

    fn hear(said: Json) -> Result<OpenRange, Wrong> {
        let (from, to) = Said::hear(said)?;
        Ok(OpenRange { from, to })
    }
}

impl Said for RingSize {
    fn say(&self) -> Json {
        (self.min(), self.max()).say()
    }

    fn hear(said: Json) -> Result<RingSize, Wrong> {
        let (min, max) = Said::hear(said)?;
        valid(RingSize::new(min, max))
    }
}

impl Said for MaglevSize {
    fn say(&self) -> Json {
        self.get().say()
    }

    fn hear(said: Json) -> Result<MaglevSize, Wrong> {
        valid(MaglevSize::new(u64::hear(said)?))
    }
}

impl Said for Upgrades {
    fn say(&self) -> Json {
        let all: Vec<(String, bool)> = self.iter().map(|(name, is)| (name.to_owned(), is)).collect();
        all.say()
    }

    fn hear(said: Json) -> Result<Upgrades, Wrong> {
        Vec::<(String, bool)>::hear(said).map(Upgrades::new)
    }
}

impl Said for RetryOn {
    fn say(&self) -> Json {
        printed(self)
    }

    fn hear(said: Json) -> Result<RetryOn, Wrong> {
        let text = String::hear(said)?;
        let mut unknown = None;
        let on = RetryOn::parse(&text, |word| unknown = Some(word));
        unknown.map_or(Ok(on), |word| Err(Wrong::unknown(word)))
    }
}

impl Said for Cookie {
    fn say(&self) -> Json {
        object(vec![
            ("name", Json::from(self.name())),
            ("ttl", self.ttl().say()),
            ("path", Json::from(self.path())),
            ("attributes", self.attributes().to_vec().say()),
        ])
    }

    fn hear(said: Json) -> Result<Cookie, Wrong> {
        let mut fields = Fields::of(said)?;
        let (name, ttl) = (fields.take::<String>("name")?, fields.take("ttl")?);
        let (path, attributes) = (fields.take::<String>("path")?, fields.take("attributes")?);
        fields.finish()?;
        valid(Cookie::new(name, ttl, path, attributes))
    }
}

impl Said for ReadYourWrites {
    fn say(&self) -> Json {
        object(vec![("lasts", self.lasts().say()), ("session", self.session().say())])
    }

    fn hear(said: Json) -> Result<ReadYourWrites, Wrong> {
        let mut fields = Fields::of(said)?;
        let (lasts, session) = (fields.take("lasts")?, fields.take::<SessionKey>("session")?);
        fields.finish()?;
        valid(match session {
            SessionKey::Cookie(cookie) => ReadYourWrites::by_cookie(lasts, cookie.name()),
            SessionKey::Header { name, scope } => ReadYourWrites::by_header(lasts, name, scope),
        })
    }
}

impl<T: Said> Said for Named<T> {
    fn say(&self) -> Json {
        let Named { name, settings } = self;
        object(vec![("name", name.say()), ("settings", settings.say())])
    }

    fn hear(said: Json) -> Result<Named<T>, Wrong> {
        let mut fields = Fields::of(said)?;
        let named = Named { name: fields.take("name")?, settings: fields.take("settings")? };
        fields.finish()?;
        Ok(named)
    }
}
