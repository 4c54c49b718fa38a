//! The batches of one partition that are on their way, and the order they must keep. Pure: no link, no clock.
//!
//! Invariants:
//! - Batches are accepted in the order in which they were first sent. While one that was refused for now has not been sent again, nothing new is
//!   sent; one whose refusal comes after a later batch was accepted fails, since resending it would break the order.
//! - A batch whose bytes may have left and whose answer is lost is never sent again: the broker may have it.
//! - After a refusal one batch at a time is sent until one is accepted.

use std::collections::VecDeque;

use ringlog_reactor::sim::{mutant, reached};

use crate::error::{DeliveryError, Refusal};

/// What became of a batch that was sent.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// It is in the log, from this offset on.
    Accepted(i64),
    /// It is not in the log, and may be sent again.
    NotNow(Refusal),
    /// It is not in the log and never will be.
    Never(Refusal),
    /// Its bytes have not left.
    NotSent,
    /// Nobody knows.
    Unknown,
}

/// Batches with their results, in the order of their sends.
pub(crate) type Settled<B> = Vec<(B, Result<i64, DeliveryError>)>;

#[derive(Debug)]
pub(crate) struct Window<B> {
    flights: VecDeque<Flight<B>>,
    last_flight: u64,
    /// The latest flight that was accepted.
    accepted: u64,
    /// Batches to be sent again, before any new one.
    again: VecDeque<B>,
    probing: bool,
}

#[derive(Debug)]
struct Flight<B> {
    id: u64,
    batch: B,
    state: State,
}

#[derive(Debug)]
enum State {
    Away,
    /// It came back, and may be sent again.
    Back(Option<Refusal>),
}

impl<B> Default for Window<B> {
    fn default() -> Self {
        Self { flights: VecDeque::new(), last_flight: 0, accepted: 0, again: VecDeque::new(), probing: false }
    }
}

impl<B> Window<B> {
    /// Whether one more batch may be sent, with at most `max` on their way.
    pub fn is_open(&self, max: usize) -> bool {
        let limit = if self.probing { 1 } else { max };
        self.flights.len() < limit && self.flights.iter().all(|flight| flight.is_away())
    }

    /// The batch that must be sent before any new one.
    pub fn first_again(&self) -> Option<&B> {
        self.again.front()
    }

    /// Takes that batch out.
    pub fn take_again(&mut self) -> Option<B> {
        self.again.pop_front()
    }

    /// The number of the next batch that is sent.
    pub fn next_flight(&self) -> u64 {
        self.last_flight + 1
    }

    /// Notes that a batch was sent, as `next_flight`.
    pub fn sent(&mut self, batch: B) {
        self.last_flight += 1;
        self.flights.push_back(Flight { id: self.last_flight, batch, state: State::Away });
    }

    /// Takes an answer, and adds the batches that have their result now to `settled`.
    pub fn answer(&mut self, id: u64, answer: Answer, settled: &mut Settled<B>) {
        let oldest = matches!(answer, Answer::Never(_)) && mutant("refusal-settles-oldest");
        let is_meant = |flight: &Flight<B>| flight.id == id || oldest;
        let Some(place) = self.flights.iter().position(is_meant) else { return };
        let id = self.flights[place].id;
        let result = match answer {
            Answer::Accepted(base_offset) => {
                self.accepted = self.accepted.max(id);
                self.probing = false;
                self.fail_overtaken(place, settled);
                Ok(base_offset)
            }
            Answer::NotNow(refusal) if self.accepted > id && !mutant("overtaken-resent") => {
                Err(DeliveryError::Overtaken { refusal })
            }
            Answer::NotNow(refusal) => return self.flights[place].state = State::Back(Some(refusal)),
            Answer::NotSent => return self.flights[place].state = State::Back(None),
            Answer::Never(refusal) => Err(DeliveryError::Refused(refusal)),
            Answer::Unknown => {
                reached("outcome unknown");
                Err(DeliveryError::OutcomeUnknown)
            }
        };
        let place = self.flights.iter().position(|flight| flight.id == id);
        let flight = place.and_then(|place| self.flights.remove(place));
        settled.extend(flight.map(|flight| (flight.batch, result)));
    }

