//! A client that has shown a certificate, and what its requests tell of it.

use std::cell::{OnceCell, RefCell};

use http::{HeaderMap, HeaderValue};
use naru_identity::Names;
use naru_journey::client_cert::{self, ClientCertificate};
use naru_spec::{ClientCertDetails, Http};
use naru_tls::Shown;

/// Of a connection.
#[derive(Debug)]
pub struct Certified {
    shown: Box<Shown>,
    /// What the last request told, and what it was asked to.
    told: RefCell<Option<(ClientCertDetails, Option<HeaderValue>)>>,
    names: OnceCell<Names>,
}

impl Certified {
    pub fn new(shown: Box<Shown>) -> Certified {
        Certified { shown, told: RefCell::new(None), names: OnceCell::new() }
    }

    /// Adds to a request what its chain wants upstreams to know.
    #[cold]
    pub fn tell(&self, http: &Http, headers: &mut HeaderMap) {
        if !http.forward_client_cert.tells() {
            return;
        }
        let asked = http.client_cert_details;
        let mut told = self.told.borrow_mut();
        let known = told.take().filter(|(before, _)| *before == asked);
        let (_, element) =
            told.insert(known.unwrap_or_else(|| (asked, client_cert::element(&self.in_words(), asked))));
        if let Some(element) = element {
            client_cert::tell(headers, http.forward_client_cert, element);
        }
    }

    /// What policies know it by.
    pub fn names(&self) -> &Names {
        self.names.get_or_init(|| Names {
            uris: self.shown.uris(),
            dns: self.shown.dns_names(),
            subject: self.shown.subject(),
        })
    }

    /// Its certificate as URL-encoded PEM.
    pub fn certificate(&self) -> String {
        self.shown.certificate()
    }

    fn in_words(&self) -> ClientCertificate {
        ClientCertificate {
            to: self.shown.to().to_vec(),
            hash: self.shown.hash(),
            subject: self.shown.subject(),
            uris: self.shown.uris(),
            dns_names: self.shown.dns_names(),
            certificate: self.shown.certificate(),
            chain: self.shown.chain(),
        }
    }
}
