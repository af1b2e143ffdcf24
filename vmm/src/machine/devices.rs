//! What a machine's guest sees besides processors and memory: the parts that its file names, each plugged
//! in, in an order that the guest counts on.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use devices::Memory;
use devices::virtio::fs::{self, Budget, Content, Filter, Owners, Wall, catalog};
use devices::virtio::region::Region;
use devices::virtio::roster::Roster;
use devices::virtio::{balloon, console, pmem, rng, vsock};

use super::{Card, Disk, GUEST_CID, Image, Inputs, Share};
use crate::app::{App, IMAGE_TAG};
use crate::board::{Board, Wiring};
use crate::bundle::Bundle;
use crate::bus::Bus;
use crate::closure::StoreView;
use crate::console::Console;
use crate::served::Served;
use crate::shares::file_systems;
use crate::store::Way;
use crate::toplevel::Toplevel;
use crate::volume;

/// A machine's devices.
pub struct Devices {
    /// Where vCPUs reach them.
    pub bus: Arc<Bus>,
    /// What KVM is to be told of them.
    pub wiring: Wiring,
    /// The virtio devices as one.
    pub roster: Arc<Roster>,
    /// How many of these there are.
    pub virtio: usize,
    /// The store and the shares.
    pub shares: Vec<Share>,
    /// The network cards.
    pub cards: Vec<Card>,
    /// The volumes.
    pub disks: Vec<Disk>,
    /// The host's end of the guest's sockets.
    pub vsock: vsock::Host,
    /// The store of a system's closure.
    pub served: Option<Served>,
}

/// The machine that devices are made for.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// Its file.
    pub app: &'a App,
    /// Its system, if that brings its kernel.
    pub own: Option<&'a Toplevel>,
    /// Its memory.
    pub memory: &'a Memory,
    /// Its processors.
    pub vcpus: u16,
}

/// A store that may grow: what it shows, what confines its workers, its number on the bus.
type Growing = (Filter, Arc<Wall>, usize);

impl Devices {
    /// Those of a machine, whose kernel's messages go to `console`.
    ///
    /// # Errors
    /// A part cannot be had; the message names it.
    pub fn of(site: Site<'_>, inputs: Inputs<'_>, console: Console) -> anyhow::Result<Self> {
        let Site { app, memory, .. } = site;
        let mut board = Board::new(memory);
        let port = console::open(memory, inputs.port_name, inputs.port)?;
        board.add(port)?;
        let owners = owners(app, inputs.host_user);
        // What is memory nobody serves.
        let (shown, window) = match &inputs.store_given.way {
            Way::Plain => (inputs.store, None),
            Way::Dax(region) => (inputs.store, Some(region)),
            Way::Image(_) => (&StoreView::None, None),
        };
        let stores = (shown, window, inputs.image);
        let (shares, growing) = add_shares(&mut board, site, stores, owners)?;
        let mut cards = Vec::new();
        for (nth, (card, interface)) in inputs.cards.into_iter().zip(app.interfaces()).enumerate() {
            cards.push(Card {
                name: interface.name(nth),
                counters: Arc::clone(&card.counters),
            });
            board.add(card.open(memory)?)?;
        }
        let (device, vsock) = vsock::open(memory, GUEST_CID)?;
        board.add(device)?;
        let disks = add_disks(&mut board, site, inputs.store)?;
        if let Way::Image(region) = inputs.store_given.way {
            let bytes = region.bytes();
            let gpa = board.place(region)?;
            board.add(pmem::open(memory, gpa, bytes))?;
        }
        board.add(rng::open(memory))?;
        // Who has as many shares as there is room for goes without.
        if board.has_room() {
            board.add(balloon::open(memory))?;
        }
        let (virtio, roster) = (board.devices(), board.roster());
        let (bus, wiring) = board.finish(Box::new(console))?;
        let served = growing
            .map(|(filter, wall, device)| Served::new(filter, wall, Arc::clone(&bus), device));
        Ok(Self {
            bus,
            wiring,
            roster,
            virtio,
            shares,
            cards,
            disks,
            vsock,
            served,
        })
    }
}

