//! Keeps as many warm workspaces as the configuration asks for: the holder of the lease does.

use super::due::{Asked, Memory, Seen, State, Step};
use super::known::{Claim, Handle};
use super::{hash_of, new_name};
use crate::clock;
use crate::kubernetes::fold::Fold;
use crate::kubernetes::notes::Notes;
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
    memory.due(&asked, &sets, &in_vain, &fold.stray(), now)
}

fn seen(fold: &Fold) -> Vec<Seen> {
    // What cannot be read has the files of somebody: it is let alone.
    let all = fold.warm().all().filter(|(_, _, set)| set.claim != Claim::Unclear || !set.keeps_files());
    let seen = all.map(|(handle, warm, set)| {
        let state = match &set.claim {
            _ if set.ends() => State::Ending,
            Claim::Nobodys if warm.ready().is_some() => State::Ready,
            Claim::Nobodys => State::Starting,
            claim => match named(fold, &handle, claim) {
                Some(notes) => claimed(fold, &handle.name, notes),
                None => State::Left,
            },
        };
        let (template, hash, since) = (set.template.clone(), set.hash.clone(), set.since);
        Seen { handle, template, hash, state, since }
    });
    seen.collect()
}

/// What is written of the workspace that a claim is of, if it names this set.
fn named<'a>(fold: &'a Fold, handle: &Handle, claim: &Claim) -> Option<&'a Notes> {
    let Claim::Of { id, .. } = claim else { return None };
    let (uid, notes) = fold.own(id)?;
    let mut named = notes.claims.iter().chain(&notes.files);
    (claim.is_of(uid, notes) && named.any(|name| *name == handle.name)).then_some(notes)
}

/// Where a set stands that is named by the workspace that it names.
fn claimed(fold: &Fold, name: &str, notes: &Notes) -> State {
    let warm = fold.warm();
    if notes.claims.as_deref() != Some(name) && warm.is_up(name) {
        return State::Restless;
    }
    let files_told = warm.kept(name).is_none_or(|(_, told)| told && notes.files.as_deref() == Some(name));
    State::Claimed { told: files_told && warm.untold(name).is_none() }
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
            Step::Drop(handle) => {
                // Whose files it has is said by their claim, if by nothing else any more.
                if self.tell_of_files(&handle.name).await.is_ok() {
                    self.remove_warm(&handle, Some(handle.version)).await;
                }
            }
            Step::Tell(handle) => self.tell(&handle).await,
            Step::Rest(handle) => self.rest(&handle).await,
            Step::Clear(claim) => self.remove_stray(&claim).await,
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
