//! The key of a message.

use bytes::Bytes;
use std::fmt;

/// The longest key that may be published, in bytes (SQS's message group id ends at 128; the others take more).
pub const MAX_KEY_LEN: usize = 1024;

/// What orders messages. Published keys are UTF-8; a foreign message's may be any bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Bytes);

impl Key {
    /// A key of any bytes, as a provider reads it.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Key(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text, where it is.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Key(Bytes::from(text))
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Key(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<&String> for Key {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
