//! What messages can be found by: terms, hashed, in buckets of neighbouring messages.
//!
//! An index over random values costs a page written per entry once it is larger than a transaction
//! touches. So the entries of messages that were accepted close together lie together, and a search
//! asks every bucket of a day once, the newest first; see [`index`](super::index).

use crate::archive::Message;
use crate::archive::Step;
use crate::archive::day::is_listed;
use crate::message::MessageId;
use crate::message::Position;
use crate::message::State;
use crate::seal::Index;

/// What a term is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    To = 1,
    ClientRef = 2,
    Campaign = 3,
    CarrierMessageId = 4,
    State = 5,
    Id = 6,
}

/// The bucket of a message: one for every 64 MiB of the journal.
pub(super) const fn bucket(position: Position) -> i64 {
    (position.0 >> 26).cast_signed()
}

/// The positions that a bucket stands for.
pub(super) const fn positions(bucket: i64) -> std::ops::Range<Position> {
    let start = bucket.cast_unsigned() << 26;
    Position(start)..Position(start.saturating_add(1 << 26))
}

/// The hash of a term. Different terms may share one: whoever searches looks at the row.
pub(super) fn hash(field: Field, value: &str) -> i64 {
    // FNV-1a, and splitmix64's last steps to spread it. It is written to files: it must not change.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for octet in [field as u8].into_iter().chain(value.bytes()) {
        hash = (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    spread(hash)
}

/// The hash of an id, whose low half is random.
pub(super) fn of_id(id: MessageId) -> i64 {
    let [low, high] = [id.as_u128(), id.as_u128() >> 64].map(|half| half & u128::from(u64::MAX));
    let [low, high] = [low, high].map(|half| u64::try_from(half).unwrap_or_default());
    spread(low ^ high.rotate_left(Field::Id as u32))
}

/// The number for a destination, which says nothing to who lacks the day's key.
pub(super) fn of_number(index: &Index, number: &str) -> i64 {
    index.number(number.as_bytes()).cast_signed()
}

fn spread(mut hash: u64) -> i64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash ^ (hash >> 31)).cast_signed()
}

/// The terms of a message; those that never change are left out when it is `stored`, but for its
/// id. Its number is one when the day still has a key.
pub(super) fn of(
    message: &Message,
    stored: bool,
    index: Option<&Index>,
) -> impl Iterator<Item = i64> {
    let fixed = (!stored).then(|| {
        let to = index.map(|index| of_number(index, &message.to));
        let client_ref = message.client_ref.as_deref().map(|text| hash(Field::ClientRef, text));
        let campaign = message.campaign.as_deref().map(|text| hash(Field::Campaign, text));
        [to, client_ref, campaign].into_iter().flatten()
    });
    let ids = carrier_ids(message).map(|id| hash(Field::CarrierMessageId, id));
    let id = std::iter::once(of_id(message.id));
    fixed.into_iter().flatten().chain(id).chain(ids).chain(state(message.state))
}

/// The ids that carriers gave a message's segments, in the forms of the answers and, where they
/// differ, of the receipts.
pub(super) fn carrier_ids(message: &Message) -> impl Iterator<Item = &str> {
    let answered = message.segments.iter().map(|segment| &*segment.carrier_message_id);
    let receipted = message.timeline.iter().filter_map(|entry| match &entry.step {
        Step::Receipt { receipt, .. } => Some([&*receipt.carrier_message_id, &*receipt.text_id]),
        _ => None,
    });
    let receipted = receipted
        .flatten()
        .filter(|id| !message.segments.iter().any(|segment| *segment.carrier_message_id == **id));
    answered.chain(receipted).filter(|id| !id.is_empty())
}

/// The term of a state; none for those that most messages are in.
pub(super) fn state(state: State) -> Option<i64> {
    is_listed(state).then(|| hash(Field::State, state.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_what_files_on_disk_hold() {
        assert_ne!(hash(Field::To, "819012345678"), hash(Field::ClientRef, "819012345678"));
        assert_eq!(hash(Field::Campaign, ""), 1_029_542_765_246_477_388);
    }
}
