//! A probe of bytes: Envoy's `TcpHealthCheckerImpl`.

use naru_guard::{ProbeResult, bytes_match};
use naru_spec::TcpCheck;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Line, ProbeSettings, Speaks, Target, dial, is_quiet};

/// So much may be received beside what is waited for. Envoy has no limit.
const OTHER_BYTES_MAX: usize = 16 * 1024;
const READ_BYTES: usize = 1024;

/// `None` where the connection broke, or could not be made.
pub async fn ask(
    settings: &ProbeSettings,
    check: &TcpCheck,
    address: &Target,
    kept: Option<Line>,
) -> Option<(ProbeResult, Option<Line>)> {
    let kept = match kept {
        // What comes unasked would be taken for the answer.
        Some(Line::Tcp(mut stream)) => is_quiet(&mut *stream).then_some(stream),
        Some(Line::Http(_)) | None => None,
    };
    let mut stream = match kept {
        Some(stream) => stream,
        None => dial(settings, address, Speaks::Http1).await.ok()?,
    };
    if check.receive.is_empty() {
        // As in Envoy: that it stands is all there is to know, and nothing is sent.
        return Some((ProbeResult::Connected, None));
    }
    stream.write_all(&check.send).await.ok()?;
    stream.flush().await.ok()?;
    let bytes_max = check.receive.iter().map(Vec::len).sum::<usize>() + OTHER_BYTES_MAX;
    let mut received = Vec::new();
    while !bytes_match(&check.receive, &received) {
        let mut bytes = [0; READ_BYTES];
        let count = stream.read(&mut bytes).await.ok()?;
        received.extend_from_slice(bytes.get(..count)?);
        if count == 0 || received.len() > bytes_max {
            return None;
        }
    }
    Some((ProbeResult::Connected, Some(Line::Tcp(stream))))
}