    /// Once no batch is away any more, puts those that came back before everything else, in their order. True if there were any.
    pub fn regroup(&mut self) -> bool {
        if self.flights.is_empty() || self.flights.iter().any(Flight::is_away) {
            return false;
        }
        self.probing |= self.flights.iter().any(|flight| matches!(flight.state, State::Back(Some(_))));
        while let Some(flight) = self.flights.pop_back() {
            if mutant("refused-resent-backwards") {
                self.again.push_back(flight.batch);
            } else {
                self.again.push_front(flight.batch);
            }
        }
        true
    }

    /// Whether no batch is on its way.
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Takes everything out; the flag says that the batch was away.
    pub fn clear(&mut self) -> Vec<(B, bool)> {
        let again = std::mem::take(&mut self.again).into_iter().map(|batch| (batch, false));
        let flights = std::mem::take(&mut self.flights).into_iter();
        again
            .chain(flights.map(|flight| {
                let away = flight.is_away();
                (flight.batch, away)
            }))
            .collect()
    }

    /// What was refused before an accepted batch cannot be sent again behind it.
    fn fail_overtaken(&mut self, mut place: usize, settled: &mut Settled<B>) {
        let mut earlier = 0;
        while earlier < place && !mutant("overtaken-resent") {
            if !matches!(self.flights[earlier].state, State::Back(Some(_))) {
                earlier += 1;
                continue;
            }
            place -= 1;
            if let Some(Flight { batch, state: State::Back(Some(refusal)), .. }) =
                self.flights.remove(earlier)
            {
                reached("refused batch overtaken");
                settled.push((batch, Err(DeliveryError::Overtaken { refusal })));
            }
        }
    }
}

impl<B> Flight<B> {
    fn is_away(&self) -> bool {
        matches!(self.state, State::Away)
    }
}

#[cfg(test)]
mod tests {
    use ringlog_protocol::ErrorCode;

    use super::*;

    fn busy() -> Refusal {
        Refusal { code: ErrorCode::Overloaded, retryable: true, message: "busy".into() }
    }

    fn too_large() -> Refusal {
        Refusal { code: ErrorCode::BatchTooLarge, retryable: false, message: "too large".into() }
    }

    fn with_sent(count: u32) -> Window<u32> {
        let mut window = Window::default();
        (0..count).for_each(|batch| window.sent(batch));
        window
    }

    fn answer(window: &mut Window<u32>, id: u64, answer: Answer) -> Settled<u32> {
        let mut settled = Vec::new();
        window.answer(id, answer, &mut settled);
        settled
    }

    #[test]
    fn nothing_new_is_sent_while_a_refused_batch_has_not_gone_again() {
        let mut window = with_sent(2);
        assert!(answer(&mut window, 1, Answer::NotNow(busy())).is_empty());
        assert!(!window.is_open(5), "one has come back");
        assert!(!window.regroup(), "the other is away");
        assert!(answer(&mut window, 2, Answer::NotNow(busy())).is_empty());
        assert!(window.regroup());
        assert_eq!((window.take_again(), window.take_again()), (Some(0), Some(1)));
    }

    #[test]
    fn after_a_refusal_one_at_a_time_goes_until_one_is_accepted() {
        let mut window = with_sent(1);
        answer(&mut window, 1, Answer::NotNow(busy()));
        window.regroup();
        assert!(window.is_open(5));
        let batch = window.take_again().expect("it came back");
        window.sent(batch);
        assert!(!window.is_open(5), "probing");
        assert_eq!(answer(&mut window, 2, Answer::Accepted(7)), [(0, Ok(7))]);
        window.sent(1);
        assert!(window.is_open(5));
    }

