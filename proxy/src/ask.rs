//! One request of naru's own, to a URL: of the parts of naru that have business of their own with somebody.
//!
//! HTTP/1.1 with a connection of its own. Nothing is retried and no redirect followed: that is for who asks. The
//! certificate of the server must be issued by an authority that is trusted, and be for the host.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::{Scheme, Uri};
use http::{Request, Response};
use http_body::Body as _;
use naru_spec::{DataSource, PeerTests, SanMatch, StringMatch, UpstreamTls};
use naru_tls::Connector;
use tokio::net::TcpStream;

use crate::codec::{Inquirer, WholeBody};

/// Of a request, from looking its host up to the last byte of the answer.
const TIME_MAX: Duration = Duration::from_secs(30);
const BODY_BYTES_MAX: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub struct NoAnswer(String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

/// Asks, and reads the answer whole. `trusted_ca` is who may have issued the server's certificate.
///
/// # Errors
/// There is no answer, or one that is too large.
pub async fn ask(request: Request<Bytes>, trusted_ca: DataSource) -> Result<Response<Bytes>, NoAnswer> {
    let what = request.uri().to_string();
    let asked = tokio::time::timeout(TIME_MAX, exchange(request, trusted_ca)).await;
    let answered = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", TIME_MAX.as_secs())));
    answered.map_err(|why| NoAnswer(format!("{what}: {why}")))
}

async fn exchange(request: Request<Bytes>, trusted_ca: DataSource) -> Result<Response<Bytes>, String> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().cloned().ok_or("the URL has no host")?;
    let is_tls = head.uri.scheme() == Some(&Scheme::HTTPS);
    let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let found = tokio::net::lookup_host((host.as_str(), port)).await.map_err(|error| error.to_string())?;
    let mut why = "the name has no address".to_owned();
    let mut stream = None;
    for address in found {
        match TcpStream::connect(address).await {
            Ok(connected) => {
                stream = Some(connected);
                break;
            }
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    let stream = stream.ok_or(why)?;
    let line = if is_tls {
        let named = SanMatch::any_kind(StringMatch::exact(host.clone()));
        let tls = UpstreamTls {
            sni: Some(host),
            trusted_ca: Some(trusted_ca),
            peer: PeerTests { names: vec![named], ..PeerTests::default() },
            ..UpstreamTls::default()
        };
        let connector = Connector::build(&tls).map_err(|invalid| invalid.to_string())?;
        let (stream, _) = connector.connect(stream).await.map_err(|error| error.to_string())?;
        Inquirer::http1(stream).await
    } else {
        Inquirer::http1(stream).await
    };
    let mut line = line.ok_or("the connection broke")?;
    let host = HeaderValue::try_from(authority.as_str()).map_err(|error| error.to_string())?;
    head.headers.insert(header::HOST, host);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = Uri::try_from(path).map_err(|error| error.to_string())?;
    let asked = line.ask(Request::from_parts(head, WholeBody::of(body))).await;
    let (head, mut body) = asked.map_err(|_| "the connection broke")?.into_parts();
    let mut whole = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| "the answer broke off")?;
        whole.extend_from_slice(frame.data_ref().map_or(&[][..], |bytes| bytes));
        if whole.len() > BODY_BYTES_MAX {
            return Err(format!("the answer is larger than {BODY_BYTES_MAX} bytes"));
        }
    }
    Ok(Response::from_parts(head, whole.into()))
}
