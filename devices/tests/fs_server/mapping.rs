//! The DAX window, as Linux uses it and as it never would.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use devices::virtio::fs::wire::{
    ATTR_DAX, Flags, MAPPING_READ, MAPPING_WRITE, ROOT_ID, SetupMappingIn, opcode,
};
use devices::virtio::fs::{MAPPED_BYTES_MIN, Serve, Server, UNIT_BYTES};
use devices::virtio::region::Region;
use proptest::prelude::*;
use rustix::io::Errno;
use tempfile::TempDir;
use zerocopy::{FromZeros, IntoBytes};

use crate::client::{Client, OFFERED, changing, closure, flags, immutable};

const UNITS: u64 = 8;

/// Files of the closure: more than two units, a little more than one, one page and a byte.
const FILES: [(&str, u64); 3] = [
    ("long", 2 * UNIT_BYTES + 5000),
    ("odd", UNIT_BYTES + 1),
    ("short", 4097),
];

/// What the byte at an offset of a file is; never 0.
fn content(file: usize, offset: u64) -> u8 {
    (offset / 4096 % 61 + 64 * file as u64 + 1) as u8
}

struct Fixture {
    folder: TempDir,
    window: Arc<Region>,
    client: Client,
}

/// A store of two paths, of which the guest sees one.
fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    for path in ["shown", "hidden"] {
        fs::create_dir(folder.path().join(path)).unwrap();
        for (nth, (name, bytes)) in FILES.iter().enumerate() {
            let bytes: Vec<u8> = (0..*bytes).map(|offset| content(nth, offset)).collect();
            fs::write(folder.path().join(path).join(name), bytes).unwrap();
        }
    }
    let window = Arc::new(Region::reserve(UNITS * UNIT_BYTES).unwrap());
    let shown = closure(folder.path(), &["shown"]);
    let client = Client::mount_with_window(folder.path(), shown, &window);
    Fixture {
        folder,
        window,
        client,
    }
}

impl Fixture {
    fn node(&self, file: usize) -> u64 {
        self.client.node(&format!("shown/{}", FILES[file].0))
    }

    fn setup(&self, node: u64, foffset: u64, len: u64, moffset: u64) -> Result<(), Errno> {
        let body = SetupMappingIn {
            fh: u64::MAX,
            foffset,
            len,
            flags: MAPPING_READ,
            moffset,
        };
        self.call(node, &body)
    }

    fn call(&self, node: u64, body: &SetupMappingIn) -> Result<(), Errno> {
        let reply = self
            .client
            .call(opcode::SETUPMAPPING, node, body.as_bytes());
        reply.map(|body| assert_eq!(body, []))
    }

    fn remove(&self, count: u32, list: &[(u64, u64)]) -> Result<(), Errno> {
        let mut body = count.as_bytes().to_vec();
        for (moffset, len) in list {
            body.extend(moffset.as_bytes());
            body.extend(len.as_bytes());
        }
        let reply = self.client.call(opcode::REMOVEMAPPING, ROOT_ID, &body);
        reply.map(|body| assert_eq!(body, []))
    }

    /// What a processor finds at a byte of the window.
    fn seen(&self, at: u64) -> Option<u8> {
        let memory = File::open("/proc/self/mem").unwrap();
        let mut byte = [0];
        let read = memory.read_exact_at(&mut byte, self.window.addresses().start + at);
        read.ok().map(|()| byte[0])
    }

    fn mappings(&self) -> u64 {
        self.client.server.counters().mappings()
    }

    /// The files that are mapped in this process, by their inode numbers: in the window, and elsewhere.
    fn mapped(&self) -> (Vec<u64>, Vec<u64>) {
        let window = self.window.addresses();
        let device = fs::metadata(self.folder.path()).unwrap().dev();
        let device = format!("{:02x}:{:02x}", libc::major(device), libc::minor(device));
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        for line in maps.lines() {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (start, end) = fields[0].split_once('-').unwrap();
            let [start, end] = [start, end].map(|digits| u64::from_str_radix(digits, 16).unwrap());
            let ino: u64 = fields[4].parse().unwrap();
            if start < window.end && end > window.start {
                assert!(fields[1].starts_with("r--"), "{line}");
                if ino != 0 {
                    assert!(window.start <= start && end <= window.end, "{line}");
                    inside.push(ino);
                }
            } else if ino != 0 && fields[3] == device {
                outside.push(ino);
            }
        }
        (inside, outside)
    }

