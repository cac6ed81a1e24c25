//! Makes the set of running workspaces match what is wanted, and keeps the records.

mod activity;
mod cause;
pub mod crash;
mod driver;
pub mod probe;
mod process;
mod records;
mod sessions;
mod table;
mod tickets;
mod users;

pub use activity::Activity;
pub use cause::{Cause, CauseCode};
pub use driver::{Action, Address, Driver, Event, Generation, Observed, ObservedPhase, StartSpec};
pub use process::{OpenError, ProcessDriver, ProcessSettings};
pub use records::{Change, Kind, Record, RecordError, Records, Version};
pub use sessions::{NewSession, Session, SessionId, Sessions};
pub use table::{Entry, Phase, Route, Wake, WakeRefused, WhyAlive, Workspaces};
pub use tickets::Tickets;
pub use users::{Identity, User, Users};
