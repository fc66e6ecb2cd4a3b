//! Routes, rules and statuses: which carrier first, which next, after what, how soon.
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use hikyaku::message::Class;
use hikyaku::message::MessageId;
use hikyaku::message::Reason;
use hikyaku::message::State;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::InterfaceVersion;
use hikyaku::receipt::ReceiptState;
use hikyaku::route::Carrier;
use hikyaku::route::CarrierConfig;
use hikyaku::route::CarrierId;
use hikyaku::route::Choice;
use hikyaku::route::Fault;
use hikyaku::route::MatchConfig;
use hikyaku::route::Next;
use hikyaku::route::NoRoute;
use hikyaku::route::Outcome;
use hikyaku::route::Progress;
use hikyaku::route::Query;
use hikyaku::route::RouteConfig;
use hikyaku::route::Routes;
use hikyaku::route::Rule;
use hikyaku::route::Seed;
use hikyaku::route::Standing;
use hikyaku::route::StatusClass;
use hikyaku::route::UnknownPolicy;
use hikyaku::route::Waiting;
use hikyaku::route::judge;
use hikyaku::time::Time;
use proptest::prelude::*;

const NOW: Time = Time::from_secs(1_795_305_600);
const THREE: &str = "[carriers.a]\nrate = \"50/s\"\n[carriers.b]\nrate = \"50/s\"\n\
                     [carriers.c]\nrate = \"50/s\"\n";

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    carriers: BTreeMap<String, CarrierConfig>,
    #[serde(default)]
    routes: Vec<RouteConfig>,
}

