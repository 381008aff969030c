//! What upstreams are told of a client's certificate: the header `x-forwarded-client-cert`.

/// What becomes of the header. The names are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ForwardClientCert {
    /// None is passed on.
    #[default]
    Sanitize,
    /// What a client with a certificate says is passed on.
    ForwardOnly,
    /// The client's certificate is added to what a client with one says.
    AppendForward,
    /// The client's certificate takes the place of what it says.
    SanitizeSet,
    /// What any client says is passed on.
    AlwaysForwardOnly,
}

impl ForwardClientCert {
    /// Whether the client's own certificate is said.
    pub fn tells(self) -> bool {
        matches!(self, ForwardClientCert::AppendForward | ForwardClientCert::SanitizeSet)
    }

    /// Whether a header that is there is passed on.
    pub fn keeps(self, has_certificate: bool) -> bool {
        match self {
            ForwardClientCert::Sanitize => false,
            ForwardClientCert::AlwaysForwardOnly => true,
            ForwardClientCert::ForwardOnly
            | ForwardClientCert::AppendForward
            | ForwardClientCert::SanitizeSet => has_certificate,
        }
    }
}

/// What is told of a certificate, beside its hash and who it was shown to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ClientCertDetails {
    pub subject: bool,
    /// The certificate itself.
    pub cert: bool,
    /// With those that issued it.
    pub chain: bool,
    pub dns: bool,
    pub uri: bool,
}
