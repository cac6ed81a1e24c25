//! What must hold, whatever happens.

use super::api::Set;
use super::replica::Replica;
use super::world::World;
use super::{CAP, Millis, is};
use crate::peers::CUT_OFF;
use crate::state::Stage;
use crate::{Action, Generation, Stop};
use config::WorkspaceId;
use std::collections::BTreeMap;

/// How long a replica that is not hindered needs from a use, or from a mark, until the mark is taken back: it looks at
/// the time once a second, and asks again after 2 s what was refused.
const SLACK: Millis = 8_000;
/// A use that is told is rounded to seconds, and is told some time after it was.
const ROUNDING: Millis = 3_000;
/// How many requests about one workspace a replica may make in a minute: one each 2 s, for two reasons.
const STORM: usize = 80;

/// What is ready at a replica.
pub(super) fn ready(replica: &Replica) -> BTreeMap<WorkspaceId, Generation> {
    let ready = replica.state.workspaces.iter().filter_map(|(id, workspace)| match &workspace.stage {
        Stage::Ready(ready) => Some((id.clone(), ready.instance.generation.clone())),
        _ => None,
    });
    ready.collect()
}

/// A route to an instance that runs on stays, unless somebody asked for its end.
pub(super) fn routes(world: &mut World, number: usize, before: &BTreeMap<WorkspaceId, Generation>) {
    let after = ready(&world.replicas[number]);
    for (id, generation) in &after {
        if before.get(id) != Some(generation) {
            world.replicas[number].ended.remove(id);
        }
    }
    for (id, generation) in before {
        let set = world.api.sets.get(id).filter(|set| set.runs && !set.deleting);
        let runs = set
            .and_then(|set| set.pod())
            .is_some_and(|pod| pod.accepts && !pod.ending && is(generation, pod.uid));
        if runs && after.get(id) != Some(generation) && !world.replicas[number].ended.contains(id) {
            world.wrong(format!("replica {number} gives up the route to {id} {generation}, which runs"));
        }
    }
}

/// Remembers which visits have led to something.
pub(super) fn visits(world: &mut World, number: usize) {
    let replica = &mut world.replicas[number];
    let mut visits = std::mem::take(&mut replica.visits);
    visits.retain(|id, _| !matches!(replica.phase(id), "ready" | "failed"));
    replica.visits = visits;
}

/// Who came first is served first, by the clock of the server.
pub(super) fn queue(world: &mut World, number: usize) {
    let queue = world.replicas[number].queue();
    let wanted = |id: &WorkspaceId| Some(world.api.sets.get(id)?.wanted?.second);
    let wrong = queue.iter().zip(queue.iter().skip(1)).find(|(first, second)| {
        matches!((wanted(first), wanted(second)), (Some(first), Some(second)) if first > second)
    });
    if let Some((first, second)) = wrong {
        let what = format!("at replica {number} {first} stands before {second}, which was wanted earlier");
        return world.wrong(what);
    }
    for other in 0..world.replicas.len() {
        let others = world.replicas[other].queue();
        let caught_up = |number: usize| {
            let replica = &world.replicas[number];
            replica.alive && !replica.lists && replica.position == world.api.log.len()
        };
        let common: Vec<_> = queue.iter().filter(|id| others.contains(id)).collect();
        let theirs: Vec<_> = others.iter().filter(|id| queue.contains(id)).collect();
        if caught_up(number) && caught_up(other) && common != theirs {
            return world
                .wrong(format!("the queue is {common:?} at replica {number}, {theirs:?} at {other}"));
        }
    }
}

/// Nobody asks without end.
pub(super) fn storm(world: &mut World, number: usize, id: &WorkspaceId) {
    let now = world.now;
    let replica = &mut world.replicas[number];
    replica.requests.retain(|(at, _)| at + 60_000 > now);
    let count = replica.requests.iter().filter(|(_, about)| about == id).count();
    if count > STORM {
        world.wrong(format!("replica {number} made {count} requests about {id} in a minute"));
    }
}

/// An action was carried out.
pub(super) fn done(world: &mut World, number: usize, action: &Action, before: Option<&Set>) {
    match action {
        Action::Start(spec) => {
            if before.is_some_and(|set| !set.runs && set.wanted.is_none()) {
                world.wrong(format!("{} is started, and nobody wants it any more", spec.id));
            }
            started(world, &spec.id);
        }
        Action::Stop { id, why: Stop::Marked(_), .. } => {
            // Who was halted since a visit may hear of its start and of its end at once.
            for replica in &mut world.replicas {
                replica.visits.remove(id);
            }
            if let Some(pod) = before.and_then(Set::pod) {
                unused(world, number, id, pod.uid);
            }
        }
        _ => {}
    }
}

