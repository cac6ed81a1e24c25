//! What the states of a pod's containers tell.

use super::happening::missing_object;
use super::quote::{between, lines, name, words};
use super::sign::{Finding, Follows, Sign};
use super::view::View;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStateWaiting, ContainerStatus};
use k8s_openapi::jiff::SignedDuration;

/// After how many restarts a container that fails again is given up. The node tries at once, after 10 s and after
/// 20 s more: this is some 14 s after the first failure.
const RESTARTS: i32 = 2;
/// Why a container waits that ended and will be started again.
const BACK_OFF: &str = "CrashLoopBackOff";
/// What ran for longer had started, and its end is not given up on: nobody waits a minute for a broken program.
const BRIEFLY: SignedDuration = SignedDuration::from_secs(60);

/// What the container is to the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Main,
    /// Prepares it, and ends.
    Init,
    Beside,
}

/// What hinders a container, the worst first: of several, what ends the workspace, then what comes first.
pub(super) fn hindrance(view: &View<'_>) -> Option<Finding> {
    let got_going = got_going(view);
    let found = view.containers().filter_map(|status| {
        let container = Container::of(view, status);
        let finding = container.hindrance()?;
        let spares = got_going && container.role == Role::Beside;
        Some(if spares { finding.sparing() } else { finding })
    });
    let found: Vec<Finding> = found.collect();
    let ends = found.iter().position(|finding| finding.follows() == Follows::End);
    found.into_iter().nth(ends.unwrap_or(0))
}

/// Whether the workspace's own program runs, or ended and is started again by itself: then nothing beside it keeps it
/// from that, and only its own end is the workspace's.
fn got_going(view: &View<'_>) -> bool {
    let Some(state) = view.main().and_then(|status| status.state.as_ref()) else { return false };
    let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref());
    state.running.is_some() || state.terminated.is_some() || waiting == Some(BACK_OFF)
}

/// Whether the workspace's own program was ever started in this pod: a restart takes nothing of that back.
pub(super) fn has_begun(view: &View<'_>) -> bool {
    let begun = |state: &k8s_openapi::api::core::v1::ContainerState| {
        state.running.is_some() || state.terminated.is_some()
    };
    view.main().is_some_and(|status| {
        status.restart_count > 0
            || status.state.as_ref().is_some_and(begun)
            || status.last_state.as_ref().is_some_and(begun)
    })
}

/// Whether the workspace's own program runs now.
pub(super) fn runs(view: &View<'_>) -> bool {
    view.main().and_then(|status| status.state.as_ref()).is_some_and(|state| state.running.is_some())
}

/// The last words of the workspace's program in this pod, or of what was to prepare it; empty if there are
/// none.
pub(super) fn last_words(view: &View<'_>) -> String {
    let of = |status: &ContainerStatus| last_end(status).and_then(|end| end.message.clone());
    let failed = |status: &&ContainerStatus| last_end(status).is_some_and(|end| end.exit_code != 0);
    let main = view.main().and_then(of);
    main.or_else(|| view.containers().find(failed).and_then(of)).unwrap_or_default()
}

fn last_end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let end = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().is_some_and(|state| state.terminated.is_some())
    };
    let state = if end(&status.state) { &status.state } else { &status.last_state };
    state.as_ref()?.terminated.as_ref()
}

struct Container<'a> {
    view: &'a View<'a>,
    status: &'a ContainerStatus,
    role: Role,
}

impl<'a> Container<'a> {
    fn of(view: &'a View<'a>, status: &'a ContainerStatus) -> Self {
        let spec = view.pod.and_then(|pod| pod.spec.as_ref());
        let inits = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
        let init = inits.iter().find(|container| container.name == status.name);
        let role = match init {
            Some(init) if init.restart_policy.as_deref() != Some("Always") => Role::Init,
            None if status.name == view.container => Role::Main,
            _ => Role::Beside,
        };
        Self { view, status, role }
    }

    fn hindrance(&self) -> Option<Finding> {
        let state = self.status.state.as_ref()?;
        if let Some(waiting) = &state.waiting {
            return self.waiting(waiting);
        }
        match &state.terminated {
            Some(end) => self.ended(end, self.again(Some(end))),
            // What failed is being tried again.
            None => self.ended(last_end(self.status)?, false),
        }
    }

