//! naru
