//! What is kept is still what the origin has (RFC 9111, sections 3.2, 4.3.4 and 4.3.5).

use http::header::{self, HeaderMap, HeaderName};
use naru_spec::CachePolicy;

use crate::object::Head;
use crate::terms::{Fetched, Refused, stored_head, terms};
use crate::{Object, Terms};

/// What is about the body that is kept, and not about the one that was not sent. Who answers that nothing has changed
/// to what was asked by an ETag means that one, whatever it is called now.
const OF_BODY: [HeaderName; 5] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::ETAG,
    HeaderName::from_static("content-md5"),
];

/// The object with the head that an answer (304, or 200 to HEAD) brings it up to date by; and whether it may be kept
/// like that. It is what the client is given in either case.
pub fn freshen(
    policy: &CachePolicy,
    object: &Object,
    fetched: &Fetched<'_>,
) -> (Object, Result<Terms, Refused>) {
    let news = stored_head(fetched.response, fetched.wall);
    let mut head = object.head.unpack();
    for name in news.keys().filter(|name| !OF_BODY.contains(name)) {
        head.remove(name);
        for value in news.get_all(name) {
            head.append(name, value.clone());
        }
    }
    // How old it is, is said by the answer alone.
    let mut as_said = head.clone();
    if let Some(age) = fetched.response.get(header::AGE) {
        as_said.insert(header::AGE, age.clone());
    }
    let whole = Fetched { method: &http::Method::GET, status: object.status, response: &as_said, ..*fetched };
    let terms = terms(policy, &whole);
    let fresh =
        object.with_head(Head::pack(&head), terms.unwrap_or(Terms { came: fetched.came, ..object.terms }));
    (fresh, terms)
}

/// Whether an answer to HEAD is about what is kept.
pub fn is_same_by_head(object: &Object, status: u16, response: &HeaderMap) -> bool {
    let is_same = |name: HeaderName| {
        response.get(&name).map(http::HeaderValue::as_bytes) == object.head.get(name.as_str())
    };
    let length = response.get(header::CONTENT_LENGTH).map(http::HeaderValue::as_bytes);
    let is_as_long = length.is_none_or(|length| length == object.body.len().to_string().as_bytes());
    status == object.status && is_same(header::ETAG) && is_same(header::LAST_MODIFIED) && is_as_long
}
