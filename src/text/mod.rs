//! Characters, and the octets and segments that carry them.
//!
//! A [`Profile`] says what one carrier can carry. [`plan()`] chooses the coding of a text for it and
//! counts the segments; [`Plan::segments`] makes their octets. What comes back is read by
//! [`decode()`], and the parts of long messages meet in [`reassembly`]. Nothing is ever cut away: a
//! text over a limit, or with a character that cannot be carried, is an error with the numbers.
//!
//! ```
//! use hikyaku::text::{Coding, EncodingChoice, Profile, plan};
//!
//! let text = "飛脚".repeat(335);
//! let plan = plan(&text, EncodingChoice::Auto, &Profile::default(), None)?;
//! assert_eq!((plan.coding, plan.units, plan.segments), (Coding::Ucs2, 670, 10));
//! assert_eq!(plan.segments(7).first().unwrap().udh(), [5, 0, 3, 7, 10, 1]);
//! # Ok::<(), hikyaku::text::PlanError>(())
//! ```

pub mod address;
mod coding;
mod decode;
mod gsm;
mod national;
mod plain;
mod plan;
mod profile;
pub mod reassembly;
mod repertoire;
mod split;
pub mod udh;

pub use self::coding::Coding;
pub use self::decode::Part;
pub use self::decode::decode;
pub use self::decode::decode_parts;
pub use self::gsm::Shifts;
pub use self::national::National;
pub use self::plan::EncodingChoice;
pub use self::plan::Fault;
pub use self::plan::Plan;
pub use self::plan::PlanError;
pub use self::plan::Replaced;
pub use self::plan::binary;
pub use self::plan::plan;
pub use self::profile::DataCodings;
pub use self::profile::DefaultAlphabet;
pub use self::profile::Newline;
pub use self::profile::Profile;
pub use self::repertoire::Preset;
pub use self::repertoire::Repertoire;
pub use self::split::Measure;
pub use self::split::Policy;
pub use self::split::Sar;
pub use self::split::Segment;
pub use self::split::SplitError;
pub use self::split::SplitOptions;
pub use self::split::Transport;
pub use self::split::measure;
pub use self::split::split;
pub use self::udh::Udh;
