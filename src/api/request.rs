//! A message as clients write it: its fields, and every fault of their types at once.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::de::DeserializeSeed;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde_json::Map;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::problem::Code;
use crate::api::problem::Fault;
use crate::api::problem::Problem;
use crate::api::problem::Refused;
use crate::api::schema;
use crate::message::Class;
use crate::message::EncodingChoice;
use crate::message::ReceiptsWanted;
use crate::notify::Kind;
use crate::time::Span;

macro_rules! request {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)+ }) => {
        #[derive(Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
        $(#[$meta])*
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            $(
                $(#[$field_meta])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub(crate) $field: Option<$type>,
            )+
        }

        /// Shows nothing of it: requests hold numbers and texts.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_map(ObjectVisitor(PhantomData))
            }
        }

        impl Fields for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),+];

            fn read_field<'de, A: MapAccess<'de>>(
                &mut self,
                name: &'static str,
                map: &mut A,
            ) -> Result<bool, A::Error> {
                match name {
                    $(stringify!($field) => {
                        let is_first = self.$field.is_none();
                        self.$field = map.next_value()?;
                        Ok(is_first)
                    })+
                    _ => Ok(false),
                }
            }

            fn lenient(mut fields: Map<String, Value>, at: &str, faults: &mut Vec<Fault>) -> Self {
                let request = Self {
                    $($field: field(fields.remove(stringify!($field)), at, stringify!($field), faults),)+
                };
                unknown(fields, at, Self::NAMES, faults);
                request
            }
        }
    };
}

request! {
    /// A message to send: `to`, and either `text` or `binary`.
    #[schema(example = json!({ "to": "+819012345678", "text": "ご注文を承りました。", "client_ref": "order-123" }))]
    MessageRequest {
        /// The destination, in E.164 or as people of the configured region write it; the answer has
        /// it in E.164.
        #[schema(value_type = String, required, example = "+819012345678", max_length = 64)]
        to: String,
        /// The sender: digits, or a name of at most 11 GSM characters. The key's default when absent.
        #[schema(example = "0005123456", max_length = 64)]
        from: String,
        /// The text. Either this or `binary`.
        #[schema(min_length = 1, example = "ご注文を承りました。")]
        text: String,
        /// Octets instead of a text.
        binary: BinaryRequest,
        /// What the message is for; `transactional` when absent.
        #[schema(schema_with = schema::class_asked)]
        class: Class,
        /// The caller's own reference.
        #[schema(min_length = 1, max_length = 100, example = "order-123")]
        client_ref: String,
        /// The campaign that the message belongs to.
        #[schema(min_length = 1, max_length = 100, example = "2026-11-bday")]
        campaign: String,
        /// Words for routing and search.
        #[schema(max_items = 10, example = json!(["ec"]))]
        tags: Vec<String>,
        /// Not to be sent earlier (RFC 3339).
        #[schema(format = "date-time", example = "2026-11-22T10:00:00+09:00")]
        send_at: String,
        /// For how long it may be tried, from `send_at` or from now on. Never sent after that.
        #[schema(value_type = Option<String>, pattern = "^([0-9]+(ms|s|m|min|h|d))+$", example = "10m")]
        ttl: Span,
        /// Until when it may be tried, instead of `ttl` (RFC 3339).
        #[schema(format = "date-time")]
        expires_at: String,
        /// The coding: the cheapest that can carry the text when absent.
        #[schema(schema_with = schema::encoding)]
        encoding: EncodingChoice,
        /// The most segments that the caller pays for. A longer text is refused, never cut.
        #[schema(value_type = Option<u8>, minimum = 1, maximum = 255, example = 10)]
        max_segments: Whole,
        /// The name of a route; `auto` when absent.
        #[schema(example = "auto", max_length = 64)]
        route: String,
        /// Which receipts the caller wants; `final` when absent.
        #[schema(schema_with = schema::receipts)]
        receipts: ReceiptsWanted,
        /// Where this message's events go besides the client's webhooks; needs the scope `webhooks`.
        #[schema(format = "uri", max_length = 2048)]
        callback_url: String,
    }
}

request! {
    /// Messages to send.
    BatchRequest {
        /// The messages; each is judged alone.
        #[schema(value_type = Vec<MessageRequest>, required, min_items = 1, max_items = 1000)]
        messages: Vec<MessageRequest>,
    }
}

