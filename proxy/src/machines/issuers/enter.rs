//! Gives those whose tokens are believed their labels: one after the other, beside the requests.

use super::later;
use crate::refusal::Refusal;
use config::Label;
use control::{Identity, Users};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How many may wait.
const WAITING: usize = 64;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(5);

struct Wish {
    identity: Identity,
    wanted: String,
    answer: oneshot::Sender<Option<Label>>,
}

/// The way to a label. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Entrance(Option<mpsc::Sender<Wish>>);

impl Entrance {
    /// What requests hold, and what answers them for ever.
    pub(super) fn new(users: Users) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, mut wishes) = mpsc::channel::<Wish>(WAITING);
        let entering = async move {
            while let Some(Wish { identity, wanted, answer }) = wishes.recv().await {
                let entered = users.enter(&identity, &wanted).await;
                let label = entered.map(|(_, label)| label).inspect_err(|error| {
                    tracing::error!(%error, "whoever shows a token of a trusted issuer could not be written down");
                });
                // Whoever asked may have left.
                let _left = answer.send(label.ok());
            }
        };
        (Self(Some(sender)), entering)
    }

    /// The label of somebody, claimed now if they have none.
    ///
    /// # Errors
    /// 503: too many come for the first time at once, or the store fails.
    pub(super) async fn enter(&self, identity: &Identity, wanted: String) -> Result<Label, Refusal> {
        let (answer, entered) = oneshot::channel();
        let wish = Wish { identity: identity.clone(), wanted, answer };
        self.0.as_ref().and_then(|wishes| wishes.try_send(wish).ok()).ok_or_else(later)?;
        let entered = tokio::time::timeout(PATIENCE, entered).await;
        entered.ok().and_then(Result::ok).flatten().ok_or_else(later)
    }
}
