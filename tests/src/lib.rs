//! Promises to users, kept against real parts.