    fn waiting(&self, waiting: &ContainerStateWaiting) -> Option<Finding> {
        let message = waiting.message.as_deref().unwrap_or_default();
        match waiting.reason.as_deref().unwrap_or_default() {
            "ErrImageNeverPull" => {
                let detail = format!(
                    "The image {} of this workspace is not on the node, and may not be fetched.",
                    self.image()
                );
                let hint = format!("load it on the node, or set image_pull_policy; {}", self.look());
                Some(Finding::new(Sign::ImageMissing, detail, hint))
            }
            "InvalidImageName" => {
                let detail = format!("The name {} of this workspace's image is not valid.", self.image());
                Some(Finding::new(
                    Sign::ImageNameBad,
                    detail,
                    format!("correct the template's image: {}", words(message)),
                ))
            }
            "ErrImagePull" | "RegistryUnavailable" | "ImageInspectError" | "SignatureValidationFailed" => {
                Some(self.not_pulled(message, false))
            }
            "ImagePullBackOff" => Some(self.not_pulled(message, true)),
            "CreateContainerConfigError" => Some(self.not_configured(message)),
            // The node quotes what the hook printed.
            "PostStartHookError" if self.view.is_shared => {
                Some(Finding::plain(cannot_start(self.again(last_end(self.status))), self.look()))
            }
            "CreateContainerError" | "RunContainerError" | "PostStartHookError" => {
                Some(self.not_started(message, self.again(last_end(self.status))))
            }
            BACK_OFF => {
                let end = last_end(self.status)?;
                self.ended(end, self.again(Some(end)))
            }
            // On its way; it may have failed before.
            _ => last_end(self.status).and_then(|end| self.ended(end, false)),
        }
    }

    /// Whether it fails again and again; the two times are of one node's clock.
    fn again(&self, end: Option<&ContainerStateTerminated>) -> bool {
        let times = end.and_then(|end| Some((end.started_at.as_ref()?.0, end.finished_at.as_ref()?.0)));
        // What never ran has the beginning of time as its start.
        let began = times.filter(|(from, _)| from.as_second() > 0);
        let briefly = began.is_none_or(|(from, to)| to.duration_since(from) < BRIEFLY);
        self.status.restart_count >= RESTARTS && briefly
    }

    fn not_pulled(&self, message: &str, backing_off: bool) -> Finding {
        let (why, definite) = pull_error(message);
        let sign = if definite && backing_off { Sign::ImageRefused } else { Sign::ImageNotPulled };
        let detail = format!("The image {} of this workspace cannot be fetched{why}.", self.image());
        Finding::new(sign, detail, format!("{}; the node says: {}", self.look(), words(message)))
    }

    fn not_configured(&self, message: &str) -> Finding {
        if let Some(missing) = missing_object(message, self.view.namespace()) {
            return missing;
        }
        if message.contains("runAsNonRoot") {
            let hint = format!("set the template's run_as to a user's number: {}", words(message));
            return Finding::plain(Sign::RunsAsRoot, hint);
        }
        Finding::plain(Sign::CannotStart, format!("the node says: {}; {}", words(message), self.look()))
    }

    /// The node could not run the program.
    fn not_started(&self, message: &str, again: bool) -> Finding {
        let program = between(message, "exec: \"", "\"").map(name);
        let why = [
            ("no such file or directory", "was not found"),
            ("executable file not found", "was not found"),
            ("permission denied", "may not be executed"),
            ("is a directory", "is a folder"),
            ("exec format error", "is made for another kind of processor"),
        ];
        let why = why.iter().find(|(text, _)| message.contains(text)).map(|(_, why)| why);
        match (program, why) {
            (Some(program), Some(why)) => Finding::new(
                Sign::ProgramNotFound,
                format!("The program \"{program}\" of this workspace {why}."),
                format!("is it in the image, and the template's command right? {}", self.look()),
            ),
            _ => {
                let hint = format!("the node says: {}; {}", words(message), self.look());
                Finding::plain(cannot_start(again), hint)
            }
        }
    }

