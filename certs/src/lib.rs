//! A valid certificate for a name, always.
