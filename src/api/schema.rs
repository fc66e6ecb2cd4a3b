//! Pieces of OpenAPI for types that the API shares with the rest of the gateway.

use utoipa::openapi::RefOr;
use utoipa::openapi::Schema;
use utoipa::openapi::schema::ArrayBuilder;
use utoipa::openapi::schema::ObjectBuilder;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::schema::Type;

use crate::message::Class;

use crate::message::State;
use crate::notify::Kind;

fn words(words: impl IntoIterator<Item = &'static str>, about: &str) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .enum_values(Some(words))
        .description(Some(about))
        .into()
}

/// One of these words, or null for the default.
fn optional(words: &[&'static str], about: &str) -> RefOr<Schema> {
    let values = words.iter().map(|word| Some(*word)).chain([None]);
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some(values))
        .description(Some(about))
        .into()
}

/// A class.
pub(crate) fn class() -> RefOr<Schema> {
    words(Class::ALL.map(Class::as_str), "What a message is for.")
}

/// A class asked for.
pub(crate) fn class_asked() -> RefOr<Schema> {
    let about = "What a message is for; `transactional` when absent.";
    optional(&Class::ALL.map(Class::as_str), about)
}

/// A state.
pub(crate) fn state() -> RefOr<Schema> {
    words(State::ALL.map(State::as_str), "Where a message stands.")
}

/// A coding asked for.
pub(crate) fn encoding() -> RefOr<Schema> {
    optional(&["auto", "gsm7", "ucs2"], "The coding asked for; `auto` when absent: the cheapest.")
}

/// Receipts asked for.
pub(crate) fn receipts() -> RefOr<Schema> {
    optional(&["final", "all", "none"], "The receipts wanted; `final` when absent.")
}

/// A reason.
pub(crate) fn reason() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .description(Some("A stable code: why a message is in its state."))
        .examples([Some("absent_subscriber")])
        .into()
}

/// Types of events.
pub(crate) fn event_kinds() -> RefOr<Schema> {
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(words(Kind::all().map(Kind::as_str), "A type of event."))
        .max_items(Some(32))
        .description(Some("Which events; all of the client's messages when absent or empty."))
        .into()
}
