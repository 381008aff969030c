//! Files of keys, of passwords and of addresses, which others may have written.

use naru_known::{Effort, Keys, Passwords, Places};

/// What can be read says the same each time, and of whatever it is asked; what cannot says which line is wrong.
pub fn known(bytes: &[u8]) {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    let mut keys = Keys::default();
    match keys.read(bytes) {
        Ok(()) => assert!(keys.find(b"no key of anybody").is_none()),
        Err(fault) => assert!(fault.line <= lines, "{fault}"),
    }
    let effort = Effort { only_sha1: false, bcrypt_max: 4, argon2_memory_max: 64, argon2_rounds_max: 2 };
    match Passwords::read(bytes, effort) {
        // A hash that was read is one that can be computed.
        Ok(passwords) => assert!(passwords.verify("nobody", b"no password of anybody").is_none()),
        Err(fault) => assert!(fault.line <= lines, "{fault}"),
    }
    if let Ok(places) = Places::read(bytes.to_vec()) {
        for address in [[127, 0, 0, 1], [0, 0, 0, 0], [255, 255, 255, 255], [192, 0, 2, 1]] {
            assert_eq!(places.find(address.into()), places.find(address.into()));
        }
        let _ = places.find(std::net::Ipv6Addr::LOCALHOST.into());
        let _ = places.what();
    }
}