    /// A container ended, and will be started again; `again`: it has been, and ended again.
    fn ended(&self, end: &ContainerStateTerminated, again: bool) -> Option<Finding> {
        let message = end.message.as_deref().unwrap_or_default();
        match end.reason.as_deref().unwrap_or_default() {
            "OOMKilled" => {
                let sign = if again { Sign::OutOfMemoryAgain } else { Sign::OutOfMemory };
                return Some(Finding::plain(
                    sign,
                    format!("raise the template's resources.memory; {}", self.look()),
                ));
            }
            "StartError" | "ContainerCannotRun" => return Some(self.not_started(message, again)),
            _ => {}
        }
        if self.role == Role::Init && end.exit_code == 0 {
            return None;
        }
        let sign = match (self.role, again) {
            (Role::Init, false) => Sign::InitFailed,
            (Role::Init, true) => Sign::InitFailedAgain,
            (_, false) => Sign::Crashed,
            (_, true) => Sign::CrashedAgain,
        };
        let mut detail = format!("{} {}.", self.subject(), how(end.exit_code, again));
        let output = lines(message);
        if !output.is_empty() && !self.view.is_shared {
            detail = format!("{detail} Its last output: {output}");
        }
        Some(Finding::new(sign, detail, self.hint(end.exit_code)))
    }

    fn subject(&self) -> &'static str {
        match self.role {
            Role::Main => "The workspace's program",
            Role::Init => "A step that prepares this workspace",
            Role::Beside => "A program beside the workspace",
        }
    }

    fn hint(&self, exit_code: i32) -> String {
        let advice = match exit_code {
            0 => {
                "the command of the template must stay in the foreground; perhaps the user quit the application"
            }
            126 | 127 => {
                "a shell ends like this when a program that it should run is not there, or may not be executed"
            }
            137 => "killed: by a failing probe of the pod overlay, or for want of memory on the node",
            _ => "read the workspace's log",
        };
        let container = name(&self.status.name);
        format!(
            "{advice}; kubectl -n {} logs {} -c {container} --previous",
            self.view.namespace(),
            self.view.pod_name()
        )
    }

    fn look(&self) -> String {
        self.view.describe_pod()
    }

    /// The image by the name that the template gave it.
    fn image(&self) -> String {
        let spec = self.view.pod.and_then(|pod| pod.spec.as_ref());
        let containers = spec
            .into_iter()
            .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
        let named = containers.filter(|container| container.name == self.status.name);
        let image = named.filter_map(|container| container.image.as_deref()).next();
        format!("\"{}\"", name(image.unwrap_or(&self.status.image)))
    }
}

fn cannot_start(again: bool) -> Sign {
    if again { Sign::CannotStartAgain } else { Sign::CannotStart }
}

/// How a program ended (128 + a signal is how a runtime tells that it was killed by one).
fn how(exit_code: i32, again: bool) -> String {
    let end = match exit_code {
        0 => "exit code 0".to_owned(),
        129..=159 => format!("signal {}", exit_code - 128),
        code => format!("exit code {code}"),
    };
    match (again, exit_code) {
        (true, _) => format!("ends again and again, the last time with {end}"),
        (false, 0) => format!("ended by itself, with {end}"),
        (false, 129..=159) => format!("was ended by {end}"),
        (false, _) => format!("failed with {end}"),
    }
}

/// What came between a node and an image, as the end of a sentence, and whether trying again would help.
fn pull_error(message: &str) -> (&'static str, bool) {
    let lower = message.to_ascii_lowercase();
    // First what names no answer of the registry: an address in the message may have any word in it.
    let table: [(&[&str], &str, bool); 7] = [
        (&["no space left on device"], ": the node's disk is full", false),
        (
            &["x509:", "server gave http response to https client"],
            ": its registry does not prove who it is",
            false,
        ),
        (
            &[
                "dial tcp",
                "i/o timeout",
                "no such host",
                "connection refused",
                "tls handshake timeout",
                "deadline exceeded",
            ],
            ": its registry cannot be reached",
            false,
        ),
        (&["toomanyrequests", "429 too many"], ": its registry is asked too often", false),
        (
            &["no match for platform", "no matching manifest"],
            ": there is none for the node's kind of processor",
            true,
        ),
        (
            &[
                "unauthorized",
                "authorization failed",
                "access denied",
                "403 forbidden",
                "no basic auth credentials",
            ],
            ": its registry wants a login that is missing, or has no such image",
            true,
        ),
        (&["not found", "manifest unknown", "name unknown"], ": its registry has no such image", true),
    ];
    let known = table.iter().find(|(texts, ..)| texts.iter().any(|text| lower.contains(text)));
    known.map_or(("", false), |(_, why, definite)| (why, *definite))
}
