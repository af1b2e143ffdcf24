//! Tests of the node table.

use super::*;

impl Nodes {
    /// Nodes that the guest holds, the root among them.
    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

const ROOT_IDENTITY: Identity = Identity {
    ino: 2,
    dev: 1,
    kind: Kind::Directory,
};

fn name(bytes: &[u8]) -> Name<'_> {
    Name::new(bytes).unwrap()
}

fn file(ino: u64) -> Identity {
    Identity {
        ino,
        dev: 1,
        kind: Kind::File,
    }
}

fn directory(ino: u64) -> Identity {
    Identity {
        ino,
        dev: 1,
        kind: Kind::Directory,
    }
}

#[test]
fn a_slot_is_64_bytes() {
    assert_eq!(size_of::<Slot>(), 64);
}

#[test]
fn one_file_under_one_name_is_one_node() {
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::default());
    let first = nodes.enter(ROOT_ID, name(b"a"), file(10), false).unwrap();
    let again = nodes.enter(ROOT_ID, name(b"a"), file(10), false).unwrap();
    let other = nodes.enter(ROOT_ID, name(b"b"), file(10), false).unwrap();
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert_eq!(nodes.len(), 3);
}

#[test]
fn another_file_under_the_same_name_is_another_node() {
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::default());
    let first = nodes.enter(ROOT_ID, name(b"a"), file(10), false).unwrap();
    let replaced = nodes.enter(ROOT_ID, name(b"a"), file(11), false).unwrap();
    assert_ne!(first, replaced);
    assert_eq!(nodes.identity(first), Ok(file(10)));
}

#[test]
fn hard_links_are_one_node_where_that_is_wanted() {
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::default());
    let first = nodes.enter(ROOT_ID, name(b"a"), file(10), true).unwrap();
    let second = nodes.enter(ROOT_ID, name(b"b"), file(10), true).unwrap();
    assert_eq!(first, second);
    nodes.forget(first, 1);
    assert_eq!(nodes.identity(first), Ok(file(10)));
    nodes.forget(first, 1);
    assert_eq!(nodes.identity(first), Err(Errno::STALE));
    assert_eq!(nodes.len(), 1);
}

#[test]
fn an_id_never_means_another_file() {
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::default());
    let first = nodes.enter(ROOT_ID, name(b"a"), file(10), false).unwrap();
    nodes.forget(first, 1);
    let second = nodes.enter(ROOT_ID, name(b"b"), file(11), false).unwrap();
    assert_eq!(first as u32, second as u32, "the slot is used again");
    assert_eq!(nodes.identity(first), Err(Errno::STALE));
    nodes.clear();
    nodes.clear();
    let third = nodes.enter(ROOT_ID, name(b"c"), file(12), false).unwrap();
    assert_eq!(second as u32, third as u32);
    assert_eq!(nodes.identity(second), Err(Errno::STALE));
    assert_eq!(nodes.identity(third), Ok(file(12)));
}

#[test]
fn parents_stay_while_something_below_them_does() {
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::default());
    let top = nodes
        .enter(ROOT_ID, name(b"d"), directory(3), false)
        .unwrap();
    let middle = nodes.enter(top, name(b"e"), directory(4), false).unwrap();
    let leaf = nodes.enter(middle, name(b"f"), file(5), false).unwrap();
    nodes.forget(top, 1);
    nodes.forget(middle, 1);
    assert_eq!(nodes.place(leaf).unwrap().unwrap().parent, middle);
    assert_eq!(nodes.place(middle).unwrap().unwrap().parent, top);
    nodes.forget(leaf, 1);
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes.index.len(), 0);
}

#[test]
fn forgetting_too_much_is_harmless() {
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::default());
    let a = nodes.enter(ROOT_ID, name(b"a"), file(10), false).unwrap();
    nodes.forget(a, u64::MAX);
    nodes.forget(a, u64::MAX);
    nodes.forget(ROOT_ID, u64::MAX);
    for id in [0, 2, 77, u64::MAX, 1 << 32, (1 << 32) | 1] {
        nodes.forget(id, 1);
    }
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes.identity(ROOT_ID), Ok(ROOT_IDENTITY));
}

#[test]
fn only_directories_have_names_in_them() {
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::default());
    let a = nodes.enter(ROOT_ID, name(b"a"), file(10), false).unwrap();
    let below = nodes.enter(a, name(b"b"), file(11), false);
    assert_eq!(below, Err(Errno::NOTDIR));
    let nowhere = nodes.enter(99, name(b"b"), file(11), false);
    assert_eq!(nowhere, Err(Errno::STALE));
}

#[test]
fn the_table_is_bounded() {
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::new(Budget::new(2, 0, 0)));
    let a = nodes.enter(ROOT_ID, name(b"a"), file(10), false).unwrap();
    nodes.enter(ROOT_ID, name(b"b"), file(11), false).unwrap();
    let full = nodes.enter(ROOT_ID, name(b"c"), file(12), false);
    assert_eq!(full, Err(Errno::NFILE));
    assert_eq!(nodes.enter(ROOT_ID, name(b"a"), file(10), false), Ok(a));
    nodes.forget(a, 2);
    nodes.enter(ROOT_ID, name(b"c"), file(12), false).unwrap();
}

