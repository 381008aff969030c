//! What proxies say to a control plane: messages of gRPC on a stream.

use bytes::Bytes;
use naru_xds::discovery::{
    DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse, Framed, Said, Unframer, read, world,
};

/// Bytes as a stream: however they are cut, they are the same messages; and as a resource, which arrives as it was.
pub fn discovery(bytes: &[u8]) {
    let whole = messages(std::iter::once(bytes));
    let cut = messages(bytes.chunks(3));
    assert_eq!(whole, cut, "what is read depends on how it came");
    for message in &whole.0 {
        let _ = read::<DiscoveryRequest>(message);
        let _ = read::<DeltaDiscoveryRequest>(message);
    }
    // Resources are bytes of an `Any` here, which an empty message is, too.
    let resources = [Bytes::new(), Bytes::new()];
    let text = String::from_utf8_lossy(bytes);
    let said = Said { type_url: &text, version: "", nonce: &text, control_plane: "naru" };
    let pieces = world(&said, resources.iter());
    let (found, wrong) = messages(pieces.iter().map(|piece| &**piece));
    assert_eq!((found.len(), wrong), (1, None));
    let response: DiscoveryResponse = read(&found[0]).expect("what we write is a message");
    assert_eq!(
        (response.resources.len(), response.nonce, response.type_url),
        (2, text.to_string(), text.into_owned())
    );
}

fn messages<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, Option<Framed>) {
    let (mut unframer, mut found) = (Unframer::default(), Vec::new());
    for piece in pieces {
        unframer.push(piece);
        loop {
            match unframer.message() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(wrong) => return (found, Some(wrong)),
            }
        }
    }
    (found, None)
}
