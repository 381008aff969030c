//! `/-/settings` and `/-/stats`: what is changed and seen while it runs.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::answer::Service;
use crate::body::{Body, collect};
use crate::errors::Errors;
use crate::latency::Latency;
use crate::settings::parse_status;

/// A change is no longer than this.
const CHANGE_BYTES_MAX: usize = 1 << 20;

/// What can be changed.
#[derive(Clone)]
pub struct Changeable {
    pub latency: Latency,
    pub errors: Errors,
    pub status: StatusCode,
    /// `None`: the request is told.
    pub body: Option<Bytes>,
}

pub async fn settings(service: &Service, method: &Method, mut body: Incoming) -> Response<Body> {
    let changed = match *method {
        Method::GET | Method::HEAD => Ok(()),
        Method::PATCH => collect(&mut body, CHANGE_BYTES_MAX).await.and_then(|bytes| {
            let next = service.now.borrow().changed(&bytes)?;
            service.now.replace(next);
            Ok(())
        }),
        _ => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET, or PATCH\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, PATCH"));
            return response;
        }
    };
    match changed {
        Ok(()) => json(StatusCode::OK, &service.now.borrow().told()),
        Err(why) => json(StatusCode::BAD_REQUEST, &json!({ "error": why })),
    }
}

pub fn stats(service: &Service) -> Response<Body> {
    json(StatusCode::OK, &json!(*service.counts.borrow()))
}

impl Changeable {
    fn told(&self) -> Value {
        json!({
            "latency": self.latency.to_string(),
            "errors": self.errors.to_string(),
            "status": self.status.as_u16(),
            "body": self.body.as_ref().map(|body| String::from_utf8_lossy(body)),
        })
    }

    /// With all of what is asked for, or nothing.
    fn changed(&self, asked: &[u8]) -> Result<Changeable, String> {
        let asked: Value = serde_json::from_slice(asked).map_err(|error| error.to_string())?;
        let fields = asked.as_object().ok_or("an object is expected")?;
        let mut next = self.clone();
        for (name, value) in fields {
            let text = || value.as_str().ok_or_else(|| format!("'{name}' must be a string"));
            match name.as_str() {
                "latency" => next.latency = text()?.parse()?,
                "errors" => next.errors = text()?.parse()?,
                "status" => next.status = parse_status(&value.to_string())?,
                "body" if value.is_null() => next.body = None,
                "body" => next.body = Some(Bytes::from(text()?.to_owned())),
                other => return Err(format!("there is no setting '{other}': latency, errors, status, body")),
            }
        }
        Ok(next)
    }
}

pub fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    page(status, "text/plain; charset=UTF-8", Bytes::from_static(text.as_bytes()))
}

fn json(status: StatusCode, value: &Value) -> Response<Body> {
    page(status, "application/json", Bytes::from(format!("{value}\n")))
}

fn page(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before() -> Changeable {
        Changeable {
            latency: "20ms".parse().unwrap(),
            errors: "5%".parse().unwrap(),
            status: StatusCode::OK,
            body: Some(Bytes::from_static(b"before")),
        }
    }

    #[test]
    fn what_is_asked_for_is_changed_and_nothing_else() {
        let check = |asked: Value, field: &str, expected: Value| {
            let changed = before().changed(asked.to_string().as_bytes()).map(|changed| changed.told());
            let mut told = before().told();
            told[field] = expected;
            assert_eq!(changed, Ok(told), "{asked}");
        };
        check(json!({}), "status", json!(200));
        check(json!({ "latency": "p50=1ms,p99=2ms" }), "latency", json!("p50=1ms,p99=2ms"));
        check(json!({ "errors": "100%:500" }), "errors", json!("100%:500"));
        check(json!({ "status": 404 }), "status", json!(404));
        check(json!({ "body": "after" }), "body", json!("after"));
        check(json!({ "body": null }), "body", json!(null));
    }

    #[test]
    fn a_change_that_is_wrong_in_one_place_changes_nothing() {
        for wrong in [
            "",
            "[]",
            "{",
            r#"{"latency": 5}"#,
            r#"{"latency": "5"}"#,
            r#"{"errors": "200%"}"#,
            r#"{"status": "404"}"#,
            r#"{"status": 99}"#,
            r#"{"body": 3}"#,
            r#"{"status": 404, "nonsense": 1}"#,
        ] {
            assert!(before().changed(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
