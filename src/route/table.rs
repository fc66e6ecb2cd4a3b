//! The routes: which one a message takes, and which carrier of it first.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde::de::value::MapAccessDeserializer;

use super::Fault;
use super::carrier::Carrier;
use super::names::CarrierId;
use super::names::Names;
use super::names::RouteId;
use super::rules::Rules;
use super::rules::RulesConfig;
use crate::message::Class;
use crate::message::MessageId;
use crate::message::Submission;
use crate::time::Time;

/// The most carriers of one route.
pub const MAX_CARRIERS: usize = 16;

/// The longest prefix: an E.164 number has at most 15 digits.
const MAX_PREFIX: usize = 15;

/// One route: what it is for, and its carriers in order.
///
/// ```toml
/// [[routes]]
/// name = "jp-otp"
/// match = { prefix = ["81"], class = ["otp"] }
/// carriers = ["docomo", { any = [{ carrier = "softbank", weight = 2 }, { carrier = "kddi" }] }]
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Its name: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// Which messages take it; without any condition all that no other route takes.
    #[serde(default, rename = "match")]
    pub matches: MatchConfig,
    /// Takes only messages that ask for it by name.
    #[serde(default)]
    pub on_request: bool,
    /// Its carriers, the first choice first; `any` shares messages among equals by weight.
    pub carriers: Vec<GroupConfig>,
    /// When to go on to the next carrier, for every class.
    #[serde(default)]
    pub fallback: RulesConfig,
    /// What differs for otp.
    #[serde(default)]
    pub otp: RulesConfig,
    /// What differs for transactional.
    #[serde(default)]
    pub transactional: RulesConfig,
    /// What differs for marketing.
    #[serde(default)]
    pub marketing: RulesConfig,
}

/// Which messages take a route: every list that is not empty must hold the message's value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MatchConfig {
    /// The first digits of the destination in E.164 without `+`; the longest one wins.
    pub prefix: Vec<String>,
    /// The message's class.
    pub class: Vec<Class>,
    /// The name of the API key.
    pub key: Vec<String>,
    /// The sender as asked for; a `+` in front makes no difference.
    pub sender: Vec<String>,
    /// One of the message's tags.
    pub tag: Vec<String>,
}

impl MatchConfig {
    /// How many conditions there are besides the prefix.
    fn conditions(&self) -> usize {
        let filled = [
            !self.class.is_empty(),
            !self.key.is_empty(),
            !self.sender.is_empty(),
            !self.tag.is_empty(),
        ];
        filled.into_iter().filter(|filled| *filled).count()
    }

    /// Whether whatever `other` takes, its prefix apart, would be taken by this too.
    fn covers(&self, other: &Self) -> bool {
        covers(&self.class, &other.class)
            && covers(&self.key, &other.key)
            && covers(&self.sender, &other.sender)
            && covers(&self.tag, &other.tag)
    }
}

fn covers<T: PartialEq>(wide: &[T], narrow: &[T]) -> bool {
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|item| wide.contains(item)))
}

/// One place in a route's order: a carrier, or several that share it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum GroupConfig {
    /// One carrier by its name.
    One(String),
    /// Equals: each message goes to one of them, drawn by weight from its id.
    Any(AnyConfig),
}

/// Carriers that share one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnyConfig {
    /// The equals.
    pub any: Vec<WeightedConfig>,
}

/// One of several equals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedConfig {
    /// The carrier's name.
    pub carrier: String,
    /// Its share against the others', at least 1.
    #[serde(default = "one")]
    pub weight: u32,
}

const fn one() -> u32 {
    1
}

impl GroupConfig {
    /// The carriers with their weights, each with the keys of both below `path`.
    fn members(&self, path: &str) -> Vec<(MemberPath, &str, u32)> {
        match self {
            Self::One(name) => {
                let path = MemberPath { carrier: path.to_owned(), weight: path.to_owned() };
                vec![(path, name, 1)]
            }
            Self::Any(AnyConfig { any }) => any
                .iter()
                .enumerate()
                .map(|(index, member)| {
                    let key = |key| format!("{path}.any[{index}].{key}");
                    let path = MemberPath { carrier: key("carrier"), weight: key("weight") };
                    (path, member.carrier.as_str(), member.weight)
                })
                .collect(),
        }
    }
}

