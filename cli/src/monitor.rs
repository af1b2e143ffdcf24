//! A machine from its start to its end, in this process: what each command does that starts one.

mod carried;
mod control;
mod end;
mod health;
mod instructions;
mod measure;
mod oom;
mod outside;
pub mod setup;
mod stage_1;
mod statistics;
mod store;
mod streams;
pub mod timing;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use guest::protocol::{Bounds, PORT_NAME};
use guest::{descriptors, notify};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vmm::app::{App, AppFile, Signal, StoreData, System, Tty};
use vmm::boot::initramfs::Content;
use vmm::boot::modules;
use vmm::boot::smbios::Credential;
use vmm::closure::{self, InUse, StorePath, StoreView};
use vmm::machine::{Exits, Inputs, Machine, Share, Software};
use vmm::store::Given;
use vmm::vcpu::Exit;

pub use end::Ended;
use health::{Health, Listener};
use outside::Outside;
use store::Noting;
pub use streams::Streams;
use timing::{Phase, Timing};

use crate::accel::{host_user, is_inside};
use crate::attach::{
    Clock, Closed, Company, Connection, Outcome, Program, Stdio, attach, commands,
};
use crate::audience::Audience;
use crate::cgroup::Cgroup;
use crate::control::server::{self, Server};
use crate::events::{self, Happened};
use crate::image::RootFs;
use crate::logs::{Collector, Keep, Observer};
use crate::machines::Running;
use crate::machines::record::End;
use crate::networks::Places;
use crate::output::say;
use crate::registration::Registration;
use crate::secrets::Secrets;
use crate::systemd::{self, Notice, Sockets};
use crate::{emulator, init_binary, terminal};

/// From the first instruction to init's first word. Far above what the slowest host needs, and an
/// end to waiting for a guest that hangs.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
/// For init to mount what it was told to.
const SETUP_TIMEOUT: Duration = Duration::from_secs(30);
/// For a guest to end what still runs and to write its volumes back: gigabytes to a slow disk.
const WRITE_BACK_TIMEOUT: Duration = Duration::from_secs(120);

/// What is to be run, and how.
pub struct Start<'a> {
    /// The file, with the edits of the command line.
    pub file: &'a AppFile,
    /// The machine's folder.
    pub running: &'a Running,
    /// The values of its secrets.
    pub secrets: &'a Secrets,
    /// The sockets that systemd has handed over.
    pub sockets: Sockets,
    /// Where the program's streams go.
    pub streams: Streams<'a>,
    /// Where to write what the guest asked of its shares.
    pub statistics: Option<&'a Path>,
    /// Is told when each phase of the start ends.
    pub timing: Option<&'a Timing>,
    /// What the program may do as a container's, whose first process this one then is.
    pub contained: Option<&'a Bounds>,
    /// Called once the program runs.
    pub started: Box<dyn FnOnce() + 'a>,
    /// Called with the end before anyone else hears of it.
    pub ended: Box<dyn FnOnce(&End) + 'a>,
}

