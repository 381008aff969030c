//! naru-journey
