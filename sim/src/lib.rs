//! naru-sim
