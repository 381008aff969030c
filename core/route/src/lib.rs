//! naru-route
