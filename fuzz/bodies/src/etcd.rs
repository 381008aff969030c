//! What an etcd says: framed messages, a page of a range first, then responses of a watch.

use naru_etcd::proto::{RangeResponse, TxnResponse, WatchResponse};
use naru_etcd::{BYTES_MAX, KEYS_MAX, Keys, Past, Written, change, read};
use naru_grpc::Unframer;

const PREFIX: &str = "/naru/";
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// What is kept is as large as it is counted, below the prefix and bounded; revisions do not go back; names can be shown;
/// and a change leads from what is there to what is wanted.
pub fn etcd(bytes: &[u8]) {
    let mut unframer = Unframer::new(MESSAGE_BYTES_MAX);
    unframer.push(bytes);
    let mut keys = Keys::new(PREFIX);
    let mut past: Option<Past> = None;
    while let Ok(Some(message)) = unframer.message() {
        let before = keys.revision();
        let is_well = match &mut past {
            None => {
                let Some(page) = read::<RangeResponse>(&message) else { return };
                let is_well = keys.page(0, page).is_ok();
                past = is_well.then(|| Past::new(keys.clone()));
                is_well
            }
            Some(past) => {
                if let Some(response) = read::<TxnResponse>(&message) {
                    // Whatever it says, it is told or passed by.
                    drop(Written::of(response));
                }
                let Some(response) = read::<WatchResponse>(&message) else { return };
                past.hear(response.clone()).is_ok() && keys.hear(response).is_ok()
            }
        };
        if !is_well {
            return;
        }
        assert!(keys.revision() >= before || before == 0, "{} after {before}", keys.revision());
        let kept: usize = keys.kept().iter().map(|(key, kept)| key.len() + kept.value.len()).sum();
        assert!(kept == keys.bytes() && kept <= BYTES_MAX && keys.kept().len() <= KEYS_MAX);
        for (name, _) in keys.files() {
            assert!(name.starts_with("etcd:") && !name.chars().any(char::is_control), "{name:?}");
        }
        let wanted = keys.kept().iter().filter(|(key, _)| keys.is_file(key));
        let wanted = wanted.map(|(key, kept)| (key.clone(), kept.value.clone())).collect();
        assert_eq!(change(&keys, &wanted, b"mark"), None, "what is there need not be written");
    }
}
