//! What the guest is told: an [`App`] as the setup and the execution of the guest's protocol.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use guest::notify;
use guest::protocol::{
    Bounds, Exec, FileSystem, Init, Limit, Link, Mount, Resolver, Root, SecretFile, Setup, Tty,
    Upper, User as Entry,
};
use rustix::termios::Winsize;
use vmm::app::{
    Addresses, App, IMAGE_TAG, Program, RootKind, SECRETS_DIR, STORE_TAG, SystemKernel, User,
    resource_number,
};
use vmm::bundle;
use vmm::closure::STORE_DIR;
use vmm::net::Network;
use vmm::volume;

use crate::environment;

/// Home of a user that only app.json knows.
const HOME: &str = "/home";

/// The stage 1 in an initrd (`rdinit=` of the kernel's command line, by default).
const STAGE_1: &str = "/init";

/// The host's store as the guest has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Not at all.
    None,
    /// In its place.
    Mounted,
    /// In its place, and beside it what the image has there.
    Beside,
    /// That of a bundle, a disk.
    Disk,
    /// In its place, as memory; and maybe beside it what the image has there.
    Memory {
        /// Whether it is.
        beside: bool,
    },
}

/// What the guest prepares.
pub fn setup(app: &App, store: Store, network: &Network, secrets: Vec<SecretFile>) -> Setup {
    let virtiofs = |source: String, mount_point: &str, read_only| Mount {
        file_system: FileSystem::Virtiofs,
        source,
        mount_point: mount_point.into(),
        read_only,
        options: String::new(),
        file: None,
        fill: false,
        beside: false,
        upper: None,
    };
    let volumes = app.volumes.iter().enumerate().filter_map(|(nth, volume)| {
        let mount_point = volume.mount_point.as_ref()?;
        Some(Mount {
            file_system: FileSystem::Ext4,
            source: volume::serial(nth),
            mount_point: mount_point.to_string_lossy().as_ref().into(),
            read_only: volume.read_only,
            options: String::new(),
            file: None,
            fill: app.image.is_some() && !volume.read_only && app.root.kind != RootKind::Folder,
            beside: false,
            upper: None,
        })
    });
    let tmpfs = app.tmpfs.iter().map(|tmpfs| Mount {
        file_system: FileSystem::Tmpfs,
        options: format!("mode=1777,size={}k", app.tmpfs_bytes(tmpfs.size) >> 10),
        fill: app.image.is_some(),
        ..virtiofs("tmpfs".into(), &tmpfs.mount_point.to_string_lossy(), false)
    });
    let upper = store_upper(app);
    let store = (store != Store::None).then(|| match store {
        Store::Disk => Mount {
            file_system: FileSystem::Erofs,
            upper,
            ..virtiofs(bundle::SERIAL.into(), STORE_DIR, true)
        },
        Store::Memory { beside } => Mount {
            file_system: FileSystem::ErofsDax,
            beside,
            upper,
            ..virtiofs(STORE_TAG.into(), STORE_DIR, true)
        },
        _ => Mount {
            beside: store == Store::Beside,
            upper,
            ..virtiofs(STORE_TAG.into(), STORE_DIR, true)
        },
    });
    let shares = app.shares.iter().zip(app.share_tags());
    let shares = shares.map(|(share, tag)| Mount {
        file: share.file_name().map(|name| name.to_os_string().into()),
        ..virtiofs(tag, &share.mount_point.to_string_lossy(), share.read_only)
    });
    // A system has it mounted by its stage 1.
    let run = app.system.as_ref().map(|_| Mount {
        file_system: FileSystem::Tmpfs,
        source: "run".into(),
        mount_point: "/run".into(),
        read_only: false,
        options: "mode=755".into(),
        file: None,
        fill: false,
        beside: false,
        upper: None,
    });
    let all = run.into_iter().chain(store).chain(shares);
    let all = all.chain(volumes).chain(tmpfs);
    // A stage 1 of the system's own mounts what the system's configuration says.
    let mut mounts: Vec<Mount> = all.filter(|_| app.own_kernel().is_none()).collect();
    // What is mounted in another comes behind it.
    mounts.sort_by_key(|mount| {
        Path::new(mount.mount_point.as_os_str())
            .components()
            .count()
    });
    Setup {
        hostname: Some(app.hostname().into()),
        clock_ns: None,
        root: root(app),
        read_only: app.root.read_only,
        mounts,
        users: user(app).into_iter().collect(),
        write_etc: app.root.kind != RootKind::Folder,
        hosts: hosts(app),
        resolver: Resolver {
            servers: network.name_servers.clone(),
            search: app.dns.search.clone(),
            options: app.dns.options.clone(),
        },
        links: links(network),
        console_level: None,
        // What is in the way of a stage 1 of the system's own are its file systems.
        secrets: if app.own_kernel().is_some() {
            Vec::new()
        } else {
            secrets
        },
        // As container engines do for an image; a program of the host's is told that it is missing.
        working_folder: app.image.as_ref().map(|_| app.program().cwd().into()),
        ports: Vec::new(),
    }
}

