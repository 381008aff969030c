//! What does a proxy ask? Messages of its stream, as what the state machine knows.

use bytes::Bytes;
use http_body::Body;
use naru_xds::discovery::{
    DeltaDiscoveryRequest, DiscoveryRequest, Framed, Kind, Node, Status, Unframer, read,
};

use crate::stream::{Asked, Mode, Wish};

/// The requests of one stream.
#[derive(Debug)]
pub(crate) struct Requests<B> {
    mode: Mode,
    body: B,
    unframer: Unframer,
}

/// A request.
#[derive(Debug)]
pub(crate) struct Heard {
    pub node: Option<Node>,
    /// `None` where the kind is none that there is anything of.
    pub asked: Option<Asked>,
}

/// Why nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// They are no messages.
    Framed(Framed),
    /// It is a message, but not the one that is expected.
    Foreign,
    /// The connection is.
    Lost,
}

impl<B: Body<Data = Bytes> + Unpin> Requests<B> {
    pub fn new(mode: Mode, body: B) -> Requests<B> {
        Requests { mode, body, unframer: Unframer::default() }
    }

    /// The next one; `None` at the end. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Option<Heard>, Broken> {
        loop {
            if let Some(message) = self.unframer.message().map_err(Broken::Framed)? {
                return self.hear(&message).map(Some).ok_or(Broken::Foreign);
            }
            let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut self.body).poll_frame(cx)).await;
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(Broken::Lost),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.unframer.push(&data);
                    }
                }
            }
        }
    }

    fn hear(&self, message: &[u8]) -> Option<Heard> {
        match self.mode {
            Mode::StateOfTheWorld => {
                let said: DiscoveryRequest = read(message)?;
                let wish = Wish::All(said.resource_names);
                Some(heard(said.node, &said.type_url, said.response_nonce, said.error_detail, wish))
            }
            Mode::Delta => {
                let said: DeltaDiscoveryRequest = read(message)?;
                let mut known: Vec<_> = said.initial_resource_versions.into_iter().collect();
                known.sort();
                let wish = Wish::Change {
                    subscribe: said.resource_names_subscribe,
                    unsubscribe: said.resource_names_unsubscribe,
                    known,
                };
                Some(heard(said.node, &said.type_url, said.response_nonce, said.error_detail, wish))
            }
        }
    }
}

fn heard(node: Option<Node>, url: &str, nonce: String, error: Option<Status>, wish: Wish) -> Heard {
    let error = error.map(|status| status.message);
    let asked = Kind::of_url(url).map(|kind| Asked { kind, nonce, error, wish });
    Heard { node, asked }
}
