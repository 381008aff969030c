//! Conditions in CEL of an EdgePolicy, on real sockets.

use super::*;

const TWO: &str = "  - { name: admin, match: [{ uri: { prefix: /describe/admin } }], route: UP }
  - { name: all, route: UP }";

#[tokio::test]
async fn conditions_say_who_may_and_what_cannot_be_told_lets_nobody_in() {
    let up = Upstream::plain(Speaks::Http1).await;
    let of_gateway = "  targetRef: { kind: Gateway, name: edge }
  conditions:
    deny:
    - { name: no-robots, when: \"request.useragent.contains('bot')\" }
    allow:
    - { name: readers, when: \"request.method in ['GET', 'HEAD'] && has(request.useragent)\" }
    - { name: writers, when: \"request.headers['x-role'] == 'writer'\" }";
    let of_route = "  targetRef: { kind: VirtualService, name: shop, sectionName: admin }
  conditions: { allow: [{ name: admins, when: \"request.headers['x-role'].matches('^(admin|writer)$')\" }] }";
    let naru = start(planned(&up, TWO, &(policy("edge", of_gateway) + &policy("admin", of_route))));
    let status =
        async |method: &str, path: &str, lines: &str| ask(naru.address, method, path, lines).await.status;
    assert_eq!(status("GET", "/describe", "user-agent: curl\r\n").await, 200);
    assert_eq!(status("GET", "/describe", "user-agent: a bot\r\n").await, 403);
    assert_eq!(status("POST", "/describe", "user-agent: curl\r\n").await, 403);
    assert_eq!(status("POST", "/describe", "user-agent: curl\r\nx-role: writer\r\n").await, 200);
    // A route may be for fewer than its gateway, and not for more.
    assert_eq!(status("GET", "/describe/admin", "user-agent: curl\r\n").await, 403);
    assert_eq!(status("GET", "/describe/admin", "user-agent: curl\r\nx-role: admin\r\n").await, 200);
    assert_eq!(status("POST", "/describe/admin", "user-agent: curl\r\nx-role: admin\r\n").await, 403);
    // Without the field nobody can tell whether it is a robot: the policy that refuses is for it.
    let got = ask(naru.address, "GET", "/describe", "x-role: writer\r\n").await;
    assert_eq!((got.status, got.text.as_str()), (403, "RBAC: access denied"));
    let counted = naru.checks();
    let of = |check: &str, result: &str| {
        counted.iter().find(|(one, other, _)| (*one, *other) == (check, result)).map(|(_, _, count)| *count)
    };
    // The role of a writer, that of an admin, and the field of no robots.
    assert_eq!((of("condition", "failed"), of("policy", "denied")), (Some(3), Some(5)), "{counted:?}");
    // One that is tried refuses nobody.
    let tried = of_gateway.replace("conditions:", "conditions:\n    shadow: true");
    naru.update_to(planned_at(naru.address, &up, TWO, &policy("edge", &tried))).await;
    assert_eq!(status("POST", "/describe/admin", "user-agent: a bot\r\n").await, 200);
    assert!(naru.checks().contains(&("shadow", "denied", 2)), "{:?}", naru.checks());
    naru.settles().await;
}