impl File {
    fn read(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    fn parts(self, version: InterfaceVersion) -> (Vec<Carrier>, Vec<RouteConfig>) {
        let carrier = |(name, config): (String, _)| Carrier::new(&name, config, version);
        (self.carriers.into_iter().map(carrier).collect(), self.routes)
    }
}

fn table(text: &str) -> Result<Routes, Vec<Fault>> {
    let (carriers, routes) = File::read(text).unwrap().parts(InterfaceVersion::V3_4);
    Routes::new(carriers, routes)
}

/// The table of three carriers and these routes.
fn routes(text: &str) -> Routes {
    table(&format!("{THREE}{text}")).unwrap()
}

/// The faults and warnings of these tables, in the order in which they are told.
fn faults(text: &str) -> Vec<String> {
    match table(text) {
        Ok(routes) => routes.warnings().iter().map(|fault| format!("warning: {fault}")).collect(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

fn seed(number: u128) -> Seed {
    Seed::of(MessageId::from_u128(number))
}

fn query(to: &str) -> Query<'_> {
    Query { to, class: Class::Transactional, key: "shop", sender: None, tags: &[], route: None }
}

fn names(routes: &Routes, carriers: &[CarrierId]) -> Vec<String> {
    carriers.iter().map(|id| routes.carrier_name(*id).to_string()).collect()
}

mod statuses {
    use super::*;

    /// PROTOCOL.md 1.3, a row a line: the number, the name, the class.
    const ROWS: &str = "
        0x00000000 ESME_ROK accepted
        0x00000001 ESME_RINVMSGLEN fallback
        0x00000002 ESME_RINVCMDLEN fallback_alarm
        0x00000003 ESME_RINVCMDID fallback_alarm
        0x00000004 ESME_RINVBNDSTS session_fatal
        0x00000005 ESME_RALYBND session_fatal
        0x00000006 ESME_RINVPRTFLG fallback_alarm
        0x00000007 ESME_RINVREGDLVFLG fallback_alarm
        0x00000008 ESME_RSYSERR retry
        0x0000000A ESME_RINVSRCADR fallback_alarm
        0x0000000B ESME_RINVDSTADR permanent
        0x0000000C ESME_RINVMSGID operation_failed
        0x0000000D ESME_RBINDFAIL session_fatal
        0x0000000E ESME_RINVPASWD session_fatal
        0x0000000F ESME_RINVSYSID session_fatal
        0x00000011 ESME_RCANCELFAIL operation_failed
        0x00000013 ESME_RREPLACEFAIL operation_failed
        0x00000014 ESME_RMSGQFUL throttle
        0x00000015 ESME_RINVSERTYP fallback_alarm
        0x00000033 ESME_RINVNUMDESTS permanent
        0x00000034 ESME_RINVDLNAME permanent
        0x00000040 ESME_RINVDESTFLAG fallback_alarm
        0x00000042 ESME_RINVSUBREP fallback_alarm
        0x00000043 ESME_RINVESMCLASS fallback_alarm
        0x00000044 ESME_RCNTSUBDL permanent
        0x00000045 ESME_RSUBMITFAIL fallback
        0x00000048 ESME_RINVSRCTON fallback_alarm
        0x00000049 ESME_RINVSRCNPI fallback_alarm
        0x00000050 ESME_RINVDSTTON fallback_alarm
        0x00000051 ESME_RINVDSTNPI fallback_alarm
        0x00000053 ESME_RINVSYSTYP session_fatal
        0x00000054 ESME_RINVREPFLAG fallback_alarm
        0x00000055 ESME_RINVNUMMSGS fallback_alarm
        0x00000058 ESME_RTHROTTLED throttle
        0x00000061 ESME_RINVSCHED permanent
        0x00000062 ESME_RINVEXPIRY permanent
        0x00000063 ESME_RINVDFTMSGID fallback_alarm
        0x00000064 ESME_RX_T_APPN retry
        0x00000065 ESME_RX_P_APPN permanent
        0x00000066 ESME_RX_R_APPN permanent
        0x00000067 ESME_RQUERYFAIL operation_failed
        0x000000C0 ESME_RINVTLVSTREAM fallback_alarm
        0x000000C1 ESME_RTLVNOTALLWD fallback_alarm
        0x000000C2 ESME_RINVTLVLEN fallback_alarm
        0x000000C3 ESME_RMISSINGTLV fallback_alarm
        0x000000C4 ESME_RINVTLVVAL fallback_alarm
        0x000000FE ESME_RDELIVERYFAILURE fallback
        0x000000FF ESME_RUNKNOWNERR fallback
        0x00000100 ESME_RSERTYPUNAUTH fallback_alarm
        0x00000101 ESME_RPROHIBITED fallback_alarm
        0x00000102 ESME_RSERTYPUNAVAIL fallback
        0x00000103 ESME_RSERTYPDENIED permanent
        0x00000104 ESME_RINVDCS fallback_alarm
        0x00000105 ESME_RINVSRCADDRSUBUNIT fallback_alarm
        0x00000106 ESME_RINVDSTADDRSUBUNIT fallback_alarm
        0x00000107 ESME_RINVBCASTFREQINT permanent
        0x00000108 ESME_RINVBCASTALIAS_NAME permanent
        0x00000109 ESME_RINVBCASTAREAFMT permanent
        0x0000010A ESME_RINVNUMBCAST_AREAS permanent
        0x0000010B ESME_RINVBCASTCNTTYPE permanent
        0x0000010C ESME_RINVBCASTMSGCLASS permanent
        0x0000010D ESME_RBCASTFAIL permanent
        0x0000010E ESME_RBCASTQUERYFAIL permanent
        0x0000010F ESME_RBCASTCANCELFAIL permanent
        0x00000110 ESME_RINVBCAST_REP permanent
        0x00000111 ESME_RINVBCASTSRVGRP permanent
        0x00000112 ESME_RINVBCASTCHANIND permanent
    ";

    #[test]
    fn every_status_of_the_specifications_has_its_class() {
        let mut rows = 0;
        for line in ROWS.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let [number, name, class] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let status = CommandStatus(u32::from_str_radix(&number[2..], 16).unwrap());
            let verdict = judge(status, None);
            assert_eq!(status.name(), Some(name), "{line}");
            assert_eq!(verdict.class.as_str(), class, "{line}");
            assert_eq!(verdict.status, status, "{line}");
            assert!(verdict.is_known, "{line}");
            rows += 1;
        }
        let named = (0..0x1000).filter(|number| CommandStatus(*number).name().is_some());
        assert_eq!(named.count(), rows, "the table of PROTOCOL.md 1.3 has a row for each name");
    }

    #[test]
    fn a_status_that_nobody_named_goes_to_the_next_carrier_and_is_counted() {
        for number in [0x09, 0x22, 0x400, 0x4FF, 0x55F, 0xFFFF_FFFF] {
            let verdict = judge(CommandStatus(number), None);
            assert_eq!(verdict.class, StatusClass::Fallback, "{number:#x}");
            assert!(!verdict.is_known, "{number:#x}");
        }
    }

    #[test]
    fn a_delivery_failure_is_what_its_reason_says() {
        let status = CommandStatus::ESME_RDELIVERYFAILURE;
        let says = |reason| (judge(status, reason).class, judge(status, reason).reason);
        assert_eq!(says(Some(0)), (StatusClass::Retry, Reason::AbsentSubscriber));
        assert_eq!(says(Some(1)), (StatusClass::Permanent, Reason::InvalidDestination));
        assert_eq!(says(Some(2)), (StatusClass::Permanent, Reason::Undeliverable));
        assert_eq!(says(Some(3)), (StatusClass::Retry, Reason::Undeliverable));
        assert_eq!(says(Some(9)), (StatusClass::Fallback, Reason::Undeliverable));
        assert_eq!(says(None), (StatusClass::Fallback, Reason::Undeliverable));
    }

    #[test]
    fn the_failure_reason_says_nothing_about_other_statuses() {
        assert_eq!(
            judge(CommandStatus::ESME_RSYSERR, Some(1)),
            judge(CommandStatus::ESME_RSYSERR, None)
        );
    }

    fn carrier(status: &str) -> Carrier {
        let text = format!("rate = \"1/s\"\n[status]\n{status}");
        Carrier::new("a", toml::from_str(&text).unwrap(), InterfaceVersion::V3_4)
    }

    #[test]
    fn a_carrier_may_mean_something_else_by_a_status() {
        let carrier = carrier(
            "ESME_RINVDSTADR = \"fallback\"\n\
             rsyserr = { class = \"throttle\", delay = \"10s\" }\n\
             0x432 = { class = \"permanent\", reason = \"content_refused\" }\n\
             1025 = { class = \"retry\", retries = 2, delay = \"30s\" }\n",
        );
        let other_route = carrier.judge(CommandStatus::ESME_RINVDSTADR, None);
        assert_eq!(other_route.class, StatusClass::Fallback);
        assert_eq!(other_route.reason, Reason::InvalidDestination);
        let overload = carrier.judge(CommandStatus::ESME_RSYSERR, None);
        assert_eq!(overload.class, StatusClass::Throttle);
        assert_eq!(overload.reason, Reason::Throttled);
        assert_eq!(overload.delay, Some(Duration::from_secs(10)));
        let spam = carrier.judge(CommandStatus(0x432), None);
        assert_eq!((spam.class, spam.reason), (StatusClass::Permanent, Reason::ContentRefused));
        assert!(spam.is_known);
        let credit = carrier.judge(CommandStatus(0x401), None);
        assert_eq!((credit.class, credit.retries), (StatusClass::Retry, Some(2)));
        assert_eq!(carrier.judge(CommandStatus(0x400), None).class, StatusClass::Fallback);
    }

    #[test]
    fn a_status_or_class_that_is_none_is_refused_with_what_was_expected() {
        let refused = |status: &str| {
            let text = format!("rate = \"1/s\"\n[status]\n{status}");
            toml::from_str::<CarrierConfig>(&text).unwrap_err().message().to_owned()
        };
        assert_eq!(
            refused("ESME_RNONE = \"fallback\""),
            "invalid value: string \"ESME_RNONE\", expected a command_status such as \
             \"ESME_RSYSERR\" or \"0x432\""
        );
        assert_eq!(
            refused("ESME_RSYSERR = \"accepted\""),
            "unknown variant `accepted`, expected one of `retry`, `throttle`, `fallback`, \
             `fallback_alarm`, `permanent`, `session_fatal`"
        );
        assert_eq!(
            refused("ESME_RSYSERR = 7"),
            "invalid type: integer `7`, expected a class such as \"fallback\", or a table with \
             `class`"
        );
        assert_eq!(
            refused("ESME_RSYSERR = { class = \"retry\", tries = 2 }"),
            "unknown field `tries`, expected one of `class`, `retries`, `delay`, `reason`"
        );
        assert!(refused("0x1FFFFFFFF = \"fallback\"").contains("0x1FFFFFFFF"));
    }
}

mod selection {
    use super::*;

    fn selected(routes: &Routes, query: &Query<'_>) -> Option<String> {
        routes.select(query).ok().map(|route| route.name.to_string())
    }

    #[test]
    fn the_longest_prefix_wins_then_most_conditions_then_the_order_of_the_config() {
        let routes = routes(
            r#"
            [[routes]]
            name = "rest"
            carriers = ["a"]
            [[routes]]
            name = "japan"
            match = { prefix = ["81"] }
            carriers = ["a"]
            [[routes]]
            name = "japan-otp"
            match = { prefix = ["81"], class = ["otp"] }
            carriers = ["a"]
            [[routes]]
            name = "japan-otp-shop"
            match = { prefix = ["81"], class = ["otp"], key = ["shop"] }
            carriers = ["a"]
            [[routes]]
            name = "japan-otp-bank"
            match = { prefix = ["81"], class = ["otp"], tag = ["bank"] }
            carriers = ["a"]
            [[routes]]
            name = "japan-mobile"
            match = { prefix = ["8190", "8180"] }
            carriers = ["a"]
            [[routes]]
            name = "campaigns"
            match = { sender = ["SALE", "+819000000000"] }
            carriers = ["a"]
            "#,
        );
        let at = |to, class| Query { class, ..query(to) };
        let bank: [Box<str>; 2] = ["x".into(), "bank".into()];
        let cases = [
            (at("14155550100", Class::Otp), "rest"),
            (at("81312345678", Class::Marketing), "japan"),
            (at("81312345678", Class::Otp), "japan-otp-shop"),
            (Query { key: "other", ..at("81312345678", Class::Otp) }, "japan-otp"),
            (Query { tags: &bank, ..at("81312345678", Class::Otp) }, "japan-otp-shop"),
            (Query { key: "x", tags: &bank, ..at("81312345678", Class::Otp) }, "japan-otp-bank"),
            (at("819012345678", Class::Otp), "japan-mobile"),
            (Query { sender: Some("SALE"), ..query("14155550100") }, "campaigns"),
            (Query { sender: Some("819000000000"), ..query("14155550100") }, "campaigns"),
            (Query { sender: Some("SHOP"), ..query("14155550100") }, "rest"),
            (Query { sender: Some("SALE"), ..query("81312345678") }, "japan"),
        ];
        for (query, name) in cases {
            assert_eq!(selected(&routes, &query).as_deref(), Some(name));
        }
    }

    #[test]
    fn a_route_that_is_asked_for_is_taken_whatever_it_matches() {
        let routes = routes(
            r#"
            [[routes]]
            name = "japan"
            match = { prefix = ["81"] }
            carriers = ["a"]
            [[routes]]
            name = "premium"
            on_request = true
            carriers = ["b"]
            "#,
        );
        let ask = |route| Query { route, ..query("819012345678") };
        assert_eq!(selected(&routes, &ask(None)).as_deref(), Some("japan"));
        assert_eq!(selected(&routes, &ask(Some("premium"))).as_deref(), Some("premium"));
        let unknown = routes.select(&ask(Some("gold"))).unwrap_err();
        assert_eq!(unknown, NoRoute::Unknown { name: "gold".into() });
        assert_eq!(unknown.to_string(), "no route is named \"gold\"");
        let abroad = routes.select(&query("14155550100")).unwrap_err();
        assert_eq!(abroad, NoRoute::Unmatched);
    }

    #[test]
    fn one_carrier_without_routes_is_the_default_route() {
        let routes = table("[carriers.only]\nrate = \"1/s\"").unwrap();
        let route = routes.select(&query("14155550100")).unwrap();
        assert_eq!(&*route.name, "default");
        assert_eq!(names(&routes, &route.candidates(seed(1))), ["only"]);
    }

    #[test]
    fn numbers_of_names_outlive_a_reload_and_a_fault_changes_nothing() {
        let text = |names: [&str; 2]| {
            let [first, second] = names;
            format!(
                "[carriers.{first}]\nrate = \"1/s\"\n[carriers.{second}]\nrate = \"1/s\"\n\
                 [[routes]]\nname = \"to-{first}\"\ncarriers = [\"{first}\", \"{second}\"]\n"
            )
        };
        let before = table(&text(["m", "n"])).unwrap();
        let (m, n) = (before.carrier_id("m").unwrap(), before.carrier_id("n").unwrap());
        let reload = |text: &str| {
            let (carriers, routes) = File::read(text).unwrap().parts(InterfaceVersion::V3_4);
            before.reload(carriers, routes)
        };
        let after = reload(&text(["a", "n"])).unwrap();
        assert_eq!(after.carrier_id("n"), Some(n));
        assert_eq!(after.carrier_id("m"), Some(m));
        assert!(after.carrier(m).is_none());
        assert_eq!(&*after.carrier_name(m), "m");
        assert_eq!(after.carrier(n).unwrap().id, n);
        let gone = after.route_id("to-m").unwrap();
        assert!(after.route(gone).is_none());
        assert_eq!(&*after.route_name(gone), "to-m");
        assert!(after.select(&query("819012345678")).is_ok());
        assert!(reload("[carriers.m]\nrate = \"1/s\"\nreceipts.timeout = \"0s\"").is_err());
    }

    #[test]
    fn a_name_from_an_old_record_gets_a_number_and_no_carrier() {
        let mut routes = routes("[[routes]]\nname = \"x\"\ncarriers = [\"a\"]");
        let gone = routes.intern_carrier("gone").unwrap();
        assert!(routes.carrier(gone).is_none());
        assert_eq!(routes.intern_carrier("gone"), Some(gone));
        assert_eq!(&*routes.carrier_name(gone), "gone");
        let unused = CarrierId(gone.0 + 1);
        assert!(routes.carrier(unused).is_none());
        assert_eq!(&*routes.carrier_name(unused), "");
    }

    #[test]
    fn the_choice_explains_itself() {
        let routes = routes(
            r#"
            [[routes]]
            name = "rest"
            carriers = ["a"]
            [[routes]]
            name = "japan"
            match = { prefix = ["81"] }
            carriers = ["a", { any = [{ carrier = "b", weight = 3 }, { carrier = "c" }] }]
            [[routes]]
            name = "otp"
            match = { prefix = ["81"], class = ["otp"] }
            carriers = ["a"]
            [[routes]]
            name = "us"
            match = { prefix = ["1"] }
            carriers = ["a"]
            [[routes]]
            name = "gold"
            on_request = true
            carriers = ["c"]
            "#,
        );
        let told = |query: &Query<'_>| {
            let explanation = routes.explain(query, seed(3));
            explanation.to_string().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            told(&query("819012345678")),
            [
                "route otp: passed by, it is for other classes",
                "route japan: taken, prefix 81",
                "route rest: would take it too, but stands behind",
                "route gold: passed by, it is only for messages that ask for it",
                "route us: passed by, none of its prefixes is the number's",
                "carrier 1: a",
                "carrier 2: b, drawn among equals with a share of 75 %",
                "carrier 3: c, drawn among equals with a share of 25 %",
            ]
        );
        assert_eq!(
            told(&Query { route: Some("gold"), ..query("819012345678") }),
            ["route gold: asked for by name", "carrier 1: c"]
        );
        assert_eq!(
            told(&Query { route: Some("lead"), ..query("819012345678") }),
            ["route lead: asked for by name, and there is none"]
        );
        let json = serde_json::to_value(routes.explain(&query("14155550100"), seed(3))).unwrap();
        assert_eq!(json["route"], "us");
        assert_eq!(json["carriers"], serde_json::json!(["a"]));
        assert_eq!(json["steps"][0], "route us: taken, prefix 1");
    }

    #[test]
    fn a_message_that_no_route_takes_is_told_why() {
        let routes =
            routes("[[routes]]\nname = \"us\"\nmatch.prefix = [\"1\"]\ncarriers = [\"a\"]");
        let explanation = routes.explain(&query("819012345678"), seed(1));
        assert_eq!(
            explanation.to_string(),
            "route us: passed by, none of its prefixes is the number's\n\
             no route takes the message\n"
        );
        assert_eq!(explanation.route, None);
    }

    fn prefix() -> impl Strategy<Value = String> {
        "[1-3]{1,4}"
    }

    fn class() -> impl Strategy<Value = Class> {
        prop::sample::select(Class::ALL.to_vec())
    }

    prop_compose! {
        fn some_match()(
            prefix in prop::collection::btree_set(prefix(), 0..3),
            class in prop::collection::btree_set(class(), 0..3),
            key in prop::collection::btree_set("[ab]", 0..2),
            tag in prop::collection::btree_set("[tu]", 0..2),
        ) -> MatchConfig {
            let [prefix, key, tag] = [prefix, key, tag].map(|set| set.into_iter().collect());
            MatchConfig { prefix, class: class.into_iter().collect(), key, tag, sender: Vec::new() }
        }
    }

    /// The place of the route that a search over all of them finds.
    fn search(specs: &[MatchConfig], query: &Query<'_>) -> Option<usize> {
        let rank = |(place, spec): (usize, &MatchConfig)| {
            let MatchConfig { prefix, class, key, tag, .. } = spec;
            let fitting = prefix.iter().filter(|prefix| query.to.starts_with(*prefix));
            let length = if prefix.is_empty() { 0 } else { fitting.map(String::len).max()? };
            let tagged = tag.iter().any(|tag| query.tags.iter().any(|have| **have == **tag));
            let meets = [
                class.is_empty() || class.contains(&query.class),
                key.is_empty() || key.iter().any(|key| key == query.key),
                tag.is_empty() || tagged,
            ];
            let conditions = [class.is_empty(), key.is_empty(), tag.is_empty()];
            let conditions = conditions.into_iter().filter(|empty| !empty).count();
            meets.into_iter().all(|met| met).then_some((length, conditions, Reverse(place)))
        };
        let best = specs.iter().enumerate().filter_map(rank).max()?;
        Some(best.2.0)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn selecting_is_searching_all_routes_for_the_best(
            specs in prop::collection::vec(some_match(), 1..12),
            to in "[1-4]{1,7}",
            class in class(),
            key in "[abc]",
            tag in "[tuv]",
        ) {
            let (carriers, _) = File::read(THREE).unwrap().parts(InterfaceVersion::V3_4);
            let config = |(place, matches): (usize, &MatchConfig)| {
                let text = format!("name = \"r{place}\"\ncarriers = [\"a\"]");
                let config: RouteConfig = toml::from_str(&text).unwrap();
                RouteConfig { matches: matches.clone(), ..config }
            };
            let configs = specs.iter().enumerate().map(config).collect();
            let routes = Routes::new(carriers, configs).unwrap();
            let tags = [tag.into_boxed_str()];
            let query = Query { to: &to, class, key: &key, sender: None, tags: &tags, route: None };
            let expected = search(&specs, &query).map(|place| format!("r{place}"));
            let explained = routes.explain(&query, seed(1)).route.map(|name| name.to_string());
            prop_assert_eq!(&explained, &expected);
            prop_assert_eq!(selected(&routes, &query), expected);
        }
    }
}

mod choosing {
    use super::*;

