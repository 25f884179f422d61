//! For providers: copies of what lies in a buffer that is not to be kept.

use bytes::{Bytes, BytesMut};

/// Where payloads are copied to. Small ones lie side by side, so that not each of them has to be allocated; one that is
/// kept keeps its neighbours, 16 KiB at most.
#[derive(Debug, Default)]
pub struct Payloads(BytesMut);

impl Payloads {
    const TOGETHER: usize = 16 * 1024;
    const SMALL: usize = 1024;

    /// A copy.
    #[inline]
    pub fn copy(&mut self, payload: &[u8]) -> Bytes {
        if payload.len() > Payloads::SMALL {
            return Bytes::copy_from_slice(payload);
        }
        if self.0.capacity() < payload.len() {
            self.0 = BytesMut::with_capacity(Payloads::TOGETHER);
        }
        self.0.extend_from_slice(payload);
        self.0.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_what_was_copied_and_keep_nothing_of_where_it_lay() {
        let (mut payloads, buffer) = (Payloads::default(), Bytes::from(vec![7; 100_000]));
        let lens = [0, 10, Payloads::SMALL, Payloads::SMALL + 1, 3 * Payloads::TOGETHER, 5];
        let copies: Vec<_> = lens.iter().map(|len| payloads.copy(&buffer[..*len])).collect();
        assert!(copies.iter().zip(lens).all(|(copy, len)| copy == &buffer[..len]));
        assert!(buffer.is_unique());
    }
}