request! {
    /// Octets to send as they are.
    BinaryRequest {
        /// The user data without its header, in hexadecimal.
        #[schema(value_type = String, required, pattern = "^([0-9A-Fa-f]{2})+$", example = "0a0b0c")]
        hex: String,
        /// The user data header with its length octet, in hexadecimal.
        #[schema(pattern = "^([0-9A-Fa-f]{2})*$", example = "0605040b8423f0")]
        udh: String,
    }
}

request! {
    /// Which messages to withdraw: those with this `client_ref`, or of this `campaign`.
    #[schema(example = json!({ "campaign": "2026-11-bday" }))]
    CancelRequest {
        /// The caller's own reference.
        #[schema(min_length = 1, max_length = 100)]
        client_ref: String,
        /// The campaign.
        #[schema(min_length = 1, max_length = 100)]
        campaign: String,
    }
}

request! {
    /// A webhook endpoint.
    #[schema(example = json!({ "url": "https://shop.example/hooks", "events": ["message.delivered"] }))]
    WebhookRequest {
        /// Where events are sent, `https://`; needed to make one.
        #[schema(format = "uri", max_length = 2048, example = "https://shop.example/hooks")]
        url: String,
        /// Which events; all when absent or empty.
        #[schema(schema_with = schema::event_kinds)]
        events: Vec<Kind>,
        /// What it is for, in the caller's words.
        #[schema(max_length = 200)]
        description: String,
        /// Whether events are sent; true when absent.
        enabled: bool,
    }
}

/// A JSON object that a client sends, read strictly or with all its faults.
pub(crate) trait Fields: Default {
    /// The names of its fields.
    const NAMES: &'static [&'static str];

    /// Reads the value of one field; false when the field had one already.
    fn read_field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        map: &mut A,
    ) -> Result<bool, A::Error>;

    /// What can be read of `fields`, with a fault for everything else; `at` is their pointer.
    fn lenient(fields: Map<String, Value>, at: &str, faults: &mut Vec<Fault>) -> Self;
}

/// Reads an object strictly. What serde derives would take an array too, field by field.
struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Fields> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut object = T::default();
        while let Some(name) = map.next_key_seed(NameSeed(T::NAMES))? {
            if !object.read_field(name, &mut map)? {
                return Err(A::Error::duplicate_field(name));
            }
        }
        Ok(object)
    }
}

/// Reads the name of a field as one of these.
struct NameSeed(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<&'static str, E> {
        let known = self.0.iter().copied().find(|known| *known == name);
        known.ok_or_else(|| E::unknown_field(name, self.0))
    }
}

/// Reads a body that is one object.
///
/// Returns what could be read together with the faults of what could not, so that the caller can
/// add those of the values.
///
/// # Errors
/// When the body is no JSON object.
pub(crate) fn read<T: Fields + DeserializeOwned>(
    octets: &[u8],
) -> Result<(T, Vec<Fault>), Refused> {
    // What is right is by far the most, and is read once.
    let error = match serde_json::from_slice::<T>(octets) {
        Ok(request) => return Ok((request, Vec::new())),
        Err(error) => error,
    };
    let value: Value = serde_json::from_slice(octets).map_err(malformed)?;
    let (request, faults) = of_value(value, "");
    // Only a field that stands twice is a fault in the octets and none in the value.
    if faults.is_empty() { Err(malformed(error)) } else { Ok((request, faults)) }
}

/// Reads one object of a larger body.
pub(crate) fn of_value<T: Fields>(value: Value, at: &str) -> (T, Vec<Fault>) {
    let mut faults = Vec::new();
    let fields = match value {
        Value::Object(fields) => fields,
        other => {
            let detail = format!("expected an object, found {}", kind(&other));
            faults.push(Fault::at(Code::MalformedBody, at, detail));
            Map::new()
        }
    };
    let request = T::lenient(fields, at, &mut faults);
    (request, faults)
}