/// Where a carrier of a route and its weight stand in the config.
struct MemberPath {
    carrier: String,
    weight: String,
}

impl<'de> Deserialize<'de> for GroupConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GroupVisitor)
    }
}

struct GroupVisitor;

impl<'de> Visitor<'de> for GroupVisitor {
    type Value = GroupConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a carrier's name or { any = [{ carrier = \"name\", weight = 1 }] }")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<GroupConfig, E> {
        Ok(GroupConfig::One(name.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GroupConfig, A::Error> {
        AnyConfig::deserialize(MapAccessDeserializer::new(map)).map(GroupConfig::Any)
    }
}

impl JsonSchema for GroupConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GroupConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let any = generator.subschema_for::<AnyConfig>();
        json_schema!({ "anyOf": [{ "type": "string", "description": "A carrier's name." }, any] })
    }
}

/// What a route is chosen by.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// The destination: E.164 digits without `+`.
    pub to: &'a str,
    /// The class.
    pub class: Class,
    /// The name of the API key.
    pub key: &'a str,
    /// The sender as asked for.
    pub sender: Option<&'a str>,
    /// The tags.
    pub tags: &'a [Box<str>],
    /// The route asked for by name; `None` lets the table choose.
    pub route: Option<&'a str>,
}

impl<'a> Query<'a> {
    /// What `submission` is routed by when the route it was planned for is gone.
    pub fn of(submission: &'a Submission) -> Self {
        Self {
            to: &submission.to,
            class: submission.class,
            key: &submission.key,
            sender: submission.from.as_deref(),
            tags: &submission.tags,
            route: None,
        }
    }
}

/// Why a message has no route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// No route has the name that was asked for.
    #[error("no route is named {name:?}")]
    Unknown {
        /// The name.
        name: Box<str>,
    },
    /// No route takes the message.
    #[error("no route matches the destination, class, key, sender and tags")]
    Unmatched,
}

/// Which condition of a route a message does not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// No prefix is the destination's.
    Prefix,
    /// The class is not in its list.
    Class,
    /// The key is not in its list.
    Key,
    /// The sender is not in its list.
    Sender,
    /// None of the tags is in its list.
    Tag,
    /// It takes only messages that ask for it.
    OnRequest,
}

/// One route of the table.
#[derive(Clone, Debug)]
pub struct Route {
    /// The number of its name.
    pub id: RouteId,
    /// Its name.
    pub name: Arc<str>,
    pub(super) config: Arc<RouteConfig>,
    pub(super) groups: Vec<Group>,
    rules: [Rules; 3],
    /// Where it stands in the config.
    pub(super) place: usize,
}

/// One place in a route's order.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) members: Vec<Member>,
}

/// A carrier in a group, with its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) carrier: CarrierId,
    pub(super) weight: u32,
}

/// What stands for a message in every draw: the same message draws the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seed(u64);

impl Seed {
    /// The seed of this message.
    pub fn of(id: MessageId) -> Self {
        let [high, low] = [id.as_u128() >> 64, id.as_u128() & u128::from(u64::MAX)];
        let [high, low] = [high, low].map(|half| u64::try_from(half).unwrap_or_default());
        Self(mix(high ^ mix(low)))
    }

    /// The `n`th throw of this message's dice.
    pub const fn dice(self, n: u64) -> u64 {
        mix(self.0.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
}

/// The finaliser of splitmix64.
const fn mix(bits: u64) -> u64 {
    let mut z = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Whether a carrier can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has a bind that submits, or messages are to wait for it whatever it has.
    Up,
    /// It has had no bind since then.
    Down {
        /// Since when; since the start when it never had one.
        since: Time,
    },
    /// It is passed by: taken out of the config or by an operator.
    Off,
}

/// A carrier chosen for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The carrier.
    pub carrier: CarrierId,
    /// When to choose again, should the carrier still have no bind then.
    pub until: Option<Time>,
}

/// The carriers of a route in the order in which one message would try them.
#[derive(Clone, Copy)]
pub struct Candidates {
    carriers: [CarrierId; MAX_CARRIERS],
    len: usize,
}

impl Candidates {
    const EMPTY: Self = Self { carriers: [CarrierId(0); MAX_CARRIERS], len: 0 };

    fn push(&mut self, carrier: CarrierId) {
        if let Some(place) = self.carriers.get_mut(self.len) {
            *place = carrier;
            self.len += 1;
        }
    }
}

impl Deref for Candidates {
    type Target = [CarrierId];

