//! What a request is called, so that it can be counted: Envoy's `config.route.v3.RateLimit`.
//!
//! A descriptor is a list of entries, each a key and a value, made of a request part by part. Rules and virtual hosts say
//! which there are ([`RuleRates`]), or a filter says so itself.

use ipnet::IpNet;

use crate::{Format, HeaderMatch, Invalid, NameMatch, Operator, Piece, StringMatch, defaults};

/// How one descriptor is made.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Descriptor {
    /// Filters of this stage see it.
    pub stage: u32,
    /// In order. Where one has nothing to say, there is no descriptor.
    pub parts: Vec<DescriptorPart>,
    /// What a request takes; one where nothing is said.
    pub hits: Option<Hits>,
    /// Instead of what a rate limit service says.
    pub limit: Option<RateOverride>,
    /// Whether clients are told what is left by it; else as the filter says.
    pub tells: Option<bool>,
}

/// One entry of a descriptor.
#[derive(Clone, Debug, PartialEq)]
pub enum DescriptorPart {
    /// What this proxy's own cluster is called: `node.cluster`.
    SourceCluster(String),
    /// Where the request goes.
    DestinationCluster,
    /// The first value of a header; names that begin with a colon stand for what they do in HTTP/2.
    Header {
        name: String,
        key: String,
        /// A request without it is described without it; else not at all.
        skips: bool,
    },
    QueryParameter {
        name: String,
        key: String,
        skips: bool,
    },
    /// The trusted address of the client.
    RemoteAddress,
    MaskedRemoteAddress {
        v4_bits: u8,
        v6_bits: u8,
    },
    Literal {
        key: String,
        value: String,
    },
    /// Where all headers are as they should be, or with `expects` false, where they are not.
    Headers {
        key: String,
        value: String,
        expects: bool,
        tests: Vec<DescribedHeader>,
    },
    Query {
        key: String,
        value: String,
        expects: bool,
        tests: Vec<NameMatch>,
    },
    /// Where the client is in one of these networks, or with `inverts` in none.
    AddressMatch {
        key: String,
        value: Format,
        /// Where the value comes out empty.
        default: String,
        networks: Vec<IpNet>,
        inverts: bool,
    },
    /// A text that a verified token claims: the name of its claims, and names within each other.
    Claim {
        key: String,
        path: Vec<String>,
        default: String,
        skips: bool,
    },
}

/// A test of a header, or of what stands in its place in HTTP/2.
#[derive(Clone, Debug, PartialEq)]
pub enum DescribedHeader {
    Own(HeaderMatch),
    Pseudo { which: PseudoHeader, test: Option<StringMatch>, inverts: bool },
}

/// They are always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PseudoHeader {
    Method,
    Scheme,
    Authority,
    /// With the query.
    Path,
}

impl PseudoHeader {
    pub const ALL: [(&'static str, PseudoHeader); 4] = [
        (":method", PseudoHeader::Method),
        (":scheme", PseudoHeader::Scheme),
        (":authority", PseudoHeader::Authority),
        (":path", PseudoHeader::Path),
    ];

    pub fn of(name: &str) -> Option<PseudoHeader> {
        PseudoHeader::ALL.iter().find(|(known, _)| *known == name).map(|(_, which)| *which)
    }

    pub fn name(self) -> &'static str {
        PseudoHeader::ALL.iter().find(|(_, which)| *which == self).map_or("", |(name, _)| name)
    }
}

/// How much a request takes, or with `gives_back` gives back.
#[derive(Clone, Debug, PartialEq)]
pub struct Hits {
    pub count: HitCount,
    pub gives_back: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum HitCount {
    /// At most [`defaults::DESCRIPTOR_HITS_MAX`].
    Number(u64),
    /// What comes out is a number; a request for which none does is not described.
    Format(Format),
}

/// So many requests in a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateOverride {
    pub requests: u32,
    /// As the message has it: 1 is a second, 2 a minute, 3 an hour, 4 a day, 5 a month, 6 a year.
    pub unit: u32,
}

/// What rules and their virtual host say of descriptors.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RuleRates {
    pub own: Vec<Descriptor>,
    pub of_host: Vec<Descriptor>,
    /// Those of the host, too, whatever a filter says.
    pub includes_host: bool,
}

/// Whether those of the virtual host hold beside those of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HostRates {
    /// Where the rule has none.
    #[default]
    Override,
    Include,
    Ignore,
}

impl RuleRates {
    /// Those that a filter sees.
    pub fn seen(&self, stage: u32, host: HostRates) -> Vec<Descriptor> {
        let with_host = match host {
            _ if self.includes_host => true,
            HostRates::Override => self.own.is_empty(),
            HostRates::Include => true,
            HostRates::Ignore => false,
        };
        let of_host = self.of_host.iter().filter(|_| with_host);
        self.own.iter().chain(of_host).filter(|descriptor| descriptor.stage == stage).cloned().collect()
    }
}

/// Whether the value of such a format is known before a request goes anywhere.
pub fn is_known_at_gate(format: &Format) -> bool {
    format.pieces().iter().all(|piece| match piece {
        Piece::Text(_) => true,
        Piece::Operator { operator, .. } => matches!(
            operator,
            Operator::RequestHeader { .. }
                | Operator::Protocol
                | Operator::DownstreamRemoteAddress { .. }
                | Operator::DownstreamDirectRemoteAddress { .. }
                | Operator::DownstreamLocalAddress { .. }
                | Operator::DownstreamLocalPort
                | Operator::RequestedServerName
        ),
    })
}

impl Descriptor {
    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if self.parts.is_empty() {
            found.push(Invalid::new("a descriptor without actions describes nothing"));
        }
        match self.hits.as_ref().map(|hits| &hits.count) {
            Some(HitCount::Number(number)) if *number > defaults::DESCRIPTOR_HITS_MAX => {
                found.push(Invalid::new(format!("at most {} hits", defaults::DESCRIPTOR_HITS_MAX)));
            }
            Some(HitCount::Format(format)) if !is_known_at_gate(format) => {
                found.push(Invalid::new("hits are counted by what is known when a request comes"));
            }
            _ => {}
        }
        for part in &self.parts {
            match part {
                DescriptorPart::AddressMatch { value, .. } if !is_known_at_gate(value) => {
                    found.push(Invalid::new("a descriptor says what is known when a request comes"));
                }
                DescriptorPart::MaskedRemoteAddress { v4_bits: 33.., .. }
                | DescriptorPart::MaskedRemoteAddress { v6_bits: 129.., .. } => {
                    found.push(Invalid::new("an address of IPv4 has 32 bits, one of IPv6 128"));
                }
                _ => {}
            }
        }
        found
    }
}
