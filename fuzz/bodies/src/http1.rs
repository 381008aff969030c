//! Messages of HTTP/1.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use naru_http1::{
    Decoder, Framing, Limits, Malformed, Piece, PlainRoom, RequestHead, Scan, read_plain, read_request,
    read_response, write_chunk_size, write_last_chunk, write_request_head, write_response_head,
};
use naru_journey::edge::Peer;
use naru_journey::short::Plain;
use naru_spec::{Http, RouteTable};

const LIMITS: Limits = Limits { head_bytes: 4_096, fields: 100 };

/// Bytes mean the same in pieces of any size, and what is taken of them is said again so that it means the same and
/// nobody can read it otherwise.
pub fn http1(bytes: &[u8]) {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let step = usize::from(first % 16) + 1;
    if let Some((head, body)) = request(rest, step) {
        let framing = head.framing;
        let decoded = decode(framing, body, body.len().max(1));
        assert_eq!(decoded, decode(framing, body, step), "the body in steps of {step}");
        said_again(&head, decoded.ok().map(|(data, _)| data));
    }
    if let Ok(Some(end)) = Scan::default().go_on(rest, LIMITS.head_bytes)
        && let Ok(head) = read_response(&rest[..end], LIMITS, &Method::GET, HeaderMap::new())
    {
        let mut out = Vec::new();
        write_response_head(&mut out, head.status, &head.fields, Some(head.framing), None);
        check_lines(&out);
        let again = read_response(&out, LIMITS, &Method::GET, HeaderMap::new()).map(|again| again.framing);
        let has_none = head.status == StatusCode::NO_CONTENT || head.framing == Framing::UntilClose;
        assert!(has_none || again == Ok(head.framing), "{again:?} for {:?}", head.framing);
    }
}

fn request(bytes: &[u8], step: usize) -> Option<(RequestHead, &[u8])> {
    let whole = Scan::of_request().go_on(bytes, LIMITS.head_bytes);
    let mut scan = Scan::of_request();
    let ends = (0..bytes.len()).step_by(step).chain([bytes.len()]);
    let stepwise =
        ends.map(|end| scan.go_on(&bytes[..end], LIMITS.head_bytes)).find(|found| *found != Ok(None));
    assert_eq!(whole, stepwise.unwrap_or(Ok(None)), "the head in steps of {step}");
    let (head, body) = bytes.split_at(whole.ok()??);
    plain_is_alike(head);
    Some((read_request(head, LIMITS, HeaderMap::new()).ok()?, body))
}

/// What may be answered the short way is read by the ordinary one as the same.
fn plain_is_alike(head: &[u8]) {
    let mut room = PlainRoom::default();
    let Some(plain) = read_plain(head, LIMITS.fields, &mut room) else { return };
    let http = Http::new("short", RouteTable::default());
    let address = ([127, 0, 0, 1], 80).into();
    let peer =
        Peer { remote: address, local: address, is_tls: false, is_certified: false, is_in_tunnel: false };
    if Plain::of(plain.target, plain.fields, &http, &peer).is_none() {
        return;
    }
    let read = read_request(head, LIMITS, HeaderMap::new()).expect("a request");
    assert_eq!((read.method, read.version), (Method::GET, Version::HTTP_11));
    assert_eq!(read.target.path_and_query().map(|target| target.as_str()), Some(plain.target));
    assert!(
        read.persists && !read.expects_continue && !read.takes_trailers && read.framing == Framing::Empty
    );
    let mut fields = HeaderMap::new();
    for (name, value) in plain.fields {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        fields.append(name, HeaderValue::from_bytes(value).expect("a value"));
    }
    assert_eq!(read.fields, fields);
}

/// Data, how many trailers, or the rule that is broken.
type Decoded = Result<(Vec<u8>, usize), Malformed>;

fn decode(framing: Framing, bytes: &[u8], step: usize) -> Decoded {
    let mut decoder = Decoder::of(framing);
    let (mut input, mut data, mut trailers) = (BytesMut::new(), Vec::new(), 0);
    for piece in bytes.chunks(step) {
        input.extend_from_slice(piece);
        while let Some(piece) = decoder.decode(&mut input, LIMITS)? {
            match piece {
                Piece::Data(piece) => data.extend_from_slice(&piece),
                Piece::Trailers(fields) => trailers = fields.len(),
            }
        }
    }
    decoder.on_close()?;
    Ok((data, trailers))
}

fn said_again(head: &RequestHead, body: Option<Vec<u8>>) {
    let target = head.target.path_and_query().map_or("/", |target| target.as_str());
    let mut out = Vec::new();
    write_request_head(&mut out, &head.method, target, &head.fields, head.framing);
    check_lines(&out);
    if head.method != Method::CONNECT && target != "*" {
        let again =
            read_request(&out, LIMITS, HeaderMap::new()).map(|again| (again.framing, again.fields.len()));
        assert_eq!(again.map(|(framing, _)| framing), Ok(head.framing));
    }
    if let Some(body) = body {
        let mut out = Vec::new();
        if !body.is_empty() {
            write_chunk_size(&mut out, body.len());
            out.extend_from_slice(&body);
            out.extend_from_slice(b"\r\n");
        }
        write_last_chunk(&mut out, None);
        assert_eq!(decode(Framing::Chunked, &out, out.len()), Ok((body, 0)));
    }
}

/// Every line ends in CRLF, none has a control character in it, and one at most says a framing.
fn check_lines(head: &[u8]) {
    let text =
        head.strip_suffix(b"\r\n\r\n").unwrap_or_else(|| panic!("{:?}", head.escape_ascii().to_string()));
    let lines: Vec<_> =
        text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    let is_clean =
        |line: &&[u8]| !line.is_empty() && line.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    assert!(lines.iter().all(is_clean), "{:?}", head.escape_ascii().to_string());
    assert_eq!(head.iter().filter(|byte| **byte == b'\n').count(), lines.len() + 1);
    let says = |name: &str| {
        lines.iter().skip(1).filter(|line| line.to_ascii_lowercase().starts_with(name.as_bytes())).count()
    };
    assert!(says("content-length:") + says("transfer-encoding:") <= 1);
}
