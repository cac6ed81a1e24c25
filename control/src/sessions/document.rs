//! A session's record.

use super::NewSession;
use crate::Identity;
use config::{Label, Subject};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Serialize, Deserialize)]
struct Document {
    identity: Identity,
    label: String,
    display_name: String,
    subject: SubjectDocument,
}

/// What the rules see of somebody, as it is written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SubjectDocument {
    issuer: String,
    subject: String,
    name: String,
    claims: Map<String, Value>,
    groups: Vec<String>,
}

/// Why a record is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("it is not the JSON of a session: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its label cannot be used: {0}")]
    Label(#[from] config::BadName),
}

impl From<Subject> for SubjectDocument {
    fn from(Subject { issuer, subject, name, claims, groups }: Subject) -> Self {
        Self { issuer, subject, name, claims, groups }
    }
}

impl From<SubjectDocument> for Subject {
    fn from(SubjectDocument { issuer, subject, name, claims, groups }: SubjectDocument) -> Self {
        Self { issuer, subject, name, claims, groups }
    }
}

pub(super) fn write(new: &NewSession) -> Vec<u8> {
    let document = Document {
        identity: new.identity.clone(),
        label: new.label.to_string(),
        display_name: new.display_name.clone(),
        subject: new.subject.clone().into(),
    };
    serde_json::to_vec(&document).expect("a document of texts and JSON is JSON")
}

pub(super) fn read(value: &[u8]) -> Result<NewSession, DocumentError> {
    let document: Document = serde_json::from_slice(value)?;
    Ok(NewSession {
        identity: document.identity,
        label: Label::parse(&document.label)?,
        display_name: document.display_name,
        subject: document.subject.into(),
    })
}
