//! Makes the set of running workspaces match what is wanted, and keeps the records.

mod activity;
mod acts;
mod cause;
mod clock;
mod control;
mod control_loop;
pub mod crash;
mod driver;
mod grant;
mod hash;
mod identity;
pub mod kubernetes;
mod lock;
mod metrics;
mod mirror;
#[cfg(test)]
mod model;
mod peers;
mod placeholders;
mod prestart;
pub mod probe;
mod process;
mod proof;
mod quota;
mod reconcile;
mod records;
mod replicas;
mod sessions;
mod state;
mod table;
#[cfg(test)]
mod testing;
mod text;
mod tickets;
mod tokens;
mod usage;
mod users;
mod work;

pub use activity::Activity;
pub use acts::{Act, Acts};
pub use cause::{Cause, CauseCode, CauseWords};
pub use control::{Control, StartError};
pub use control_loop::{DOUBTED, LoopError};
pub use driver::{
    Action, Address, Driver, Event, Generation, Mark, Member, Observed, ObservedPhase, Order, Scope, Shared,
    StartSpec, Step, Stop, Trouble, Weight,
};
pub use grant::Grant;
pub use identity::{Identity, IdentityRef};
pub use kubernetes::judge as judge_templates;
pub use kubernetes::{KubernetesDriver, KubernetesSettings};
pub use prestart::{CAUGHT_UP, is_due, judge as judge_prestarts};
pub use process::{OpenError, ProcessDriver, ProcessSettings};
pub use proof::{BELIEVED, Proof, Sight};
pub use quota::{OverQuota, QuotaScope};
pub use records::redb::{RedbRecords, StoreOpenError};
pub use records::secrets::SecretRecords;
pub use records::{Change, Kind, Record, RecordError, Records, Version};
pub use replicas::Replicas;
pub use sessions::{
    Claim, Device, Due, Ended, Ending, Kept, Login, NewSession, Over, Person, Session, SessionId, SessionRef,
    Sessions, Signal, UseMark,
};
pub use table::{
    Entry, Part, Phase, Route, StopAsked, StopReason, Terms, Wake, WakeRefused, WhyAlive, Workspaces,
};
pub use tickets::Tickets;
pub use tokens::{
    MakeError, NewToken, RefreshSecret, Revoking, Rotated, Token, TokenRef, TokenSecret, TokenSort, Tokens,
};
pub use users::{LastSeen, User, Users};
