//! How a machine's store comes to it, and what that costs.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use vmm::app::{App, StoreData};
use vmm::closure::{StorePath, StoreView};
use vmm::machine::Running;
use vmm::store::{Auto, Given, Meter, Way};

use super::Kernel;
use crate::accel::is_inside;
use crate::output::say;
use crate::progress::Progress;

/// Programs start and read most of their files in less. What they ask for later is no cost of their
/// start.
const SETTLED: Duration = Duration::from_secs(60);

/// A way for the store of a machine of `app`, which boots `kernel`, and what notes its cost. What its
/// file asks for and cannot be is said, and the store is then plain.
pub fn given(
    app: &App,
    view: &StoreView,
    roots: &BTreeSet<StorePath>,
    kernel: &Kernel,
) -> (Given, Noting) {
    let mut noting = Noting {
        began: Instant::now(),
        meter: None,
        thread: None,
    };
    let progress = OnceCell::new();
    let making = || {
        let progress = progress.get_or_init(Progress::start);
        progress.tell("making an image of the store");
    };
    let given = match app.store.data {
        StoreData::Auto => Auto::of(app, view, roots, &kernel.found, is_inside()).map(|auto| {
            let (given, meter) = auto.give(&kernel.path, &making);
            noting.meter = Some(meter);
            given
        }),
        data => {
            let way = Way::of(data, app, view, &kernel.path, &making);
            way.map(|way| Given { way, reason: None })
        }
    };
    drop(progress);
    let given = given.unwrap_or_else(|error| {
        let reason = format!("{error:#}");
        if app.store.data != StoreData::Auto {
            let name = &app.name;
            say(format_args!(
                "store.data: {name} has its store plain: {reason}"
            ));
        }
        Given {
            way: Way::Plain,
            reason: Some(reason),
        }
    });
    (given, noting)
}

/// Notes what a start costs, once it has settled or has ended before.
pub struct Noting {
    began: Instant,
    meter: Option<Meter>,
    /// Notes it, and hears of the end.
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Noting {
    /// The program of the machine runs.
    pub fn start(&mut self, running: &Running) {
        let Some(meter) = self.meter.take() else {
            return;
        };
        // The store is the first, unless nobody serves it.
        let store = running.shares.first();
        let store = store.filter(|_| running.store_data != StoreData::Image);
        if let Some(share) = store {
            share.counters.start_timing();
        }
        let counters = store.map(|share| Arc::clone(&share.counters));
        let ready = self.began.elapsed();
        let (end, ended) = mpsc::channel();
        let note = move || {
            // Whichever is first: it has settled, or has ended.
            let _ = ended.recv_timeout(SETTLED);
            // Whoever cannot write it down starts as if nothing were known.
            let _ = meter.note(ready, counters.as_deref());
        };
        let thread = thread::Builder::new().name("store-costs".into());
        // Without one nothing is known of this start.
        self.thread = thread.spawn(note).ok().map(|thread| (end, thread));
    }

    /// The machine has ended.
    pub fn finish(self) {
        if let Some((end, thread)) = self.thread {
            drop(end);
            // Else the process could end before it is written.
            let _ = thread.join();
        }
    }
}
