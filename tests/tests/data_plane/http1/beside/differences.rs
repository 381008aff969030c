//! Where naru and another reader of HTTP/1 differ, and why.
//!
//! Where naru lets less through it says by which rule; each of its rules is here. Where it lets more through, or something
//! else, the case is described so narrowly that nothing that could be read in two ways fits it: what naru has passed on are
//! the requests that were meant ([`is_meant`]), or one of them under a method that is another token.

use super::messages::Drawn;
use super::peers::{Outcome, Peer};
use super::recorder::Request;

/// How naru's reading of a message stands to another one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Less comes out behind naru, and nothing else.
    Stricter,
    /// More does.
    Laxer,
    /// Something else does.
    Otherwise,
}

/// One message, and what came of it at both.
pub struct Finding<'a> {
    pub peer: Peer,
    pub way: Way,
    pub drawn: &'a Drawn,
    pub naru: &'a Outcome,
    pub other: &'a Outcome,
}

/// naru's words, and why it holds this rule where others do not.
const RULES: &[(&str, &str)] = &[
    (
        "a line ends in LF without CR",
        "RFC 9112, 2.2 allows it to end a line; whoever does not read it so reads another message",
    ),
    ("control character in the head", "RFC 9110, 5.5: CR, LF and NUL are dangerous"),
    (
        "invalid request line",
        "RFC 9112, 3: three words with one space each; other white space may be read otherwise",
    ),
    (
        "invalid request target",
        "RFC 9112, 3.2: nothing outside of RFC 3986 stands in a target, and nobody repairs it",
    ),
    ("HTTP version not supported", "RFC 9110, 2.5: 1.0 and 1.1 are what is spoken here"),
    ("invalid header name", "RFC 9112, 5.1: no white space before the colon; RFC 9110, 5.1: a token"),
    ("invalid header value", "RFC 9110, 5.5; RFC 9112, 5.2: a line that goes on in the next one is refused"),
    (
        "invalid Content-Length",
        "RFC 9110, 8.6: one number of digits; lists, signs and repetitions are how lengths are smuggled",
    ),
    ("both Content-Length and Transfer-Encoding", "RFC 9112, 6.3: ought to be handled as an error"),
    ("invalid Transfer-Encoding", "RFC 9112, 6.1: not in HTTP/1.0, once, and `chunked` alone"),
    ("transfer coding not supported", "RFC 9112, 6.1: 501 for a coding that is not known"),
    ("no Host, several, or none that is one", "RFC 9112, 3.2: exactly one, and valid"),
    (
        "Bad Request",
        "the body breaks a rule of RFC 9112, 7.1 once it is under way: sizes, extensions, ends of chunks, and trailers \
      that frame or lead a message (RFC 9110, 6.5.1)",
    ),
    ("", "the upgrade was refused, and so was the body that came behind it"),
];

/// The rule by which naru refuses.
pub fn stricter(finding: &Finding) -> Option<&'static str> {
    let refused = finding.naru.statuses.last().is_some_and(|status| (400..=505).contains(status));
    RULES.iter().find(|(said, _)| refused && *said == finding.naru.said).map(|(said, _)| *said)
}

struct Difference {
    name: &'static str,
    is_it: fn(&Finding) -> bool,
}