/// Runs a machine until its program has ended.
///
/// # Errors
/// mvm or the guest failed.
pub fn run(start: Start<'_>) -> anyhow::Result<Ended> {
    let app = &start.file.app;
    // Their processes are not this machine's, and have none of its limits.
    let places = Places::reserve(app, start.running.name())?;
    // Before anything is allocated and any thread started, so that all of it counts.
    let _cgroup = Cgroup::enter(&app.name, &app.limits, &start.running.cgroup())?;
    let listener = server::listen(&start.running.socket())?;
    // The file server keeps some hundred files open, and each connection to a published port is one, as
    // is each store path of an image.
    limit_descriptors(app.limits.nofile)?;
    let mut seen = Seen::of(start.file)?;
    let registration = Registration::of(app, &seen.store, &seen.roots)?;
    let secrets = start.secrets.files(app)?;
    let kernel = Kernel::of(app)?;
    let (store_given, mut noting) = seen.store_given(app, &kernel);
    let init = init_binary::open(app)?;
    let software = software(&start, &kernel.path, init);
    let mut outside = Outside::open(app, start.sockets, places)?;
    let (host, port) = UnixStream::pair().context("cannot make a socket")?;
    let inputs = Inputs {
        port_name: PORT_NAME,
        port,
        store: &seen.store,
        store_given,
        image: seen.root.as_ref().map(RootFs::image),
        cards: outside.network.take_cards(),
        console: start.streams.console()?,
        host_user: host_user(),
    };
    let machine = Machine::new(app, software, inputs)
        .with_context(|| format!("cannot start {}", app.name))?;
    let ports = outside.wait_until_ready(&app.ports)?;
    let (running, exits) = machine.start()?;
    let running = Arc::new(running);
    let end_of = |phase| timing::end_of(start.timing, phase, &running.counts);
    end_of(Phase::Mvm);
    let exit = watch(exits, &host)?;

    let (commander, commands) = commands()?;
    let health = Health::new(start.running.name(), app);
    let audience = start.streams.audience(&commander);
    let controlled = control::Controlled::new(
        app,
        &outside.network,
        &ports,
        Arc::clone(&running),
        commander.clone(),
        audience.clone(),
        health.clone(),
    );
    let mut server = None;
    // They go before the machine's end is told.
    let mut files = Vec::new();
    let setup = setup::setup(app, seen.store_mount(), &outside.network, secrets);
    let bounds = bounds(app, start.contained);
    let mut is_oom = false;
    let finished = greet(app, host, &kernel.path).and_then(|mut guest| {
        end_of(Phase::Kernel);
        guest.set_up(&setup, SETUP_TIMEOUT)?;
        server = Some(Server::start(listener, Box::new(controlled))?);
        let heard = Listener::open(app, &running)?;
        let mut watchers = None;
        let started = || {
            end_of(Phase::Init);
            running.booted.tell();
            noting.start(&running);
            watchers = Some(health.start(app, &running, &commander, heard));
            files = outside.carried.start(Arc::clone(&running));
            (start.started)();
        };
        let company = Company {
            commands: Some(commands),
            clock: Some(Clock::start()?),
            started: Some(Box::new(started)),
            spoke: Some(Box::new(|| end_of(Phase::App))),
            hears_all: start.contained.is_some(),
            ..company(app)
        };
        let is_typed_at = wants_terminal(app.program().tty);
        let keeper = start.streams.keeper(&start.running.name(), is_typed_at)?;
        let kept = keeper.map(|keeper| Kept { keeper, audience });
        let outcome = stage_1::carry_out(app, registration.as_ref(), &mut guest)
            .and_then(|()| converse(app, bounds, &mut guest, kept, start.streams, company));
        // A program that has ended is not watched.
        drop(watchers);
        let outcome = outcome?;
        is_oom = oom::is_reason(&outcome, &running);
        write_back(app, &mut guest, &outcome)?;
        Ok(outcome)
    });
    drop(files);
    systemd::notify(Notice::Stopping);
    write_statistics(start.statistics, &running.shares);
    noting.finish();
    let mut ended = end::of(finished, &exit, &running, app.system.is_some());
    if is_oom {
        oom::tell(health.name(), &mut ended);
    }
    let end = control::told(&ended, health.verdict());
    events::note(health.name(), Happened::died(&end));
    (start.ended)(&end);
    if let Some(server) = server {
        server.end(&end);
    }
    ended
}

/// Who hears of the program besides its streams, as far as its file says.
fn company<'a>(app: &App) -> Company<'a> {
    Company {
        stop_signal: app.program().stop_signal.map(Signal::number),
        ..Company::default()
    }
}

/// Lets this process, and what it starts, have that many open files, or as many as it may.
fn limit_descriptors(count: Option<u32>) -> anyhow::Result<()> {
    let Some(count) = count.map(u64::from) else {
        descriptors::raise_limit();
        return Ok(());
    };
    let limit = Rlimit {
        current: Some(count),
        maximum: Some(count),
    };
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, limit).with_context(|| {
        let most = most.map_or("any number".into(), |most| most.to_string());
        format!("limits.nofile: cannot have {count} open files, this host lets mvm have {most}")
    })
}

