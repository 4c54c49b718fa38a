//! A table of values under keys that are never mistaken for one another.
//!
//! Invariant: a key names one value for ever. A slot that is used again has a new generation, so a late
//! completion for an old value finds nothing instead of finding its successor.

/// The name of one value: a slot and the generation of its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// As the ring's `user_data`. The top bit is always clear, which leaves room for the driver's own tags.
    pub(crate) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(crate) fn from_u64(raw: u64) -> Key {
        Key { index: raw as u32, generation: (raw >> 32) as u32 }
    }

    /// The slot, for side tables that run parallel to the slab.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slot<T> {
    /// Ends this use of the slot, if it is used.
    fn take(&mut self) -> Option<T> {
        let value = self.value.take()?;
        self.generation = (self.generation + 1) & GENERATION_MASK;
        Some(value)
    }
}

/// See the head of this file.
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

/// Generations keep to 31 bits: see [`Key::to_u64`].
const GENERATION_MASK: u32 = (1 << 31) - 1;

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return Key { index, generation: slot.generation };
        }
        let index = u32::try_from(self.slots.len()).expect("a slab holds fewer than 2^32 values");
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Key { index, generation: 0 }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index())?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index())?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.take()?;
        self.free.push(key.index);
        Some(value)
    }

    /// Moves all values to the end of `to`, in slot order.
    pub(crate) fn take_all(&mut self, to: &mut Vec<T>) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some(value) = slot.take() else { continue };
            self.free.push(index as u32);
            to.push(value);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys of all values, in slot order.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let live = self.slots.iter().enumerate().filter(|(_, slot)| slot.value.is_some());
        live.map(|(index, slot)| Key { index: index as u32, generation: slot.generation }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_an_earlier_use_finds_nothing() {
        let mut slab = Slab::default();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(second.index(), first.index());
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut "second"));
        assert_eq!(slab.keys(), vec![second]);
    }

    #[test]
    fn all_values_are_taken_in_slot_order() {
        let mut slab = Slab::default();
        let first = slab.insert("first");
        let gone = slab.insert("gone");
        slab.insert("last");
        slab.remove(gone);
        let mut taken = vec!["before"];
        slab.take_all(&mut taken);
        assert_eq!(taken, ["before", "first", "last"]);
        assert!(slab.is_empty());
        assert_eq!(slab.get_mut(first), None);
        let again = slab.insert("again");
        assert_eq!(slab.get_mut(again), Some(&mut "again"));
    }

    #[test]
    fn a_key_survives_the_trip_through_user_data() {
        let mut slab = Slab::default();
        let old = slab.insert(1);
        slab.remove(old);
        let key = slab.insert(2);
        assert_eq!(Key::from_u64(key.to_u64()), key);
        assert_eq!(key.to_u64() >> 63, 0);
    }
}
