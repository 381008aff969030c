//! `/gateway-api`: what becomes of documents of the Gateway API, as a controller would write it into their status.

use http::{Response, StatusCode};

use super::{Admin, Query, Whole, json as json_page, text};
use crate::statuses;

pub fn page(admin: &Admin, query: &Query<'_>) -> Response<Whole> {
    let known = admin.statuses.borrow();
    if query.get("format") == Some("json") {
        return json_page(&statuses::to_json(&known));
    }
    if known.is_empty() {
        return text(StatusCode::OK, "there is no document of the Gateway API\n");
    }
    text(StatusCode::OK, statuses::to_text(&known))
}
