//! Who somebody is, and which label is theirs for ever.

use crate::sessions::document::SubjectDocument;
use crate::{Identity, IdentityRef, Kind, Record, RecordError, Records, Version};
use config::{Config, Label, Subject};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::watch;

/// The longest label that [`Label::parse`] accepts.
const LABEL_MAX: usize = 30;
/// How many characters of the identity's hash a label gets when the wanted one cannot be had: first few, for
/// people's sake, then so many that no two identities share them.
const SUFFIXES: [usize; 3] = [4, 8, 24];

/// A user: an identity and its label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Who.
    pub identity: Identity,
    /// The label, for ever.
    pub label: String,
}

/// A user's record.
#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(flatten)]
    user: User,
    /// What the rules saw of them at their last login; none = it was before this was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<SubjectDocument>,
}

/// What a user's record says of how the rules saw them.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Of the record; none = there is none.
    pub(crate) version: Option<Version>,
    /// None = it does not say.
    pub(crate) subject: Option<Subject>,
}

impl Facts {
    pub(crate) fn of(record: Option<&Record>) -> Self {
        let document = record.and_then(|record| serde_json::from_slice::<Document>(&record.value).ok());
        let subject = document.and_then(|document| document.last).map(Subject::from);
        Self { version: record.map(|record| record.version), subject }
    }
}

/// A user as they were at their last login.
#[derive(Debug, Clone, PartialEq)]
pub struct LastSeen {
    /// Who.
    pub identity: Identity,
    /// Their label.
    pub label: Label,
    /// What the rules saw of them.
    pub subject: Subject,
}

/// The users. Cheap to clone.
///
/// Users of the development login claim their labels apart from real ones, and only labels that no real user
/// has. A real user takes no notice of them: who logs in for real as `alice` gets `alice`, also where somebody
/// typed that name into the development login before; that one gets another label at the next login. What such
/// a development user left (a workspace `alice`) stays theirs: the control loop and the driver refuse it to the
/// real `alice` until an operator deletes it. So a machine that has served the development login should begin
/// with an empty state folder when it turns to real ones.
///
/// The name of a route is nobody's label. Who had it before the route was declared keeps it, and so their files: their
/// first workspace is out of reach until the route has another name, and a warning says so when they log in.
#[derive(Clone)]
pub struct Users {
    records: Arc<dyn Records>,
    config: watch::Receiver<Arc<Config>>,
}

impl Users {
    /// Over these records; labels are kept from users as the newest configuration says.
    pub fn new(records: Arc<dyn Records>, config: watch::Receiver<Arc<Config>>) -> Self {
        Self { records, config }
    }

    /// The user with this identity; if new, one that claims `wanted` as label.
    ///
    /// Looks the owner's record up before it claims. Upper-case letters of `wanted` are folded. A label that is
    /// taken, reserved or unrepresentable gets a suffix from the identity's hash. Of two replicas that race, both
    /// get the same answer.
    ///
    /// # Errors
    /// The store fails; or the identity is one that no login may give.
    pub async fn enter(&self, identity: &Identity, wanted: &str) -> Result<(User, Label), RecordError> {
        if identity.issuer == Identity::ROUTE {
            return Err(RecordError::Store(format!(
                "a login gave the issuer {}, which is usher's own",
                Identity::ROUTE
            )));
        }
        if let Some(known) = self.known(identity).await? {
            if self.is_a_route(&known.1) {
                let label = known.1.as_str();
                tracing::warn!(
                    user.label = label,
                    "a route has the label of a user, who cannot reach their first workspace"
                );
            }
            return Ok(known);
        }
        let label = self.claim(identity, wanted).await?;
        let user = User { identity: identity.clone(), label: label.to_string() };
        match self.records.create(Kind::User, &identity.key(), json(&user)).await {
            Ok(_) => Ok((user, label)),
            // Whoever was faster at the same time is the same identity: what they wrote holds.
            Err(RecordError::Exists(name)) => self.known(identity).await?.ok_or(RecordError::Conflict(name)),
            Err(error) => Err(error),
        }
    }

