//! Layers, applied to each other: OCI image specification 1.1, "Applying Changesets".
//!
//! The one thing to know: each step is what `umoci unpack` does to files, done to a tree in memory.
//! A folder stays one when a layer has it again, with new facts; all else is replaced. The parents
//! of a name are followed through links, within the image.

use anyhow::{Context, Result, bail, ensure};
use devices::virtio::fs::catalog::{Body, Extent, Node};

use crate::contained::Contained;
use crate::entries::{Entry, Kind};
use crate::tree::{Inode, Inside, Missing, ROOT, Tree, folder};

/// Applies layers, of which the first is the lowest: what comes of it, and what of them leads nowhere.
pub fn merge(layers: impl IntoIterator<Item = Result<Vec<Entry>>>) -> Result<(Tree, Contained)> {
    let (mut tree, mut contained) = (Tree::new(), Contained::default());
    for (layer, entries) in layers.into_iter().enumerate() {
        for entry in entries? {
            let leads_out = apply(&mut tree, layer, &entry).with_context(|| {
                let name = String::from_utf8_lossy(&entry.path.join(&b'/')).into_owned();
                format!("cannot apply {name:?} of layer {}", layer + 1)
            })?;
            contained.note(&entry, leads_out);
        }
    }
    Ok((tree, contained))
}

/// Applies an entry; whether a link to its folder leads to the root or above it.
fn apply(tree: &mut Tree, layer: usize, entry: &Entry) -> Result<bool> {
    if matches!(entry.kind, Kind::Opaque) {
        if let Some(way) = tree.walk(&entry.path, Missing::Absent)? {
            tree.remove_lower(way.end(), layer);
        }
        return Ok(false);
    }
    let Some((name, parents)) = entry.path.split_last() else {
        tree.node_mut(ROOT).facts = facts(entry);
        return Ok(false);
    };
    if matches!(entry.kind, Kind::Whiteout) {
        if let Some(way) = tree.walk(parents, Missing::Absent)? {
            hide(tree, way.end(), name, layer);
        }
        return Ok(false);
    }
    let missing = Missing::Make { layer };
    let way = tree.walk(parents, missing)?;
    let way = way.context("there is no way to it")?;
    let place = way.end();
    let there = tree.child(place, name).map(|(node, _)| node);
    let node = match (&entry.kind, there) {
        (Kind::Folder, Some(there)) if tree.is_folder(there) => {
            tree.node_mut(there).facts = facts(entry);
            there
        }
        (Kind::HardLink(target), _) => {
            // First, so that a link to itself leads nowhere.
            tree.remove(place, name);
            linked(tree, target)?
        }
        _ => {
            let inside = inside(&entry.kind, layer);
            let facts = facts(entry);
            tree.add(Inode { facts, inside })?
        }
    };
    tree.put(place, name, node, layer);
    tree.mark(&way, layer);
    Ok(way.leads_out())
}

/// A whiteout of `name`: what a layer has itself put there stays.
fn hide(tree: &mut Tree, place: usize, name: &[u8], layer: usize) {
    match tree.child(place, name) {
        Some((node, of)) if of == layer => tree.remove_lower(node, layer),
        Some(_) => tree.remove(place, name),
        None => {}
    }
}

/// The node that a hard link is to be another name of. A link at the end is not followed.
fn linked(tree: &mut Tree, target: &[Vec<u8>]) -> Result<usize> {
    let Some((name, parents)) = target.split_last() else {
        bail!("it is a hard link to a folder");
    };
    let way = tree.walk(parents, Missing::Absent)?;
    let found = way.and_then(|way| tree.child(way.end(), name));
    let Some((node, _)) = found else {
        let target = String::from_utf8_lossy(&target.join(&b'/')).into_owned();
        bail!("it is a hard link to {target:?}, which is not there");
    };
    ensure!(!tree.is_folder(node), "it is a hard link to a folder");
    Ok(node)
}

fn inside(kind: &Kind, layer: usize) -> Inside {
    Inside::Leaf(match kind {
        Kind::File { offset, bytes } => Body::File(Extent {
            content: layer as u32,
            offset: *offset,
            bytes: *bytes,
        }),
        Kind::Link(target) => Body::Link(target.as_slice().into()),
        Kind::Special { .. } => Body::Special,
        Kind::Folder | Kind::HardLink(_) | Kind::Whiteout | Kind::Opaque => return folder().inside,
    })
}

fn facts(entry: &Entry) -> Node {
    let (kind, permissions, rdev) = match &entry.kind {
        Kind::File { .. } => (0o100_000, entry.mode, 0),
        Kind::Link(_) => (0o120_000, 0o777, 0),
        Kind::Special { kind, rdev } => (*kind, entry.mode, *rdev),
        _ => (0o040_000, entry.mode, 0),
    };
    let attributes = entry.attributes.iter();
    Node {
        mode: kind | permissions,
        uid: entry.uid,
        gid: entry.gid,
        rdev,
        modified: entry.modified,
        attributes: attributes
            .map(|(name, value)| (name.as_slice().into(), value.as_slice().into()))
            .collect(),
        body: Body::Special,
    }
}

#[cfg(test)]
mod tests;
