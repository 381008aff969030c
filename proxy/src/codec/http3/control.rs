//! Streams of one direction: RFC 9114, section 6.2, and RFC 9204, section 4.2.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Buf as _;
use quinn::RecvStream;

use super::frame::{Code, Kind, check_settings, number};
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
    let mut has_settings = false;
    let mut push_id_max = None;
    while let Some(head) = poll_fn(|cx| source.poll_frame(cx)).await.transpose()? {
        if !has_settings && head.kind != Kind::Settings {
            return Err(source.fail(Code::MISSING_SETTINGS));
        }
        let bytes_max = if head.kind == Kind::Settings { SETTINGS_BYTES_MAX } else { GO_AWAY_BYTES_MAX };
        match head.kind {
            Kind::Settings if has_settings => return Err(source.fail(Code::FRAME_UNEXPECTED)),
            Kind::Settings | Kind::GoAway | Kind::MaxPushId | Kind::CancelPush => {}
            _ => return Err(source.fail(Code::FRAME_UNEXPECTED)),
        }
        if head.length > bytes_max {
            let is_settings = head.kind == Kind::Settings;
            let code = if is_settings { Code::EXCESSIVE_LOAD } else { Code::FRAME_ERROR };
            return Err(source.fail(code));
        }
        let payload = poll_fn(|cx| source.poll_whole(cx)).await?;
        if head.kind == Kind::Settings {
            has_settings = true;
            check_settings(&payload).map_err(|code| source.fail(code))?;
            continue;
        }
        source.link().guard(Abuse::Settings).map_err(|()| Broken::Closed)?;
        let mut rest = &payload[..];
        let id = number(&mut rest).filter(|_| !rest.has_remaining());
        let id = id.ok_or_else(|| source.fail(Code::FRAME_ERROR))?;
        match head.kind {
            // It may only grow (section 7.2.7).
            Kind::MaxPushId if push_id_max.is_some_and(|max| id < max) => {
                return Err(source.fail(Code::ID_ERROR));
            }
            Kind::MaxPushId => push_id_max = Some(id),
            // Nothing was promised (section 7.2.3).
            Kind::CancelPush => return Err(source.fail(Code::ID_ERROR)),
            // It is about pushes, of which there are none.
            _ => {}
        }
    }
    Ok(())
}

/// What is said of a table that there is not: that it has no room, and that streams are not read any more.
async fn instructions(mut source: Source, wrong: Code) -> Result<(), Broken> {
    let is_encoder = wrong == Code::QPACK_ENCODER_STREAM_ERROR;
    let mut is_within = false;
    while let Some(bytes) = poll_fn(|cx| source.poll_raw(cx)).await? {
        for byte in bytes {
            source.link().guard(Abuse::UnknownFrames).map_err(|()| Broken::Closed)?;
            let is_allowed = match is_encoder {
                // Set Dynamic Table Capacity, to nothing (RFC 9204, section 4.3.1).
                true => byte == 0x20,
                // Stream Cancellation (section 4.4.2): the number of a stream.
                false => {
                    let is_first = !is_within;
                    is_within = if is_first { byte & 0x3f == 0x3f } else { byte & 0x80 != 0 };
                    !is_first || byte & 0xc0 == 0x40
                }
            };
            if !is_allowed {
                return Err(source.fail(wrong));
            }
        }
    }
    Ok(())
}