    const ORDER: &str = r#"
        [[routes]]
        name = "r"
        carriers = ["a", { any = [{ carrier = "b", weight = 3 }, { carrier = "c", weight = 1 }] }]
        [routes.fallback]
        no_bind = "5s"
    "#;

    fn down(seconds: u64) -> Standing {
        Standing::Down { since: NOW - Duration::from_secs(seconds) }
    }

    /// What is chosen when the carriers stand like this: the name, and for how long.
    fn choice(
        standing: [Standing; 3],
        tried: &[&str],
        number: u128,
    ) -> Option<(String, Option<Time>)> {
        let routes = routes(ORDER);
        let [a, b, c] = standing;
        let standing = |id| match &*routes.carrier_name(id) {
            "a" => a,
            "b" => b,
            _ => c,
        };
        let route = routes.select(&query("819012345678")).unwrap();
        let tried = |id| tried.contains(&&*routes.carrier_name(id));
        let choice = route.choose(NOW, Class::Otp, seed(number), tried, standing)?;
        Some((routes.carrier_name(choice.carrier).to_string(), choice.until))
    }

    const UP: Standing = Standing::Up;
    const OFF: Standing = Standing::Off;

    /// A message that draws `b` before `c`.
    const DRAWS_B: u128 = 3;

    #[test]
    fn the_first_carrier_with_a_bind_is_taken() {
        assert_eq!(choice([UP, UP, UP], &[], DRAWS_B), Some(("a".into(), None)));
        assert_eq!(choice([UP, UP, UP], &["a"], DRAWS_B), Some(("b".into(), None)));
        assert_eq!(choice([UP, UP, UP], &["a", "b"], DRAWS_B), Some(("c".into(), None)));
        assert_eq!(choice([UP, UP, UP], &["a", "b", "c"], DRAWS_B), None);
        assert_eq!(choice([OFF, UP, UP], &[], DRAWS_B), Some(("b".into(), None)));
        assert_eq!(choice([OFF, OFF, OFF], &[], DRAWS_B), None);
    }

