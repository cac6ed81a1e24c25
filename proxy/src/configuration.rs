//! The configuration as it is used: read, and judged by all who know something of it.

use config::{Config, Findings};
use std::path::Path;

/// Reads a file, and asks `control` about what only it can judge.
///
/// # Errors
/// All mistakes of the file; those that `control` finds only when there are no others, since it needs a whole one.
pub fn load(file: &Path) -> Result<Config, Findings> {
    let config = Config::load(file)?;
    let templates = control::judge_templates(&config);
    config.judge(templates.into_iter().chain(control::judge_prestarts(&config)).collect())?;
    Ok(config)
}