    /// Writes down what the rules see of somebody who has entered, for what is decided before they come again.
    ///
    /// Of two logins at the same time one is remembered.
    ///
    /// # Errors
    /// The store fails.
    pub async fn remember(&self, identity: IdentityRef<'_>, subject: &Subject) -> Result<(), RecordError> {
        let key = identity.key();
        let Some(record) = self.records.get(Kind::User, &key).await? else { return Ok(()) };
        let Ok(mut document) = serde_json::from_slice::<Document>(&record.value) else { return Ok(()) };
        let now = Some(SubjectDocument::from(subject.clone()));
        if document.user.identity.as_ref() != identity || document.last == now {
            return Ok(());
        }
        document.last = now;
        match self.records.replace(Kind::User, &key, record.version, json(&document)).await {
            Ok(_) | Err(RecordError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All who have entered since it is written down how they were.
    ///
    /// # Errors
    /// The store fails.
    pub async fn last_seen(&self) -> Result<Vec<LastSeen>, RecordError> {
        let last_seen = |record: Record| {
            let Document { user, last } = serde_json::from_slice(&record.value).ok()?;
            let label = Label::parse(&user.label).ok()?;
            Some(LastSeen { identity: user.identity, label, subject: last?.into() })
        };
        Ok(self.records.list(Kind::User).await?.into_iter().filter_map(last_seen).collect())
    }

    /// The user who entered before, unless it is a development user whose label a real one has got since.
    async fn known(&self, identity: &Identity) -> Result<Option<(User, Label)>, RecordError> {
        let key = identity.key();
        let Some(record) = self.records.get(Kind::User, &key).await? else { return Ok(None) };
        let unreadable = |error: &dyn std::fmt::Display| {
            RecordError::Store(format!("the record of the user {key} cannot be read: {error}"))
        };
        let user: User = serde_json::from_slice(&record.value).map_err(|error| unreadable(&error))?;
        if user.identity != *identity {
            return Err(unreadable(&"it is of another identity"));
        }
        let label = Label::parse(&user.label).map_err(|error| unreadable(&error))?;
        if identity.as_ref().is_development()
            && self.records.get(Kind::Label, label.as_str()).await?.is_some()
        {
            self.records.delete(Kind::User, &key).await?;
            return Ok(None);
        }
        Ok(Some((user, label)))
    }

    /// The first label that is free or this identity's already, of a list that is always the same for it.
    async fn claim(&self, identity: &Identity, wanted: &str) -> Result<Label, RecordError> {
        for label in candidates(identity, wanted) {
            if self.claim_one(identity, &label).await? {
                return Ok(label);
            }
        }
        Err(RecordError::Store(format!("every label for {wanted:?} is taken")))
    }

    fn is_a_route(&self, label: &Label) -> bool {
        self.config.borrow().routes.contains_key(label.as_str())
    }

    async fn claim_one(&self, identity: &Identity, label: &Label) -> Result<bool, RecordError> {
        if self.is_a_route(label) {
            return Ok(false);
        }
        let real = label.as_str();
        let name = if identity.as_ref().is_development() {
            if self.records.get(Kind::Label, real).await?.is_some() {
                return Ok(false);
            }
            // A colon stands in no label, so this is never a real user's record.
            format!("development:{real}")
        } else {
            real.to_owned()
        };
        match self.records.create(Kind::Label, &name, json(identity)).await {
            Ok(_) => Ok(true),
            // Theirs, if it is: from a race with themselves, or from a start that died before the user's record.
            Err(RecordError::Exists(_)) => {
                let record = self.records.get(Kind::Label, &name).await?;
                Ok(record.is_some_and(|record| {
                    serde_json::from_slice(&record.value).ok().as_ref() == Some(identity)
                }))
            }
            Err(error) => Err(error),
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a document of texts is JSON")
}

/// The labels to try, in order.
fn candidates(identity: &Identity, wanted: &str) -> Vec<Label> {
    let folded = wanted.trim().to_ascii_lowercase();
    let stem = stem(&folded);
    let hash = letters(&identity.as_ref().digest());
    let suffixed = SUFFIXES.iter().map(|&length| {
        let room = LABEL_MAX - length - 1;
        let stem = stem[..stem.len().min(room)].trim_end_matches('-');
        format!("{stem}-{}", &hash[..length])
    });
    std::iter::once(folded).chain(suffixed).filter_map(|text| Label::parse(&text).ok()).collect()
}

/// What of a text can stand in a label: a letter first, then letters, digits and single hyphens. ASCII only.
fn stem(folded: &str) -> String {
    let mut stem = String::new();
    for c in folded.chars() {
        if c.is_ascii_lowercase() || (c.is_ascii_digit() && !stem.is_empty()) {
            stem.push(c);
        } else if !stem.is_empty() && !stem.ends_with('-') {
            stem.push('-');
        }
    }
    let stem = stem.trim_end_matches('-');
    // `xn-` begins a name in another alphabet, and a stem of nothing needs a letter.
    if stem.is_empty() || stem.starts_with("xn-") { format!("u{stem}") } else { stem.to_owned() }
}

/// A hash in letters and digits that survive in any label.
fn letters(digest: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    digest.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::redb::RedbRecords;
    use config::RouteName;
    use std::collections::HashSet;
    use tokio::task::JoinSet;

    fn users() -> (tempfile::TempDir, Users) {
        let dir = tempfile::tempdir().unwrap();
        let records = RedbRecords::open(&dir.path().join("state.redb")).unwrap();
        (dir, Users::new(Arc::new(records), configured("")))
    }

    /// With a route of each of these names.
    fn configured(routes: &str) -> watch::Receiver<Arc<Config>> {
        let mut text = include_str!("../../config/usher.kubernetes.example.toml").to_owned();
        for (port, name) in (1..).zip(routes.split_whitespace()) {
            let keys = format!("kind = 'Deployment'\nobject = '{name}'\nport = {port}\nallow = 'true'");
            text.push_str(&format!("[routes.{name}]\n{keys}\n"));
        }
        watch::channel(Arc::new(Config::parse("test", &text, &|_| None).unwrap())).1
    }

    fn real(subject: &str) -> Identity {
        Identity { issuer: "https://id.example".to_owned(), subject: subject.to_owned() }
    }

    fn development(subject: &str) -> Identity {
        Identity { issuer: Identity::DEVELOPMENT.to_owned(), subject: subject.to_owned() }
    }

    async fn label(users: &Users, identity: &Identity, wanted: &str) -> String {
        users.enter(identity, wanted).await.unwrap().1.to_string()
    }

    #[test]
    fn every_text_leads_to_labels_that_are_always_the_same() {
        let long = "a".repeat(200);
        for wanted in ["", "alice", "Álice Müller", "xn--80ak6aa92e", "--", "7of9", "www", "a--b", "…", &long]
        {
            let labels = candidates(&real("1"), wanted);
            assert!(labels.len() >= SUFFIXES.len(), "{wanted:?}: {labels:?}");
            assert_eq!(labels, candidates(&real("1"), wanted));
            assert_ne!(labels.last(), candidates(&real("2"), wanted).last());
        }
    }

    /// A name as providers and people make them: most are of a few, so that many want the same.
    fn wanted(chance: &mut fastrand::Rng) -> String {
        const NAMES: [&str; 12] = [
            "alice",
            "Alice",
            "alice@example.org",
            "www",
            "admin",
            "Müller",
            "李",
            "xn--80ak6aa92e",
            "",
            "7of9",
            "a--b",
            "_acme-challenge",
        ];
        const SIGNS: &[u8] = b"abcxyz019-_.@ ";
        match chance.u8(0..4) {
            0 => NAMES[chance.usize(0..NAMES.len())].to_owned(),
            1 => format!("{}{}", NAMES[chance.usize(0..NAMES.len())], chance.u16(0..500)),
            2 => (0..chance.usize(0..40)).map(|_| char::from(SIGNS[chance.usize(0..SIGNS.len())])).collect(),
            _ => (0..chance.usize(0..12)).map(|_| chance.char(..)).collect(),
        }
    }

    /// So many identities each get the first of their labels that nobody has.
    fn every_identity_gets_a_label_of_its_own(identities: u32) {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut taken: HashSet<Label> = HashSet::new();
        for number in 0..identities {
            let identity = real(&number.to_string());
            let wanted = wanted(&mut chance);
            let labels = candidates(&identity, &wanted);
            assert_eq!(labels, candidates(&identity, &wanted), "{wanted:?} of {number} (seed {seed})");
            let free = labels.iter().find(|label| !taken.contains(label));
            let label = free.unwrap_or_else(|| panic!("none for {wanted:?} of {number} (seed {seed})"));
            let text = label.as_str();
            let fits = (1..=LABEL_MAX).contains(&text.len())
                && text.starts_with(|c: char| c.is_ascii_lowercase())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !text.contains("--")
                && !text.ends_with('-')
                && !text.starts_with("xn-");
            assert!(fits, "{text:?} for {wanted:?} (seed {seed})");
            taken.insert(label.clone());
        }
    }

    #[test]
    fn twenty_thousand_identities_each_get_a_label_of_their_own() {
        every_identity_gets_a_label_of_its_own(20_000);
    }

    #[test]
    #[ignore = "takes a minute; `make soak` runs it"]
    fn a_million_identities_each_get_a_label_of_their_own() {
        every_identity_gets_a_label_of_its_own(1_000_000);
    }

    #[tokio::test]
    async fn a_user_keeps_the_label_whatever_they_want_later() {
        let (_dir, users) = users();
        assert_eq!(label(&users, &real("1"), "Alice").await, "alice");
        assert_eq!(label(&users, &real("1"), "bob").await, "alice");
        assert_eq!(label(&users, &real("2"), "bob").await, "bob");
    }

    #[tokio::test]
    async fn a_user_is_remembered_as_they_were_at_the_last_login() {
        let (_dir, users) = users();
        let as_of = |group: &str| Subject { groups: vec![group.to_owned()], ..Subject::default() };
        label(&users, &real("1"), "alice").await;
        label(&users, &real("2"), "bob").await;
        assert_eq!(users.last_seen().await.unwrap(), [], "nothing was written down of them yet");
        for group in ["course-a", "course-b", "course-b"] {
            users.remember(real("1").as_ref(), &as_of(group)).await.unwrap();
        }
        users.remember(real("3").as_ref(), &as_of("nobody")).await.unwrap();
        let seen = users.last_seen().await.unwrap();
        let alice = LastSeen {
            identity: real("1"),
            label: Label::parse("alice").unwrap(),
            subject: as_of("course-b"),
        };
        assert_eq!(seen, [alice]);
        assert_eq!(label(&users, &real("1"), "other").await, "alice", "the label is kept");
    }

    #[tokio::test]
    async fn a_taken_or_reserved_label_gets_a_suffix_and_keeps_it() {
        let (_dir, users) = users();
        assert_eq!(label(&users, &real("1"), "alice").await, "alice");
        let second = label(&users, &real("2"), "alice").await;
        assert!(second.starts_with("alice-"), "{second}");
        assert_eq!(label(&users, &real("2"), "alice").await, second);
        let admin = label(&users, &real("3"), "admin").await;
        assert!(admin.starts_with("admin-"), "{admin}");
    }

    #[tokio::test]
    async fn a_routes_name_is_given_to_nobody_and_taken_from_nobody() {
        let (_dir, users) = users();
        assert_eq!(label(&users, &real("1"), "notes").await, "notes");
        let users = Users { config: configured("notes wiki"), ..users };
        for identity in [real("2"), development("wiki")] {
            let given = label(&users, &identity, "wiki").await;
            assert!(given.starts_with("wiki-"), "{given}");
        }
        assert_eq!(label(&users, &real("1"), "notes").await, "notes");
        assert!(label(&users, &real("3"), "Notes").await.starts_with("notes-"));
    }

    #[tokio::test]
    async fn nobody_logs_in_as_what_owns_the_objects_of_routes() {
        let (_dir, users) = users();
        let route = RouteName::parse("docs").unwrap();
        let identity = Identity::of_route(&route);
        assert!(identity.is_of_route(&route) && !real("docs").is_of_route(&route));
        assert!(users.enter(&identity, "docs").await.is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_twenty_who_claim_one_label_one_has_it() {
        let (_dir, users) = users();
        let mut entering = JoinSet::new();
        for subject in 0..20 {
            let users = users.clone();
            entering.spawn(async move { label(&users, &real(&subject.to_string()), "alice").await });
        }
        let mut labels = entering.join_all().await;
        labels.sort();
        assert_eq!(labels.iter().filter(|label| *label == "alice").count(), 1, "{labels:?}");
        labels.dedup();
        assert_eq!(labels.len(), 20);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_identity_that_enters_twenty_times_at_once_is_one_user() {
        let (_dir, users) = users();
        let mut entering = JoinSet::new();
        for attempt in 0..20 {
            let users = users.clone();
            let wanted = if attempt % 2 == 0 { "alice" } else { "bob" };
            entering.spawn(async move { label(&users, &real("1"), wanted).await });
        }
        let mut labels = entering.join_all().await;
        labels.dedup();
        assert_eq!(labels.len(), 1, "{labels:?}");
    }

    #[tokio::test]
    async fn a_claim_that_died_before_its_user_was_recorded_is_taken_up_again() {
        let (_dir, users) = users();
        users.records.create(Kind::Label, "alice", json(&real("1"))).await.unwrap();
        assert_eq!(label(&users, &real("1"), "alice").await, "alice");
    }

    #[tokio::test]
    async fn a_development_user_never_occupies_a_real_ones_label() {
        let (_dir, users) = users();
        assert_eq!(label(&users, &development("alice"), "alice").await, "alice");
        assert_eq!(label(&users, &real("1"), "alice").await, "alice");
        let moved = label(&users, &development("alice"), "alice").await;
        assert!(moved.starts_with("alice-"), "{moved}");
        assert_eq!(label(&users, &real("2"), "bob").await, "bob");
        let second = label(&users, &development("bob"), "bob").await;
        assert!(second.starts_with("bob-"), "{second}");
    }
}