    #[test]
    fn a_carrier_without_a_bind_is_waited_for_until_the_limit_and_then_passed_by() {
        let until = NOW + Duration::from_secs(3);
        assert_eq!(choice([down(2), UP, UP], &[], DRAWS_B), Some(("a".into(), Some(until))));
        assert_eq!(choice([down(5), UP, UP], &[], DRAWS_B), Some(("b".into(), None)));
        assert_eq!(
            choice([down(9), down(2), down(9)], &[], DRAWS_B),
            Some(("b".into(), Some(until)))
        );
    }

    #[test]
    fn among_equals_one_with_a_bind_is_taken_at_once() {
        assert_eq!(choice([down(9), down(1), UP], &[], DRAWS_B), Some(("c".into(), None)));
    }

    #[test]
    fn when_all_are_down_for_long_the_first_is_waited_for() {
        assert_eq!(choice([down(9), down(9), down(9)], &[], DRAWS_B), Some(("a".into(), None)));
        assert_eq!(choice([down(9), down(9), down(9)], &["a"], DRAWS_B), Some(("b".into(), None)));
    }

    #[test]
    fn the_same_message_draws_the_same_carriers() {
        let (first, second) = (routes(ORDER), routes(ORDER));
        for number in 0..200 {
            let [one, two] = [&first, &second].map(|routes| {
                let route = routes.select(&query("819012345678")).unwrap();
                names(routes, &route.candidates(seed(number)))
            });
            assert_eq!(one, two);
            assert_eq!(one[0], "a");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn equals_share_the_messages_by_weight(weights in prop::array::uniform3(1_u32..20), start: u64) {
            const MESSAGES: u32 = 4_000;
            let [a, b, c] = weights;
            let routes = routes(&format!(
                "[[routes]]\nname = \"r\"\ncarriers = [{{ any = [\
                 {{ carrier = \"a\", weight = {a} }}, {{ carrier = \"b\", weight = {b} }}, \
                 {{ carrier = \"c\", weight = {c} }}] }}]"
            ));
            let route = routes.select(&query("819012345678")).unwrap();
            let mut first = [0_u32; 3];
            for number in 0..u128::from(MESSAGES) {
                let order = route.candidates(seed(u128::from(start) + number));
                let mut sorted: Vec<_> = order.to_vec();
                sorted.sort();
                sorted.dedup();
                prop_assert_eq!(sorted.len(), 3, "each carrier once");
                first[usize::from(order[0].0)] += 1;
            }
            for (count, weight) in first.into_iter().zip(weights) {
                let share = f64::from(weight) / f64::from(a + b + c);
                let expected = share * f64::from(MESSAGES);
                let deviation = (f64::from(MESSAGES) * share * (1.0 - share)).sqrt();
                let off = (f64::from(count) - expected).abs();
                prop_assert!(off < 5.0 * deviation + 1.0, "{count} of {expected}");
            }
        }
    }
}

mod deciding {
    use super::*;

    const CHAIN: &str = "[[routes]]\nname = \"r\"\ncarriers = [\"a\", \"b\", \"c\"]\n";

    struct Scene {
        routes: Routes,
        class: Class,
        carrier: &'static str,
        past: Vec<&'static str>,
        down: Vec<&'static str>,
        tries: u16,
        throttles: u16,
        unknowns: u16,
        in_doubt: bool,
        left: Duration,
    }

    /// A transactional message after its first try on `a`, with ten minutes to live.
    fn scene(text: &str) -> Scene {
        Scene {
            routes: routes(text),
            class: Class::Transactional,
            carrier: "a",
            past: Vec::new(),
            down: Vec::new(),
            tries: 1,
            throttles: 0,
            unknowns: 0,
            in_doubt: false,
            left: Duration::from_secs(600),
        }
    }

    impl Scene {
        fn id(&self, name: &str) -> CarrierId {
            self.routes.carrier_id(name).unwrap()
        }

        fn after(&self, outcome: Outcome<'_>) -> Next {
            let past: Vec<_> = self.past.iter().map(|name| self.id(name)).collect();
            let progress = Progress {
                route: self.routes.route_id("r").unwrap(),
                class: self.class,
                seed: seed(9),
                carrier: self.id(self.carrier),
                past: &past,
                tries: self.tries,
                throttles: self.throttles,
                unknowns: self.unknowns,
                in_doubt: self.in_doubt,
                expires_at: NOW + self.left,
            };
            let standing = |id| {
                let is_down = self.down.iter().any(|name| self.id(name) == id);
                let since = NOW - Duration::from_secs(3_600);
                if is_down { Standing::Down { since } } else { Standing::Up }
            };
            self.routes.decide(NOW, &progress, &outcome, standing)
        }

        fn refused(&self, status: CommandStatus) -> Next {
            let carrier = self.routes.carrier(self.id(self.carrier)).unwrap();
            self.after(Outcome::Refused(carrier.judge(status, None)))
        }

        /// Where it goes, by which rule; an empty name when it goes nowhere.
        fn goes(&self, next: &Next) -> (String, String) {
            match next {
                Next::Fallback { choice: Choice { carrier, .. }, rule, .. } => {
                    (self.routes.carrier_name(*carrier).to_string(), rule.to_string())
                }
                other => (String::new(), format!("{other:?}")),
            }
        }
    }

    fn gone_to(name: &str, rule: &str) -> (String, String) {
        (name.to_owned(), rule.to_owned())
    }

    #[test]
    fn what_a_carrier_may_have_of_an_earlier_try_is_a_doubt_like_any_other() {
        for class in [Class::Otp, Class::Transactional] {
            let mut scene = Scene { class, ..scene(CHAIN) };
            (scene.in_doubt, scene.tries) = (true, 100);
            let next = scene.refused(CommandStatus::ESME_RSYSERR);
            match class {
                Class::Otp => assert!(matches!(next, Next::Fallback { uncertain: true, .. })),
                _ => assert!(matches!(next, Next::Hold { .. }), "{next:?}"),
            }
            scene.down = vec!["a"];
            let next = scene.after(Outcome::NoBind);
            match class {
                Class::Otp => assert!(matches!(next, Next::Fallback { uncertain: true, .. })),
                _ => assert_eq!(next, Next::Wait { until: None }),
            }
            scene.unknowns = 1;
            assert_eq!(scene.after(Outcome::NoBind), Next::Wait { until: None });
        }
    }