/// An action was said to be done already: so it is, at the server.
pub(super) fn nothing_to_do(world: &mut World, action: &Action) {
    let set = world.api.sets.get(action.id());
    let is_wanted = set.is_some_and(|set| !set.deleting && (set.runs || set.wanted.is_some()));
    let true_is = match action {
        Action::Want(_) => is_wanted,
        Action::Start(_) => set.is_some_and(|set| set.runs),
        Action::Stop { why: Stop::Asked, .. } => !is_wanted,
        Action::Delete { .. } => set.is_none_or(|set| set.deleting),
        _ => true,
    };
    if !true_is {
        let what = format!("{action:?} is said to be done, and what stands there is {set:?}");
        world.wrong(what);
    }
}

fn started(world: &mut World, id: &WorkspaceId) {
    world.started_at.insert(id.clone(), world.now);
    // What is called off is not on its way any more, although its end may be.
    let called_off = |id: &WorkspaceId| {
        let stages = world.replicas.iter().filter_map(|replica| replica.state.workspaces.get(id));
        stages.into_iter().any(|workspace| matches!(workspace.stage, Stage::Stopping(_)))
    };
    let starting = world.api.sets.iter().filter(|(id, set)| set.starting && !called_off(id)).count();
    let most = CAP - 1 + world.replicas.len();
    if starting > most {
        world.wrong(format!("{starting} are starting, more than {most}"));
    }
    if world.api.sets.values().any(|set| set.pods.len() > 1) {
        world.wrong(format!("{id} runs twice"));
    }
}

/// What is in use is not stopped, as far as anybody who lives and serves knew of it in time.
fn unused(world: &mut World, reaper: usize, id: &WorkspaceId, uid: u64) {
    let generation = crate::testing::generation(uid);
    let what = (id.clone(), generation.clone());
    let (now, marked) = (world.now, world.marked_at.get(id).copied().unwrap_or(0));
    let idle_after = u64::try_from(world.idle_after.as_millis()).unwrap();
    let recent = |at: &Millis| now - at < idle_after - ROUNDING;
    for (number, replica) in world.replicas.iter().enumerate() {
        let Some(used) = replica.used.get(&what).copied().filter(recent) else { continue };
        let halted = now < replica.halted_until && replica.unwritten(now) >= CUT_OFF;
        if !replica.serves() || replica.phase(id) != "ready" || halted {
            continue;
        }
        // One that is cut off has to know what the others are about to stop.
        let knows = replica.was_free(used, used + SLACK) || replica.unwritten(now) >= CUT_OFF;
        if used < marked || (used + SLACK <= now && knows) {
            let what = format!(
                "{id} {generation} is stopped by replica {reaper}, marked at {marked}, and was used at {used} by way \
                 of replica {number}"
            );
            return world.wrong(what);
        }
    }
    let heard = world.replicas[reaper].heard.get(&what).copied().filter(recent);
    if let Some(used) = heard.filter(|_| world.replicas[reaper].alive) {
        // Told a moment ago is too late for a request that is on its way.
        if used < marked {
            let what = format!("replica {reaper} stops {id} {generation}, and was told of its use at {used}");
            return world.wrong(what);
        }
    }
    let kept = world.kept.iter().find(|kept| {
        let replica = &world.replicas[kept.replica];
        let lives = replica.serves() && replica.life == kept.life && replica.unwritten(now) < CUT_OFF;
        kept.workspace == *id
            && kept.generation == generation
            && kept.since < marked
            && now + ROUNDING < kept.until
            && (lives || kept.told)
    });
    if let Some(kept) = kept {
        let what = format!("{id} {generation} is stopped by {reaper}, and is kept: {kept:?}");
        world.wrong(what);
    }
}

/// When nothing is on its way, every table is the truth, and every visit has led to something.
pub(super) fn rest(world: &World) -> Result<(), String> {
    for (number, replica) in world.replicas.iter().enumerate() {
        for id in &world.ids {
            let set = world.api.sets.get(id);
            let truth = match set {
                None => "stopped",
                Some(set) if set.deleting => "deleting",
                Some(set) if set.runs && set.pod().is_some_and(|pod| pod.accepts) => "ready",
                Some(set) if set.runs => "starting",
                Some(set) if !set.pods.is_empty() => "stopping",
                Some(set) if set.wanted.is_some() => "queued",
                Some(set) if set.failed.is_some() => "failed",
                Some(_) => "stopped",
            };
            let shown = match replica.phase(id) {
                "none" => "stopped",
                // A failure may be one that only this replica knows of, since its want was never heard; and somebody
                // may have called off here what was about to start again. It does not run, and that is the same.
                "failed" | "stopped" if matches!(truth, "failed" | "stopped") => truth,
                shown => shown,
            };
            if truth != shown || !["ready", "stopped", "failed"].contains(&truth) {
                return Err(format!("{id} is {truth}, and {shown} at replica {number}: {set:?}"));
            }
            if let Some(at) = replica.visits.get(id)
                && world.started_at.get(id).is_none_or(|started| started < at)
            {
                return Err(format!("a visit of {id} at {at} by way of replica {number} led to nothing"));
            }
        }
    }
    Ok(())
}
