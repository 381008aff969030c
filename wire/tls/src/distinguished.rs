//! A distinguished name as text (RFC 2253), as OpenSSL and BoringSSL print it with `XN_FLAG_RFC2253`.

use std::fmt::Write as _;

use crate::der::{Der, OBJECT_ID, SEQUENCE, SET};

/// What OpenSSL calls the attributes of a name.
const SHORT_NAMES: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 13], "description"),
    (&[0x55, 4, 15], "businessCategory"),
    (&[0x55, 4, 17], "postalCode"),
    (&[0x55, 4, 41], "name"),
    (&[0x55, 4, 42], "GN"),
    (&[0x55, 4, 43], "initials"),
    (&[0x55, 4, 46], "dnQualifier"),
    (&[0x55, 4, 65], "pseudonym"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 2], "unstructuredName"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
];

/// `name` is what stands in the Name. What cannot be read ends it.
pub(crate) fn text(name: &[u8]) -> String {
    let mut entries = Vec::new();
    let mut sets = Der(name);
    let mut at = 0_usize;
    while let Some(set) = sets.expect(SET) {
        let mut set = Der(set);
        while let Some(entry) = set.expect(SEQUENCE) {
            entries.push((at, entry));
        }
        at += 1;
    }
    let mut written = String::new();
    let mut before = None;
    for (set, entry) in entries.into_iter().rev() {
        match before {
            None => {}
            Some(same) if same == set => written.push('+'),
            Some(_) => written.push(','),
        }
        before = Some(set);
        write_entry(entry, &mut written);
    }
    written
}

fn write_entry(entry: &[u8], written: &mut String) {
    let mut entry = Der(entry);
    let Some(id) = entry.expect(OBJECT_ID) else { return };
    let value = entry.0;
    let Some((tag, content)) = entry.next() else { return };
    let known = SHORT_NAMES.iter().find(|(known, _)| *known == id);
    match known {
        Some((_, name)) => written.push_str(name),
        None => write_id(id, written),
    }
    written.push('=');
    match decoded(tag, content).filter(|_| known.is_some()) {
        Some(text) => write_value(&text, written),
        None => {
            written.push('#');
            value.iter().for_each(|octet| write_hex(*octet, written));
        }
    }
}

fn write_id(id: &[u8], written: &mut String) {
    let mut arcs = Vec::new();
    let mut arc = 0_u64;
    for octet in id {
        arc = arc.wrapping_shl(7) | u64::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.extend([first, arc - first * 40]);
            } else {
                arcs.push(arc);
            }
            arc = 0;
        }
    }
    for (at, arc) in arcs.iter().enumerate() {
        let dot = if at == 0 { "" } else { "." };
        let _ = write!(written, "{dot}{arc}");
    }
}

/// The strings that there are (X.680); `None` for what is none.
fn decoded(tag: u8, content: &[u8]) -> Option<String> {
    match tag {
        // UTF8String.
        0x0c => str::from_utf8(content).ok().map(str::to_owned),
        // Numeric, Printable, T61, IA5 and VisibleString: Latin 1, as OpenSSL takes them.
        0x12 | 0x13 | 0x14 | 0x16 | 0x1a => Some(content.iter().map(|octet| char::from(*octet)).collect()),
        // BMPString.
        0x1e => {
            let units = content
                .chunks(2)
                .map(|pair| pair.iter().fold(0, |unit, octet| unit << 8 | u16::from(*octet)));
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        // UniversalString.
        0x1c => {
            let units = content
                .chunks(4)
                .map(|four| four.iter().fold(0, |unit, octet| unit << 8 | u32::from(*octet)));
            units.map(char::from_u32).collect()
        }
        _ => None,
    }
}

fn write_value(text: &str, written: &mut String) {
    let last = text.len().saturating_sub(1);
    for (at, octet) in text.bytes().enumerate() {
        let is_edge_space = octet == b' ' && (at == 0 || at == last);
        match octet {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => written.extend(['\\', char::from(octet)]),
            b'#' if at == 0 => written.push_str("\\#"),
            b' ' if is_edge_space => written.push_str("\\ "),
            0x20..0x7f => written.push(char::from(octet)),
            _ => {
                written.push('\\');
                write_hex(octet, written);
            }
        }
    }
}

fn write_hex(octet: u8, written: &mut String) {
    let _ = write!(written, "{octet:02X}");
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    use super::*;
    use crate::der::X509;

    #[test]
    fn a_name_is_written_as_openssl_writes_it() {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let long = " #a,b+c\"d\\e<f>g; ";
        params
            .distinguished_name
            .push(DnType::CountryName, DnValue::PrintableString("KR".try_into().unwrap()));
        params.distinguished_name.push(DnType::OrganizationName, "나루, Inc.");
        params.distinguished_name.push(DnType::CustomDnType(vec![1, 2, 3, 4]), "x");
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 65]), "#a\nb");
        params.distinguished_name.push(DnType::CommonName, long);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        // `openssl x509 -noout -subject -nameopt RFC2253` says the same.
        let expected = "CN=\\ #a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;\\ ,pseudonym=\\#a\\0Ab,1.2.3.4=#0C0178,\
                        O=\\EB\\82\\98\\EB\\A3\\A8\\, Inc.,C=KR";
        let mut openssl = std::process::Command::new("openssl");
        openssl.args(["x509", "-noout", "-subject", "-nameopt", "RFC2253"]);
        let told = crate::tests::through(openssl, certificate.pem().as_bytes());
        assert_eq!(told.trim().strip_prefix("subject="), Some(expected));
        assert_eq!(text(X509::read(certificate.der()).unwrap().subject), expected);
    }

    #[test]
    fn any_bytes_are_written_without_panic() {
        for bytes in
            [&[][..], &[0x31], &[0x31, 0x80], &[0x31, 4, 0x30, 2, 6, 0], &[0x31, 2, 0x30, 0], &[0x30, 0]]
        {
            text(bytes);
        }
        assert_eq!(text(&[0x31, 6, 0x30, 4, 6, 0, 0x0c, 0]), "=#0C00");
    }
}
