//! JSON objects, written by hand.
//!
//! Each message is shown several times, in the feed and in webhooks, with two dozen fields a time;
//! a serialiser looks at each octet of each name.

use std::fmt::Display;
use std::io::Write;

use serde::Serialize;

use crate::archive::Stamp;
use crate::time::Time;

/// An object that is being written; end it by [`Object::end`].
#[must_use]
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    /// Begins an object at the end of `out`.
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    /// Writes a name, which needs no escape; its value is to follow.
    pub(super) fn name(&mut self, name: &'static str) -> &mut Vec<u8> {
        let before: &[u8] = if self.is_empty { b"\"" } else { b",\"" };
        self.is_empty = false;
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A value of any kind.
    pub(super) fn value<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) {
        let out = self.name(name);
        // Writing to memory fails only for maps with keys that are not text, and there is none.
        let _infallible = serde_json::to_writer(out, value);
    }

    /// A word of ours: of letters, digits and signs that need no escape.
    pub(super) fn word(&mut self, name: &'static str, word: &str) {
        let out = self.name(name);
        out.push(b'"');
        out.extend_from_slice(word.as_bytes());
        out.push(b'"');
    }

    /// A word of ours, or null.
    pub(super) fn word_or_null(&mut self, name: &'static str, word: Option<&str>) {
        match word {
            Some(word) => self.word(name, word),
            None => self.name(name).extend_from_slice(b"null"),
        }
    }

    /// Something of ours whose text needs no escape, such as an id.
    pub(super) fn id(&mut self, name: &'static str, id: impl Display) {
        let out = self.name(name);
        // Writing to memory does not fail.
        let _infallible = write!(out, "\"{id}\"");
    }

    /// A time, or null.
    pub(super) fn time(&mut self, name: &'static str, at: Option<Time>) {
        match at {
            Some(at) => Stamp(at).write(self.name(name)),
            None => self.name(name).extend_from_slice(b"null"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_reads_back() {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.value("text", "say \"飛脚\"\n");
        object.word("word", "delivered");
        object.word_or_null("nothing", None);
        object.id("id", 7);
        object.time("at", Some(Time::from_millis(951_782_400_000)));
        object.time("later", None);
        Object::begin(object.name("empty")).end();
        object.end();
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let wanted = serde_json::json!({
            "text": "say \"飛脚\"\n", "word": "delivered", "nothing": null, "id": "7",
            "at": "2000-02-29T00:00:00.000Z", "later": null, "empty": {},
        });
        assert_eq!(read, wanted);
    }
}
