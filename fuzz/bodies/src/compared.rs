//! Two answers that are compared: that of an upstream, and that of the one that is tried beside it.

use http::HeaderMap;
use naru_recover::mirror::compare::{Answer, DIFFERENCES_MAX, differences};
use naru_recover::mirror::json::Json;
use naru_spec::Comparison;

use crate::edge::headers;

/// Headers and a body, a zero, and the same of the other. An answer says the same as itself; what two of them do not agree
/// on is the same from either side.
pub fn compared(bytes: &[u8]) {
    let mut both = bytes.splitn(2, |byte| *byte == 0).map(answer);
    let one = both.next().unwrap_or_default();
    let other = both.next().unwrap_or_default();
    let settings = Comparison::default();
    let [one, other] = [(&one, 200), (&other, 500)].map(|((headers, body), status)| Answer {
        status,
        headers,
        body: Some(body.as_slice()),
    });
    for itself in [&one, &other] {
        assert_eq!(differences(itself, itself, &settings), []);
        let body = itself.body.unwrap_or_default();
        let spaced = [b" \n", body, b"\t"].concat();
        assert_eq!(Json::parse(&spaced), Json::parse(body));
    }
    let (there, back) = (differences(&one, &other, &settings), differences(&other, &one, &settings));
    assert!(there.len() <= DIFFERENCES_MAX && there.len() == back.len());
    assert!(there.iter().any(|difference| difference.place == "status"));
    for difference in &there {
        // With three dots where it was cut.
        assert!(difference.place.chars().count() <= 163 && difference.primary.chars().count() <= 83);
        let is_hidden = matches!(&*difference.primary, "(hidden)" | "(none)");
        assert!(difference.place != "header.set-cookie" || is_hidden, "a cookie is shown");
    }
}

fn answer(bytes: &[u8]) -> (HeaderMap, Vec<u8>) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.map_or((&[][..], bytes), |end| (&bytes[..end], &bytes[end + 2..]));
    let lines: Vec<&[u8]> = head.split(|byte| *byte == b'\n').collect();
    (headers(&lines), body.to_vec())
}