    #[test]
    fn a_passing_error_is_tried_again_and_then_goes_on() {
        let mut scene = scene(CHAIN);
        let Next::Retry { due, reason } = scene.refused(CommandStatus::ESME_RSYSERR) else {
            panic!("a retry");
        };
        assert_eq!(reason, Reason::Refused);
        let wait = due.since(NOW);
        assert!((Duration::from_millis(3_750)..=Duration::from_millis(6_250)).contains(&wait));
        scene.tries = 3;
        let next = scene.refused(CommandStatus::ESME_RSYSERR);
        assert_eq!(scene.goes(&next), gone_to("b", "refused with ESME_RSYSERR (retry)"));
    }

    #[test]
    fn waits_double_up_to_their_limit_and_differ_by_the_dice() {
        let rules = routes(CHAIN);
        let route = rules.select(&query("819012345678")).unwrap();
        let retry = route.rules(Class::Transactional).retry;
        let middle = 1 << 15;
        let wait = |next| retry.wait(next, None, middle).as_secs();
        assert_eq!([2, 3, 4, 5].map(wait), [5, 10, 20, 40]);
        assert_eq!(wait(u16::MAX), 300);
        assert_eq!(retry.wait(2, None, 0), Duration::from_millis(3_750));
        assert_eq!(retry.wait(2, None, 0xFFFF).as_millis(), 6_249);
        let least = Some(Duration::from_secs(60));
        assert_eq!(retry.wait(2, least, middle), Duration::from_secs(60));
    }

    #[test]
    fn a_retry_never_passes_the_time_to_live() {
        let mut scene = scene(CHAIN);
        scene.left = Duration::from_secs(3);
        let next = scene.refused(CommandStatus::ESME_RSYSERR);
        assert_eq!(scene.goes(&next).0, "b");
        scene.past = vec!["b", "c"];
        let next = scene.refused(CommandStatus::ESME_RSYSERR);
        assert_eq!(next, Next::End { state: State::Expired, reason: Reason::Ttl });
        scene.left = Duration::ZERO;
        scene.past.clear();
        let next = scene.refused(CommandStatus::ESME_RSYSERR);
        assert_eq!(next, Next::End { state: State::Expired, reason: Reason::Ttl });
    }

    #[test]
    fn the_last_carrier_is_tried_longer() {
        let mut scene = scene(CHAIN);
        (scene.carrier, scene.past, scene.tries) = ("c", vec!["a", "b"], 19);
        scene.left = Duration::from_secs(86_400);
        assert!(matches!(scene.refused(CommandStatus::ESME_RSYSERR), Next::Retry { .. }));
        scene.tries = 20;
        let next = scene.refused(CommandStatus::ESME_RSYSERR);
        assert_eq!(next, Next::End { state: State::Rejected, reason: Reason::Refused });
    }

    #[test]
    fn a_refusal_goes_on_and_ends_at_the_last_carrier() {
        let mut scene = scene(CHAIN);
        let next = scene.refused(CommandStatus::ESME_RINVSRCADR);
        let Next::Fallback { reason, uncertain, cancel, .. } = &next else { panic!("a fallback") };
        assert_eq!((*reason, *uncertain, *cancel), (Reason::InvalidSender, false, false));
        assert_eq!(scene.goes(&next).0, "b");
        (scene.carrier, scene.past) = ("c", vec!["a", "b"]);
        let next = scene.refused(CommandStatus::ESME_RINVSRCADR);
        assert_eq!(next, Next::End { state: State::Rejected, reason: Reason::InvalidSender });
    }

    #[test]
    fn some_refusals_are_worth_one_more_try_on_the_same_carrier() {
        let statuses = [
            CommandStatus::ESME_RSUBMITFAIL,
            CommandStatus::ESME_RUNKNOWNERR,
            CommandStatus::ESME_RINVBNDSTS,
        ];
        for status in statuses {
            let mut scene = scene(CHAIN);
            assert!(matches!(scene.refused(status), Next::Retry { .. }), "{status}");
            scene.tries = 2;
            let next = scene.refused(status);
            assert_eq!(scene.goes(&next).0, "b", "{status}");
        }
    }

    #[test]
    fn what_no_carrier_will_take_ends_unless_the_route_says_otherwise() {
        let status = CommandStatus::ESME_RINVDSTADR;
        let next = scene(CHAIN).refused(status);
        assert_eq!(next, Next::End { state: State::Rejected, reason: Reason::InvalidDestination });
        for rule in ["permanent", "ESME_RINVDSTADR", "0x0000000b", "11"] {
            let scene = scene(&format!("{CHAIN}fallback.status = [\"{rule}\"]"));
            let next = scene.refused(status);
            assert_eq!(scene.goes(&next), gone_to("b", "refused with ESME_RINVDSTADR (permanent)"));
        }
        let scene = scene(&format!("{CHAIN}fallback.status = []"));
        let next = scene.refused(CommandStatus::ESME_RINVSRCADR);
        assert_eq!(next, Next::End { state: State::Rejected, reason: Reason::InvalidSender });
    }

    #[test]
    fn a_throttled_message_keeps_its_place_until_the_route_has_had_enough() {
        let mut scene = scene(&format!("{CHAIN}fallback.throttles = 3"));
        scene.throttles = 1;
        let Next::Again { due } = scene.refused(CommandStatus::ESME_RTHROTTLED) else {
            panic!("its place is kept");
        };
        let wait = due.since(NOW);
        assert!((Duration::from_millis(750)..=Duration::from_millis(1_250)).contains(&wait));
        scene.throttles = 3;
        let next = scene.refused(CommandStatus::ESME_RTHROTTLED);
        assert_eq!(scene.goes(&next), gone_to("b", "throttled 3 times"));
        (scene.carrier, scene.past) = ("c", vec!["a", "b"]);
        assert!(matches!(scene.refused(CommandStatus::ESME_RTHROTTLED), Next::Again { .. }));
    }

    #[test]
    fn a_throttled_message_whose_deadline_nears_goes_on() {
        let mut scene = scene(CHAIN);
        (scene.throttles, scene.left) = (4, Duration::from_secs(2));
        let next = scene.refused(CommandStatus::ESME_RTHROTTLED);
        assert_eq!(scene.goes(&next), gone_to("b", "the next try would be too late"));
    }

    #[test]
    fn no_answer_is_unknown_and_its_class_decides() {
        let mut scene = scene(CHAIN);
        assert_eq!(scene.after(Outcome::Unanswered), Next::Hold { reason: Reason::NoAnswer });
        scene.class = Class::Otp;
        let next = scene.after(Outcome::Unanswered);
        let Next::Fallback { uncertain: true, cancel: false, .. } = next else {
            panic!("left behind, and nothing to cancel without an id: {next:?}");
        };
        assert_eq!(scene.goes(&next), gone_to("b", "no answer came"));
    }

    #[test]
    fn one_unknown_attempt_is_left_behind_unless_the_route_allows_more() {
        let mut scene = scene(CHAIN);
        (scene.class, scene.carrier, scene.past, scene.unknowns) = (Class::Otp, "b", vec!["a"], 1);
        assert_eq!(scene.after(Outcome::Unanswered), Next::Hold { reason: Reason::NoAnswer });
        let refused = scene.refused(CommandStatus::ESME_RINVSRCADR);
        assert_eq!(scene.goes(&refused).0, "c", "a certain refusal leaves nothing behind");
        scene.routes = routes(&format!("{CHAIN}otp.max_unknown = 2"));
        let next = scene.after(Outcome::Unanswered);
        assert_eq!(scene.goes(&next).0, "c");
    }