    fn inos(&self, path: &str) -> Vec<u64> {
        let ino = |name: &str| Path::new(path).join(name);
        let inos = FILES.map(|(name, _)| fs::metadata(self.folder.path().join(ino(name))));
        inos.map(|found| found.unwrap().ino()).into()
    }
}

#[test]
fn init_says_what_mappings_begin_at() {
    let fixture = fixture();
    let answer = fixture.client.init(7, 41, OFFERED).unwrap();
    assert!(flags(&answer).contains(Flags::MAP_ALIGNMENT | Flags::HAS_INODE_DAX));
    assert_eq!(1 << answer.map_alignment, UNIT_BYTES);
    let is_unused = |client: &Client| client.server.counters().is_window_unused();
    assert!(!is_unused(&fixture.client));
    // Without a window, and to a guest without DAX, all is as ever.
    let plain = Client::attach(fixture.folder.path(), immutable());
    let without = OFFERED & !Flags::MAP_ALIGNMENT.bits();
    for (client, offered) in [(&plain, OFFERED), (&fixture.client, without)] {
        let answer = client.init(7, 41, offered).unwrap();
        assert!(!flags(&answer).contains(Flags::MAP_ALIGNMENT));
        assert_eq!(answer.map_alignment, 0);
        let long = client.node("shown/long");
        assert_eq!(client.getattr(long).unwrap().flags, 0);
        let body = SetupMappingIn::new_zeroed();
        for wanted in [opcode::SETUPMAPPING, opcode::REMOVEMAPPING] {
            let refused = client.call(wanted, long, body.as_bytes());
            assert_eq!(refused, Err(Errno::NOSYS));
        }
    }
    assert_eq!([&plain, &fixture.client].map(is_unused), [false, true]);
    fixture.client.init(7, 41, OFFERED).unwrap();
    assert!(!is_unused(&fixture.client));
}

#[test]
fn large_files_are_to_be_mapped_and_nothing_else_is() {
    let fixture = fixture();
    let path = |name: &str| fixture.folder.path().join("shown").join(name);
    for (name, bytes, expected) in [
        ("below", MAPPED_BYTES_MIN - 1, 0),
        ("limit", MAPPED_BYTES_MIN, ATTR_DAX),
    ] {
        File::create(path(name)).unwrap().set_len(bytes).unwrap();
        let shown = fixture.client.node("shown");
        let entry = fixture.client.lookup(shown, name.as_bytes()).unwrap();
        assert_eq!(entry.attr.flags, expected);
        let attributes = fixture.client.getattr(entry.nodeid).unwrap();
        assert_eq!(attributes.flags, expected);
    }
    for node in [ROOT_ID, fixture.client.node("shown"), fixture.node(2)] {
        assert_eq!(fixture.client.getattr(node).unwrap().flags, 0);
    }
    let shown = fixture.client.node("shown");
    let listed = fixture.client.list(opcode::READDIRPLUS, shown, 0, 4096);
    let mapped = |name: &[u8]| {
        let entry = listed.iter().find(|entry| entry.name == name).unwrap();
        entry.entry.unwrap().attr.flags
    };
    assert_eq!([mapped(b"long"), mapped(b"short")], [ATTR_DAX, 0]);
}

