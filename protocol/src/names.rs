//! Kafka's rule for topic names.

use crate::limits::MAX_TOPIC_NAME;

/// Why a topic cannot have that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("a topic name cannot be empty")]
    Empty,
    /// More than [`MAX_TOPIC_NAME`] bytes.
    #[error("a topic name of {0} bytes is over the limit of {MAX_TOPIC_NAME}")]
    TooLong(usize),
    /// `.` or `..`, which mean something else to a file system.
    #[error("a topic cannot be named '.' or '..'")]
    Dots,
    /// Something outside `[a-zA-Z0-9._-]`.
    #[error("a topic name has only letters a-z and A-Z, digits, '.', '_' and '-', not {0:?}")]
    Character(char),
}

/// The rule that every topic name keeps.
#[derive(Debug)]
pub enum TopicName {}

impl TopicName {
    /// 1 to [`MAX_TOPIC_NAME`] of `[a-zA-Z0-9._-]`, but not `.` or `..`: what Kafka's `Topic.validate` takes.
    pub fn check(name: &str) -> Result<(), NameError> {
        match name {
            "" => return Err(NameError::Empty),
            "." | ".." => return Err(NameError::Dots),
            _ if name.len() > MAX_TOPIC_NAME => return Err(NameError::TooLong(name.len())),
            _ => {}
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match name.chars().find(|c| !allowed(*c)) {
            Some(other) => Err(NameError::Character(other)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kafka_takes_are_taken() {
        for name in ["a", "orders", "A.b_c-9", "...", "__consumer_offsets", &"x".repeat(MAX_TOPIC_NAME)] {
            assert_eq!(TopicName::check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_kafka_refuses_are_refused() {
        assert_eq!(TopicName::check(""), Err(NameError::Empty));
        assert_eq!(TopicName::check("."), Err(NameError::Dots));
        assert_eq!(TopicName::check(".."), Err(NameError::Dots));
        assert_eq!(TopicName::check(&"x".repeat(250)), Err(NameError::TooLong(250)));
        for bad in ['/', '\\', '@', ' ', '\n', '\0', 'é', ':'] {
            assert_eq!(TopicName::check(&format!("a{bad}b")), Err(NameError::Character(bad)));
        }
    }
}
