//! What is known of connections whose bytes are passed through: once they are over, under Istio's and Envoy's names.

use std::collections::BTreeMap;

use naru_base::Reason;
use naru_proxy::Report;
use naru_proxy::metrics::{Numbers, Protocol, Series};

pub fn is_tcp(series: &&Series) -> bool {
    series.labels.protocol == Protocol::Tcp
}

/// What is told of the connections of one set of labels.
pub type Count = fn(&Numbers) -> u64;

pub const FAMILIES: [(&str, &str, Count); 3] = [
    (
        "istio_tcp_connections_closed_total",
        "Connections whose bytes were passed through, by how they ended.",
        |n| n.durations.count(),
    ),
    ("istio_tcp_received_bytes_total", "Bytes that clients sent.", |n| n.request_bytes.sum as u64),
    ("istio_tcp_sent_bytes_total", "Bytes that clients were sent.", |n| n.response_bytes.sum as u64),
];

/// For `/stats`.
pub fn add_stats(report: &Report, stats: &mut BTreeMap<String, u64>) {
    let downstream = report.downstream;
    stats.insert("tcp.downstream_cx_active".to_owned(), downstream.tcp_active);
    stats.insert("tcp.downstream_cx_total".to_owned(), downstream.tcp_total);
    for series in report.series.iter().filter(is_tcp) {
        let (prefix, count) = (&series.stat_prefix, series.requests());
        let mut add = |name: &str, value: u64| {
            *stats.entry(format!("tcp.{prefix}.{name}")).or_insert(0) += value;
        };
        add("downstream_cx_closed", count);
        add("downstream_cx_rx_bytes_total", series.numbers.request_bytes.sum as u64);
        add("downstream_cx_tx_bytes_total", series.numbers.response_bytes.sum as u64);
        add(&format!("reason.{}", series.labels.reason.name()), count);
        match series.labels.reason {
            Reason::TcpIdle => add("idle_timeout", count),
            Reason::ConnectionDuration => add("max_downstream_connection_duration", count),
            _ => {}
        }
    }
}
