//! Which gateway answers, and what is said first.

use super::*;

/// A gateway on a port, with a host that leads somewhere.
fn gate(name: &str, port: u16, host: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: {name} }}
spec: {{ servers: [{{ port: {{ number: {port}, name: http, protocol: HTTP }}, hosts: ['*'] }}] }}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: {name} }}
spec: {{ hosts: [{host}], gateways: [{name}], http: [{{ name: {name}, directResponse: {{ status: 200 }} }}] }}
---
"
    )
}

fn said(text: &str, url: &str) -> String {
    let texts = Texts { files: vec![("a.yaml".to_owned(), text.to_owned())] };
    let loaded = texts.load();
    let checked = check_loaded(&loaded, &Surroundings::default());
    let (config, snapshot) = checked.compiled.expect("it can be");
    let question = Question {
        method: http::Method::GET,
        url: url.parse().expect("a URL"),
        headers: Vec::new(),
        source: Ipv4Addr::LOCALHOST.into(),
        port: None,
        from: None,
        is_recorded: false,
        asker: None,
    };
    question.answer(&config, &snapshot, &Documents::new(loaded.resources)).expect("an answer").text
}

#[test]
fn a_port_that_is_said_is_the_one_that_is_explained() {
    let one = gate("one", 8080, "shop.test");
    let two = format!("{one}{}", gate("two", 777, "other.test"));
    for (text, url, first) in [
        (&one, "http://shop.test:8080/", "GET http://shop.test:8080/"),
        (&one, "http://shop.test:777/", "nobody listens on port 777; at 8080 it would:"),
        (&one, "http://shop.test:80/", "nobody listens on port 80; at 8080 it would:"),
        (&one, "http://shop.test/", "the URL names no port; at 8080 it would:"),
        (&one, "https://shop.test:8080/", "port 8080 speaks no TLS; by http it would:"),
        (&two, "http://shop.test:777/", "GET http://shop.test:777/"),
    ] {
        assert_eq!(said(text, url).lines().next(), Some(first), "{url}");
    }
    let elsewhere = said(&two, "http://shop.test:777/");
    assert!(elsewhere.contains("answered 404") && elsewhere.contains(":777\n"), "{elsewhere}");
}
