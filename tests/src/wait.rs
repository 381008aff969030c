//! Waiting for something, but not for ever.

use std::time::Duration;

/// What has not happened by then will not happen. Far longer than anything takes, also on a machine
/// that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition that nobody announces.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The result of `future`.
///
/// # Panics
/// If it takes too long; the message says what was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(result) => result,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Waits until `look` sees what it looks for.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await
}