    fn deref(&self) -> &[CarrierId] {
        self.carriers.get(..self.len).unwrap_or_default()
    }
}

impl fmt::Debug for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Group {
    /// The members in the order that `seed` draws: each place goes to one of those left, by
    /// weight.
    fn order(&self, seed: Seed, place: u64) -> Candidates {
        let mut order = Candidates::EMPTY;
        let mut total: u64 = self.members.iter().map(|member| u64::from(member.weight)).sum();
        for turn in 0..MAX_CARRIERS as u64 {
            let Some(draw) = seed.dice((place << 8) | turn).checked_rem(total) else { break };
            let left = self.members.iter().filter(|member| !order.contains(&member.carrier));
            let Some(drawn) = draw_from(left, draw) else { break };
            order.push(drawn.carrier);
            total -= u64::from(drawn.weight);
        }
        order
    }
}

/// The member whose share `draw` falls in.
fn draw_from<'a>(members: impl Iterator<Item = &'a Member>, mut draw: u64) -> Option<Member> {
    for member in members {
        match draw.checked_sub(u64::from(member.weight)) {
            Some(rest) => draw = rest,
            None => return Some(*member),
        }
    }
    None
}

impl Route {
    /// Its rules for `class`.
    pub const fn rules(&self, class: Class) -> &Rules {
        let [otp, transactional, marketing] = &self.rules;
        match class {
            Class::Otp => otp,
            Class::Transactional => transactional,
            Class::Marketing => marketing,
        }
    }

    /// Whether `carrier` is one of its carriers.
    pub fn has(&self, carrier: CarrierId) -> bool {
        self.groups.iter().flat_map(|group| &group.members).any(|member| member.carrier == carrier)
    }

    /// All its carriers in the order in which the message of `seed` would try them.
    pub fn candidates(&self, seed: Seed) -> Candidates {
        let mut all = Candidates::EMPTY;
        for (group, place) in self.groups.iter().zip(0..) {
            for carrier in group.order(seed, place).iter() {
                all.push(*carrier);
            }
        }
        all
    }

    /// Chooses the carrier for a message, leaving out those that `tried` names.
    ///
    /// Groups are asked in their order. Of a group the first drawn carrier with a bind is taken;
    /// when none of them has one, they are waited for until the last of them has been down for the
    /// route's `no_bind`, then the next group is asked. When all groups have been down for so
    /// long, the first carrier is chosen and waits without a limit: choose again whenever a
    /// carrier comes up. `None` when no carrier is left.
    pub fn choose(
        &self,
        now: Time,
        class: Class,
        seed: Seed,
        tried: impl Fn(CarrierId) -> bool,
        standing: impl Fn(CarrierId) -> Standing,
    ) -> Option<Choice> {
        let patience = self.rules(class).no_bind;
        let mut last_resort = None;
        for (group, place) in self.groups.iter().zip(0..) {
            let order = group.order(seed, place);
            let left = || {
                let left = order.iter().copied().filter(|carrier| !tried(*carrier));
                left.map(|carrier| (carrier, standing(carrier)))
                    .filter(|(_, standing)| *standing != Standing::Off)
            };
            if let Some((carrier, _)) = left().find(|(_, standing)| *standing == Standing::Up) {
                return Some(Choice { carrier, until: None });
            }
            let Some((carrier, _)) = left().next() else { continue };
            let since = left().filter_map(|(_, standing)| match standing {
                Standing::Down { since } => Some(since),
                Standing::Up | Standing::Off => None,
            });
            let until = patience.zip(since.max()).map(|(limit, since)| since + limit);
            if until.is_none_or(|until| until > now) {
                return Some(Choice { carrier, until });
            }
            last_resort = last_resort.or(Some(Choice { carrier, until: None }));
        }
        last_resort
    }

    /// How many conditions it has besides the prefix.
    pub(super) fn conditions(&self) -> usize {
        self.config.matches.conditions()
    }

    /// The share of `carrier` among its equals, in percent; `None` when it has none.
    pub(super) fn share(&self, carrier: CarrierId) -> Option<u64> {
        let is_it = |member: &&Member| member.carrier == carrier;
        let group = self.groups.iter().find(|group| group.members.iter().any(|it| is_it(&it)))?;
        let member = group.members.iter().find(is_it).filter(|_| group.members.len() > 1)?;
        let total: u64 = group.members.iter().map(|member| u64::from(member.weight)).sum();
        (u64::from(member.weight) * 100).checked_div(total)
    }

