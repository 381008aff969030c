//! Limits that count sessions, and what their tokens claim.

use super::*;

#[tokio::test]
async fn sessions_and_claims_of_their_tokens_are_counted() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let limits = "
---
apiVersion: naru.dev/v1alpha1
kind: RateLimit
metadata: { name: limits }
spec:
  targetRef: { kind: Gateway, name: edge }
  limits:
  - { name: session, requests: 3, window: 10h, algorithm: fixedWindow, key: [{ from: session }] }
  - { name: role, requests: 5, window: 10h, algorithm: fixedWindow, key: [{ from: claim, name: role }] }
  - { name: strange, requests: 1, window: 10h, key: [{ from: claim, name: '[role][inner]' }] }";
    let naru = start(config(&upstream, &format!("{}{limits}", kept_in(&files))));
    let (mut one, mut other) = (Browser::of(&naru, "han").await, Browser::of(&naru, "han").await);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(one.get("/describe").await.status.as_u16());
    }
    // The same user, another session: his own count, but the role is the same.
    for _ in 0..3 {
        statuses.push(other.get("/describe").await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 429, 200, 200, 429]);
    // Who says nobody is not counted; a token that is none is refused before.
    let mut nobody = Browser::new(&naru).await;
    for _ in 0..6 {
        let forged = [("authorization", "Bearer a.b.c")];
        assert_eq!(nobody.exchange(Method::GET, "/describe", &forged).await.status, 401);
        assert_eq!(nobody.exchange(Method::GET, "/describe/public", NONE).await.status, 200);
    }
    let allowed: Vec<u64> = naru.quotas().iter().map(|quota| quota.allowed_total).collect();
    assert_eq!(allowed, [5, 5, 0]);
}