#[test]
fn a_piece_is_the_files_and_zeros_behind_its_end() {
    let fixture = fixture();
    let odd = fixture.node(1);
    fixture.setup(odd, 0, UNIT_BYTES, 3 * UNIT_BYTES).unwrap();
    fixture
        .setup(odd, UNIT_BYTES, UNIT_BYTES, UNIT_BYTES)
        .unwrap();
    assert_eq!(fixture.mappings(), 2);
    let at = |at| fixture.seen(at).unwrap();
    assert_eq!(at(3 * UNIT_BYTES), content(1, 0));
    assert_eq!(at(4 * UNIT_BYTES - 1), content(1, UNIT_BYTES - 1));
    assert_eq!(at(UNIT_BYTES), content(1, UNIT_BYTES));
    // Its last page, the next, the last of the unit, and units that hold nothing.
    for zero in [
        UNIT_BYTES + 1,
        UNIT_BYTES + 4096,
        2 * UNIT_BYTES - 1,
        0,
        2 * UNIT_BYTES,
        UNITS * UNIT_BYTES - 1,
    ] {
        assert_eq!(at(zero), 0, "{zero:#x}");
    }
    // One that takes another's place takes all of it.
    fixture
        .setup(fixture.node(2), 0, UNIT_BYTES, 3 * UNIT_BYTES)
        .unwrap();
    assert_eq!(at(3 * UNIT_BYTES), content(2, 0));
    assert_eq!(at(3 * UNIT_BYTES + 8192), 0);
    assert_eq!(fixture.mappings(), 2);
    fixture.remove(1, &[(3 * UNIT_BYTES, UNIT_BYTES)]).unwrap();
    assert_eq!((at(3 * UNIT_BYTES), fixture.mappings()), (0, 1));
}

#[test]
fn what_a_file_loses_is_the_guests_fault_and_not_this_process_end() {
    let fixture = fixture();
    fixture.setup(fixture.node(0), 0, UNIT_BYTES, 0).unwrap();
    let path = fixture.folder.path().join("shown/long");
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(4096)
        .unwrap();
    assert_eq!(fixture.seen(0), Some(content(0, 0)));
    assert_eq!(fixture.seen(4096), None);
    // What it has lost before is not mapped.
    let again = fixture.setup(fixture.node(0), UNIT_BYTES, UNIT_BYTES, 0);
    assert_eq!(again, Err(Errno::INVAL));
    fixture.setup(fixture.node(0), 0, UNIT_BYTES, 0).unwrap();
    assert_eq!(fixture.seen(4096), Some(0));
}

#[test]
fn mappings_that_cannot_be_change_nothing() {
    let fixture = fixture();
    let long = fixture.node(0);
    fixture.setup(long, 0, UNIT_BYTES, 0).unwrap();
    let (unit, end, page) = (UNIT_BYTES, UNITS * UNIT_BYTES, 4096);
    for (foffset, len, moffset) in [
        // Broken units, of the file, the length, the window.
        (page, unit, unit),
        (0, page, unit),
        (0, unit + 1, unit),
        (0, unit, page),
        (0, 0, unit),
        // Outside the window, and around the end of numbers.
        (0, unit, end),
        (0, 2 * unit, end - unit),
        (0, unit, u64::MAX - unit + 1),
        (0, u64::MAX, 0),
        (0, u64::MAX - unit + 1, unit),
        // Past the end of the file.
        (4 * unit, unit, unit),
        (u64::MAX - unit + 1, unit, unit),
        (1 << 63, unit, unit),
    ] {
        let refused = fixture.setup(long, foffset, len, moffset);
        assert_eq!(
            refused,
            Err(Errno::INVAL),
            "{foffset:#x} {len:#x} {moffset:#x}"
        );
    }
    for (flags, error) in [
        (MAPPING_WRITE, Errno::ROFS),
        (MAPPING_READ | MAPPING_WRITE, Errno::ROFS),
        (0, Errno::INVAL),
        (MAPPING_READ | 4, Errno::INVAL),
        (1 << 63, Errno::INVAL),
    ] {
        let mut body = SetupMappingIn::new_zeroed();
        (body.flags, body.len, body.moffset) = (flags, unit, unit);
        assert_eq!(fixture.call(long, &body), Err(error), "{flags:#x}");
    }
    let shown = fixture.client.node("shown");
    std::os::unix::fs::symlink("long", fixture.folder.path().join("shown/link")).unwrap();
    for (node, error) in [
        (shown, Errno::ISDIR),
        (ROOT_ID, Errno::ISDIR),
        (fixture.client.node("shown/link"), Errno::LOOP),
        (0, Errno::STALE),
        (long + 1000, Errno::STALE),
        (u64::MAX, Errno::STALE),
    ] {
        assert_eq!(fixture.setup(node, 0, unit, unit), Err(error), "{node:#x}");
    }
    let short = fixture.client.call(opcode::SETUPMAPPING, long, &[0; 39]);
    assert_eq!(short, Err(Errno::INVAL));
    assert_eq!(fixture.mappings(), 1);
    assert_eq!(fixture.seen(0), Some(content(0, 0)));
    assert_eq!(fixture.seen(unit), Some(0));
}