    /// The longest of its prefixes that `to` begins with, empty when it takes any number; `None`
    /// when none of them fits.
    pub(super) fn prefix(&self, to: &str) -> Option<&str> {
        let prefixes = &self.config.matches.prefix;
        if prefixes.is_empty() {
            return Some("");
        }
        let fitting = prefixes.iter().filter(|prefix| to.starts_with(prefix.as_str()));
        fitting.max_by_key(|prefix| prefix.len()).map(String::as_str)
    }

    /// The first condition besides the prefix that `query` does not meet.
    pub(super) fn mismatch(&self, query: &Query<'_>) -> Option<Mismatch> {
        let MatchConfig { prefix: _, class, key, sender, tag } = &self.config.matches;
        let lacks = |list: &[String], value: &str| {
            !list.is_empty() && !list.iter().any(|item| item == value)
        };
        let is_sender = |from: &str| {
            let bare = from.trim_start_matches('+');
            sender.iter().any(|item| item.trim_start_matches('+') == bare)
        };
        let tagged = |tag: &String| query.tags.iter().any(|have| **have == **tag);
        if self.config.on_request {
            Some(Mismatch::OnRequest)
        } else if !class.is_empty() && !class.contains(&query.class) {
            Some(Mismatch::Class)
        } else if lacks(key, query.key) {
            Some(Mismatch::Key)
        } else if !sender.is_empty() && !query.sender.is_some_and(is_sender) {
            Some(Mismatch::Sender)
        } else if !tag.is_empty() && !tag.iter().any(tagged) {
            Some(Mismatch::Tag)
        } else {
            None
        }
    }

    /// Its place among the routes of one prefix: more conditions first, then as in the config.
    pub(super) fn rank(&self) -> (std::cmp::Reverse<usize>, usize) {
        (std::cmp::Reverse(self.conditions()), self.place)
    }
}

/// All routes and carriers of one reading of the config.
///
/// Numbers of names never change: [`Routes::reload`] keeps those of the table before, also of
/// names that are gone.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    carrier_names: Names,
    route_names: Names,
    /// By number; `None` for names that are gone.
    carriers: Vec<Option<Arc<Carrier>>>,
    routes: Vec<Option<Arc<Route>>>,
    /// The routes with each prefix, by rank; those without one under "".
    by_prefix: BTreeMap<Box<str>, Vec<RouteId>>,
    /// The lengths of prefixes there are, the longest first.
    lengths: Vec<usize>,
    warnings: Vec<Fault>,
}

impl Routes {
    /// The table of these carriers and routes.
    ///
    /// # Errors
    /// Every fault there is, each with its key, the warnings among them.
    pub fn new(carriers: Vec<Carrier>, routes: Vec<RouteConfig>) -> Result<Self, Vec<Fault>> {
        Self::default().reload(carriers, routes)
    }

    /// The table of these carriers and routes, with the numbers of this one.
    ///
    /// # Errors
    /// Every fault there is, each with its key, the warnings among them; this table stays as it
    /// is.
    pub fn reload(
        &self,
        carriers: Vec<Carrier>,
        routes: Vec<RouteConfig>,
    ) -> Result<Self, Vec<Fault>> {
        let mut next = Self {
            carrier_names: self.carrier_names.clone(),
            route_names: self.route_names.clone(),
            ..Self::default()
        };
        let mut faults = next.add_carriers(carriers);
        let routes = implied(&next, routes, &mut faults);
        faults.extend(check_names(&routes));
        for (place, config) in routes.into_iter().enumerate() {
            next.add_route(place, config, &mut faults);
        }
        next.index();
        if faults.iter().any(|fault| !fault.is_warning) {
            return Err(faults);
        }
        next.warn_of_shadows(&mut faults);
        next.warn_of_idle_carriers(&mut faults);
        next.warnings = faults;
        Ok(next)
    }

    /// What an operator should know about the config though it can be run.
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// The carrier with this number; `None` when the config no longer has it.
    pub fn carrier(&self, id: CarrierId) -> Option<&Arc<Carrier>> {
        self.carriers.get(usize::from(id.0))?.as_ref()
    }

