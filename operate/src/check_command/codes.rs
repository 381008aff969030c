//! What do the codes of problems mean, and which of them say the same?

use naru_spec::code;

/// The codes of whoever reads documents and makes a configuration of them.
pub const CODES: &[(&str, &str)] = &[
    (code::SYNTAX, "the text is not YAML or JSON, or is too large or too deep"),
    (code::UNKNOWN_FIELD, "there is no such field where it stands"),
    (code::WRONG_TYPE, "a number where there should be text, a list where there should be a mapping"),
    (code::UNKNOWN_VALUE, "not one of the values that the field may have"),
    (code::INVALID_VALUE, "a value that cannot be"),
    (code::MISSING_FIELD, "something must be said and is not"),
    (code::CONFLICTING_FIELDS, "two of which only one can be said"),
    (code::UNSUPPORTED_FIELD, "a field or value that naru does not act on"),
    (code::UNSUPPORTED_EXTENSION, "an extension of Envoy's that naru does not have"),
    (code::UNKNOWN_CLUSTER, "a route leads to a cluster that is not there"),
    (code::DUPLICATE, "two things that must differ do not"),
    (code::LEGACY_NAME, "an old name; it is read as what it became"),
    (code::UNKNOWN_KIND, "there is no kind of this name"),
    (code::UNSUPPORTED_KIND, "a kind that naru does not act on: the document is left out"),
    (code::NOT_YET, "the field is read and checked, and does not act yet"),
    (code::UNKNOWN_HOST, "nobody defines the host: requests that are sent there are answered 503"),
    (code::UNKNOWN_SUBSET, "no DestinationRule defines the subset"),
    (code::UNKNOWN_REFERENCE, "a document, or a key in one, that is named is not there"),
    (code::UNKNOWN_PORT, "the service has no such port"),
    (code::EMPTY_SUBSET, "nothing has the labels of the subset"),
    (code::UNREACHABLE_RULE, "no request can get to the rule"),
    (code::ELSEWHERE, "requests for a host all go to others"),
    (code::NO_COMMAND, "a Deployment whose containers have no command does not run on this machine"),
    (code::CONFLICT, "two documents ask for different things"),
    (code::MORE, "there are more problems than are told"),
    (code::CERTIFICATE_NOT_VERIFIED, "an upstream's certificate is accepted whatever it says"),
    (code::NO_EFFECT, "the field means nothing where it stands"),
    (code::COSTLY, "it does what it says, and costs more than its author may think"),
    (code::DIFFERS, "what naru does here is not what the author of the dialect does, on purpose"),
    (code::UNSAFE_RETRY, "requests that change something may be carried out twice"),
];

/// Whether a finding and a problem of one line are about the same.
pub fn are_same(finding: &str, problem: &str) -> bool {
    let same: &[&str] = match finding {
        "IST0002" => &[code::LEGACY_NAME],
        "IST0101" => &[code::UNKNOWN_HOST, code::UNKNOWN_PORT, code::UNKNOWN_SUBSET, code::UNKNOWN_REFERENCE],
        "IST0109" | "IST0110" | "IST0111" | "IST0145" | "IST0177" | "KIA0201" | "KIA1211" => {
            &[code::CONFLICT, code::DUPLICATE]
        }
        "IST0112" => &[code::UNKNOWN_PORT, code::MISSING_FIELD],
        "IST0128" | "IST0129" => &[code::CERTIFICATE_NOT_VERIFIED],
        "IST0130" | "IST0131" => &[code::UNREACHABLE_RULE],
        "IST0132" => &[code::UNKNOWN_REFERENCE],
        "IST0161" => &[code::UNKNOWN_REFERENCE, code::INVALID_VALUE],
        "IST0173" => &[code::EMPTY_SUBSET],
        "IST0174" => &[code::UNKNOWN_HOST, code::NO_EFFECT],
        _ => &[],
    };
    same.contains(&problem)
}
