//! What is tried instead.

use naru_resource::fallback;

use crate::read::record;

record!(fallback::Fallback { on: "on", steps: "steps" });
record!(fallback::FallbackStep {
    destination: "destination",
    stale_response: "staleResponse",
    response: "response",
});
record!(fallback::StaleResponse {});
record!(fallback::FallbackResponse {
    status: "status",
    headers: "headers",
    body: "body",
    content_type: "contentType",
});