/// What naru lets through and another one does not, or reads otherwise.
const DIFFERENCES: &[Difference] = &[
    // RFC 9110, 9.1: a method is any token. Node.js knows a list, nginx capitals, Envoy a list. nginx refuses TRACE.
    Difference {
        name: "any token is a method",
        is_it: |finding| {
            let first = next(finding);
            let known = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
            finding.way == Way::Laxer
                && first.is_some_and(|request| {
                    !known.contains(&request.method.as_str()) && is_token(&request.method)
                })
        },
    },
    // naru answers 403 where it does not offer a protocol, as Envoy does, and goes on with the connection, which Envoy does
    // not. h2c is left out (RFC 9110, 7.8), and what follows is HTTP/1; Node.js takes it for another protocol's.
    Difference {
        name: "an upgrade that is not offered",
        is_it: |finding| finding.drawn.done.contains(&"upgrade") && is_meant(finding),
    },
    // RFC 9110, 10.1.1: 417 may be answered to an expectation that is not known.
    Difference {
        name: "an expectation that is not known is passed on",
        is_it: |finding| finding.other.statuses.contains(&417) && is_meant(finding),
    },
    Difference {
        name: "HTTP/1.0 is served",
        is_it: |finding| {
            // Its connection ends with it, whatever its length is said to be.
            let is_one = finding.naru.passed.len() == 1;
            finding.peer == Peer::Envoy
                && finding.other.statuses.last() == Some(&426)
                && (is_one || is_meant(finding))
        },
    },
    // RFC 9110, 7.6.1, and RFC 9112, appendix C.2.2: not a standard field, and not one to obey.
    Difference {
        name: "Proxy-Connection and other words of Connection end nothing",
        is_it: |finding| {
            (says(finding, "Proxy-Connection: close") || says(finding, "keep-alive, close-"))
                && is_meant(finding)
        },
    },
    // naru passes a target on as it came, also with a percent sign that escapes nothing, or a zero byte; `normalize_path`
    // refuses what has no normal form.
    Difference {
        name: "percent signs in a target",
        is_it: |finding| {
            finding.peer == Peer::Nginx && next(finding).is_some_and(|request| request.target.contains('%'))
        },
    },
    // RFC 3986, 3.2.3: any digits, or none. What stands in the place of Host is compared, not connected to.
    Difference {
        name: "a port above 65535, or an empty one",
        is_it: |finding| {
            (says(finding, "a.test:99999")
                || finding.drawn.bytes.windows(3).filter(|window| window == b"://").count() > 1)
                && is_meant(finding)
        },
    },
    // RFC 9112, 3.2.2: the Host is then replaced by the authority of the target, and that is what is passed on.
    Difference {
        name: "an absolute target with another authority than Host",
        is_it: |finding| {
            finding.peer == Peer::Haproxy
                && (says(finding, "://b.test/") || says(finding, "://a.testa.test/"))
                && finding.other.statuses.last() == Some(&400)
        },
    },
    // RFC 9110, 7.6.1: what leads a message to its end is not left out because Connection names it.
    Difference {
        name: "Connection names what is not of one hop",
        is_it: |finding| says(finding, "Connection: Host") && is_meant(finding),
    },
    // RFC 9110, 5.6.3: a tab is white space. nginx takes it for the beginning of the value, and refuses.
    Difference {
        name: "a tab before a value",
        is_it: |finding| finding.peer == Peer::Nginx && says(finding, ":\t") && is_meant(finding),
    },
    Difference {
        name: "an expectation that stands twice",
        is_it: |finding| {
            finding.peer == Peer::Nginx && finding.drawn.done == ["expect", "expect"] && is_meant(finding)
        },
    },
    // It has a length (RFC 9112, 6.3), in HTTP/1.0 as well.
    Difference {
        name: "a body of a DELETE in HTTP/1.0",
        is_it: |finding| finding.other.statuses.last() == Some(&413) && is_meant(finding),
    },
];

/// The difference by which naru lets more through, or something else.
pub fn known(finding: &Finding) -> Option<&'static str> {
    DIFFERENCES.iter().find(|difference| (difference.is_it)(finding)).map(|difference| difference.name)
}

/// The first request that came out behind naru and not behind the other one.
fn next<'a>(finding: &Finding<'a>) -> Option<&'a Request> {
    finding.naru.passed.get(finding.other.passed.len())
}

/// All that naru has passed on are requests of this message as they were meant, each at most once and in their order.
fn is_meant(finding: &Finding) -> bool {
    let places = finding.naru.passed.iter().map(|request| {
        let (_, place) = request.target.split_once(&format!("/m{}/", finding.drawn.number))?;
        let is_body = matches!(&*request.body, "" | "hello" | "hellohello");
        let place = match place {
            "end" => 2,
            _ if place.starts_with('0') => 0,
            "1" => 1,
            _ => return None,
        };
        is_body.then_some(place)
    });
    let places: Option<Vec<u8>> = places.collect();
    places.is_some_and(|places| places.is_sorted_by(|a, b| a < b))
}

fn says(finding: &Finding, text: &str) -> bool {
    finding.drawn.bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn is_token(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
