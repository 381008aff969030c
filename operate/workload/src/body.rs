//! Bodies: those that are sent, and those that are read.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use crate::grpc::Reply;

/// What is sent.
pub enum Body {
    Whole(Option<Bytes>),
    Grpc(Box<Reply>),
}

impl Body {
    pub fn empty() -> Body {
        Body::Whole(None)
    }

    pub fn whole(bytes: Bytes) -> Body {
        Body::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Grpc(reply) => reply.poll_frame(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Grpc(_) => SizeHint::default(),
        }
    }
}

pub async fn next_frame(body: &mut Incoming) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// Reads a body to its end and keeps nothing.
pub async fn drain(body: &mut Incoming) -> Result<(), hyper::Error> {
    while let Some(frame) = next_frame(body).await {
        frame?;
    }
    Ok(())
}

/// A whole body of at most `max` bytes.
pub async fn collect(body: &mut Incoming, max: usize) -> Result<Bytes, String> {
    let mut all = Vec::new();
    while let Some(frame) = next_frame(body).await {
        let frame = frame.map_err(|error| error.to_string())?;
        if let Some(data) = frame.data_ref() {
            if all.len() + data.len() > max {
                return Err(format!("the body has more than {max} bytes"));
            }
            all.extend_from_slice(data);
        }
    }
    Ok(Bytes::from(all))
}