/// The store, shares and the image, of which one may grow.
fn add_shares(
    board: &mut Board<'_>,
    site: Site<'_>,
    (store, window, image): (&StoreView, Option<&Arc<Region>>, Option<Image>),
    owners: Owners,
) -> anyhow::Result<(Vec<Share>, Option<Growing>)> {
    let Site {
        app,
        own,
        memory,
        vcpus,
        ..
    } = site;
    let budget = Arc::new(Budget::for_memory(app.memory_bytes()));
    let (mut shares, mut growing) = (Vec::new(), None);
    let mut add = |board: &mut Board<'_>, tag: String, share: fs::Share, window| {
        shares.push(Share {
            tag,
            counters: share.counters,
            wall: share.wall,
        });
        match window {
            Some(region) => board.add_with_region(share.device, region),
            None => board.add(share.device),
        }
    };
    for config in file_systems(app, own, vcpus, (store, window), owners)? {
        let share = config.open(memory, &budget)?;
        if let Some(filter) = config.content.growing() {
            growing = Some((filter.clone(), Arc::clone(&share.wall), board.devices()));
        }
        add(board, config.tag, share, config.window)?;
    }
    if let Some((own, catalog)) = own.and_then(|own| Some((own, own.store.clone()?))) {
        let config = catalog::Config {
            tag: own.store_tag(),
            catalog,
            vcpus,
        };
        let share = config.open(memory)?;
        add(board, config.tag, share, None)?;
    }
    if let Some(image) = image {
        let share = image.open(vcpus, owners, memory, &budget)?;
        add(board, IMAGE_TAG.into(), share, None)?;
    }
    Ok((shares, growing))
}

/// Volumes, and the disk of a bundle that has no kernel of its own.
fn add_disks(
    board: &mut Board<'_>,
    site: Site<'_>,
    store: &StoreView,
) -> anyhow::Result<Vec<Disk>> {
    let Site { memory, vcpus, .. } = site;
    let mut disks = Vec::new();
    for disk in volume::disks(site.app, vcpus)? {
        disks.push(Disk {
            name: disk.serial.clone(),
            counters: Arc::clone(&disk.counters),
        });
        board.add(disk.open(memory)?)?;
    }
    if let (StoreView::Bundle(path), None) = (store, site.own) {
        let disk = Bundle::open(path)?.disk(vcpus)?;
        let disk = disk.with_context(|| format!("store: {} has none", path.display()))?;
        board.add(disk.open(memory)?)?;
    }
    Ok(disks)
}

impl Image {
    fn open(
        self,
        vcpus: u16,
        owners: Owners,
        memory: &Memory,
        budget: &Arc<Budget>,
    ) -> anyhow::Result<fs::Share> {
        let tag = IMAGE_TAG.into();
        match self {
            Self::Tree(catalog) => catalog::Config {
                tag,
                catalog,
                vcpus,
            }
            .open(memory),
            Self::Folder(root) => fs::Config {
                tag,
                root,
                content: Content::Immutable { filter: None },
                vcpus,
                window: None,
            }
            .open(memory, budget),
            Self::Root(root) => fs::Config {
                tag,
                content: Content::Writable {
                    timeout: Content::CHANGING_TIMEOUT,
                    owners,
                    closed: devices_of(&root),
                },
                root,
                vcpus,
                window: None,
            }
            .open(memory, budget),
        }
    }
}

/// The file system that a root has its devices in, if that is one of its own: a machine has others
/// in its place.
fn devices_of(root: &Path) -> Option<u64> {
    let device = |path: &Path| Some(std::fs::symlink_metadata(path).ok()?.dev());
    device(&root.join("dev")).filter(|dev| Some(*dev) != device(root))
}

/// Whose files are whose: the host's user is to the guest the one that its program runs as.
fn owners(app: &App, host_user: (u32, u32)) -> Owners {
    Owners::new(host_user, app.user().map_or((0, 0), |user| user.ids()))
}
