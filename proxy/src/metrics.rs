//! What the edge counts: one struct, our own registry.

/// The edge's metrics.
pub struct Metrics {}