/// Each address of each name, a line of the machine's `/etc/hosts`.
fn hosts(app: &App) -> Vec<(IpAddr, String)> {
    let hosts = app.hosts.iter().flat_map(|(name, Addresses(addresses))| {
        addresses.iter().map(|address| (*address, name.clone()))
    });
    hosts.collect()
}

/// What keeps what the machine adds to its store.
fn store_upper(app: &App) -> Option<Upper> {
    app.store.writable.as_ref()?;
    Some(match app.store_volume() {
        Some(nth) => Upper::Volume {
            serial: volume::serial(nth),
        },
        None => Upper::Tmpfs {
            size_kib: app.store_bytes() >> 10,
        },
    })
}

fn root(app: &App) -> Root {
    if app.own_kernel().is_some() {
        return Root::Initrd;
    }
    let volume = app.root_volume().map(volume::serial);
    let size_kib = app.root_bytes() >> 10;
    if app.root.kind == RootKind::Folder {
        let tag = IMAGE_TAG.into();
        return Root::Share { tag };
    }
    match (&app.image, volume) {
        (Some(_), volume) => Root::Image {
            tag: IMAGE_TAG.into(),
            upper: volume.map_or(Upper::Tmpfs { size_kib }, |serial| Upper::Volume { serial }),
        },
        (None, Some(volume)) => Root::Overlay { volume },
        (None, None) => Root::Tmpfs {
            size_kib: Some(size_kib),
        },
    }
}

fn links(network: &Network) -> Vec<Link> {
    let links = network.links.iter().map(|link| Link {
        mac: link.mac.0,
        name: link.name.clone(),
        mtu: link.mtu.into(),
        addresses: link
            .addresses
            .iter()
            .map(|subnet| (subnet.address, subnet.prefix))
            .collect(),
        gateways: link.gateways.clone(),
        closed: None,
    });
    links.collect()
}

/// The entry that the guest's user table needs besides root and nobody, if it needs one.
pub fn user(app: &App) -> Option<Entry> {
    let user = app.user()?;
    let name = user.made()?;
    // Its own group, also where the program has another one.
    let (uid, gid) = User {
        group: None,
        ..user.clone()
    }
    .ids();
    Some(Entry {
        home: format!("{HOME}/{name}"),
        name: name.into(),
        uid,
        gid,
    })
}

/// What the machine's program may do, and those that run as it does.
pub fn bounds(program: &Program) -> Bounds {
    let limits = program.ulimits.iter().filter_map(|(name, limit)| {
        Some(Limit {
            resource: resource_number(name)?,
            soft: limit.soft,
            hard: limit.hard,
        })
    });
    Bounds {
        groups: program.groups.clone(),
        limits: limits.collect(),
        ..Bounds::default()
    }
}

/// The program as the guest starts it; with `window`, on a terminal of that size.
pub fn execution(app: &App, window: Option<Winsize>, bounds: Bounds) -> Exec {
    let program = app.program();
    let init = app.system.as_ref().map(|system| match system.kernel {
        SystemKernel::Mvm => Init::System,
        SystemKernel::Own => Init::Stage1,
    });
    let mut env = environment::lines(&program.env);
    if app.is_heard() {
        let socket = notify::socket(app.is_heard_by_name());
        env.push(format!("NOTIFY_SOCKET={socket}").as_str().into());
    }
    // As a container's manager tells a system.
    if app.system.is_some() && !app.secrets.is_empty() && app.own_kernel().is_none() {
        let credentials = format!("CREDENTIALS_DIRECTORY={SECRETS_DIR}");
        env.push(credentials.as_str().into());
    }
    if let Some(period) = app.watchdog {
        let period = Duration::from(period).as_micros();
        env.push(format!("WATCHDOG_USEC={period}").as_str().into());
    }
    let term = std::env::var("TERM").unwrap_or_else(|_| "linux".into());
    Exec {
        argv: match init {
            Some(Init::Stage1) => vec![STAGE_1.into()],
            _ => program.argv().map(Into::into).collect(),
        },
        env,
        cwd: Some(program.cwd().into()),
        user: Some(program.user().into()),
        tty: window.map(|window| Tty {
            rows: window.ws_row,
            cols: window.ws_col,
            term,
        }),
        stdin: true,
        init,
        bounds,
    }
}
