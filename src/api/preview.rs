//! What a message would cost and where it would go, without sending it.

use std::sync::Arc;

use crate::api::json::Json;
use axum::extract::Request;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::extract::Caller;
use crate::api::message::Draft;
use crate::api::plan;
use crate::api::problem::Fault;
use crate::api::problem::Refused;
use crate::api::request;
use crate::api::request::MessageRequest;
use crate::api::schema;
use crate::message::Class;
use crate::route::Seed;
use crate::route::summary;
use crate::text;
use crate::text::Plan;

/// What would become of a message.
#[derive(Serialize, ToSchema)]
pub(crate) struct Preview {
    /// The destination in E.164.
    #[schema(example = "+819012345678")]
    to: String,
    /// The sender asked for; absent when the carrier's own is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// What it is for.
    #[schema(schema_with = schema::class)]
    class: Class,
    /// The coding for the first carrier that can carry it.
    #[schema(example = "ucs2")]
    encoding: &'static str,
    /// The segments that this carrier would be sent.
    segments: u8,
    /// Septets, octets or UTF-16 units in all.
    units: u32,
    /// The first character that forced UCS-2, if one did.
    forced_by: Option<CharacterView>,
    /// The characters for which others would be sent.
    replaced: Vec<ReplacedView>,
    /// The route that would be taken.
    route: String,
    /// Why, in lines.
    why: Vec<String>,
    /// The carriers in the order in which they would be tried, and whether each can carry it.
    carriers: Vec<CarrierView>,
}

/// A character of the text.
#[derive(Serialize, ToSchema)]
pub(crate) struct CharacterView {
    /// Its place, in characters from 0.
    index: usize,
    /// The character.
    character: char,
}

/// A character for which another text would be sent.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplacedView {
    /// Its place, in characters from 0.
    index: usize,
    /// The character.
    character: char,
    /// What would be sent.
    by: String,
}

/// What one carrier of the route would do with the message.
#[derive(Serialize, ToSchema)]
pub(crate) struct CarrierView {
    /// The carrier.
    carrier: String,
    /// Whether it can carry the message.
    fits: bool,
    /// The coding.
    encoding: Option<&'static str>,
    /// The segments.
    segments: Option<usize>,
    /// Septets, octets or UTF-16 units in all.
    units: Option<usize>,
    /// Why it cannot: for example each character that it cannot carry.
    errors: Vec<Fault>,
}

/// Tells what a message would cost and where it would go; sends nothing.
#[utoipa::path(
    post,
    path = "/v1/messages/preview",
    tag = "messages",
    operation_id = "previewMessage",
    request_body(content = MessageRequest, description = "The message."),
    responses((status = 200, description = "What would become of the message.", body = Preview)),
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Request,
) -> Result<Json<Preview>, Refused> {
    let (parts, body) = request.into_parts();
    let octets = api.bodies.read(&parts.headers, body, api.limits.body_octets).await?;
    let (request, faults) = request::read::<MessageRequest>(&octets.bytes)?;
    let (client, now) = (&caller.client, api.clock.now());
    let draft = Draft::read(&api, request, faults, client, now)?;
    let id = api.next_id(now);
    let routes = api.routes.load();
    let digits = draft.to.digits();
    let query = plan::query(&draft, &digits, client);
    let route = plan::route(&routes, &query, client)?;
    let best = plan::first_fit(&routes, route, &draft, id)?;
    let candidates = route.candidates(Seed::of(id));
    let carriers = candidates.iter().filter_map(|id| routes.carrier(*id)).map(|carrier| {
        let errors = |unfit| plan::faults(&unfit, &draft.content);
        CarrierView::of(&carrier.name, plan::fit(carrier, &draft).map_err(errors))
    });
    let summary = summary(&route.name, &best);
    let why = routes.explain(&query, Seed::of(id)).steps;
    Ok(Json(Preview {
        to: draft.to.to_string(),
        from: draft.from.as_ref().map(|from| from.as_str().to_owned()),
        class: draft.class,
        encoding: best.coding.name(),
        segments: summary.segments,
        units: summary.units,
        forced_by: best.forced_by.map(CharacterView::of),
        replaced: best.replaced.iter().map(ReplacedView::of).collect(),
        route: route.name.to_string(),
        why: why.iter().map(ToString::to_string).collect(),
        carriers: carriers.collect(),
    }))
}

impl CharacterView {
    const fn of(fault: text::Fault) -> Self {
        Self { index: fault.index, character: fault.character }
    }
}

impl ReplacedView {
    fn of(replaced: &text::Replaced) -> Self {
        Self { index: replaced.index, character: replaced.from, by: replaced.to.clone() }
    }
}

impl CarrierView {
    fn of(carrier: &str, plan: Result<Plan, Vec<Fault>>) -> Self {
        let (plan, errors) = match plan {
            Ok(plan) => (Some(plan), Vec::new()),
            Err(errors) => (None, errors),
        };
        Self {
            carrier: carrier.to_owned(),
            fits: plan.is_some(),
            encoding: plan.as_ref().map(|plan| plan.coding.name()),
            segments: plan.as_ref().map(|plan| plan.segments_on_air),
            units: plan.as_ref().map(|plan| plan.units),
            errors,
        }
    }
}
