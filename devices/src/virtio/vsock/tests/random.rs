//! Guests and hosts that do anything in any order, as long as they keep the rules: each byte
//! arrives once, in order, and before the end.

use proptest::prelude::*;

use super::model::Model;

/// What either side may do, to one of the connections.
#[derive(Clone, Copy, Debug)]
enum Act {
    GuestWrites(usize, usize),
    GuestReads(usize, usize),
    GuestEnds(usize),
    HostWrites(usize, usize),
    HostReads(usize, usize),
    HostEnds(usize),
    KeepBuffers,
    GiveBuffers,
    Hear,
}

const CONNECTIONS: usize = 4;

fn count() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1usize..100, 4 => 1usize..5000]
}

fn act() -> impl Strategy<Value = Act> {
    let to = || 0..CONNECTIONS;
    prop_oneof![
        1 => to().prop_map(|to| Act::GuestWrites(to, usize::MAX)),
        6 => (to(), count()).prop_map(|(to, count)| Act::GuestWrites(to, count)),
        6 => (to(), count()).prop_map(|(to, count)| Act::GuestReads(to, count)),
        1 => to().prop_map(Act::GuestEnds),
        6 => (to(), count()).prop_map(|(to, count)| Act::HostWrites(to, count)),
        6 => (to(), count()).prop_map(|(to, count)| Act::HostReads(to, count)),
        1 => to().prop_map(Act::HostEnds),
        1 => Just(Act::KeepBuffers),
        2 => Just(Act::GiveBuffers),
        8 => Just(Act::Hear),
    ]
}

fn perform(model: &mut Model, act: Act) {
    match act {
        Act::GuestWrites(to, count) => model.guest_writes(to, count),
        Act::GuestReads(to, count) => model.guest_reads(to, count),
        Act::GuestEnds(to) => model.guest_ends(to),
        Act::HostWrites(to, count) => model.host_writes(to, count),
        Act::HostReads(to, count) => drop(model.host_reads(to, count)),
        Act::HostEnds(to) => model.host_ends(to),
        Act::KeepBuffers => model.keep_buffers(),
        Act::GiveBuffers => model.give_buffers(),
        Act::Hear => model.hear(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_bytes_arrive_whatever_happens(
        buffer_bytes in prop_oneof![100u32..300, 100u32..=4096],
        rooms in prop::collection::vec(prop_oneof![50u32..300, 50u32..300_000], CONNECTIONS),
        acts in prop::collection::vec(act(), 1..120),
    ) {
        let mut model = Model::new(buffer_bytes, &rooms);
        for act in acts {
            perform(&mut model, act);
        }
        model.finish();
    }
}

#[test]
fn mebibytes_go_both_ways_at_once_through_tiny_buffers() {
    let mut model = Model::new(300, &[1000, 5000]);
    for _ in 0..4000 {
        for to in 0..2 {
            model.guest_writes(to, 700);
            model.host_writes(to, 700);
            model.hear();
            model.guest_reads(to, 650);
            model.host_reads(to, 650);
        }
    }
    model.finish();
}
