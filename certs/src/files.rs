use crate::certificate::Certificate;
use std::path::PathBuf;
pub enum Look {
    Unchanged,
    Changed(Result<Certificate, std::io::Error>),
}
pub struct FilePair;
impl FilePair {
    pub fn new(_: PathBuf, _: PathBuf) -> Self {
        Self
    }
    pub fn look(&mut self) -> Look {
        Look::Unchanged
    }
}
