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

/// Declares the codes, each with its stable text, so that none can be missing in [`CauseCode::ALL`].
macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $text:literal,)*) => {
        /// Stable names of causes, as they stand in `/.usher/status`, logs and metrics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CauseCode {
            $($(#[$doc])* $code,)*
        }

        impl CauseCode {
            /// Every code, once.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// The stable text.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $text,)*
                }
            }
        }
    };
}

codes! {
    /// The program of the template does not exist or cannot be executed.
    ProgramNotFound = "program_not_found",
    /// It ended by itself.
    Crashed = "crashed",
    /// It did not accept connections, or its ready probe never succeeded, in `start_timeout`.
    StartTimeout = "start_timeout",
    /// The template is not in the configuration any more.
    TemplateGone = "template_gone",
    /// An object of that name belongs to somebody else.
    NotTheOwner = "not_the_owner",
    /// A secret of its environment cannot be read.
    SecretMissing = "secret_missing",
    /// The machine lacks something: disk, descriptors, processes.
    NoResources = "no_resources",
    /// The state file could not be written.
    StateUnwritable = "state_unwritable",
}
