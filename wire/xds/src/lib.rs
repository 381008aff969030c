//! naru-xds