#[test]
fn a_list_that_cannot_be_is_not_begun() {
    let fixture = fixture();
    let unit = UNIT_BYTES;
    for at in [0, unit] {
        fixture.setup(fixture.node(0), at, unit, at).unwrap();
    }
    for (count, list) in [
        // More than there are, or than there could be.
        (1, &[][..]),
        (2, &[(0, unit)]),
        (u32::MAX, &[(0, unit)]),
        // One that is none behind one that is.
        (2, &[(0, unit), (unit, 1)]),
        (2, &[(0, unit), (unit, 0)]),
        (2, &[(0, unit), (1, unit)]),
        (2, &[(0, unit), (UNITS * unit, unit)]),
        (2, &[(0, unit), (u64::MAX - unit + 1, unit)]),
        (2, &[(0, unit), (0, u64::MAX)]),
    ] {
        assert_eq!(fixture.remove(count, list), Err(Errno::INVAL), "{list:?}");
        assert_eq!(fixture.mappings(), 2);
    }
    assert_eq!(fixture.remove(0, &[]), Ok(()));
    // Of more than are meant, the rest is not looked at; what holds nothing may be named.
    assert_eq!(fixture.remove(1, &[(4 * unit, unit), (1, 1)]), Ok(()));
    assert_eq!(fixture.mappings(), 2);
    let many = vec![(0, UNITS * unit); 1000];
    assert_eq!(fixture.remove(1000, &many), Ok(()));
    assert_eq!((fixture.mappings(), fixture.seen(0)), (0, Some(0)));
}

#[test]
fn the_end_of_a_session_is_that_of_its_mappings() {
    let fixture = fixture();
    let again = |end: &dyn Fn()| {
        fixture.client.init(7, 41, OFFERED).unwrap();
        fixture.setup(fixture.node(0), 0, UNIT_BYTES, 0).unwrap();
        assert_eq!(fixture.seen(0), Some(content(0, 0)));
        end();
        assert_eq!((fixture.mappings(), fixture.seen(0)), (0, Some(0)));
    };
    again(&|| fixture.client.server.reset());
    again(&|| assert!(fixture.client.init(7, 41, OFFERED).is_ok()));
    again(&|| drop(fixture.client.call(opcode::DESTROY, 0, &[]).unwrap()));
}

/// Another worker's requests meet the end of their session at any time.
#[test]
fn no_mapping_outlives_its_session() {
    let fixture = fixture();
    let (begin, long, ends) = (Barrier::new(2), AtomicU64::new(0), 300);
    let mut left = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ends {
                begin.wait();
                // Refused from some moment on, which differs from round to round.
                let long = long.load(Ordering::SeqCst);
                let mut nth = 0;
                while fixture
                    .setup(long, 0, UNIT_BYTES, nth % UNITS * UNIT_BYTES)
                    .is_ok()
                {
                    nth += 1;
                }
                begin.wait();
            }
        });
        for nth in 0..ends {
            fixture.client.init(7, 41, OFFERED).unwrap();
            long.store(fixture.node(0), Ordering::SeqCst);
            begin.wait();
            while fixture.mappings() < nth % UNITS {
                thread::yield_now();
            }
            match nth % 2 {
                0 => fixture.client.server.reset(),
                _ => drop(fixture.client.call(opcode::DESTROY, 0, &[]).unwrap()),
            }
            begin.wait();
            left.push((fixture.mappings(), fixture.mapped().0));
        }
    });
    assert_eq!(left, vec![(0, vec![]); 300]);
}

