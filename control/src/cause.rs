//! Why a workspace is not running, in words for people.

/// A named cause: a sentence for the user and a hint for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The stable name.
    pub code: CauseCode,
    /// One sentence for the user.
    pub detail: String,
    /// One hint for the operator.
    pub hint: String,
}

/// Stable names of causes, as they stand in `/.usher/status`, logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CauseCode {
    /// The program of the template does not exist or cannot be executed.
    ProgramNotFound,
    /// It ended by itself.
    Crashed,
    /// It did not accept connections, or its ready probe never succeeded, in `start_timeout`.
    StartTimeout,
    /// The template is not in the configuration any more.
    TemplateGone,
    /// An object of that name belongs to somebody else.
    NotTheOwner,
    /// A secret of its environment cannot be read.
    SecretMissing,
    /// The machine lacks something: disk, descriptors, processes.
    NoResources,
    /// The state file could not be written.
    StateUnwritable,
}

impl CauseCode {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProgramNotFound => "program_not_found",
            Self::Crashed => "crashed",
            Self::StartTimeout => "start_timeout",
            Self::TemplateGone => "template_gone",
            Self::NotTheOwner => "not_the_owner",
            Self::SecretMissing => "secret_missing",
            Self::NoResources => "no_resources",
            Self::StateUnwritable => "state_unwritable",
        }
    }
}