    /// The number of a carrier's name, also of one that is gone.
    pub fn carrier_id(&self, name: &str) -> Option<CarrierId> {
        self.carrier_names.find(name).map(CarrierId)
    }

    /// The number of a carrier's name, a new one for a name that the config does not have, such as
    /// one from an old record; `None` when all numbers are taken.
    pub fn intern_carrier(&mut self, name: &str) -> Option<CarrierId> {
        let id = self.carrier_names.intern(name).map(CarrierId)?;
        self.carriers.resize(self.carrier_names.len(), None);
        Some(id)
    }

    /// The carrier's name; empty for a number that none has.
    pub fn carrier_name(&self, id: CarrierId) -> Arc<str> {
        self.carrier_names.name(id.0).cloned().unwrap_or_default()
    }

    /// The numbers of all carriers that were ever named, those of the config among them.
    pub fn known_carriers(&self) -> impl Iterator<Item = CarrierId> + use<> {
        (0..=u16::MAX).take(self.carrier_names.len()).map(CarrierId)
    }

    /// The carriers of the config.
    pub fn carriers(&self) -> impl Iterator<Item = &Arc<Carrier>> {
        self.carriers.iter().flatten()
    }

    /// The route with this number; `None` when the config no longer has it.
    pub fn route(&self, id: RouteId) -> Option<&Arc<Route>> {
        self.routes.get(usize::from(id.0))?.as_ref()
    }

    /// The number of a route's name, also of one that is gone.
    pub fn route_id(&self, name: &str) -> Option<RouteId> {
        self.route_names.find(name).map(RouteId)
    }

    /// The route's name; empty for a number that none has.
    pub fn route_name(&self, id: RouteId) -> Arc<str> {
        self.route_names.name(id.0).cloned().unwrap_or_default()
    }

    /// The routes of the config in its order.
    pub fn routes(&self) -> Vec<&Arc<Route>> {
        let mut routes: Vec<_> = self.routes.iter().flatten().collect();
        routes.sort_by_key(|route| route.place);
        routes
    }

    /// The route that a message takes: the one it asks for; else of those with the longest prefix
    /// of its destination the one with most conditions, the first in the config among equals.
    ///
    /// # Errors
    /// [`NoRoute::Unknown`] for a name that no route has, [`NoRoute::Unmatched`] when no route
    /// takes the message.
    pub fn select(&self, query: &Query<'_>) -> Result<&Arc<Route>, NoRoute> {
        if let Some(name) = query.route {
            let route = self.route_id(name).and_then(|id| self.route(id));
            return route.ok_or_else(|| NoRoute::Unknown { name: name.into() });
        }
        for length in &self.lengths {
            let Some(prefix) = query.to.get(..*length) else { continue };
            let routes = self.by_prefix.get(prefix).into_iter().flatten();
            let mut routes = routes.filter_map(|id| self.route(*id));
            if let Some(route) = routes.find(|route| route.mismatch(query).is_none()) {
                return Ok(route);
            }
        }
        Err(NoRoute::Unmatched)
    }

    /// The route of a message that was accepted earlier: the one it was planned for, or what its
    /// query selects now when that one is gone.
    ///
    /// # Errors
    /// As for [`Routes::select`].
    pub fn route_of(&self, submission: &Submission) -> Result<&Arc<Route>, NoRoute> {
        let planned = self.route_id(&submission.plan.route).and_then(|id| self.route(id));
        planned.map_or_else(|| self.select(&Query::of(submission)), Ok)
    }

    fn add_carriers(&mut self, carriers: Vec<Carrier>) -> Vec<Fault> {
        let mut faults = Vec::new();
        if carriers.is_empty() {
            faults.push(Fault::warning("carriers", "no carrier: messages cannot be sent"));
        }
        for carrier in carriers {
            let path = format!("carriers.{}", carrier.name);
            faults.extend(carrier.faults());
            let Some(id) = self.intern_carrier(&carrier.name) else {
                faults.push(Fault::error(path, "more than 65,536 names of carriers since start"));
                continue;
            };
            match self.carriers.get_mut(usize::from(id.0)) {
                Some(Some(_)) => {
                    faults.push(Fault::error(path, "a carrier of this name stands above"))
                }
                Some(place) => *place = Some(Arc::new(carrier.with_id(id))),
                None => {}
            }
        }
        faults
    }