fn write_statistics(path: Option<&Path>, shares: &[Share]) {
    let written = path.map_or(Ok(()), |path| statistics::write(path, shares));
    if let Err(error) = written {
        // The program's status says more than this, which is not its doing.
        say(format_args!("{error:#}"));
    }
}

/// What a machine sees of the host's files.
struct Seen {
    /// The image that is its root, if one is.
    root: Option<RootFs>,
    store: StoreView,
    /// Whether the store is beside what the image has there.
    is_beside: bool,
    /// Whether the store is memory.
    is_memory: bool,
    /// The store paths that the file names.
    roots: BTreeSet<StorePath>,
    /// Held while it is seen.
    _in_use: InUse,
}

impl Seen {
    fn of(file: &AppFile) -> anyhow::Result<Self> {
        let app = &file.app;
        let roots = closure::roots(file);
        let mut in_use = InUse::of(&roots);
        let (root, (store, is_beside)) = if let Some(image) = &app.image {
            let mut root = RootFs::open(image, app.root.kind)?;
            in_use.add(root.store_paths());
            let store = root.share_store(app, &roots);
            (Some(root), store)
        } else {
            (None, (StoreView::of(app, &roots)?, false))
        };
        Ok(Self {
            root,
            store,
            is_beside,
            is_memory: false,
            roots,
            _in_use: in_use,
        })
    }

    /// How the store comes to the machine, and what notes what that costs.
    fn store_given(&mut self, app: &App, kernel: &Kernel) -> (Given, Noting) {
        let (given, noting) = store::given(app, &self.store, &self.roots, kernel);
        self.is_memory = given.way.data() == StoreData::Image;
        (given, noting)
    }

    /// How the guest has the store.
    fn store_mount(&self) -> setup::Store {
        match self.store {
            StoreView::None => setup::Store::None,
            StoreView::Bundle(_) => setup::Store::Disk,
            _ if self.is_memory => setup::Store::Memory {
                beside: self.is_beside,
            },
            _ if self.is_beside => setup::Store::Beside,
            _ => setup::Store::Mounted,
        }
    }
}

/// A kernel's file.
struct Kernel {
    /// Where it is found, the same at each start.
    found: PathBuf,
    /// Where it is read.
    path: PathBuf,
}

impl Kernel {
    /// The kernel of a machine. One that its file names is read where it is, so that errors name it.
    fn of(app: &App) -> anyhow::Result<Self> {
        let found = vmm::kernel::of(app)?;
        let is_named =
            app.kernel.path.is_some() || app.own_kernel().is_some() || app.bundle.is_some();
        let path = if !is_named && is_inside() {
            emulator::kernel_in_memory(found.clone())
        } else {
            found.clone()
        };
        Ok(Self { found, path })
    }
}

/// What the machine runs first.
fn software<'a>(start: &Start<'a>, kernel: &'a Path, init: Content) -> Software<'a> {
    let app = &start.file.app;
    Software {
        kernel,
        init,
        cmdline: app.system.as_ref().map_or("", |_| wishes(start.streams)),
        credentials: credentials(app, start.secrets),
    }
}

/// What a system's systemd is asked to say on its console: as it does to who sits there, or for the
/// logs what is in its journal.
fn wishes(streams: Streams<'_>) -> &'static str {
    match streams {
        Streams::Inherited => "systemd.show_status=yes",
        Streams::Kept(_) => {
            "systemd.journald.forward_to_console=yes systemd.journald.max_level_console=info"
        }
    }
}

/// What a system with its own kernel is told through its SMBIOS tables: its secrets, and where it is to
/// say that it is ready, which its stage 1 does not pass on.
fn credentials<'a>(app: &App, secrets: &'a Secrets) -> Vec<Credential<'a>> {
    let mut credentials = secrets.credentials(app);
    if app.own_kernel().is_some() && app.is_heard() {
        credentials.push(Credential {
            name: "vmm.notify_socket",
            value: notify::socket(true).as_bytes(),
        });
    }
    credentials
}

