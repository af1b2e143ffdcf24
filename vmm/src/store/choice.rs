//! The rule by which `store.data: auto` chooses.
//!
//! A way is better than plain if its fastest start took less time than plain's, and less of the
//! guest's memory. One that was not measured yet, as often as plain had to be, is tried if it takes less
//! memory, for that is known before; an image only once the starts of its closure were sent as many bytes as have to be written
//! for it, so that writing it costs no more than what was paid already.

use super::costs::{Costs, Start};
use super::limits::facts;
use super::plan::Size;
use crate::app::StoreData;

/// Starts of a way that are measured before it is judged, those of plain before anything else is
/// tried: of the first on a host much is read from disk, which would speak against its way.
pub const MEASURED_FIRST: usize = 2;

/// What a machine can have instead of plain.
#[derive(Debug)]
pub struct Possible {
    /// An image of this size, or why not.
    pub image: Result<Size, String>,
    /// A window of so many bytes, or why not.
    pub window: Result<u64, String>,
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// How the bytes of the store come to the machine.
    pub data: StoreData,
    /// Why.
    pub reason: String,
}

impl Choice {
    pub(super) fn plain(reason: impl Into<String>) -> Self {
        Self {
            data: StoreData::Plain,
            reason: reason.into(),
        }
    }
}

/// What to do if too little is known for anything else.
pub fn at_first(costs: &Costs) -> Option<Choice> {
    let known = costs.of(StoreData::Plain).count();
    (known < MEASURED_FIRST).then(|| {
        Choice::plain(format!(
            "the first {MEASURED_FIRST} starts of a closure are plain, to be measured; {known} are known of this one"
        ))
    })
}

/// Chooses for a machine.
pub fn choose(costs: &Costs, possible: &Possible) -> Choice {
    if let Some(choice) = at_first(costs) {
        return choice;
    }
    let Some(plain) = costs.fastest(StoreData::Plain) else {
        return Choice::plain("nothing is known");
    };
    match (&possible.image, &possible.window) {
        (Ok(size), _) => between_image_and(plain, costs, size),
        (Err(why), Ok(bytes)) => {
            let chosen = between_window_and(plain, costs, *bytes);
            let reason = format!("{}; no image: {why}", chosen.reason);
            Choice { reason, ..chosen }
        }
        (Err(why), Err(why_no_window)) => {
            Choice::plain(format!("no image: {why}; no window: {why_no_window}"))
        }
    }
}

fn between_image_and(plain: &Start, costs: &Costs, size: &Size) -> Choice {
    let memory = facts(size.bytes);
    if let Some(choice) = hardly_read(plain, "an image", memory) {
        return choice;
    }
    let known = costs.of(StoreData::Image).count();
    if known == 0 {
        let sent = costs.of(StoreData::Plain).map(|start| start.sent_bytes);
        let sent = sent.fold(0, u64::saturating_add);
        if sent < size.head_bytes {
            return Choice::plain(format!(
                "the last starts were sent {}, and for an image {} have to be written",
                mib(sent),
                mib(size.head_bytes)
            ));
        }
    }
    match judged(costs, StoreData::Image) {
        None => tried(StoreData::Image, known, plain, memory),
        Some(image) => decided(plain, image, memory, costs.written_us),
    }
}

fn between_window_and(plain: &Start, costs: &Costs, window_bytes: u64) -> Choice {
    let memory = facts(window_bytes);
    if let Some(choice) = hardly_read(plain, "a window", memory) {
        return choice;
    }
    match judged(costs, StoreData::Dax) {
        None => {
            let known = costs.of(StoreData::Dax).count();
            tried(StoreData::Dax, known, plain, memory)
        }
        Some(dax) => decided(plain, dax, memory.saturating_add(dax.sent_bytes), None),
    }
}

/// Plain, if its start takes no more memory than what has to be known of the other way.
fn hardly_read(plain: &Start, other: &str, memory: u64) -> Option<Choice> {
    (plain.sent_bytes <= memory).then(|| {
        Choice::plain(format!(
            "a start takes {} of its store into memory, and of {other} it would take {}",
            mib(plain.sent_bytes),
            mib(memory)
        ))
    })
}

/// The fastest start in a way, once there are enough of them.
fn judged(costs: &Costs, way: StoreData) -> Option<&Start> {
    let is_measured = costs.of(way).count() >= MEASURED_FIRST;
    costs.fastest(way).filter(|_| is_measured)
}

