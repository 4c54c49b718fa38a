//! What a measurement is: something of ours held against a reference, again and again.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::failure::Failure;

/// What one run of one side gave: named values.
#[derive(Clone, Debug)]
pub struct Sample {
    values: Vec<(&'static str, f64)>,
    void: Option<String>,
}

impl Sample {
    /// Some named values; units belong into the names.
    pub fn of<const N: usize>(values: [(&'static str, f64); N]) -> Sample {
        Sample { values: values.to_vec(), void: None }
    }

    /// The same, but it must not be judged, and why.
    pub fn void(mut self, why: Option<String>) -> Sample {
        self.void = why;
        self
    }

    /// Why it must not be judged.
    pub fn why_void(&self) -> Option<&str> {
        self.void.as_deref()
    }

    /// A value by its name; not a number if there is none.
    pub fn get(&self, name: &str) -> f64 {
        self.values.iter().find(|(known, _)| *known == name).map_or(f64::NAN, |(_, value)| *value)
    }

    /// All of them.
    pub fn values(&self) -> &[(&'static str, f64)] {
        &self.values
    }
}

impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.values {
            map.serialize_entry(name, value)?;
        }
        if let Some(why) = &self.void {
            map.serialize_entry("void", why)?;
        }
        map.end()
    }
}

/// What a ratio must keep to.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// Not more.
    AtMost(f64),
    /// Not less.
    AtLeast(f64),
    /// Shown beside the goals, and not judged.
    None,
}

impl Limit {
    /// Whether `measured` keeps to it; none where nothing is judged.
    pub fn is_met(self, measured: f64) -> Option<bool> {
        match self {
            Limit::AtMost(limit) => Some(measured <= limit),
            Limit::AtLeast(limit) => Some(measured >= limit),
            Limit::None => None,
        }
    }
}

/// One line of the table: a ratio of a subject's sample to the reference's of the same pair.
#[derive(Clone, Copy)]
pub struct Row {
    /// The goal's number.
    pub goal: u32,
    /// What is divided by what.
    pub what: &'static str,
    /// What it must keep to.
    pub limit: Limit,
    /// The ratio: reference first.
    pub ratio: fn(&Sample, &Sample) -> f64,
}

/// A measurement that is made again and again, interleaved.
pub trait Case {
    /// What comes of it.
    fn rows(&self) -> Vec<Row>;

    /// A: what ours is held against.
    fn reference(&mut self) -> Result<Sample, Failure>;

    /// B: ours.
    fn subject(&mut self) -> Result<Sample, Failure>;

    /// Whether a disk that changes its pace between the two spoils the pair.
    fn needs_steady_disk(&self) -> bool;
}
