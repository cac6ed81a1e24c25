//! Promises to users, kept against real parts: what the integration tests share.
//!
//! [`Usher`] starts the real binary on free ports, [`Ask`] is one HTTP request with every header in the test's
//! hands, [`Person`] is somebody with a browser's cookie jar, [`Socket`] a WebSocket, [`IdentityProvider`] a real one,
//! [`CertificateAuthority`] a real one, too, [`FalseAuthority`] one that fails, [`Cluster`] a real Kubernetes,
//! [`Cable`] an Usher's way to its API server, [`WallClock`] its clock, [`Rendered`] what the Helm chart makes of values.
//! All of them panic with what they saw when the world is not as a test needs it.

mod certificate_authority;
mod chance;
mod chart;
mod cluster;
mod false_authority;
pub mod false_provider;
pub mod html;
mod http_client;
mod identity_provider;
mod issuer;
mod logs;
mod namespace;
mod person;
pub mod processes;
mod relay;
mod release;
mod schedule;
mod socket;
mod tls;
mod usher;
mod wait;
mod wall_clock;

pub use certificate_authority::{CertificateAuthority, Terms};
pub use chance::chance;
pub use chart::{CHART, Rendered, helm, helm_command};
pub use cluster::{Cable, Cluster, Image, Part, Realm, SIMULATED, Way};
pub use false_authority::{FalseAuthority, Fault, Forgery, Kind};
pub use http_client::{Answer, Ask, Client, Kept, h2_answer};
pub use identity_provider::IdentityProvider;
pub use logs::Logs;
pub use namespace::Namespace;
pub use person::{Jar, Person};
pub use release::Release;
pub use schedule::{Deed, Schedule, Step};
pub use socket::{Closed, Socket, handshake};
pub use tls::{Certificate, Stream};
pub use usher::{DOMAIN, Setup, Usher};
pub use wait::{SOON, STARTED, wait_for, wait_instead_of};
pub use wall_clock::WallClock;
