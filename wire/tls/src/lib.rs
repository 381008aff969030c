//! naru-tls
