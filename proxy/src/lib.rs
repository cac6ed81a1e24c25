//! Decides, per request, and carries bytes: the edge, the portal and the binary.

pub mod access;
pub mod admin;
pub mod cli;
pub mod connection;
pub mod cookies;
pub mod edge;
pub mod gateway;
pub mod head;
pub mod keys;
pub mod metrics;
pub mod own;
pub mod portal;
pub mod refusal;
pub mod remote;
pub mod request;
pub mod tunnel;
pub mod workspace_host;
