//! The plan of a message at the door: its route, its first carrier, its coding and segments.

use std::sync::Arc;

use crate::api::client::Client;
use crate::api::message::Draft;
use crate::api::problem::Code;
use crate::api::problem::Fault;
use crate::api::problem::Problem;
use crate::api::problem::Refused;
use crate::message::Content;
use crate::message::MessageId;
use crate::route::Carrier;
use crate::route::NoRoute;
use crate::route::Query;
use crate::route::Route;
use crate::route::Routes;
use crate::route::Seed;
use crate::route::Unfit;
use crate::text::Plan;
use crate::text::PlanError;

/// What a draft is routed by.
pub(crate) fn query<'a>(draft: &'a Draft, digits: &'a str, client: &'a Client) -> Query<'a> {
    Query {
        to: digits,
        class: draft.class,
        key: &client.name,
        sender: draft.from.as_ref().map(|from| from.as_str()),
        tags: &draft.tags,
        route: draft.route.as_deref(),
    }
}

/// The route of a draft, when the client may use it.
pub(crate) fn route<'a>(
    routes: &'a Routes,
    query: &Query<'_>,
    client: &Client,
) -> Result<&'a Arc<Route>, Refused> {
    let route = routes.select(query).map_err(|error| match error {
        NoRoute::Unknown { .. } => {
            Problem::of(Fault::at(Code::NoRoute, "/route", "no route has this name"))
        }
        NoRoute::Unmatched => Problem::new(Code::NoRoute, error.to_string()),
    })?;
    if client.allows_route(&route.name) {
        return Ok(route);
    }
    let detail = format!("this key may not use the route {}", route.name);
    Err(Problem::of(Fault::at(Code::RouteNotAllowed, "/route", detail)))
}

/// The plan for the first carrier of `route` that can carry the draft.
///
/// # Errors
/// Why the first carrier cannot, when none can.
pub(crate) fn first_fit(
    routes: &Routes,
    route: &Route,
    draft: &Draft,
    id: MessageId,
) -> Result<Plan, Refused> {
    let mut first = None;
    for carrier in route.candidates(Seed::of(id)).iter().filter_map(|id| routes.carrier(*id)) {
        match fit(carrier, draft) {
            Ok(plan) => return Ok(plan),
            Err(unfit) => first = first.or(Some(unfit)),
        }
    }
    match first {
        Some(unfit) => Err(Problem::of_all(faults(&unfit, &draft.content))),
        None => Err(Problem::new(Code::NoRoute, "the route has no carrier")),
    }
}

/// The plan for one carrier.
pub(crate) fn fit(carrier: &Carrier, draft: &Draft) -> Result<Plan, Unfit> {
    carrier.source(draft.from.as_ref().map(|from| from.as_str()))?;
    let most = draft.max_segments.get();
    Ok(crate::route::plan(&draft.content, draft.encoding, most, carrier)?)
}

/// Why a carrier cannot carry a message, as faults of the request.
pub(crate) fn faults(unfit: &Unfit, content: &Content) -> Vec<Fault> {
    let error = match unfit {
        Unfit::Text(error) => error,
        Unfit::Sender(_) => return vec![Fault::at(Code::InvalidFrom, "/from", unfit.to_string())],
        Unfit::Destination(_) => {
            return vec![Fault::at(Code::InvalidTo, "/to", unfit.to_string())];
        }
        Unfit::Tlv(_) => return vec![Fault::at(Code::InvalidField, "", unfit.to_string())],
    };
    let pointer = match content {
        Content::Text(_) => "/text",
        Content::Binary { .. } => "/binary/hex",
    };
    let detail = error.to_string();
    match error {
        PlanError::Unencodable { faults, set } => {
            faults.iter().map(|fault| unencodable(fault, set)).collect()
        }
        PlanError::TooManySegments { needed, allowed, .. } => vec![Fault {
            needed: u64::try_from(*needed).ok(),
            allowed: u64::try_from(*allowed).ok(),
            ..Fault::at(Code::TextTooLong, pointer, detail)
        }],
        PlanError::TooManyUnits { needed, .. } => vec![Fault {
            needed: u64::try_from(*needed).ok(),
            ..Fault::at(Code::TextTooLong, pointer, detail)
        }],
        PlanError::BadHeader { .. } | PlanError::HeaderTooLong { .. } => {
            vec![Fault::at(Code::InvalidField, "/binary/udh", detail)]
        }
    }
}

fn unencodable(fault: &crate::text::Fault, set: &str) -> Fault {
    let crate::text::Fault { index, character } = *fault;
    let number = u32::from(character);
    let detail = format!("character {index} (U+{number:04X}) is not in {set}");
    Fault {
        index: u64::try_from(index).ok(),
        character: Some(character),
        ..Fault::at(Code::UnencodableText, "/text", detail)
    }
}