pub(crate) fn malformed(error: serde_json::Error) -> Refused {
    use serde_json::error::Category;
    let place = format!("line {} column {}", error.line(), error.column());
    let detail = match error.classify() {
        Category::Eof => format!("the JSON ends too early, at {place}"),
        Category::Data => error.to_string(),
        Category::Syntax | Category::Io => format!("no JSON: {error}"),
    };
    Problem::of(Fault::at(Code::MalformedBody, "", detail))
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// One field's value, if it has the type.
fn field<T: DeserializeOwned>(
    value: Option<Value>,
    at: &str,
    name: &str,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    let value = value?;
    match serde_path_to_error::deserialize::<_, Option<T>>(value) {
        Ok(value) => value,
        Err(error) => {
            let mut pointer = format!("{at}/{name}");
            for segment in error.path() {
                match segment {
                    serde_path_to_error::Segment::Seq { index } => {
                        pointer.push_str(&format!("/{index}"));
                    }
                    serde_path_to_error::Segment::Map { key } => {
                        pointer.push_str(&format!("/{}", escape(key)));
                    }
                    _ => {}
                }
            }
            let detail = error.into_inner().to_string();
            faults.push(Fault::at(code_of(&detail), pointer, detail));
            None
        }
    }
}

/// A value of another type cannot be read; one of the right type may still be wrong.
fn code_of(detail: &str) -> Code {
    if detail.starts_with("invalid type") {
        Code::MalformedBody
    } else if detail.starts_with("unknown field") {
        Code::UnknownField
    } else {
        Code::InvalidField
    }
}

fn unknown(fields: Map<String, Value>, at: &str, known: &[&str], faults: &mut Vec<Fault>) {
    /// The most that are told; who sends more has sent something else.
    const MOST: usize = 20;
    for name in fields.keys().take(MOST) {
        let detail = format!("no such field; there are {}", known.join(", "));
        faults.push(Fault::at(Code::UnknownField, format!("{at}/{}", escape(name)), detail));
    }
}

/// A name as a JSON Pointer has it (RFC 6901 §3), the beginning of a very long one.
pub(crate) fn escape(name: &str) -> String {
    let name: String = name.chars().take(100).collect();
    name.replace('~', "~0").replace('/', "~1")
}

/// A whole number, also when it is written as `10.0`, which JSON Schema calls an integer too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Whole(pub(crate) u8);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Unexpected;
        let number = serde_json::Number::deserialize(deserializer)?;
        let whole = number.as_u64().or_else(|| {
            let number = number.as_f64().filter(|n| n.fract() == 0.0 && (0.0..=255.0).contains(n));
            format!("{:.0}", number?).parse().ok()
        });
        let found = whole.and_then(|n| u8::try_from(n).ok()).map(Self);
        let number = number.to_string();
        let other = Unexpected::Other(&number);
        found.ok_or_else(|| Error::invalid_value(other, &"a whole number from 0 to 255"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(body: &str) -> Vec<(Option<String>, Code)> {
        let (_, faults) = read::<MessageRequest>(body.as_bytes()).unwrap();
        faults.into_iter().map(|fault| (fault.pointer, fault.code)).collect()
    }

    fn at(pointer: &str, code: Code) -> (Option<String>, Code) {
        (Some(pointer.to_owned()), code)
    }

    #[test]
    fn every_fault_of_the_types_is_found_at_once() {
        let body = r#"{"to": 5, "tags": ["a", 7], "class": "sms", "ttl": "soon", "text": null,
            "max_segments": 300, "binary": {"hex": "00", "data": ""}, "template": {}, "a/b~c": 1}"#;
        assert_eq!(
            faults(body),
            [
                at("/to", Code::MalformedBody),
                at("/binary/data", Code::UnknownField),
                at("/class", Code::InvalidField),
                at("/tags/1", Code::MalformedBody),
                at("/ttl", Code::InvalidField),
                at("/max_segments", Code::InvalidField),
                at("/a~1b~0c", Code::UnknownField),
                at("/template", Code::UnknownField),
            ]
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["", "{", "nonsense", "{\"to\":\"1\",\"to\":\"2\"}", "{\"to\":\"\u{1}\"}"] {
            let problem = read::<MessageRequest>(body.as_bytes()).unwrap_err();
            assert_eq!(problem.code(), Code::MalformedBody, "{body}");
        }
        assert_eq!(faults("[]"), [at("", Code::MalformedBody)]);
        assert_eq!(faults("[\"+819012345678\"]"), [at("", Code::MalformedBody)]);
        assert_eq!(faults("{\"binary\": [\"00\"]}"), [at("/binary", Code::MalformedBody)]);
    }

    #[test]
    fn a_whole_number_may_have_a_point() {
        let read = |body: &str| read::<MessageRequest>(body.as_bytes()).unwrap();
        assert_eq!(read(r#"{"max_segments": 10.0}"#).0.max_segments, Some(Whole(10)));
        assert_eq!(read(r#"{"max_segments": null}"#).0.max_segments, None);
        assert_eq!(read(r#"{"max_segments": 1.5}"#).1.len(), 1);
        assert_eq!(read(r#"{"max_segments": -1}"#).1.len(), 1);
    }
}