    fn add_route(&mut self, place: usize, config: RouteConfig, faults: &mut Vec<Fault>) {
        let path = format!("routes[{place}]");
        check_match(&path, &config.matches, faults);
        let groups = self.groups(&path, &config.carriers, faults);
        config.fallback.faults(&format!("{path}.fallback"), faults);
        for (class, own) in config.by_class() {
            own.faults(&format!("{path}.{class}"), faults);
        }
        let Some(id) = self.route_names.intern(&config.name).map(RouteId) else {
            faults.push(Fault::error(path, "more than 65,536 names of routes since start"));
            return;
        };
        let rules =
            config.by_class().map(|(class, own)| Rules::resolve(class, own, &config.fallback));
        let name = self.route_name(id);
        let route = Route { id, name, config: Arc::new(config), groups, rules, place };
        self.routes.resize(self.route_names.len(), None);
        if let Some(slot @ None) = self.routes.get_mut(usize::from(id.0)) {
            *slot = Some(Arc::new(route));
        }
    }

    fn groups(&self, path: &str, groups: &[GroupConfig], faults: &mut Vec<Fault>) -> Vec<Group> {
        let mut seen = BTreeSet::new();
        let mut built = Vec::new();
        if groups.is_empty() {
            let message = "a route needs at least one carrier";
            faults.push(Fault::error(format!("{path}.carriers"), message));
        }
        for (index, group) in groups.iter().enumerate() {
            let path = format!("{path}.carriers[{index}]");
            let members = group.members(&path);
            if members.is_empty() {
                faults.push(Fault::error(format!("{path}.any"), "expected at least one carrier"));
            }
            let mut group = Group { members: Vec::new() };
            for (path, name, weight) in members {
                if weight == 0 {
                    let message = "expected a weight of at least 1, found 0";
                    faults.push(Fault::error(path.weight, message));
                }
                if !seen.insert(name) {
                    let message = format!("{name:?} stands in the route twice");
                    faults.push(Fault::error(&path.carrier, message));
                }
                match self.carrier_id(name).filter(|id| self.carrier(*id).is_some()) {
                    Some(carrier) => group.members.push(Member { carrier, weight }),
                    None => faults.push(Fault::error(path.carrier, self.unknown_carrier(name))),
                }
            }
            built.push(group);
        }
        if seen.len() > MAX_CARRIERS {
            let message = format!("expected at most {MAX_CARRIERS} carriers, found {}", seen.len());
            faults.push(Fault::error(format!("{path}.carriers"), message));
        }
        built
    }

    fn unknown_carrier(&self, name: &str) -> String {
        let known: Vec<_> = self.carriers().map(|carrier| &*carrier.name).collect();
        if known.is_empty() {
            return format!("no carrier is named {name:?}; the config has none");
        }
        format!("no carrier is named {name:?}; there are {}", known.join(", "))
    }

    /// Sorts the routes under their prefixes.
    fn index(&mut self) {
        let mut by_prefix: BTreeMap<Box<str>, Vec<&Arc<Route>>> = BTreeMap::new();
        for route in self.routes.iter().flatten() {
            let prefixes = &route.config.matches.prefix;
            for prefix in prefixes {
                by_prefix.entry(prefix.as_str().into()).or_default().push(route);
            }
            if prefixes.is_empty() {
                by_prefix.entry("".into()).or_default().push(route);
            }
        }
        let lengths: BTreeSet<usize> = by_prefix.keys().map(|prefix| prefix.len()).collect();
        let ranked = |(prefix, mut routes): (Box<str>, Vec<&Arc<Route>>)| {
            routes.sort_by_key(|route| route.rank());
            (prefix, routes.into_iter().map(|route| route.id).collect())
        };
        let by_prefix = by_prefix.into_iter().map(ranked).collect();
        self.lengths = lengths.into_iter().rev().collect();
        self.by_prefix = by_prefix;
    }

    /// A route is never taken when, for each of its prefixes, one before it takes all it would.
    fn warn_of_shadows(&self, faults: &mut Vec<Fault>) {
        for route in self.routes() {
            if route.config.on_request {
                continue;
            }
            let mut prefixes = self.by_prefix.values().filter(|ids| ids.contains(&route.id));
            let Some(first) = prefixes.next().and_then(|ids| self.shadow(route, ids)) else {
                continue;
            };
            if prefixes.all(|ids| self.shadow(route, ids).is_some()) {
                let message = format!(
                    "can never be taken: {:?} stands before it and takes all it would",
                    first.name
                );
                faults.push(Fault::warning(format!("routes[{}]", route.place), message));
            }
        }
    }

