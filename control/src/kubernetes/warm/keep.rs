//! Keeps as many warm workspaces as the configuration asks for: the holder of the lease does.

use super::due::{Asked, Memory, Seen, State, Step};
use super::known::{Claim, Handle};
use super::{hash_of, new_name};
use crate::clock;
use crate::kubernetes::fold::Fold;
use crate::kubernetes::{Space, plan, pods, spaces};
use config::{Config, Runs, Template, TemplateName, Values};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch::Receiver;
use tokio::time::sleep;

/// The shortest time between two rounds: a flood of news costs no more than this.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest: what passes by itself is seen so late at most.
const TICK: Duration = Duration::from_secs(1);

/// Looks, and does what is due, for ever.
pub(in crate::kubernetes) async fn keep(driver: Space, mut config: Receiver<Arc<Config>>) {
    let mut memory = Memory::default();
    let mut told = driver.inner.told.subscribe();
    let mut templates = templates(&config.borrow_and_update(), driver.namespace());
    loop {
        for step in round(&driver, &templates, &mut memory, clock::now()) {
            driver.carry_out(step, &templates, &mut memory).await;
        }
        sleep(PAUSE).await;
        tokio::select! {
            _ = told.changed() => {}
            Ok(()) = config.changed() => {
                let before = templates;
                templates = self::templates(&config.borrow_and_update(), driver.namespace());
                for left in before.keys().filter(|template| !templates.contains_key(*template)) {
                    driver.inner.warm.forget(left.as_str());
                }
            }
            () = sleep(TICK) => {}
        }
    }
}

/// The templates that ask for warm workspaces, and for what.
type Templates = BTreeMap<TemplateName, (Arc<Template>, Asked)>;

fn templates(config: &Config, namespace: &str) -> Templates {
    let asked = config.templates.values().filter_map(|template| {
        let Runs::Kubernetes(pods) = &template.runs else { return None };
        // One that is made for each user has none here.
        let nobodys = Values::default();
        if spaces::home_of(config, pods, &nobodys).ok()? != namespace {
            return None;
        }
        let asked = Asked {
            template: template.name.clone(),
            hash: hash_of(template, namespace)?,
            ready: pods.warm.ready.into(),
            patience: pods.schedule_timeout + pods.pull_timeout + template.start_timeout,
        };
        Some((template.name.clone(), (template.clone(), asked)))
    });
    asked.collect()
}

/// What is due now; nothing, where another has the lease or what is known may be over.
fn round(driver: &Space, templates: &Templates, memory: &mut Memory, now: Instant) -> Vec<Step> {
    let fold = driver.inner.fold();
    let sets = seen(&fold);
    let asked: Vec<Asked> = templates.values().map(|(_, asked)| asked.clone()).collect();
    driver.inner.warm.count(asked.iter().map(|asked| {
        let of = |state| {
            let all = sets.iter().filter(|seen| seen.template.as_ref() == Some(&asked.template));
            all.filter(|seen| seen.state == state).count()
        };
        (asked.template.as_str(), of(State::Starting), of(State::Ready))
    }));
    if !*driver.inner.leads.borrow() || !fold.is_sighted() {
        return Vec::new();
    }
    let in_vain = fold.in_vain().cloned().collect();
    memory.due(&asked, &sets, &in_vain, now)
}

fn seen(fold: &Fold) -> Vec<Seen> {
    let seen = fold.warm().all().map(|(handle, warm, set)| {
        let state = match &set.claim {
            _ if set.ends() => State::Ending,
            Claim::Nobodys if warm.ready().is_some() => State::Ready,
            Claim::Nobodys => State::Starting,
            claim if is_named(fold, &handle, claim) => {
                State::Claimed { told: fold.warm().untold(&handle.name).is_none() }
            }
            Claim::Of { .. } | Claim::Unclear => State::Left,
        };
        let (template, hash, since) = (set.template.clone(), set.hash.clone(), set.since);
        Seen { handle, template, hash, state, since }
    });
    seen.collect()
}

/// Whether the workspace that a claim is of names this set.
fn is_named(fold: &Fold, handle: &Handle, claim: &Claim) -> bool {
    let Claim::Of { id, .. } = claim else { return false };
    fold.own(id)
        .is_some_and(|(uid, notes)| claim.is_of(uid, notes) && notes.claims.as_ref() == Some(&handle.name))
}

impl Space {
    async fn carry_out(&self, step: Step, templates: &Templates, memory: &mut Memory) {
        match step {
            Step::Make(template) => {
                let made = match templates.get(&template) {
                    Some((template, _)) => self.make_warm(template).await,
                    None => return,
                };
                if !made {
                    memory.failed(&template, clock::now());
                }
            }
            Step::Drop(handle) => self.remove_warm(&handle, Some(handle.version)).await,
            Step::Tell(handle) => self.tell_pod(&handle).await,
            Step::GiveUp(id) => {
                let done = self.pursue(&id, None, plan::give_up).await;
                let cause = done.err().map(|cause| cause.code.as_str());
                tracing::info!(workspace.name = %id, cause, "a claim of a warm workspace came to nothing");
            }
        }
    }

    /// Makes one; whether that went well.
    async fn make_warm(&self, template: &Template) -> bool {
        let name = new_name(&template.name);
        let Ok(set) = pods::warm_set(&name, template, self.namespace()) else { return false };
        match self.make(None, set).await {
            Ok(set) => {
                self.inner.fold().answer(set, clock::now());
                self.told();
                tracing::debug!(kubernetes.stateful_set = name, "a warm workspace is made");
                true
            }
            Err(error) => {
                let cause = self.cause("create", "statefulsets.apps", &name, &error);
                let (code, hint) = (cause.code.as_str(), cause.hint);
                let template = template.name.as_str();
                tracing::warn!(template, cause = code, hint, "a warm workspace could not be made");
                false
            }
        }
    }
}