    #[test]
    fn a_message_that_may_still_arrive_does_not_end_with_the_last_refusal() {
        let mut scene = scene(CHAIN);
        (scene.carrier, scene.past, scene.unknowns) = ("c", vec!["a", "b"], 1);
        let next = scene.refused(CommandStatus::ESME_RINVSRCADR);
        assert_eq!(next, Next::Hold { reason: Reason::InvalidSender });
    }

    #[test]
    fn an_unknown_message_is_sent_again_only_where_the_carrier_allows_it() {
        let text = CHAIN.to_owned();
        let carriers = THREE.replacen("rate", "resend_unknown = true\nrate", 1);
        let mut scene = scene(&text);
        scene.routes = table(&format!("{carriers}{text}")).unwrap();
        let next = scene.after(Outcome::Unanswered);
        assert!(matches!(next, Next::Retry { reason: Reason::NoAnswer, .. }), "{next:?}");
        scene.tries = 3;
        assert_eq!(scene.after(Outcome::Unanswered), Next::Hold { reason: Reason::NoAnswer });
    }

    #[test]
    fn what_never_left_us_goes_again_at_once() {
        assert_eq!(scene(CHAIN).after(Outcome::Unsent), Next::Again { due: NOW });
    }

    #[test]
    fn an_undelivered_message_goes_on_only_when_the_route_says_after_how_long() {
        let held = Next::Hold { reason: Reason::NoReceipt };
        assert_eq!(scene(CHAIN).after(Outcome::NotDelivered), held);
        let text = format!("{CHAIN}fallback.no_delivered = \"60s\"");
        let mut scene = scene(&text);
        let carriers = THREE.replacen("rate", "cancel_sm = true\nrate", 1);
        scene.routes = table(&format!("{carriers}{text}")).unwrap();
        let next = scene.after(Outcome::NotDelivered);
        let Next::Fallback { uncertain: true, cancel: true, reason: Reason::NoDelivery, .. } = next
        else {
            panic!("{next:?}");
        };
        assert_eq!(scene.goes(&next), gone_to("b", "not delivered within 1m"));
        scene.unknowns = 1;
        assert_eq!(scene.after(Outcome::NotDelivered), held);
        (scene.unknowns, scene.past, scene.carrier) = (0, vec!["a", "b"], "c");
        assert_eq!(scene.after(Outcome::NotDelivered), held);
    }

    fn receipt(state: ReceiptState, error: &str) -> Outcome<'_> {
        Outcome::Failed { state, error, reason: Reason::AbsentSubscriber }
    }

    #[test]
    fn a_receipt_of_failure_goes_on_by_class_by_state_and_by_error_code() {
        let mut scene = scene(CHAIN);
        let ends = |state| Next::End { state, reason: Reason::AbsentSubscriber };
        let undeliverable = receipt(ReceiptState::Undeliverable, "027");
        assert_eq!(scene.after(undeliverable), ends(State::Undeliverable));
        scene.class = Class::Otp;
        let next = scene.after(undeliverable);
        assert_eq!(scene.goes(&next), gone_to("b", "receipt says UNDELIVERABLE"));
        scene.class = Class::Marketing;
        scene.routes = routes(&format!(
            "{CHAIN}[routes.fallback]\nreceipt_errors = [\"027\"]\nreceipt_states = [\"Expired\"]"
        ));
        let next = scene.after(undeliverable);
        assert_eq!(scene.goes(&next), gone_to("b", "receipt has error 027"));
        let next = scene.after(receipt(ReceiptState::Expired, ""));
        assert_eq!(scene.goes(&next), gone_to("b", "receipt says EXPIRED"));
        assert_eq!(scene.after(receipt(ReceiptState::Rejected, "")), ends(State::Rejected));
        assert_eq!(scene.after(receipt(ReceiptState::Deleted, "")), ends(State::Undeliverable));
        scene.left = Duration::ZERO;
        assert_eq!(scene.after(receipt(ReceiptState::Expired, "")), ends(State::Expired));
        (scene.left, scene.unknowns) = (Duration::from_secs(60), 1);
        scene.past = vec!["b", "c"];
        let held = Next::Hold { reason: Reason::AbsentSubscriber };
        assert_eq!(scene.after(undeliverable), held, "one that was left behind may still arrive");
    }

    #[test]
    fn a_message_without_a_bind_moves_to_a_carrier_that_has_one_and_may_come_back() {
        let mut scene = scene(CHAIN);
        (scene.tries, scene.down) = (0, vec!["a"]);
        let next = scene.after(Outcome::NoBind);
        assert_eq!(scene.goes(&next), gone_to("b", "no bind for 30s"));
        (scene.carrier, scene.down) = ("b", vec!["b", "c"]);
        let next = scene.after(Outcome::NoBind);
        assert_eq!(scene.goes(&next).0, "a", "it never left us, so the first may have it");
        scene.down = vec!["a", "b", "c"];
        assert_eq!(scene.after(Outcome::NoBind), Next::Wait { until: None });
        (scene.carrier, scene.down) = ("a", vec![]);
        assert_eq!(scene.after(Outcome::NoBind), Next::Again { due: NOW });
    }

    #[test]
    fn a_message_that_does_not_fit_a_carrier_goes_to_one_that_it_fits() {
        let mut scene = scene(CHAIN);
        let next = scene.after(Outcome::Unfit(Reason::TextTooLong));
        assert_eq!(scene.goes(&next), gone_to("b", "the carrier cannot carry this message"));
        (scene.carrier, scene.past) = ("c", vec!["a", "b"]);
        let next = scene.after(Outcome::Unfit(Reason::TextTooLong));
        assert_eq!(next, Next::End { state: State::Rejected, reason: Reason::TextTooLong });
    }

    #[test]
    fn a_message_whose_carrier_is_taken_out_goes_on() {
        let mut scene = scene(CHAIN);
        let next = scene.after(Outcome::Withdrawn);
        assert_eq!(scene.goes(&next), gone_to("b", "the carrier was taken out"));
        scene.past = vec!["b", "c"];
        assert_eq!(scene.after(Outcome::Withdrawn), Next::Wait { until: None });
    }

