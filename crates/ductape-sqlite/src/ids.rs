//! Numbers that name rows, and how a message's row id holds its destination and its sequence.

/// Bits of a message's row id that hold its sequence; the destination's stand above them. That leaves room for
/// 10¹² messages in each of 8 million destinations, and keeps the messages of one destination side by side.
const SEQUENCE_BITS: u32 = 40;
/// Bits of a claim's row id that hold its number within the group.
const CLAIM_BITS: u32 = 32;

/// A row of `destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DestinationId(pub(crate) i64);

/// A row of `consumer_group`. Never used again after its group is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupId(pub(crate) i64);

/// A row of `consumer`. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConsumerId(pub(crate) i64);

/// A process that consumes from the file: a random number that names its file, see [`crate::peers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PeerId(pub(crate) i64);

impl DestinationId {
    /// The row id of a message of this destination.
    pub(crate) const fn message(self, seq: i64) -> i64 {
        (self.0 << SEQUENCE_BITS) | seq
    }

    /// The first row id that is beyond this destination.
    pub(crate) const fn end(self) -> i64 {
        (self.0 + 1) << SEQUENCE_BITS
    }
}

/// The sequence in a message's row id.
pub(crate) const fn sequence(message: i64) -> i64 {
    message & ((1 << SEQUENCE_BITS) - 1)
}

/// The destination and the sequence in a message's row id, for people.
pub(crate) const fn parts(message: i64) -> (i64, i64) {
    (message >> SEQUENCE_BITS, sequence(message))
}

impl GroupId {
    /// The row id of the group's n-th claim. The number starts again after four billion; by then the claim
    /// that had it is long gone.
    pub(crate) const fn claim(self, number: i64) -> i64 {
        (self.0 << CLAIM_BITS) | (number & ((1 << CLAIM_BITS) - 1))
    }

    /// The least and the greatest row id that a claim of the group may have.
    pub(crate) const fn claims(self) -> (i64, i64) {
        (self.0 << CLAIM_BITS, ((self.0 + 1) << CLAIM_BITS) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_id_keeps_destination_and_sequence_apart() {
        let destination = DestinationId(3);
        let last = destination.message((1 << 40) - 1);
        assert_eq!(sequence(last), (1 << 40) - 1);
        assert_eq!(last + 1, destination.end());
        assert_eq!(destination.end(), DestinationId(4).message(0));
    }

    #[test]
    fn claims_of_a_group_stay_in_its_range_when_their_numbers_start_again() {
        let (first, last) = GroupId(7).claims();
        assert_eq!(GroupId(7).claim((1 << 32) + 5), first + 5);
        assert_eq!(GroupId(7).claim((1 << 32) - 1), last);
        assert_eq!(GroupId(8).claims().0, last + 1);
    }
}
