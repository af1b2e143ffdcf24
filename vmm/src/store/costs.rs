//! What starts of a closure have cost.
//!
//! The one thing to know: of each way the last few starts are kept, for a month. The fastest of them
//! speaks for its way: what else the host did meanwhile only ever makes a start slower.

use serde::{Deserialize, Serialize};

use super::book::now_us;
use super::plan::Size;
use crate::app::StoreData;

/// Starts of a way that are kept.
const KEPT: usize = 8;

/// What is older says nothing of the host and the program of today.
const AGE_MAX_US: u64 = 30 * 24 * 60 * 60 * 1_000_000;

/// An image that could not be made is not tried again for a day: a try that fails takes as long as one
/// that does not.
const FAILED_US: u64 = 24 * 60 * 60 * 1_000_000;

/// Characters of a reason.
const WHY_MAX: usize = 500;

/// What one start cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// When it began, in µs since 1970.
    pub began_us: u64,
    /// How the bytes of its store came to it.
    pub way: StoreData,
    /// From its beginning until its program ran, without what is done once.
    pub ready_us: u64,
    /// What it asked the file server of its store, until it had settled.
    pub requests: u64,
    /// How long that was at work from when its program ran until it had settled.
    pub busy_us: u64,
    /// Bytes that it was sent until then, which it keeps.
    pub sent_bytes: u64,
}

impl Start {
    /// What of its time went by for its store, and all that is the same in each way.
    pub fn time_us(&self) -> u64 {
        self.ready_us.saturating_add(self.busy_us)
    }
}

/// An image that could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// When, in µs since 1970.
    pub at_us: u64,
    /// Why.
    pub why: String,
}

impl Failed {
    /// For this reason, now.
    pub fn now(error: &anyhow::Error) -> Self {
        Self {
            at_us: now_us(),
            why: format!("{error:#}").chars().take(WHY_MAX).collect(),
        }
    }
}

/// What is known of a closure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Costs {
    /// The last starts, in any order.
    pub starts: Vec<Start>,
    /// How large its image is.
    pub image: Option<Size>,
    /// How long it took to write that.
    pub written_us: Option<u64>,
    /// Why it could not be made the last time.
    pub failed: Option<Failed>,
}

impl Costs {
    /// Takes a start down.
    pub fn note(&mut self, start: Start) {
        let way = start.way;
        self.starts.push(start);
        self.starts.sort_by_key(|known| known.began_us);
        let of_way = self.starts.iter().filter(|known| known.way == way);
        let mut too_many = of_way.count().saturating_sub(KEPT);
        self.starts.retain(|known| {
            let goes = known.way == way && too_many > 0;
            too_many -= usize::from(goes);
            !goes
        });
    }

    /// Leaves what is too old behind.
    pub fn forget(&mut self, now_us: u64) {
        let is_of_use = |start: &Start| now_us.saturating_sub(start.began_us) <= AGE_MAX_US;
        self.starts.retain(is_of_use);
        let is_late = |failed: &Failed| now_us.saturating_sub(failed.at_us) <= FAILED_US;
        self.failed = self.failed.take().filter(is_late);
    }

    /// Starts in a way.
    pub fn of(&self, way: StoreData) -> impl Iterator<Item = &Start> {
        self.starts.iter().filter(move |start| start.way == way)
    }

    /// The fastest of these.
    pub fn fastest(&self, way: StoreData) -> Option<&Start> {
        self.of(way).min_by_key(|start| start.time_us())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(began_us: u64, way: StoreData, busy_us: u64) -> Start {
        Start {
            began_us,
            way,
            ready_us: 100,
            requests: 1,
            busy_us,
            sent_bytes: 1,
        }
    }

    #[test]
    fn the_last_of_each_way_are_kept_and_the_fastest_is_found() {
        let mut costs = Costs::default();
        costs.note(start(1, StoreData::Image, 0));
        for began_us in 2..=20 {
            costs.note(start(began_us, StoreData::Plain, began_us));
        }
        let kept = costs.of(StoreData::Plain).map(|start| start.began_us);
        assert!(kept.eq(13..=20));
        assert_eq!(costs.of(StoreData::Image).count(), 1);
        assert_eq!(costs.fastest(StoreData::Plain).unwrap().time_us(), 113);
        assert_eq!(costs.fastest(StoreData::Dax), None);
    }

    #[test]
    fn what_is_older_than_a_month_is_forgotten() {
        let mut costs = Costs::default();
        costs.note(start(5, StoreData::Plain, 1));
        costs.note(start(6, StoreData::Plain, 1));
        // A clock that was set back makes nothing old.
        for (now_us, left) in [(0, 2), (AGE_MAX_US + 5, 2), (AGE_MAX_US + 6, 1)] {
            costs.forget(now_us);
            assert_eq!(costs.starts.len(), left, "{now_us}");
        }
    }

    #[test]
    fn what_has_failed_is_tried_again_after_a_day() {
        let why = "no space left ".repeat(100);
        let mut failed = Failed::now(&anyhow::Error::msg(why));
        assert_eq!(failed.why.chars().count(), WHY_MAX);
        failed.at_us = 5;
        let mut costs = Costs {
            failed: Some(failed),
            ..Costs::default()
        };
        for (now_us, is_left) in [(0, true), (FAILED_US + 5, true), (FAILED_US + 6, false)] {
            costs.forget(now_us);
            assert_eq!(costs.failed.is_some(), is_left, "{now_us}");
        }
    }
}
