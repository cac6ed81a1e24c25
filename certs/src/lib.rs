//! A valid certificate for a name, always.
//!
//! Nothing of it stands yet: a listener names certificate and key files, which the edge reads at its start.