/// Waits for the guest's first word.
fn greet(app: &App, host: UnixStream, kernel: &Path) -> anyhow::Result<Connection> {
    let beside = app.own_kernel().map(System::modules);
    let missing = || modules::missing(kernel, beside.as_deref());
    Connection::open(host, BOOT_TIMEOUT).map_err(|error| match missing() {
        // One that ended its machine says why by that.
        Some(hint) if !error.is::<Closed>() => anyhow!("{error:#}; {hint}"),
        _ => error,
    })
}

/// Where output goes that is not just passed on.
struct Kept {
    keeper: Box<dyn Keep + Send>,
    /// Who else sees it, of a machine in the background.
    audience: Option<Audience>,
}

/// What the program may do: what its container says, or its file.
fn bounds(app: &App, contained: Option<&Bounds>) -> Bounds {
    let own = || setup::bounds(&app.program());
    contained.cloned().unwrap_or_else(own)
}

/// Runs the program, whose output goes to `kept` or to this process' own streams.
fn converse(
    app: &App,
    bounds: Bounds,
    guest: &mut Connection,
    kept: Option<Kept>,
    streams: Streams<'_>,
    company: Company<'_>,
) -> anyhow::Result<Outcome> {
    let Some(Kept { keeper, audience }) = kept else {
        let window = wants_terminal(app.program().tty)
            .then(|| terminal::window_size().unwrap_or(terminal::VT100));
        let exec = setup::execution(app, window, bounds);
        return attach(guest, Program::New(&exec), Stdio::inherited()?, company);
    };
    let shown = audience.clone();
    let observer: Observer = Arc::new(move |stream, bytes: &[u8]| {
        if let Some(audience) = &shown {
            audience.show(stream, bytes);
        }
    });
    let (collector, [stdout, stderr]) = Collector::start(keeper, &observer)?;
    let is_asked = app.program().stdin;
    let stdio = Stdio {
        stdin: match audience.as_ref().filter(|_| is_asked) {
            Some(audience) => audience.take_input()?,
            None => streams.input()?,
        },
        stdout,
        stderr,
    };
    // A terminal if it must have one; who is attached has the size.
    let window = (app.program().tty == Tty::Always).then_some(terminal::VT100);
    let mut exec = setup::execution(app, window, bounds);
    exec.stdin = streams.is_inherited() || is_asked;
    let outcome = attach(guest, Program::New(&exec), stdio, company);
    collector.finish();
    if let Some(audience) = audience {
        audience.end(match &outcome {
            Ok(Outcome::Exited(exit)) => Some(*exit),
            _ => None,
        });
    }
    outcome
}

/// Has the guest write its volumes: what the program wrote and did not synchronize is in the
/// guest's memory.
fn write_back(app: &App, guest: &mut Connection, outcome: &Outcome) -> anyhow::Result<()> {
    if app.volumes.is_empty() || !matches!(outcome, Outcome::Exited(_)) {
        return Ok(());
    }
    guest
        .power_off(WRITE_BACK_TIMEOUT)
        .context("cannot have the guest write its volumes back")
}

/// Waits for the machine's own end in a thread, which then closes the stream to the guest: nobody
/// is at its other end any more.
fn watch(exits: Exits, host: &UnixStream) -> anyhow::Result<Receiver<Exit>> {
    let host = host.try_clone().context("cannot copy a socket")?;
    let (sender, ended) = mpsc::channel();
    thread::Builder::new()
        .name("exits".into())
        .spawn(move || {
            // First, so that whoever finds the stream closed is told why. Nobody may ask, when the
            // program ended before; the stream is closed then, too.
            let _ = sender.send(exits.wait());
            let _ = host.shutdown(Shutdown::Both);
        })
        .context("cannot start a thread")?;
    Ok(ended)
}

fn wants_terminal(tty: Tty) -> bool {
    match tty {
        Tty::Always => true,
        Tty::Never => false,
        Tty::Auto => io::stdin().is_terminal() && io::stdout().is_terminal(),
    }
}