#[test]
fn long_names_are_bounded_by_their_bytes() {
    let fitting = 10;
    let budget = Budget::new(100, fitting * 255, 0);
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::new(budget));
    let long = |n: usize| format!("{n:0>255}").into_bytes();
    for n in 0..fitting {
        nodes
            .enter(ROOT_ID, name(&long(n)), file(3), false)
            .unwrap();
    }
    let full = nodes.enter(ROOT_ID, name(&long(fitting)), file(3), false);
    assert_eq!(full, Err(Errno::NFILE));
    nodes
        .enter(ROOT_ID, name(b"short"), file(3), false)
        .unwrap();
}

#[test]
fn shares_spend_one_budget_and_give_it_back() {
    let budget = Arc::new(Budget::new(3, 100, 0));
    let mut one = Nodes::new(ROOT_IDENTITY, budget.clone());
    let mut other = Nodes::new(ROOT_IDENTITY, budget);
    let long = [b'n'; 60];
    let a = one.enter(ROOT_ID, name(&long), file(10), false).unwrap();
    let refused = other.enter(ROOT_ID, name(&long), file(10), false);
    assert_eq!(
        refused,
        Err(Errno::NFILE),
        "only 40 bytes of names are left"
    );
    one.forget(a, 1);
    other.enter(ROOT_ID, name(&long), file(10), false).unwrap();
    other.enter(ROOT_ID, name(b"b"), file(11), false).unwrap();
    // What is empty in `one` is its own, and no other share's.
    let refused = other.enter(ROOT_ID, name(b"c"), file(12), false);
    assert_eq!(refused, Err(Errno::NFILE));
    one.enter(ROOT_ID, name(b"c"), file(12), false).unwrap();
    one.clear();
    other.enter(ROOT_ID, name(b"c"), file(12), false).unwrap();
    let full = one.enter(ROOT_ID, name(b"c"), file(12), false);
    assert_eq!(full, Err(Errno::NFILE));
    other.clear();
    one.enter(ROOT_ID, name(&long), file(10), false).unwrap();
}

#[test]
fn what_is_refused_for_want_of_a_node_takes_no_bytes_of_names() {
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::new(Budget::new(1, 60, 0)));
    let a = nodes.enter(ROOT_ID, name(b"a"), file(10), false).unwrap();
    let long = [b'n'; 60];
    let full = nodes.enter(ROOT_ID, name(&long), file(11), false);
    assert_eq!(full, Err(Errno::NFILE));
    nodes.forget(a, 1);
    nodes.enter(ROOT_ID, name(&long), file(11), false).unwrap();
}

#[test]
fn many_nodes_are_all_found_and_all_forgotten() {
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::default());
    let names: Vec<_> = (0..50_000).map(|n: u64| (n, format!("n{n}"))).collect();
    let ids: Vec<_> = names
        .iter()
        .map(|(n, text)| {
            let linked = n % 3 == 0;
            nodes
                .enter(ROOT_ID, name(text.as_bytes()), file(*n), linked)
                .unwrap()
        })
        .collect();
    assert_eq!(nodes.len(), 50_001);
    for ((n, text), id) in names.iter().zip(&ids) {
        let place = nodes.place(*id).unwrap().unwrap();
        assert_eq!(place.name.bytes(), text.as_bytes());
        assert_eq!(place.identity, file(*n));
        nodes.forget(*id, 1);
    }
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes.index.len(), 0);
}

const DIRECTORY: Found = Found {
    identity: Identity {
        ino: 0,
        dev: 0,
        kind: Kind::Directory,
    },
    linked: false,
};

fn at(parent: u64, bytes: &[u8]) -> At<'_> {
    let name = name(bytes);
    At { parent, name }
}

fn enter(nodes: &mut Nodes, parent: u64, bytes: &[u8], found: Found) -> u64 {
    let Found { identity, linked } = found;
    nodes.enter(parent, name(bytes), identity, linked).unwrap()
}

/// The names from the root to a node.
fn path(nodes: &Nodes, mut id: u64) -> Result<String, Errno> {
    let mut path = String::new();
    while let Some(place) = nodes.place(id)? {
        path = format!("/{}{path}", String::from_utf8_lossy(place.name.bytes()));
        id = place.parent;
    }
    Ok(path)
}

fn linked(ino: u64) -> Found {
    Found {
        identity: file(ino),
        linked: true,
    }
}