    #[test]
    fn a_refused_batch_fails_when_a_later_one_was_accepted_before_or_after() {
        for order in [[1, 2], [2, 1]] {
            let mut window = with_sent(2);
            let mut settled = Vec::new();
            for id in order {
                let came = if id == 1 { Answer::NotNow(busy()) } else { Answer::Accepted(3) };
                settled.extend(answer(&mut window, id, came));
            }
            settled.sort_by_key(|(batch, _)| *batch);
            assert_eq!(settled, [(0, Err(DeliveryError::Overtaken { refusal: busy() })), (1, Ok(3))]);
        }
    }

    #[test]
    fn what_was_not_sent_goes_again_and_what_may_have_left_does_not() {
        let mut window = with_sent(2);
        assert_eq!(answer(&mut window, 1, Answer::Unknown), [(0, Err(DeliveryError::OutcomeUnknown))]);
        assert!(answer(&mut window, 2, Answer::NotSent).is_empty());
        assert!(window.regroup());
        assert_eq!(window.take_again(), Some(1));
        assert!(window.is_open(5), "a lost link is no reason to probe");
    }

    #[test]
    fn a_refusal_settles_its_own_batch_and_leaves_the_older_one_in_flight() {
        let mut window = with_sent(2);
        let refused = Err(DeliveryError::Refused(too_large()));
        assert_eq!(answer(&mut window, 2, Answer::Never(too_large())), [(1, refused)]);
        assert!(!window.is_empty(), "the first is still away");
        assert_eq!(answer(&mut window, 1, Answer::Accepted(7)), [(0, Ok(7))]);
        assert!(window.is_empty());
    }

    fn xorshift(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    /// A broker that appends in order, refuses at random, and answers late and out of order.
    fn refuse_at_random(rounds: u32) {
        const BATCHES: u32 = 40;
        let mut seed = 0x5EED_0BED;
        for _ in 0..rounds {
            let mut window: Window<u32> = Window::default();
            let (mut next, mut log, mut answers, mut results) = (0, Vec::new(), Vec::new(), Vec::new());
            while results.len() < BATCHES as usize {
                window.regroup();
                while window.is_open(5) && (window.first_again().is_some() || next < BATCHES) {
                    let batch = window.take_again().unwrap_or_else(|| {
                        next += 1;
                        next - 1
                    });
                    let id = window.next_flight();
                    let reply = match xorshift(&mut seed) % 8 {
                        0 | 1 => Answer::NotNow(busy()),
                        2 => Answer::Never(too_large()),
                        _ => {
                            log.push(batch);
                            Answer::Accepted(log.len() as i64 - 1)
                        }
                    };
                    window.sent(batch);
                    answers.push((id, reply));
                }
                let (id, reply) = answers.swap_remove(xorshift(&mut seed) as usize % answers.len());
                results.extend(answer(&mut window, id, reply));
            }
            assert!(log.is_sorted_by(|a, b| a < b), "{log:?}");
            let mut seen: Vec<u32> = results.iter().map(|(batch, _)| *batch).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..BATCHES).collect::<Vec<_>>());
            for (batch, result) in results {
                assert_eq!(result.is_ok(), log.contains(&batch));
            }
        }
    }

    #[test]
    fn whatever_is_refused_the_log_keeps_the_order_and_every_batch_has_one_result() {
        refuse_at_random(2_000);
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn wrong_orders_and_refusals_of_the_wrong_batch_are_found() {
        use ringlog_reactor::sim::Simulation;
        use std::panic::catch_unwind;
        for mutant in ["overtaken-resent", "refused-resent-backwards", "refusal-settles-oldest"] {
            let found = catch_unwind(|| {
                let simulation = Simulation::new(1);
                simulation.set_mutant(Some(mutant));
                simulation.run(async { refuse_at_random(50) });
            });
            assert!(found.is_err(), "{mutant}");
        }
    }
}