    #[test]
    fn the_rules_of_a_class_stand_over_those_of_the_route_and_those_over_the_built_in() {
        let routes = routes(&format!(
            "{CHAIN}
            [routes.fallback]
            no_bind = \"7s\"
            no_answer = \"never\"
            retry = {{ tries = 9 }}
            [routes.otp]
            no_bind = \"1s\"
            throttles = 0
            retry = {{ delay = \"2s\" }}
            "
        ));
        let route = routes.select(&query("819012345678")).unwrap();
        let otp = route.rules(Class::Otp);
        assert_eq!(otp.no_bind, Some(Duration::from_secs(1)));
        assert_eq!(otp.no_answer, None);
        assert_eq!(otp.throttles, None);
        assert_eq!((otp.retry.tries, otp.retry.delay), (9, Duration::from_secs(2)));
        assert_eq!(otp.unknown, UnknownPolicy::Fallback);
        let rest = route.rules(Class::Marketing);
        assert_eq!(rest.no_bind, Some(Duration::from_secs(7)));
        assert_eq!((rest.retry.tries, rest.retry.delay), (9, Duration::from_secs(30)));
        assert_eq!(rest.unknown, UnknownPolicy::Hold);
    }

    #[test]
    fn a_rule_with_a_time_tells_when_it_fires() {
        let routes = routes(&format!("{CHAIN}fallback.no_delivered = \"60s\""));
        let route = routes.select(&query("819012345678")).unwrap();
        let at = |seconds| Some(NOW + Duration::from_secs(seconds));
        let otp = route.rules(Class::Otp);
        assert_eq!(otp.deadline(Waiting::Bind { since: NOW }), at(5));
        assert_eq!(otp.deadline(Waiting::Answer { since: NOW }), at(10));
        assert_eq!(otp.deadline(Waiting::Delivery { since: NOW }), at(60));
        let marketing = route.rules(Class::Marketing);
        assert_eq!(marketing.deadline(Waiting::Answer { since: NOW }), None);
    }

    #[test]
    fn a_message_whose_route_is_gone_has_the_rules_of_its_class_and_no_other_carrier() {
        let mut scene = scene(CHAIN);
        let (carriers, _) = File::read(THREE).unwrap().parts(InterfaceVersion::V3_4);
        let route = File::read("[[routes]]\nname = \"other\"\ncarriers = [\"a\"]").unwrap().routes;
        scene.routes = scene.routes.reload(carriers, route).unwrap();
        assert!(matches!(scene.refused(CommandStatus::ESME_RSYSERR), Next::Retry { .. }));
        let next = scene.refused(CommandStatus::ESME_RINVSRCADR);
        assert_eq!(next, Next::End { state: State::Rejected, reason: Reason::InvalidSender });
    }

    #[test]
    fn rules_are_told_in_words() {
        let told = [
            Rule::NoBind { limit: Duration::from_secs(5) }.to_string(),
            Rule::ReceiptError { error: "027".into() }.to_string(),
        ];
        assert_eq!(told, ["no bind for 5s", "receipt has error 027"]);
    }
}

mod faults_of_the_config {
    use super::*;

    /// Three carriers, one route with these keys, and what is told of it.
    fn of_route(keys: &str) -> Vec<String> {
        faults(&format!("{THREE}[[routes]]\nname = \"r\"\n{keys}"))
    }

    /// One carrier with these keys, and what is told of it.
    fn of_carrier(keys: &str) -> Vec<String> {
        faults(&format!("[carriers.a]\nrate = \"50/s\"\n{keys}"))
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_key() {
        let text = format!(
            "{THREE}
            [[routes]]
            name = \"Up\"
            carriers = [\"a\", \"d\"]
            match = {{ prefix = [\"+81\", \"090\", \"81\", \"81\"], key = [\"\"] }}
            [[routes]]
            name = \"r\"
            carriers = []
            [[routes]]
            name = \"r\"
            carriers = [\"a\", {{ any = [{{ carrier = \"a\", weight = 0 }}] }}, {{ any = [] }}]
            [[routes]]
            name = \"auto\"
            carriers = [\"a\"]
            "
        );
        let expected = [
            "routes[0].name: expected 1 to 64 lower-case letters, digits, `-` or `_`, found \"Up\"",
            "routes[2].name: \"r\" is already the name of routes[1]",
            "routes[3].name: \"auto\" is what callers write to let the table choose",
            "routes[0].match.prefix[0]: expected 1 to 15 digits in E.164 without `+`, found \"+81\"",
            "routes[0].match.prefix[1]: no E.164 number begins with 0: write \"090\" with its \
             country code, as in \"8190\" for 090",
            "routes[0].match.prefix[3]: \"81\" stands in the list twice",
            "routes[0].match.key[0]: an empty value matches nothing",
            "routes[0].carriers[1]: no carrier is named \"d\"; there are a, b, c",
            "routes[1].carriers: a route needs at least one carrier",
            "routes[2].carriers[1].any[0].weight: expected a weight of at least 1, found 0",
            "routes[2].carriers[1].any[0].carrier: \"a\" stands in the route twice",
            "routes[2].carriers[2].any: expected at least one carrier",
        ];
        assert_eq!(faults(&text), expected);
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        let expected = [
            "routes[0].fallback.retry.tries: expected at least 1, found 0",
            "routes[0].fallback.retry.last_tries: expected at least 1, found 0",
            "routes[0].otp.no_answer: expected more than 0s; \"never\" turns the rule off",
            "routes[0].otp.retry.delay: expected more than 0s",
            "routes[0].marketing.retry.max_delay: expected at least retry.delay (1m), found 30s",
        ];
        let keys = "carriers = [\"a\"]
            fallback = { retry = { tries = 0, last_tries = 0 } }
            otp = { no_answer = \"0s\", retry = { delay = \"0s\" } }
            marketing = { retry = { delay = \"60s\", max_delay = \"30s\" } }";
        assert_eq!(of_route(keys), expected);
    }

    #[test]
    fn a_route_that_can_never_be_taken_is_a_warning() {
        let shadow = |first: &str, second: &str| {
            let mut told = faults(&format!(
                "{THREE}[[routes]]\nname = \"first\"\ncarriers = [\"a\"]\n{first}\n\
                 [[routes]]\nname = \"second\"\ncarriers = [\"b\"]\n{second}"
            ));
            told.retain(|line| line.contains("routes["));
            told
        };
        let warning = [
            "warning: routes[1]: can never be taken: \"first\" stands before it and takes all it would",
        ];
        let none: [&str; 0] = [];
        assert_eq!(shadow("", ""), warning);
        assert_eq!(shadow("match.prefix = [\"81\"]", "match.prefix = [\"81\"]"), warning);
        let wide = "match = { prefix = [\"81\"], class = [\"otp\", \"marketing\"] }";
        let narrow = "match = { prefix = [\"81\"], class = [\"otp\"] }";
        assert_eq!(shadow(wide, narrow), warning);
        assert_eq!(shadow(narrow, wide), none);
        assert_eq!(shadow("", narrow), none);
        assert_eq!(shadow("match.prefix = [\"81\"]", "match.prefix = [\"81\", \"82\"]"), none);
        assert_eq!(shadow("on_request = true", ""), none);
        assert_eq!(shadow("", "on_request = true"), none);
    }

    #[test]
    fn carriers_without_routes_and_routes_without_carriers_are_told() {
        assert_eq!(
            faults(THREE),
            ["routes: no route: with several carriers a [[routes]] table must give their order"]
        );
        assert_eq!(faults(""), ["warning: carriers: no carrier: messages cannot be sent"]);
        assert_eq!(
            faults("[[routes]]\nname = \"r\"\ncarriers = [\"a\"]"),
            [
                "carriers: no carrier: messages cannot be sent",
                "routes[0].carriers[0]: no carrier is named \"a\"; the config has none"
            ]
        );
    }

    #[test]
    fn a_carrier_that_no_route_sends_to_is_a_warning() {
        assert_eq!(
            of_route("carriers = [\"a\", { any = [{ carrier = \"c\" }] }]"),
            ["warning: carriers.b: no route sends to this carrier"]
        );
    }

    #[test]
    fn a_route_has_at_most_sixteen_carriers() {
        use std::fmt::Write as _;
        let mut text = String::new();
        for number in 0..17 {
            writeln!(text, "[carriers.c{number}]\nrate = \"1/s\"").unwrap();
        }
        let names: Vec<_> = (0..17).map(|number| format!("\"c{number}\"")).collect();
        let route = |names: &[String]| {
            format!("{text}[[routes]]\nname = \"r\"\ncarriers = [{}]", names.join(", "))
        };
        assert_eq!(
            faults(&route(&names)),
            ["routes[0].carriers: expected at most 16 carriers, found 17"]
        );
        let routes = table(&route(&names[..16])).unwrap();
        let route = routes.select(&query("819012345678")).unwrap();
        assert_eq!(route.candidates(seed(1)).len(), 16);
    }

    #[test]
    fn a_carrier_that_cannot_be_meant_is_refused() {
        let keys = "
            rate_per_bind = \"60/s\"
            [carriers.a.senders]
            others = \"default\"
            [carriers.a.submit]
            service_type = \"TOO LONG\"
            priority_flag = 5
            esm_class_mode = 4
            replace_if_present_flag = 2
            max_validity = \"500ms\"
            [carriers.a.receipts]
            timeout = \"0s\"
            [carriers.a.status]
            ESME_ROK = \"retry\"
            ESME_RINVDSTADR = { class = \"permanent\", retries = 1 }
            [[carriers.a.tlvs]]
            tag = \"no_such\"
            type = \"int1\"
            value = 1
            [[carriers.a.tlvs]]
            tag = \"0x1400\"
            type = \"int1\"
            value = 256
            [[carriers.a.tlvs]]
            tag = \"0x1401\"
            type = \"c_octet\"
            value = \"{tag}\"
            [[carriers.a.tlvs]]
            tag = \"message_payload\"
            type = \"octets\"
            value = \"00\"
            [[carriers.a.tlvs]]
            tag = \"0x1402\"
            type = \"octets\"
            value = \"abc\"
            [[carriers.a.tlvs]]
            tag = \"0x1403\"
            type = \"c_octet\"
            value = \"four\"
            max = 4
            ";
        let expected = [
            "carriers.a.rate_per_bind: 60/s for one bind is more than rate (50/s) for all: it \
             limits nothing",
            "carriers.a.senders.others: \"default\" needs senders.default",
            "carriers.a.submit.priority_flag: expected 0 to 4, found 5",
            "carriers.a.submit.esm_class_mode: expected 0 to 3, found 4",
            "carriers.a.submit.replace_if_present_flag: expected 0 to 1, found 2",
            "carriers.a.submit.service_type: expected at most 5 ASCII characters, found \"TOO LONG\"",
            "carriers.a.submit.max_validity: expected at least 1s; validity = \"none\" sends none",
            "carriers.a.receipts.timeout: expected more than 0s",
            "carriers.a.status.ESME_ROK: ESME_ROK is always accepted",
            "carriers.a.status.ESME_RINVDSTADR.retries: a permanent status is not tried again: \
             leave retries out",
            "carriers.a.tlvs[0].tag: expected a TLV's SMPP name or a number such as \"0x1400\", \
             found \"no_such\"",
            "carriers.a.tlvs[1].value: TLV 0x1400: the value is not of its type int1",
            "carriers.a.tlvs[2].value: expected {key}, {class}, {campaign}, {client_ref}, {from}, \
             {to}, or {tag:NAME}, found {tag}",
            "carriers.a.tlvs[3].tag: message_payload is written by the gateway itself",
            "carriers.a.tlvs[4].value: TLV 0x1402: the value is not of its type octets",
            "carriers.a.tlvs[5].value: TLV 0x1403: the value is 5 octets, at most 4",
        ];
        assert_eq!(of_carrier(keys), expected);
        let warned = of_carrier("rate_per_bind = \"60/s\"");
        assert_eq!(
            warned,
            ["warning: carriers.a.rate_per_bind: 60/s for one bind is more than rate (50/s) for \
              all: it limits nothing"]
        );
    }

    #[test]
    fn a_peer_without_tlvs_cannot_be_sent_what_needs_them() {
        let text = "
            [carriers.a]
            rate = \"1/s\"
            text.long = \"sar\"
            submit = { operation = \"data_sm\", user_message_reference = true }
            [[carriers.a.tlvs]]
            tag = \"0x1400\"
            type = \"int1\"
            value = 1
            ";
        let told = |text: &str, version| {
            let (carriers, routes) = File::read(text).unwrap().parts(version);
            let faults = Routes::new(carriers, routes).err().unwrap_or_default();
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        let keys = [
            "carriers.a.text.long",
            "carriers.a.submit.operation",
            "carriers.a.submit.user_message_reference",
            "carriers.a.tlvs",
        ];
        assert_eq!(told(text, InterfaceVersion::V3_3), keys);
        assert!(told(text, InterfaceVersion::V3_4).is_empty());
        let never = text.replacen("rate", "send_tlvs = \"never\"\nrate", 1);
        assert_eq!(told(&never, InterfaceVersion::V5_0), keys);
        let always = text.replacen("rate", "send_tlvs = \"always\"\nrate", 1);
        assert!(told(&always, InterfaceVersion::V3_3).is_empty());
    }

    #[test]
    fn names_of_carriers_can_stand_in_variables_and_labels() {
        for name in ["docomo", "a", "kddi_2"] {
            assert!(hikyaku::route::is_carrier_name(name), "{name}");
        }
        for name in ["", "Docomo", "2nd", "_x", "a-b", "a.b", "東"] {
            assert!(!hikyaku::route::is_carrier_name(name), "{name}");
        }
        assert_eq!(
            faults("[carriers.Kddi]\nrate = \"1/s\""),
            ["carriers.Kddi: expected a name of lower-case letters, digits and `_` that begins \
              with a letter, found \"Kddi\""]
        );
    }

    #[test]
    fn a_stray_key_is_refused_in_every_table() {
        let whole = "
            [carriers.a]
            rate = \"1/s\"
            #
            [carriers.a.senders]
            #
            [carriers.a.submit]
            #
            [carriers.a.receipts]
            #
            [carriers.a.receipts.form]
            #
            [carriers.a.status.ESME_RSYSERR]
            class = \"retry\"
            #
            [[carriers.a.tlvs]]
            tag = \"0x1400\"
            type = \"int1\"
            value = 1
            #
            [[routes]]
            name = \"r\"
            carriers = [\"a\"]
            #
            [routes.match]
            #
            [routes.fallback]
            #
            [routes.fallback.retry]
            #
            [routes.otp]
            #
            ";
        assert!(File::read(whole).is_ok());
        let places: Vec<_> = whole.match_indices('#').collect();
        assert_eq!(places.len(), 12);
        for (at, _) in places {
            let mut planted = whole.to_owned();
            planted.replace_range(at..=at, "stray = 1");
            let error = File::read(&planted).err().unwrap();
            assert!(error.message().starts_with("unknown field `stray`"), "{error}");
        }
        let group = "[[routes]]\nname = \"r\"\ncarriers = [{ any = [], weight = 1 }]";
        let error = File::read(group).err().unwrap();
        assert!(error.message().starts_with("unknown field `weight`"), "{error}");
    }

    #[test]
    fn values_of_the_wrong_form_say_what_was_expected() {
        let refused = |keys: &str| {
            let text = format!("[[routes]]\nname = \"r\"\ncarriers = [\"a\"]\n{keys}");
            File::read(&text).err().unwrap().message().to_owned()
        };
        assert_eq!(
            refused("fallback.no_bind = \"5\""),
            "expected a duration with its unit such as \"250ms\", \"30s\", \"10m\", \"73h\" or \
             \"7d\", found \"5\""
        );
        assert_eq!(
            refused("fallback.status = [\"throttle\"]"),
            "expected retry, fallback, fallback_alarm, permanent, session_fatal or a \
             command_status such as ESME_RINVDSTADR or 0x432, found \"throttle\""
        );
        assert_eq!(
            refused("fallback.receipt_states = [\"DELIVERED\"]"),
            "expected expired, deleted, undeliverable, rejected or skipped, found \"DELIVERED\""
        );
        assert!(refused("match.class = [\"fast\"]").starts_with("unknown variant `fast`"));
        let text = "[[routes]]\nname = \"r\"\ncarriers = [7]";
        assert_eq!(
            File::read(text).err().unwrap().message(),
            "invalid type: integer `7`, expected a carrier's name or { any = [{ carrier = \
             \"name\", weight = 1 }] }"
        );
        let text = "[carriers.a]\nquery_sm = true";
        assert_eq!(File::read(text).err().unwrap().message(), "missing field `rate`");
    }

    #[test]
    fn the_schema_names_every_key() {
        let schema = serde_json::to_value(schemars::schema_for!(CarrierConfig)).unwrap();
        let keys: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        for key in ["rate", "text", "addresses", "senders", "submit", "receipts", "status", "tlvs"]
        {
            assert!(keys.iter().any(|it| *it == key), "{key}");
        }
        assert_eq!(schema["additionalProperties"], false);
        let schema = serde_json::to_value(schemars::schema_for!(RouteConfig)).unwrap();
        assert!(schema["properties"]["match"].is_object());
    }
}