#[test]
fn what_is_below_a_directory_moves_with_it() {
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::default());
    let a = enter(&mut nodes, ROOT_ID, b"a", DIRECTORY);
    let below = enter(&mut nodes, a, b"below", DIRECTORY);
    let file = enter(&mut nodes, below, b"file", linked(10));
    let b = enter(&mut nodes, ROOT_ID, b"b", DIRECTORY);
    nodes.renamed(at(ROOT_ID, b"a"), at(b, b"moved"), DIRECTORY);
    assert_eq!(path(&nodes, file), Ok("/b/moved/below/file".into()));
    assert_eq!(enter(&mut nodes, b, b"moved", DIRECTORY), a);
    assert_ne!(enter(&mut nodes, ROOT_ID, b"a", DIRECTORY), a);
    nodes.forget(b, 1);
    nodes.forget(a, 2);
    nodes.forget(below, 1);
    assert_eq!(path(&nodes, file), Ok("/b/moved/below/file".into()));
    nodes.forget(file, 1);
    assert_eq!(
        path(&nodes, b),
        Err(Errno::STALE),
        "nothing needs it any more"
    );
}

#[test]
fn two_directories_change_places() {
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::default());
    let a = enter(&mut nodes, ROOT_ID, b"a", DIRECTORY);
    let b = enter(&mut nodes, a, b"b", DIRECTORY);
    let c = enter(&mut nodes, ROOT_ID, b"c", DIRECTORY);
    let one = (at(a, b"b"), DIRECTORY);
    nodes.exchanged(one, (at(ROOT_ID, b"c"), DIRECTORY));
    assert_eq!(path(&nodes, b), Ok("/c".into()));
    assert_eq!(path(&nodes, c), Ok("/a/b".into()));
    let file = enter(&mut nodes, ROOT_ID, b"file", linked(10));
    nodes.exchanged((at(ROOT_ID, b"file"), linked(10)), (at(a, b"b"), DIRECTORY));
    assert_eq!(path(&nodes, file), Ok("/a/b".into()));
    assert_eq!(path(&nodes, c), Ok("/file".into()));
}

#[test]
fn a_circle_that_the_host_makes_by_its_own_moves_is_none_in_the_table() {
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::default());
    let a = enter(&mut nodes, ROOT_ID, b"a", DIRECTORY);
    let b = enter(&mut nodes, a, b"b", DIRECTORY);
    // The host has moved a/b elsewhere between the walk to it and the rename of a into it.
    nodes.renamed(at(ROOT_ID, b"a"), at(b, b"a"), DIRECTORY);
    assert_eq!(path(&nodes, a), Err(Errno::STALE));
    assert_eq!(path(&nodes, b), Err(Errno::STALE));
    let again = enter(&mut nodes, ROOT_ID, b"a", DIRECTORY);
    assert_ne!(again, a);
    nodes.forget(b, 1);
    nodes.forget(a, 1);
    nodes.forget(again, 1);
    assert_eq!(nodes.len(), 1);
}

#[test]
fn what_was_removed_is_found_no_more() {
    let mut nodes = Nodes::new(ROOT_IDENTITY, Arc::default());
    let file = enter(&mut nodes, ROOT_ID, b"file", linked(10));
    let directory = enter(&mut nodes, ROOT_ID, b"directory", DIRECTORY);
    nodes.removed(at(ROOT_ID, b"file"), linked(10));
    nodes.removed(at(ROOT_ID, b"directory"), DIRECTORY);
    for id in [file, directory] {
        assert_eq!(path(&nodes, id), Err(Errno::STALE));
    }
    let below = nodes.enter(directory, name(b"below"), self::file(11), true);
    assert_eq!(below, Err(Errno::STALE));
    assert_ne!(enter(&mut nodes, ROOT_ID, b"file", linked(10)), file);
    assert_ne!(
        enter(&mut nodes, ROOT_ID, b"directory", DIRECTORY),
        directory
    );
    // Who has it open still knows what it was.
    assert_eq!(nodes.identity(file), Ok(self::file(10)));
    nodes.forget(file, 1);
    assert_eq!(nodes.identity(file), Err(Errno::STALE));
}

#[test]
fn a_renamed_node_pays_for_its_name() {
    let budget = Arc::new(Budget::new(10, 100, 0));
    let mut nodes = Nodes::new(ROOT_IDENTITY, budget.clone());
    let long = [b'l'; 100];
    let node = enter(&mut nodes, ROOT_ID, b"short", linked(10));
    nodes.renamed(at(ROOT_ID, b"short"), at(ROOT_ID, &long), linked(10));
    assert!(!budget.long_names_bytes.take(1));
    // There is no way to refuse what the host has done; the guest looks the name up again.
    let other = enter(&mut nodes, ROOT_ID, b"other", DIRECTORY);
    nodes.renamed(at(ROOT_ID, b"other"), at(ROOT_ID, &[b'm'; 100]), DIRECTORY);
    assert_eq!(path(&nodes, other), Err(Errno::STALE));
    nodes.renamed(at(ROOT_ID, &long), at(ROOT_ID, b"short"), linked(10));
    assert!(budget.long_names_bytes.take(100));
    assert_eq!(path(&nodes, node), Ok("/short".into()));
}
