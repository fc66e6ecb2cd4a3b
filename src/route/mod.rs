//! Which carrier first, which next, after what, how soon.
//!
//! [`Routes`] is one reading of the config: the carriers, and the routes over them. A message is
//! given its route by [`Routes::select`], its carrier by [`Route::choose`], and after whatever
//! happens its next step by [`Routes::decide`]; nothing here remembers a message.
//!
//! ```
//! use hikyaku::message::{Class, MessageId};
//! use hikyaku::pdu::InterfaceVersion;
//! use hikyaku::route::{Carrier, CarrierConfig, Query, RouteConfig, Routes, Seed};
//!
//! #[derive(serde::Deserialize)]
//! struct File {
//!     carriers: std::collections::BTreeMap<String, CarrierConfig>,
//!     routes: Vec<RouteConfig>,
//! }
//! let file: File = toml::from_str(
//!     r#"
//!     [carriers.docomo]
//!     rate = "50/s"
//!     [carriers.kddi]
//!     rate = "20/s"
//!     [carriers.softbank]
//!     rate = "20/s"
//!
//!     [[routes]]
//!     name = "jp-otp"
//!     match = { prefix = ["81"], class = ["otp"] }
//!     carriers = ["docomo", { any = [{ carrier = "softbank", weight = 2 }, { carrier = "kddi" }] }]
//!     [routes.fallback]
//!     no_bind = "5s"
//!     no_answer = "10s"
//!     no_delivered = "60s"
//!     throttles = 5
//!     status = ["retry", "fallback", "fallback_alarm", "ESME_RINVDSTADR"]
//!     receipt_states = ["undeliverable", "rejected"]
//!     receipt_errors = ["027"]
//!
//!     [[routes]]
//!     name = "rest"
//!     carriers = ["docomo"]
//!     "#,
//! )?;
//! let carrier = |(name, config): (String, CarrierConfig)| {
//!     Carrier::new(&name, config, InterfaceVersion::V3_4)
//! };
//! let carriers = file.carriers.into_iter().map(carrier).collect();
//! let routes = Routes::new(carriers, file.routes).expect("no fault");
//! let query = Query {
//!     to: "819012345678",
//!     class: Class::Otp,
//!     key: "shop",
//!     sender: None,
//!     tags: &[],
//!     route: None,
//! };
//! let explanation = routes.explain(&query, Seed::of(MessageId::from_u128(7)));
//! assert_eq!(explanation.route.as_deref(), Some("jp-otp"));
//! assert_eq!(&*explanation.carriers[0], "docomo");
//! # Ok::<(), toml::de::Error>(())
//! ```

mod carrier;
mod compose;
mod explain;
mod names;
mod outcome;
mod rules;
mod status;
mod table;
mod tlv;

use std::fmt;

pub use self::carrier::Carrier;
pub use self::carrier::CarrierConfig;
pub use self::carrier::Operation;
pub use self::carrier::OtherSenders;
pub use self::carrier::ReceiptOn;
pub use self::carrier::ReceiptsConfig;
pub use self::carrier::SendTlvs;
pub use self::carrier::SenderError;
pub use self::carrier::SendersConfig;
pub use self::carrier::SubmitConfig;
pub use self::carrier::Validity;
pub use self::carrier::is_carrier_name;
pub use self::compose::Unfit;
pub use self::compose::cancel;
pub use self::compose::compose;
pub use self::compose::plan;
pub use self::compose::query;
pub use self::compose::summary;
pub use self::explain::Explanation;
pub use self::explain::Step;
pub use self::names::CarrierId;
pub use self::names::RouteId;
pub use self::outcome::Next;
pub use self::outcome::Outcome;
pub use self::outcome::Progress;
pub use self::rules::FailureState;
pub use self::rules::Patience;
pub use self::rules::Retry;
pub use self::rules::RetryConfig;
pub use self::rules::Rule;
pub use self::rules::Rules;
pub use self::rules::RulesConfig;
pub use self::rules::StatusMatch;
pub use self::rules::UnknownPolicy;
pub use self::rules::Waiting;
pub use self::rules::end_of;
pub use self::status::StatusClass;
pub use self::status::StatusConfig;
pub use self::status::StatusName;
pub use self::status::Verdict;
pub use self::status::judge;
pub use self::table::AnyConfig;
pub use self::table::Candidates;
pub use self::table::Choice;
pub use self::table::GroupConfig;
pub use self::table::MAX_CARRIERS;
pub use self::table::MatchConfig;
pub use self::table::Mismatch;
pub use self::table::NoRoute;
pub use self::table::Query;
pub use self::table::Route;
pub use self::table::RouteConfig;
pub use self::table::Routes;
pub use self::table::Seed;
pub use self::table::Standing;
pub use self::table::WeightedConfig;
pub use self::tlv::TlvConfig;
pub use self::tlv::TlvError;
pub use self::tlv::TlvType;

/// One thing that is wrong with the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, as in `routes[2].carriers[0]` or `carriers.docomo.rate`.
    pub path: String,
    /// What was expected and what was found.
    pub message: String,
    /// Whether the config can be run all the same.
    pub is_warning: bool,
}

impl Fault {
    fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), is_warning: false }
    }

    fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), is_warning: true }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}
