//! Decides, per request, and carries bytes: the edge, the portal and the binary.

pub mod accept;
pub mod access;
pub mod admin;
pub mod answer;
pub mod assertion;
pub mod cli;
pub mod configuration;
pub mod connection;
pub mod cookies;
pub mod demo;
pub mod drain;
pub mod edge;
pub mod exchange;
pub mod gateway;
pub mod handoff;
pub mod head;
pub mod hold;
pub mod judge;
pub mod keys;
#[cfg(test)]
mod lab;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod notice;
pub mod own;
pub mod page;
pub mod portal;
pub mod refusal;
pub mod remote;
pub mod request;
pub mod serve;
pub mod session_cookie;
pub mod tunnel;
pub mod upstream;
pub mod warnings;
pub mod workspace_host;
