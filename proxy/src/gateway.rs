//! Pingora's callbacks, translated to ours.
