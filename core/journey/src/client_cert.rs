//! What are upstreams told of a client's certificate?
//!
//! The header `x-forwarded-client-cert`, word for word as Envoy writes it
//! (`ConnectionManagerUtility::mutateXfccRequestHeader`). In comes what a shell has read of the certificate. Whether a
//! header that came with the request stays is decided in `edge.rs`.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use naru_spec::{ClientCertDetails, ForwardClientCert};

pub const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// A client's certificate, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The URIs of the certificate that was shown to the client.
    pub to: Vec<String>,
    /// SHA-256, in hexadecimal.
    pub hash: String,
    /// RFC 2253.
    pub subject: String,
    pub uris: Vec<String>,
    pub dns_names: Vec<String>,
    /// PEM, URL encoded.
    pub certificate: String,
    /// With those that issued it.
    pub chain: String,
}

/// An element of the header. `None` where it cannot stand in one.
pub fn element(certificate: &ClientCertificate, details: ClientCertDetails) -> Option<HeaderValue> {
    let mut parts: Vec<String> = certificate.to.iter().map(|uri| format!("By={uri}")).collect();
    parts.push(format!("Hash={}", certificate.hash));
    if details.cert {
        parts.push(format!("Cert=\"{}\"", certificate.certificate));
    }
    if details.chain {
        parts.push(format!("Chain=\"{}\"", certificate.chain));
    }
    if details.subject {
        parts.push(format!("Subject=\"{}\"", certificate.subject));
    }
    if details.uri {
        match certificate.uris.as_slice() {
            [] => parts.push("URI=".to_owned()),
            uris => parts.extend(uris.iter().map(|uri| format!("URI={uri}"))),
        }
    }
    if details.dns {
        parts.extend(certificate.dns_names.iter().map(|name| format!("DNS={name}")));
    }
    HeaderValue::try_from(parts.join(";")).ok()
}

/// Says it in a request, before the request crosses the edge.
pub fn tell(headers: &mut HeaderMap, mode: ForwardClientCert, element: &HeaderValue) {
    if mode == ForwardClientCert::AppendForward {
        headers.append(X_FORWARDED_CLIENT_CERT, element.clone());
        join(headers);
    } else {
        headers.insert(X_FORWARDED_CLIENT_CERT, element.clone());
    }
}

/// One line of several, as Envoy makes of headers that it knows.
pub(crate) fn join(headers: &mut HeaderMap) {
    let all: Vec<&[u8]> =
        headers.get_all(X_FORWARDED_CLIENT_CERT).iter().map(HeaderValue::as_bytes).collect();
    if all.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&all.join(&b','))
    {
        headers.insert(X_FORWARDED_CLIENT_CERT, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: ClientCertDetails =
        ClientCertDetails { subject: false, cert: false, chain: false, dns: false, uri: false };

    fn certificate() -> ClientCertificate {
        ClientCertificate {
            to: vec!["spiffe://td/a".to_owned(), "spiffe://td/b".to_owned()],
            hash: "00ff".to_owned(),
            subject: "CN=c".to_owned(),
            uris: vec!["spiffe://td/c".to_owned()],
            dns_names: vec!["c.example".to_owned(), "d.example".to_owned()],
            certificate: "PEM".to_owned(),
            chain: "PEMPEM".to_owned(),
        }
    }

    #[test]
    fn what_is_asked_for_is_told_in_envoys_order() {
        let said = |certificate: &ClientCertificate, details| {
            element(certificate, details).unwrap().to_str().unwrap().to_owned()
        };
        let own = certificate();
        assert_eq!(said(&own, NOTHING), "By=spiffe://td/a;By=spiffe://td/b;Hash=00ff");
        let all = ClientCertDetails { subject: true, cert: true, chain: true, dns: true, uri: true };
        assert_eq!(
            said(&own, all),
            "By=spiffe://td/a;By=spiffe://td/b;Hash=00ff;Cert=\"PEM\";Chain=\"PEMPEM\";Subject=\"CN=c\";\
             URI=spiffe://td/c;DNS=c.example;DNS=d.example"
        );
        let bare = ClientCertificate { hash: "00".to_owned(), ..ClientCertificate::default() };
        let names = ClientCertDetails { subject: true, dns: true, uri: true, ..NOTHING };
        assert_eq!(
            said(&bare, names),
            "Hash=00;Subject=\"\";URI=",
            "keys of what is empty stay, but for DNS"
        );
    }

    #[test]
    fn it_is_appended_to_what_stands_there_or_takes_its_place() {
        let element = HeaderValue::from_static("Hash=1");
        let told = |mode, before: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in before {
                headers.append(X_FORWARDED_CLIENT_CERT, HeaderValue::from_static(value));
            }
            tell(&mut headers, mode, &element);
            let values: Vec<_> = headers.get_all(X_FORWARDED_CLIENT_CERT).iter().cloned().collect();
            values
        };
        assert_eq!(told(ForwardClientCert::AppendForward, &["a", "b"]), ["a,b,Hash=1"]);
        assert_eq!(told(ForwardClientCert::AppendForward, &[]), ["Hash=1"]);
        assert_eq!(told(ForwardClientCert::SanitizeSet, &["a", "b"]), ["Hash=1"]);
    }
}