#[test]
fn what_changes_is_not_mapped() {
    let fixture = fixture();
    let server = Server::open(fixture.folder.path(), changing(), &Arc::default()).unwrap();
    let refused = server.with_window(fixture.window.clone());
    let error = refused.err().unwrap().to_string();
    assert_eq!(error, "cannot map files that may be cut short");
}

/// A request: of a file, or to give back; numbers are units, of which some are outside.
#[derive(Clone, Debug)]
enum Step {
    Setup(usize, u64, u64, u64),
    Remove(Vec<(u64, u64)>),
}

fn step() -> impl Strategy<Value = Step> {
    let place = || 0..UNITS + 2;
    let length = || 0..4u64;
    prop_oneof![
        (0..FILES.len(), 0..4u64, length(), place())
            .prop_map(|(file, from, length, at)| Step::Setup(file, from, length, at)),
        prop::collection::vec((place(), length()), 0..4).prop_map(Step::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_window_holds_what_was_asked_for(steps in prop::collection::vec(step(), 1..40)) {
        let fixture = fixture();
        let nodes = [0, 1, 2].map(|file| fixture.node(file));
        // Of each unit the file, and which of its units.
        let mut model = vec![None; UNITS as usize];
        let fits = |at: u64, length: u64| length > 0 && at + length <= UNITS;
        for step in steps {
            match step {
                Step::Setup(file, from, length, at) => {
                    let asked = [from, length, at].map(|units| units * UNIT_BYTES);
                    let done = fixture.setup(nodes[file], asked[0], asked[1], asked[2]);
                    let is_right = fits(at, length) && asked[0] < FILES[file].1;
                    prop_assert_eq!(done.is_ok(), is_right);
                    for nth in (0..length).filter(|_| is_right) {
                        // Behind the file's end there is nothing to hold.
                        let is_of_file = (from + nth) * UNIT_BYTES < FILES[file].1;
                        model[(at + nth) as usize] = is_of_file.then_some((file, from + nth));
                    }
                }
                Step::Remove(list) => {
                    let bytes: Vec<_> = list
                        .iter()
                        .map(|(at, length)| (at * UNIT_BYTES, length * UNIT_BYTES))
                        .collect();
                    let done = fixture.remove(list.len() as u32, &bytes);
                    let is_right = list.iter().all(|(at, length)| fits(*at, *length));
                    prop_assert_eq!(done.is_ok(), is_right);
                    for (at, length) in list.into_iter().filter(|_| is_right) {
                        model[at as usize..(at + length) as usize].fill(None);
                    }
                }
            }
            let held = model.iter().flatten().count() as u64;
            prop_assert_eq!(fixture.mappings(), held);
        }
        for (unit, holds) in (0..).zip(&model) {
            for at in [0, 4096, UNIT_BYTES - 1] {
                let expected = holds.map_or(0, |(file, nth)| {
                    let offset = nth * UNIT_BYTES + at;
                    if offset < FILES[file].1 { content(file, offset) } else { 0 }
                });
                prop_assert_eq!(fixture.seen(unit * UNIT_BYTES + at), Some(expected));
            }
        }
        let (inside, outside) = fixture.mapped();
        let (shown, hidden) = (fixture.inos("shown"), fixture.inos("hidden"));
        prop_assert!(inside.iter().all(|ino| shown.contains(ino)), "{inside:?}");
        let all = [shown, hidden].concat();
        prop_assert!(outside.iter().all(|ino| !all.contains(ino)), "{outside:?}");
    }
}
