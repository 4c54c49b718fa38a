//! Rot and misdirected blocks between two lives, at random places: named, never served, nothing deleted. Single cases, each
//! with what is said of it, are in `damage.rs`.

mod common;

use common::lives::{Run, Trouble};
use common::rot::Rot;

fn lives_and_rot(rot: Rot) {
    for seed in 1..21 {
        let mut run = Run::new(seed, Trouble::default());
        (0..3).for_each(|_| run.live(|_| ()));
        run.rot(rot, |_| ());
    }
}

#[test]
fn rot_in_a_durable_frame_is_named() {
    lives_and_rot(Rot::Frame);
}

#[test]
fn rot_in_a_segment_is_never_served() {
    lives_and_rot(Rot::Segment);
}

#[test]
fn an_index_that_is_wrong_costs_nothing() {
    lives_and_rot(Rot::Index);
}

#[test]
fn one_copy_of_each_checkpoint_that_is_damaged_or_old_costs_nothing() {
    lives_and_rot(Rot::Checkpoint);
}

#[test]
fn a_block_in_the_wrong_place_is_never_served() {
    lives_and_rot(Rot::Misdirected);
}
