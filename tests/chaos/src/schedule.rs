//! Which faults, when: all of it follows from the seed.

use crate::fault::Fault;
use std::time::Duration;

/// A fault to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduled {
    /// When: the share of the run's work that is done by then.
    pub at: f64,
    /// What.
    pub fault: Fault,
    /// Whom: an index into whatever there is, by its remainder.
    pub target: u64,
    /// How long it holds: from 0 to 1, of what its kind may take.
    pub length: f64,
}

impl Scheduled {
    /// How long it holds, between these bounds.
    pub fn between(&self, shortest: Duration, longest: Duration) -> Duration {
        shortest + longest.saturating_sub(shortest).mul_f64(self.length)
    }
}

/// So many kills and so many other faults out of these, spread over the run. Each kind comes about equally often.
pub fn schedule(faults: &[Fault], kills: usize, others: usize, seed: u64) -> Vec<Scheduled> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let (mut kill_kinds, mut other_kinds): (Vec<Fault>, Vec<Fault>) =
        faults.iter().partition(|fault| fault.is_kill());
    let mut chosen = deal(&mut kill_kinds, kills, &mut chance);
    chosen.extend(deal(&mut other_kinds, others, &mut chance));
    chance.shuffle(&mut chosen);
    let step = 1.0 / (chosen.len() + 1) as f64;
    let scheduled = chosen.into_iter().enumerate().map(|(place, fault)| Scheduled {
        at: step * (place as f64 + 0.5 + chance.f64()),
        fault,
        target: chance.u64(..),
        length: chance.f64(),
    });
    scheduled.collect()
}

/// Deals from a deck that is shuffled anew whenever it is used up.
fn deal(deck: &mut [Fault], count: usize, chance: &mut fastrand::Rng) -> Vec<Fault> {
    let mut dealt = Vec::with_capacity(count);
    while dealt.len() < count && !deck.is_empty() {
        chance.shuffle(deck);
        dealt.extend(deck.iter().take(count - dealt.len()));
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_follows_from_its_seed() {
        let of = |seed| schedule(&Fault::ALL, 20, 20, seed);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn every_kind_comes_about_equally_often_and_all_before_the_end() {
        let scheduled = schedule(&Fault::ALL, 9, 30, 1);
        let count = |fault| scheduled.iter().filter(|scheduled| scheduled.fault == fault).count();
        for fault in Fault::ALL {
            assert!(if fault.is_kill() { count(fault) == 3 } else { count(fault) == 2 }, "{fault}");
        }
        assert!(scheduled.iter().all(|scheduled| scheduled.at > 0.0 && scheduled.at < 1.0));
        assert!(scheduled.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }

    #[test]
    fn nothing_is_dealt_from_an_empty_deck() {
        assert!(schedule(&[Fault::Cut], 3, 0, 1).is_empty());
    }
}
