//! Every form of a sparse file is the same file, and what a map must not say is refused.

use std::io::Cursor;

use super::*;
use crate::entries::{self, Kind};
use crate::testing::{Layer, sparse_forms};

type Pieces<'a> = &'a [(u64, &'a [u8])];

/// The file that is the last of a layer.
fn file(layer: &Layer) -> Result<Vec<u8>> {
    let layer = Layer::new().file("before", "one").join(layer);
    let mut content = Cursor::new(Vec::new());
    let entries = entries::read(&*layer.bytes(), &mut content)?;
    let last = entries.last().context("no entry")?;
    assert_eq!(last.path, [b"sparse".to_vec()]);
    let Kind::File { offset, bytes } = last.kind else {
        panic!("{last:?}");
    };
    assert_eq!((offset, content.position()), (3, 3 + bytes));
    let mut content = content.into_inner();
    content.resize(3 + usize::try_from(bytes)?, 0);
    Ok(content.split_off(3))
}

fn refusal(layer: &Layer) -> String {
    let error = format!("{:#}", file(layer).unwrap_err());
    let error = error.strip_prefix("entry \"sparse\": ").expect(&error);
    error.to_owned()
}

#[test]
fn every_form_is_the_same_file() {
    let many: Vec<_> = (0..100).map(|nth| (nth * 1000, &b"piece"[..])).collect();
    let cases: [(u64, Pieces<'_>); 5] = [
        (0, &[]),
        (5000, &[]),
        (1024, &[(0, &[1; 512]), (1024, &[])]),
        (9000, &[(512, b"one"), (600, b"two"), (8999, b"3")]),
        (200_000, &many),
    ];
    for (bytes, pieces) in cases {
        let mut expected = vec![0; usize::try_from(bytes).unwrap()];
        for (offset, piece) in pieces {
            let at = usize::try_from(*offset).unwrap();
            expected[at..at + piece.len()].copy_from_slice(piece);
        }
        for (form, layer) in sparse_forms("sparse", bytes, pieces) {
            assert_eq!(file(&layer).unwrap(), expected, "{form} of {bytes}");
        }
    }
}

#[test]
fn what_is_not_there_takes_no_room() {
    for (form, layer) in sparse_forms("sparse", 1 << 40, &[(1 << 39, b"far")]) {
        let folder = tempfile::tempdir().unwrap();
        let id = crate::Digest::of(&layer.bytes());
        crate::layer::unpack(&*layer.bytes(), &id, folder.path()).unwrap();
        let content = crate::layer::content(folder.path()).unwrap();
        let facts = content.metadata().unwrap();
        assert_eq!(facts.len(), 1 << 40, "{form}");
        assert!(
            std::os::unix::fs::MetadataExt::blocks(&facts) < 100,
            "{form}"
        );
    }
    for (_, layer) in sparse_forms("sparse", 8 << 40, &[]) {
        assert_eq!(refusal(&layer), "the layer's files have more than 8 TiB");
    }
}

#[test]
fn what_a_map_must_not_say_is_refused() {
    let order = "it is a sparse file whose pieces overlap or are out of order";
    let behind = "it is a sparse file with a piece behind its end";
    let cases: [(u64, Pieces<'_>, &str); 5] = [
        (100, &[(50, b"a"), (0, b"b")], order),
        (100, &[(0, b"overlaps"), (7, b"b")], order),
        (100, &[(100, b"a")], behind),
        (2, &[(0, b"long")], behind),
        (100, &[(0o77_777_777_777, b"a")], behind),
    ];
    for (bytes, pieces, words) in cases {
        for (form, layer) in sparse_forms("sparse", bytes, pieces) {
            assert_eq!(refusal(&layer), words, "{form} of {bytes}");
        }
    }
    let record = |key: &str, value: &str| Layer::new().record(key, value.as_bytes());
    let sized = |map: &str| {
        let layer = record("GNU.sparse.size", "1000").record("GNU.sparse.map", map.as_bytes());
        refusal(&layer.file("sparse", "stored"))
    };
    assert_eq!(
        sized("0,5"),
        "it is a sparse file with 6 bytes, whose map is of 5"
    );
    assert_eq!(
        sized("0,5,10,2"),
        "it is a sparse file with 6 bytes, whose map is of 7"
    );
    assert_eq!(sized("18446744073709551615,6"), behind);
    assert_eq!(sized("0,5,10"), FORM);
    let count = record("GNU.sparse.numblocks", "2").record("GNU.sparse.map", b"0,6");
    assert_eq!(refusal(&count.file("sparse", "stored")), FORM);
    let none = record("GNU.sparse.map", "0,6").file("sparse", "stored");
    assert_eq!(refusal(&none), "it is a sparse file of no length");
    let folder = record("GNU.sparse.map", "").record("GNU.sparse.size", b"1");
    assert_eq!(
        refusal(&folder.folder("sparse")),
        "it is sparse, and no file"
    );
}

#[test]
fn a_map_before_the_content_is_bounded() {
    let refused = |map: &[u8]| {
        let layer = Layer::new()
            .record("GNU.sparse.major", b"1")
            .record("GNU.sparse.minor", b"0")
            .record("GNU.sparse.realsize", b"1000");
        let mut map = map.to_vec();
        map.resize(map.len().next_multiple_of(BLOCK_BYTES), 0);
        refusal(&layer.bytes_file("sparse", &map))
    };
    assert_eq!(refused(b"99999999999\n"), TOO_MANY);
    assert_eq!(refused(&[b'1'; 600]), FORM);
    let cut = refused(b"");
    assert!(cut.starts_with(FORM), "{cut}");
    assert_eq!(refused(b"1\n0\n"), FORM);
    let endless = b"0\n".repeat(600_000);
    assert_eq!(refused(&[b"1000000\n", &endless[..]].concat()), TOO_MANY);
    let number = refused(b"x\n0\n");
    assert_eq!(number, "the map of an extended header is no number");
}

#[test]
fn what_has_a_later_version_is_a_file_as_any_other() {
    let layer = Layer::new()
        .record("GNU.sparse.major", b"2")
        .record("GNU.sparse.minor", b"0")
        .record("GNU.sparse.map", b"0,1");
    assert_eq!(file(&layer.file("sparse", "plain")).unwrap(), b"plain");
}
