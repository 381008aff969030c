//! naru-proxy
