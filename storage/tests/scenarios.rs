//! Short scenarios of states that random lives do not come to; in the simulation, where time costs nothing.

mod common;

use common::scenarios::{Scenario, longest_journaled_batches, times_after_a_restart};

fn play(scenario: Scenario) {
    (1..10).for_each(|seed| scenario(seed, &|_| ()));
}

#[test]
fn a_time_leads_to_its_batch_in_a_segment_that_two_lives_have_written() {
    play(times_after_a_restart);
}

#[test]
fn the_longest_batch_that_the_journal_takes_is_kept_and_one_byte_more_is_refused() {
    play(longest_journaled_batches);
}
