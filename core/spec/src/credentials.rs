//! Who has shown what was given to him: API keys, and names with passwords.

use http::HeaderName;

use crate::DataSource;

/// What credentials are held against. Those of one place are one, and are read again when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    Keys(Vec<KeySource>),
    /// Lines of `name:hash` as htpasswd writes them.
    Passwords {
        file: DataSource,
        hashes: Hashes,
    },
}

/// Where keys are said.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Lines of `name:hash`, the SHA-256 of a key in hexadecimal.
    File(String),
    Sha256 {
        client: String,
        hash: [u8; 32],
    },
    /// The key itself.
    Key {
        client: String,
        key: DataSource,
    },
}

/// Without hashes: of a short key they are the key.
impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeySource::File(path) => f.debug_tuple("File").field(path).finish(),
            KeySource::Sha256 { client, .. } => f.debug_tuple("Sha256").field(client).finish(),
            KeySource::Key { client, key } => f.debug_tuple("Key").field(client).field(key).finish(),
        }
    }
}

/// Which hashes of passwords are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashes {
    /// `{SHA}` alone, as Envoy.
    Sha1,
    All,
}

/// Where a key may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// As it is, or behind `Bearer `.
    Header(HeaderName),
    Query(String),
    Cookie(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeys {
    /// The first that has one.
    pub places: Vec<KeyPlace>,
    pub keys: Credentials,
    /// What upstreams are told the name by. What a client says in it is taken away.
    pub client_header: Option<HeaderName>,
    /// The key goes on with its request.
    pub forwards: bool,
    /// Only these may; empty: whoever has a key.
    pub clients: Vec<String>,
}

/// What a rule says otherwise than its listener.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ApiKeysChange {
    pub keys: Option<Credentials>,
    pub places: Option<Vec<KeyPlace>>,
    /// Only these may; empty: whoever has a key.
    pub clients: Vec<String>,
    /// In the place of what the listener says, be it nothing.
    pub forwarding: KeyForwarding,
}

/// What upstreams are told of a key: by default the key, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyForwarding {
    pub client_header: Option<HeaderName>,
    pub forwards: bool,
}

impl Default for KeyForwarding {
    fn default() -> KeyForwarding {
        KeyForwarding { client_header: None, forwards: true }
    }
}

impl ApiKeys {
    /// With what a rule says.
    pub fn changed(&self, change: &ApiKeysChange) -> ApiKeys {
        let mut changed = ApiKeys { clients: change.clients.clone(), ..self.clone() };
        if let Some(keys) = &change.keys {
            changed.keys = keys.clone();
        }
        if let Some(places) = &change.places {
            changed.places.clone_from(places);
        }
        changed.client_header.clone_from(&change.forwarding.client_header);
        changed.forwards = change.forwarding.forwards;
        changed
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    pub passwords: Credentials,
    /// Told to whoever shows nothing. `None`: the URL that was asked for, as Envoy.
    pub realm: Option<String>,
    /// Where they are shown instead of `Authorization`.
    pub header: Option<HeaderName>,
    pub client_header: Option<HeaderName>,
    /// What was shown goes on with its request.
    pub forwards: bool,
}
