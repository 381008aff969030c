//! naru-balance
