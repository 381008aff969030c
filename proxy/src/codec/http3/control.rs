//! Streams of one direction: RFC 9114, section 6.2, and RFC 9204, section 4.2.

use std::future::poll_fn;
use std::rc::Rc;

use quinn::RecvStream;

use super::frame::{Code, FrameHead, Kind, check_settings, number};
use super::server::Link;
use super::source::{Broken, Source};
use crate::codec::http2::guard::Abuse;

/// Settings that a client could mean are far shorter.
const SETTINGS_BYTES_MAX: u64 = 1_024;
const GO_AWAY_BYTES_MAX: u64 = 8;

/// Those that there is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Critical {
    Control,
    QpackEncoder,
    QpackDecoder,
}

/// Reads a stream that the client has opened, until it ends.
pub async fn read(mut recv: RecvStream, link: Rc<Link>) {
    let Some(kind) = read_type(&mut recv).await else { return };
    let critical = match kind {
        0x00 => Critical::Control,
        0x02 => Critical::QpackEncoder,
        0x03 => Critical::QpackDecoder,
        // Only servers push (section 6.2.2).
        0x01 => return link.fail(Code::STREAM_CREATION_ERROR),
        _ => {
            // One that is gone needs no telling.
            let _ = recv.stop(Code::STREAM_CREATION_ERROR.number());
            // One too many closes the connection.
            let _ = link.guard(Abuse::UnknownFrames);
            return;
        }
    };
    if !link.begin_critical(critical as usize) {
        return link.fail(Code::STREAM_CREATION_ERROR);
    }
    let source = Source::new(recv, &link);
    let ended = match critical {
        Critical::Control => control(source).await,
        Critical::QpackEncoder => instructions(source, Code::QPACK_ENCODER_STREAM_ERROR).await,
        Critical::QpackDecoder => instructions(source, Code::QPACK_DECODER_STREAM_ERROR).await,
    };
    match ended {
        // Of these none may end (section 6.2.1).
        Ok(()) | Err(Broken::Gone) => link.fail(Code::CLOSED_CRITICAL_STREAM),
        Err(Broken::Closed) => {}
    }
}

async fn read_type(recv: &mut RecvStream) -> Option<u64> {
    let mut bytes = [0; 8];
    let mut length = 0;
    loop {
        if let Some(number) = number(&mut bytes.get(..length)?) {
            return Some(number);
        }
        recv.read_exact(bytes.get_mut(length..=length)?).await.ok()?;
        length += 1;
    }
}

/// What a client says beside its requests.
async fn control(mut source: Source) -> Result<(), Broken> {
    let mut said = Said::default();
    while let Some(head) = poll_fn(|cx| source.poll_frame(cx)).await.transpose()? {
        said.begin(head).map_err(|code| source.fail(code))?;
        let payload = poll_fn(|cx| source.poll_whole(cx)).await?;
        if head.kind != Kind::Settings {
            source.link().guard(Abuse::Settings).map_err(|()| Broken::Closed)?;
        }
        said.take(head.kind, &payload).map_err(|code| source.fail(code))?;
    }
    Ok(())
}

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Said {
    has_settings: bool,
    push_id_max: Option<u64>,
}

impl Said {
    /// Whether a frame may come now, and be as long as it says.
    pub(super) fn begin(&self, head: FrameHead) -> Result<(), Code> {
        if !self.has_settings && head.kind != Kind::Settings {
            return Err(Code::MISSING_SETTINGS);
        }
        let (bytes_max, too_long) = match head.kind {
            Kind::Settings if self.has_settings => return Err(Code::FRAME_UNEXPECTED),
            Kind::Settings => (SETTINGS_BYTES_MAX, Code::EXCESSIVE_LOAD),
            Kind::GoAway | Kind::MaxPushId | Kind::CancelPush => (GO_AWAY_BYTES_MAX, Code::FRAME_ERROR),
            _ => return Err(Code::FRAME_UNEXPECTED),
        };
        if head.length > bytes_max { Err(too_long) } else { Ok(()) }
    }

    /// The payload of a frame that may come.
    pub(super) fn take(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Code> {
        if kind == Kind::Settings {
            self.has_settings = true;
            return check_settings(payload);
        }
        let mut rest = payload;
        let id = number(&mut rest).filter(|_| rest.is_empty()).ok_or(Code::FRAME_ERROR)?;
        match kind {
            // It may only grow (section 7.2.7).
            Kind::MaxPushId if self.push_id_max.is_some_and(|max| id < max) => return Err(Code::ID_ERROR),
            Kind::MaxPushId => self.push_id_max = Some(id),
            // Nothing was promised (section 7.2.3).
            Kind::CancelPush => return Err(Code::ID_ERROR),
            // It is about pushes, of which there are none.
            _ => {}
        }
        Ok(())
    }
}

/// What is said of a table that there is not: that it has no room, and that streams are not read any more.
async fn instructions(mut source: Source, wrong: Code) -> Result<(), Broken> {
    let mut told = match wrong == Code::QPACK_ENCODER_STREAM_ERROR {
        true => Instructions::OfEncoder,
        false => Instructions::OfDecoder { is_within: false },
    };
    while let Some(bytes) = poll_fn(|cx| source.poll_raw(cx)).await? {
        for byte in bytes {
            source.link().guard(Abuse::UnknownFrames).map_err(|()| Broken::Closed)?;
            if !told.take(byte) {
                return Err(source.fail(wrong));
            }
        }
    }
    Ok(())
}

/// Bytes of one of the two streams.
#[derive(Debug)]
pub(super) enum Instructions {
    OfEncoder,
    /// Whether a number goes on.
    OfDecoder {
        is_within: bool,
    },
}

impl Instructions {
    /// Whether it may be said.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        match self {
            // Set Dynamic Table Capacity, to nothing (RFC 9204, section 4.3.1).
            Instructions::OfEncoder => byte == 0x20,
            // Stream Cancellation (section 4.4.2): the number of a stream.
            Instructions::OfDecoder { is_within } => {
                let is_first = !*is_within;
                *is_within = if is_first { byte & 0x3f == 0x3f } else { byte & 0x80 != 0 };
                !is_first || byte & 0xc0 == 0x40
            }
        }
    }
}
