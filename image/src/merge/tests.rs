//! Layers that are applied to each other: a table, a picture of the tree for each.

use std::fmt::Write;
use std::io::Cursor;

use devices::virtio::fs::catalog::{Body, Node};

use crate::entries;
use crate::testing::Layer;

/// Every path of what `layers` come to, with its kind and content: `a/ a/f=text l->a`.
fn merged(layers: &[Layer]) -> Result<String, String> {
    let nodes = super::merge(
        layers
            .iter()
            .map(|one| entries::read(&*one.bytes(), &mut Cursor::new(vec![]))),
    );
    let (tree, _) = nodes.map_err(|error| format!("{error:#}"))?;
    let nodes = tree.into_nodes();
    let contents: Vec<Vec<u8>> = layers.iter().map(content).collect();
    let mut words = Vec::new();
    put(&nodes, &contents, 0, "", &mut words);
    Ok(words.join(" "))
}

fn content(layer: &Layer) -> Vec<u8> {
    let mut content = Cursor::new(Vec::new());
    entries::read(&*layer.bytes(), &mut content).unwrap();
    content.into_inner()
}

fn put(nodes: &[Node], contents: &[Vec<u8>], node: usize, path: &str, words: &mut Vec<String>) {
    let mut word = path.trim_start_matches('/').to_owned();
    match &nodes[node].body {
        Body::Directory(entries) => {
            if node != 0 {
                words.push(format!("{word}/"));
            }
            for (name, child) in entries {
                let path = format!("{path}/{}", String::from_utf8_lossy(name));
                put(nodes, contents, *child as usize, &path, words);
            }
            return;
        }
        Body::File(extent) => {
            let from = extent.offset as usize;
            let bytes = &contents[extent.content as usize][from..from + extent.bytes as usize];
            let _ = write!(word, "={}", String::from_utf8_lossy(bytes));
        }
        Body::Link(target) => {
            let _ = write!(word, "->{}", String::from_utf8_lossy(target));
        }
        Body::Special => word.push('!'),
    }
    words.push(word);
}