fn tried(data: StoreData, known: usize, plain: &Start, memory: u64) -> Choice {
    let reason = format!(
        "tried {MEASURED_FIRST} times, to be measured; {known} are known; plain the fastest start took {}; {} of \
         its memory are taken before it reads",
        told(plain, plain.sent_bytes),
        mib(memory)
    );
    Choice { data, reason }
}

/// Between plain and another way, of which a start takes so much of the guest's memory.
fn decided(plain: &Start, other: &Start, memory: u64, written_us: Option<u64>) -> Choice {
    let is_better = other.time_us() < plain.time_us() && memory < plain.sent_bytes;
    let way = other.way.as_str();
    let written = written_us.map_or_else(String::new, |time_us| {
        format!(", which was once written in {}", ms(time_us))
    });
    Choice {
        data: if is_better {
            other.way
        } else {
            StoreData::Plain
        },
        reason: format!(
            "the fastest start took {} as {way}{written}, and {} plain",
            told(other, memory),
            told(plain, plain.sent_bytes)
        ),
    }
}

/// What a start cost, in words.
fn told(start: &Start, memory: u64) -> String {
    let requests = match start.requests {
        0 => String::new(),
        count => format!(" ({} of them for {count} requests)", ms(start.busy_us)),
    };
    format!("{}{requests} and {}", ms(start.time_us()), mib(memory))
}

fn ms(time_us: u64) -> String {
    format!("{} ms", time_us / 1000)
}

fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// An image of 256 MiB, 32 of them written: a guest has 4 MiB of facts of it.
    const SIZE: Size = Size {
        bytes: 256 * MIB,
        head_bytes: 32 * MIB,
        files: 100,
    };

    fn start(way: StoreData, ready_ms: u64, busy_ms: u64, sent_mib: u64) -> Start {
        Start {
            began_us: 0,
            way,
            ready_us: ready_ms * 1000,
            requests: if way == StoreData::Image { 0 } else { 1843 },
            busy_us: busy_ms * 1000,
            sent_bytes: sent_mib * MIB,
        }
    }

    fn plain(ready_ms: u64, busy_ms: u64, sent_mib: u64) -> Start {
        start(StoreData::Plain, ready_ms, busy_ms, sent_mib)
    }

    fn image(ready_ms: u64) -> Start {
        start(StoreData::Image, ready_ms, 0, 0)
    }

    fn dax(ready_ms: u64, busy_ms: u64, sent_mib: u64) -> Start {
        start(StoreData::Dax, ready_ms, busy_ms, sent_mib)
    }

    fn costs<const N: usize>(starts: [Start; N]) -> Costs {
        let mut costs = Costs::default();
        for (began_us, start) in (1..).zip(starts) {
            costs.note(Start { began_us, ..start });
        }
        costs
    }

    fn chosen<const N: usize>(starts: [Start; N]) -> (StoreData, String) {
        let possible = Possible {
            image: Ok(SIZE),
            window: Ok(64 * MIB),
        };
        let Choice { data, reason } = choose(&costs(starts), &possible);
        (data, reason)
    }

    fn without_image<const N: usize>(starts: [Start; N]) -> (StoreData, String) {
        let possible = Possible {
            image: Err("its closure grows".into()),
            window: Ok(64 * MIB),
        };
        let Choice { data, reason } = choose(&costs(starts), &possible);
        (data, reason)
    }

    #[test]
    fn the_first_starts_are_plain() {
        for starts in [vec![], vec![plain(500, 200, 61)]] {
            let known = starts.len();
            let costs = Costs {
                starts,
                ..Costs::default()
            };
            let choice = at_first(&costs).unwrap();
            assert_eq!(choice.data, StoreData::Plain);
            assert_eq!(
                choice.reason,
                format!(
                    "the first 2 starts of a closure are plain, to be measured; {known} are known of this one"
                )
            );
        }
        assert_eq!(at_first(&costs([plain(1, 1, 1), plain(1, 1, 1)])), None);
    }

    #[test]
    fn what_is_read_whole_has_an_image_tried() {
        let (data, reason) = chosen([plain(900, 400, 61), plain(500, 212, 61)]);
        assert_eq!(data, StoreData::Image);
        assert_eq!(
            reason,
            "tried 2 times, to be measured; 0 are known; plain the fastest start took 712 ms (212 ms of them for 1843 \
             requests) and 61.0 MiB; 4.0 MiB of its memory are taken before it reads"
        );
        // A first one that is slow does not speak against it.
        let (data, reason) = chosen([plain(900, 400, 61), plain(500, 212, 61), image(5000)]);
        assert_eq!(data, StoreData::Image);
        let told = "tried 2 times, to be measured; 1 are known; ";
        assert!(reason.starts_with(told), "{reason}");
    }

    #[test]
    fn what_is_hardly_read_stays_plain() {
        let (data, reason) = chosen([plain(500, 10, 4), plain(500, 10, 61)]);
        assert_eq!(data, StoreData::Plain);
        assert_eq!(
            reason,
            "a start takes 4.0 MiB of its store into memory, and of an image it would take 4.0 MiB"
        );
    }

    #[test]
    fn an_image_is_written_when_as_much_was_asked_for() {
        let (data, reason) = chosen([plain(500, 10, 15), plain(500, 10, 16)]);
        assert_eq!(data, StoreData::Plain);
        assert_eq!(
            reason,
            "the last starts were sent 31.0 MiB, and for an image 32.0 MiB have to be written"
        );
        let (data, _) = chosen([plain(500, 10, 15), plain(500, 10, 16), plain(500, 10, 1)]);
        assert_eq!(data, StoreData::Image);
    }

    #[test]
    fn the_faster_of_both_is_taken() {
        let known = [plain(900, 400, 61), plain(500, 212, 61)];
        let [one, other] = known;
        let mut all = costs([one, other, image(711), image(800)]);
        all.written_us = Some(812_000);
        let possible = Possible {
            image: Ok(SIZE),
            window: Err("none".into()),
        };
        let choice = choose(&all, &possible);
        assert_eq!(choice.data, StoreData::Image);
        assert_eq!(
            choice.reason,
            "the fastest start took 711 ms and 4.0 MiB as image, which was once written in 812 ms, and 712 ms \
             (212 ms of them for 1843 requests) and 61.0 MiB plain"
        );
        let (data, reason) = chosen([
            plain(500, 212, 61),
            plain(500, 300, 61),
            image(712),
            image(713),
        ]);
        assert_eq!(data, StoreData::Plain);
        assert!(
            reason.starts_with("the fastest start took 712 ms and 4.0 MiB as image, and 712 ms")
        );
    }

    #[test]
    fn without_an_image_a_window_is_tried_and_kept_if_it_is_better() {
        let known = || [plain(500, 200, 61), plain(500, 200, 61)];
        let (data, reason) = without_image(known());
        assert_eq!(data, StoreData::Dax);
        assert!(reason.ends_with(
            "1.0 MiB of its memory are taken before it reads; no image: its closure grows"
        ));
        let [one, other] = known();
        let (data, _) = without_image([one, other, dax(5000, 100, 9)]);
        assert_eq!(data, StoreData::Dax);
        let [one, other] = known();
        let (data, reason) = without_image([one, other, dax(5000, 100, 9), dax(500, 100, 9)]);
        assert_eq!(data, StoreData::Dax);
        assert_eq!(
            reason,
            "the fastest start took 600 ms (100 ms of them for 1843 requests) and 10.0 MiB as dax, and 700 ms \
             (200 ms of them for 1843 requests) and 61.0 MiB plain; no image: its closure grows"
        );
        // A kernel without FUSE_DAX is sent as much as before.
        for no_better in [dax(500, 200, 9), dax(500, 100, 60)] {
            let [one, other] = known();
            let (data, _) = without_image([one, other, no_better.clone(), no_better]);
            assert_eq!(data, StoreData::Plain);
        }
        let (data, _) = without_image([plain(500, 200, 1), plain(500, 200, 1)]);
        assert_eq!(data, StoreData::Plain);
    }

    #[test]
    fn where_neither_can_be_both_reasons_are_told() {
        let possible = Possible {
            image: Err("no erofs".into()),
            window: Err("no addresses".into()),
        };
        let choice = choose(&costs([plain(1, 1, 9), plain(1, 1, 9)]), &possible);
        assert_eq!(
            choice,
            Choice::plain("no image: no erofs; no window: no addresses")
        );
    }
}
