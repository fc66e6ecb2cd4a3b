//! The bodies of messages that are near their turn; all others are in the journal only.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use crate::message::Content;
use crate::message::MessageId;
use crate::message::Submission;

use super::table::ById;

/// Bodies in memory.
#[derive(Debug)]
pub(super) struct Bodies {
    held: HashMap<MessageId, Arc<Submission>, ById>,
    octets: usize,
    limit: usize,
    asked: HashSet<MessageId, ById>,
}

/// How many messages of a key have their bodies brought near while there is room.
const DEPTH: usize = 64;

/// And how many when there is none.
const LEAST_DEPTH: usize = 4;

impl Bodies {
    pub(super) fn new(limit: usize) -> Self {
        Self { held: HashMap::default(), octets: 0, limit, asked: HashSet::default() }
    }

    pub(super) const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How far ahead of its turn a body is wanted.
    pub(super) const fn depth(&self) -> usize {
        if self.has_room() { DEPTH } else { LEAST_DEPTH }
    }

    /// About how many octets are held.
    pub(super) const fn octets(&self) -> usize {
        self.octets
    }

    /// Whether a body that nobody wants yet may stay.
    pub(super) const fn has_room(&self) -> bool {
        self.octets < self.limit
    }

    pub(super) fn get(&self, id: MessageId) -> Option<&Arc<Submission>> {
        self.held.get(&id)
    }

    pub(super) fn has(&self, id: MessageId) -> bool {
        self.held.contains_key(&id)
    }

    pub(super) fn put(&mut self, submission: Arc<Submission>) {
        self.octets += octets(&submission);
        if let Some(before) = self.held.insert(submission.id, submission) {
            self.octets -= octets(&before);
        }
    }

    pub(super) fn drop(&mut self, id: MessageId) {
        if let Some(body) = self.held.remove(&id) {
            self.octets -= octets(&body);
        }
    }

    /// Whether the body must be asked for now: it is neither here nor on its way.
    pub(super) fn ask(&mut self, id: MessageId) -> bool {
        !self.has(id) && self.asked.insert(id)
    }

    /// Takes that what was asked for came.
    pub(super) fn came(&mut self, id: MessageId) {
        self.asked.remove(&id);
    }
}

/// About how much memory a body takes.
fn octets(submission: &Submission) -> usize {
    let content = match &submission.content {
        Content::Text(text) => text.len(),
        Content::Binary { octets, udh } => octets.len() + udh.len(),
    };
    let texts = [&submission.client_ref, &submission.campaign, &submission.callback_url];
    let texts: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
    let tags: usize = submission.tags.iter().map(|tag| tag.len() + 16).sum();
    size_of::<Submission>() + 128 + content + texts + tags
}