fn new() -> Layer {
    Layer::new()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn layers_come_to_what_the_specification_says() {
    let base = || {
        new()
            .folder("d")
            .file("d/a", "1")
            .file("d/b", "2")
            .file("f", "3")
    };
    for (what, layers, expected) in [
        ("one layer", vec![base()], "d/ d/a=1 d/b=2 f=3"),
        ("nothing", vec![], ""),
        (
            "a file over a file",
            vec![base(), new().file("d/a", "new")],
            "d/ d/a=new d/b=2 f=3",
        ),
        (
            "a folder over a folder keeps what is in it",
            vec![base(), new().folder("d").file("d/c", "4")],
            "d/ d/a=1 d/b=2 d/c=4 f=3",
        ),
        (
            "a file over a folder",
            vec![base(), new().file("d", "x")],
            "d=x f=3",
        ),
        (
            "a folder over a file",
            vec![base(), new().folder("f").file("f/in", "x")],
            "d/ d/a=1 d/b=2 f/ f/in=x",
        ),
        (
            "a link over a folder, and a folder over that",
            vec![base(), new().link("d", "f"), new().folder("d")],
            "d/ f=3",
        ),
        (
            "a whiteout of a file",
            vec![base(), new().file("d/.wh.a", "")],
            "d/ d/b=2 f=3",
        ),
        (
            "a whiteout of a folder",
            vec![base(), new().file(".wh.d", "")],
            "f=3",
        ),
        (
            "a whiteout of what is not there",
            vec![base(), new().file(".wh.x", "").file("no/where/.wh.x", "")],
            "d/ d/a=1 d/b=2 f=3",
        ),
        (
            "a whiteout behind the new file hides the old one alone",
            vec![base(), new().file("d/a", "new").file("d/.wh.a", "")],
            "d/ d/a=new d/b=2 f=3",
        ),
        (
            "a whiteout before the new file",
            vec![base(), new().file("d/.wh.a", "").file("d/a", "new")],
            "d/ d/a=new d/b=2 f=3",
        ),
        (
            "a whiteout of a folder that has something new",
            vec![base(), new().file("d/c", "4").file(".wh.d", "")],
            "d/ d/c=4 f=3",
        ),
        (
            "an opaque folder, marked before",
            vec![
                base(),
                new()
                    .folder("d")
                    .file("d/.wh..wh..opq", "")
                    .file("d/c", "4"),
            ],
            "d/ d/c=4 f=3",
        ),
        (
            "an opaque folder, marked behind",
            vec![base(), new().file("d/c", "4").file("d/.wh..wh..opq", "")],
            "d/ d/c=4 f=3",
        ),
        (
            "an opaque folder below which something is new",
            vec![
                base().folder("d/e").file("d/e/old", "5"),
                new().file("d/e/new", "6").file("d/.wh..wh..opq", ""),
            ],
            "d/ d/e/ d/e/new=6 f=3",
        ),
        (
            "an opaque root",
            vec![base(), new().file(".wh..wh..opq", "").file("x", "1")],
            "x=1",
        ),
        (
            "a whiteout in a folder of the same layer",
            vec![base(), new().folder("d").file("d/.wh.a", "").folder("d")],
            "d/ d/b=2 f=3",
        ),
        (
            "what a whiteout hid, a later layer has again",
            vec![base(), new().file(".wh.f", ""), new().file("f", "again")],
            "d/ d/a=1 d/b=2 f=again",
        ),
        (
            "parents that no archive names",
            vec![new().file("a/b/c", "1")],
            "a/ a/b/ a/b/c=1",
        ),
        (
            "a name through a link",
            vec![base().link("l", "d"), new().file("l/c", "4")],
            "d/ d/a=1 d/b=2 d/c=4 f=3 l->d",
        ),
        (
            "a name through a link that climbs stays in the image",
            vec![base().link("l", "../../../d"), new().file("l/c", "4")],
            "d/ d/a=1 d/b=2 d/c=4 f=3 l->../../../d",
        ),
        (
            "an absolute link is of the image",
            vec![base().link("etc", "/d"), new().file("etc/passwd", "4")],
            "d/ d/a=1 d/b=2 d/passwd=4 etc->/d f=3",
        ),
        (
            "a whiteout through a link",
            vec![base().link("l", "d"), new().file("l/.wh.a", "")],
            "d/ d/b=2 f=3 l->d",
        ),
        (
            "a link to nowhere gets its folder",
            vec![new().link("l", "/far/away").file("l/x", "1")],
            "far/ far/away/ far/away/x=1 l->/far/away",
        ),
        (
            "a device node and a FIFO are names like others",
            vec![
                new()
                    .special("null", b'3', (1, 3))
                    .special("p", b'6', (0, 0)),
            ],
            "null! p!",
        ),
    ] {
        assert_eq!(merged(&layers).as_deref(), Ok(expected), "{what}");
    }
}

#[test]
fn what_cannot_be_applied_is_told_with_its_name() {
    for (layer, expected) in [
        (
            new().file("f", "").file("f/x", ""),
            "cannot apply \"f/x\" of layer 1: \"f\" is no folder, but has something in it",
        ),
        (
            new().link("etc", "/etc").file("etc/passwd", ""),
            "cannot apply \"etc/passwd\" of layer 1: links lead round in a circle",
        ),
        (
            new().link("a", "b").link("b", "a").file("a/x", ""),
            "cannot apply \"a/x\" of layer 1: links lead round in a circle",
        ),
        (
            new().hard_link("h", "no/file"),
            "cannot apply \"h\" of layer 1: it is a hard link to \"no/file\", which is not there",
        ),
        (
            new().file("h", "").hard_link("h", "h"),
            "cannot apply \"h\" of layer 1: it is a hard link to \"h\", which is not there",
        ),
        (
            new().folder("d").hard_link("h", "d"),
            "cannot apply \"h\" of layer 1: it is a hard link to a folder",
        ),
        (
            new().hard_link("h", "/"),
            "cannot apply \"h\" of layer 1: it is a hard link to a folder",
        ),
    ] {
        assert_eq!(merged(&[layer]), Err(expected.to_owned()));
    }
}

fn nodes(layers: &[Layer]) -> Vec<Node> {
    let layers = layers.iter();
    let tree =
        super::merge(layers.map(|one| entries::read(&*one.bytes(), &mut Cursor::new(vec![]))));
    tree.unwrap().0.into_nodes()
}

fn names(node: &Node) -> Vec<u32> {
    match &node.body {
        Body::Directory(entries) => entries.iter().map(|(_, child)| *child).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn hard_links_are_one_file_until_one_is_replaced() {
    let base = new()
        .file("a", "1")
        .hard_link("b", "a")
        .link("l", "a")
        .hard_link("m", "l");
    let one = nodes(std::slice::from_ref(&base));
    // A link is not followed: `m` is another name of the link.
    assert_eq!(names(&one[0]), [1, 1, 2, 2]);
    let two = nodes(&[base.clone(), new().file("a", "new")]);
    assert_eq!(names(&two[0]), [1, 2, 3, 3]);
    // Of a file of a lower layer, too.
    let three = nodes(&[base, new().hard_link("c", "b")]);
    assert_eq!(names(&three[0]), [1, 1, 1, 2, 2]);
}

#[test]
fn facts_are_the_last_ones_that_were_said() {
    let layers = [
        new()
            .owned(0o1777, 1, 2)
            .folder("d")
            .attribute("user.a", b"1")
            .owned(0o4755, 3, 4)
            .file("d/suid", "x"),
        new().owned(0o700, 5, 6).folder("d"),
        new().owned(0o711, 7, 8).folder("./"),
    ];
    let nodes = nodes(&layers);
    let facts = |node: &Node| (node.mode, node.uid, node.gid);
    assert_eq!(facts(&nodes[0]), (0o040_711, 7, 8));
    assert_eq!(facts(&nodes[1]), (0o040_700, 5, 6));
    assert_eq!(facts(&nodes[2]), (0o104_755, 3, 4));
    assert_eq!(nodes[2].attributes, [((*b"user.a").into(), (*b"1").into())]);
}

#[test]
fn what_could_mean_the_host_is_told() {
    let layers = [
        new()
            .link("etc", "/real")
            .link("up", "../../x")
            .link("in", "dir/.."),
        new()
            .file("etc/passwd", "x")
            .file("up/a", "x")
            .file("in/b", "x")
            .special("null", b'3', (1, 3))
            .special("fifo", b'6', (0, 0)),
    ];
    let read = |one: &Layer| entries::read(&*one.bytes(), &mut Cursor::new(vec![]));
    let (_, contained) = super::merge(layers.iter().map(read)).unwrap();
    let expected = [
        "the image has device nodes (1, the first is \"null\"): nobody can open them",
        "the image has names behind links to the root or above it (2, the first is \"etc/passwd\"): \
         they were looked for within the image",
    ];
    assert_eq!(contained.lines(), expected);
}