    fn warn_of_idle_carriers(&self, faults: &mut Vec<Fault>) {
        for carrier in self.carriers() {
            if !self.routes.iter().flatten().any(|route| route.has(carrier.id)) {
                let path = format!("carriers.{}", carrier.name);
                faults.push(Fault::warning(path, "no route sends to this carrier"));
            }
        }
    }

    fn shadow(&self, route: &Route, ids: &[RouteId]) -> Option<&Arc<Route>> {
        let before = ids.iter().take_while(|id| **id != route.id);
        before
            .filter_map(|id| self.route(*id))
            .filter(|other| !other.config.on_request)
            .find(|other| other.config.matches.covers(&route.config.matches))
    }
}

impl RouteConfig {
    fn by_class(&self) -> [(Class, &RulesConfig); 3] {
        [
            (Class::Otp, &self.otp),
            (Class::Transactional, &self.transactional),
            (Class::Marketing, &self.marketing),
        ]
    }
}

/// The routes of the config; with one carrier and no route, the route over that carrier.
fn implied(table: &Routes, routes: Vec<RouteConfig>, faults: &mut Vec<Fault>) -> Vec<RouteConfig> {
    if !routes.is_empty() {
        return routes;
    }
    let mut carriers = table.carriers();
    match (carriers.next(), carriers.next()) {
        (Some(only), None) => vec![RouteConfig {
            name: "default".to_owned(),
            matches: MatchConfig::default(),
            on_request: false,
            carriers: vec![GroupConfig::One(only.name.to_string())],
            fallback: RulesConfig::default(),
            otp: RulesConfig::default(),
            transactional: RulesConfig::default(),
            marketing: RulesConfig::default(),
        }],
        (Some(_), Some(_)) => {
            let message =
                "no route: with several carriers a [[routes]] table must give their order";
            faults.push(Fault::error("routes", message));
            routes
        }
        (None, _) => routes,
    }
}

fn check_names(routes: &[RouteConfig]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, RouteConfig { name, .. }) in routes.iter().enumerate() {
        let path = format!("routes[{place}].name");
        let good = |octet: u8| {
            octet.is_ascii_lowercase() || octet.is_ascii_digit() || matches!(octet, b'-' | b'_')
        };
        if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
            let message =
                format!("expected 1 to 64 lower-case letters, digits, `-` or `_`, found {name:?}");
            faults.push(Fault::error(path, message));
        } else if name == "auto" {
            faults
                .push(Fault::error(path, "\"auto\" is what callers write to let the table choose"));
        } else if let Some(first) = places.insert(name, place) {
            let message = format!("{name:?} is already the name of routes[{first}]");
            faults.push(Fault::error(path, message));
        }
    }
    faults
}

fn check_match(path: &str, matches: &MatchConfig, faults: &mut Vec<Fault>) {
    for (index, prefix) in matches.prefix.iter().enumerate() {
        let path = format!("{path}.match.prefix[{index}]");
        let digits = prefix.bytes().all(|octet| octet.is_ascii_digit());
        if !digits || prefix.is_empty() || prefix.len() > MAX_PREFIX {
            let message =
                format!("expected 1 to {MAX_PREFIX} digits in E.164 without `+`, found {prefix:?}");
            faults.push(Fault::error(path, message));
        } else if prefix.starts_with('0') {
            let message = format!(
                "no E.164 number begins with 0: write {prefix:?} with its country code, as in \
                 \"8190\" for 090"
            );
            faults.push(Fault::error(path, message));
        } else if matches.prefix.iter().take(index).any(|earlier| earlier == prefix) {
            faults.push(Fault::error(path, format!("{prefix:?} stands in the list twice")));
        }
    }
    let lists = [("key", &matches.key), ("sender", &matches.sender), ("tag", &matches.tag)];
    for (key, list) in lists {
        if let Some(index) = list.iter().position(String::is_empty) {
            let path = format!("{path}.match.{key}[{index}]");
            faults.push(Fault::error(path, "an empty value matches nothing"));
        }
    }
}
