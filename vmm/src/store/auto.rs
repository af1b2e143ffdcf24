//! `store.data: auto`: a way for a machine by what earlier starts of its closure have cost, and what
//! this one costs, for later ones.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use devices::virtio::fs::Counters;

use super::book::{Book, now_us};
use super::cache::NotMade;
use super::choice::{Choice, Possible, at_first, choose};
use super::costs::{Costs, Failed, Start};
use super::image::Image;
use super::key::Key;
use super::limits::ensure_image_fits;
use super::plan::{Plan, Size};
use super::tree::{self, Root};
use super::{Given, Way, window};
use crate::app::{App, StoreData};
use crate::closure::{Closure, StorePath, StoreView};
use crate::state;

/// What is known of the closure that a machine sees.
pub struct Auto<'a> {
    app: &'a App,
    view: &'a StoreView,
    book: Book,
    costs: Costs,
    /// How long it took to find out what is known from now on.
    once: Duration,
}

impl<'a> Auto<'a> {
    /// For a machine of `app`, whose file names `roots`, which sees `view` and whose kernel is found at
    /// `kernel`, on this host or an emulated one.
    ///
    /// # Errors
    /// It sees nothing of the store, its kernel cannot be looked at, or the user has no home.
    pub fn of(
        app: &'a App,
        view: &'a StoreView,
        roots: &BTreeSet<StorePath>,
        kernel: &Path,
        is_emulated: bool,
    ) -> Result<Self> {
        let mark = mark(app, kernel, is_emulated)?;
        Self::in_folder(folder()?, &mark, app, view, roots)
    }

    /// The same where what starts cost is in `folder`.
    fn in_folder(
        folder: PathBuf,
        mark: &str,
        app: &'a App,
        view: &'a StoreView,
        roots: &BTreeSet<StorePath>,
    ) -> Result<Self> {
        let key = match view {
            StoreView::Closure(closure) => Key::of_names(&tree::names(closure.paths())),
            StoreView::All => {
                let roots = roots.iter().map(StorePath::base_name).collect();
                Key::of_all(&roots)
            }
            StoreView::None | StoreView::Bundle(_) => bail!("it has none of the host's"),
        };
        let book = Book::of(&key.marked(mark), folder);
        let costs = book.read();
        Ok(Self {
            app,
            view,
            book,
            costs,
            once: Duration::ZERO,
        })
    }

    /// What would be chosen, as far as can be told without KVM and the kernel.
    pub fn choice(&mut self) -> Choice {
        if let Some(choice) = at_first(&self.costs) {
            return choice;
        }
        let possible = self.possible();
        choose(&self.costs, &possible)
    }

    /// A way for the machine, which boots `kernel`, and what notes its cost. Before an image is made,
    /// which takes long, `making` is called.
    pub fn give(mut self, kernel: &Path, making: &dyn Fn()) -> (Given, Meter) {
        let mut meter = Meter {
            book: self.book.clone(),
            began_us: now_us(),
            data: StoreData::Plain,
            written: None,
            size: None,
            failed: None,
            once: Duration::ZERO,
        };
        let (way, reason) = self.way(kernel, making, &mut meter);
        meter.data = way.data();
        meter.size = self.costs.image;
        meter.once = self.once;
        let reason = Some(reason);
        (Given { way, reason }, meter)
    }

    /// The first of those that are chosen, one after the other, that can be.
    fn way(&mut self, kernel: &Path, making: &dyn Fn(), meter: &mut Meter) -> (Way, String) {
        if let Some(choice) = at_first(&self.costs) {
            return (Way::Plain, choice.reason);
        }
        let mut possible = self.possible();
        loop {
            let Choice { data, reason } = choose(&self.costs, &possible);
            match (data, self.view) {
                (StoreData::Image, StoreView::Closure(closure)) => {
                    let began = Instant::now();
                    match Image::of(self.app, closure, kernel, making) {
                        Ok(image) => {
                            meter.written = image.written;
                            self.once += self.once_for(&image);
                            return (Way::Image(image.region), reason);
                        }
                        Err(error) => {
                            self.once += began.elapsed();
                            if error.is::<NotMade>() {
                                meter.failed = Some(Failed::now(&error));
                            }
                            possible.image = Err(format!("{error:#}"));
                        }
                    }
                }
                (StoreData::Dax, _) => match window::open(self.app) {
                    Ok(region) => return (Way::Dax(region), reason),
                    Err(error) => possible.window = Err(format!("{error:#}")),
                },
                _ => return (Way::Plain, reason),
            }
        }
    }

    /// What of a start's time goes by for an image that is written for the first time. Where it has to
    /// be written again, it does not last, and its starts cost that much.
    fn once_for(&self, image: &Image) -> Duration {
        let is_first = self.costs.written_us.is_none();
        image.written.filter(|_| is_first).unwrap_or_default()
    }

    fn possible(&mut self) -> Possible {
        Possible {
            image: self.image().map_err(|error| format!("{error:#}")),
            window: Ok(window::bytes(self.app)),
        }
    }

    /// How large an image would be, if it can be one.
    fn image(&mut self) -> Result<Size> {
        let closure = match self.view {
            StoreView::Closure(closure) if self.app.system.is_none() => closure,
            StoreView::Closure(_) => bail!("a system's closure grows when it is updated"),
            _ => bail!("it sees all of the store"),
        };
        if let Some(failed) = &self.costs.failed {
            bail!("{}", failed.why);
        }
        let size = if let Some(size) = self.costs.image {
            size
        } else {
            let began = Instant::now();
            let size = size_of(closure);
            self.once = began.elapsed();
            size?
        };
        self.costs.image = Some(size);
        ensure_image_fits(self.app, &size)?;
        Ok(size)
    }
}

/// What the time of a start depends on besides its closure: starts of other marks are not compared.
fn mark(app: &App, kernel: &Path, is_emulated: bool) -> Result<String> {
    let facts = fs::metadata(kernel);
    let facts = facts.with_context(|| format!("cannot look at {}", kernel.display()))?;
    let host = if is_emulated { "emulated" } else { "kvm" };
    let (vcpus, memory) = (app.vcpus, app.memory_mib());
    let (bytes, time) = (facts.len(), facts.mtime());
    Ok(format!("{host}-{vcpus}-{memory}-{bytes}-{time}"))
}

/// Where it is written down what starts cost.
pub(super) fn folder() -> Result<PathBuf> {
    Ok(state::folder()?.join("store-costs"))
}

fn size_of(closure: &Closure) -> Result<Size> {
    Ok(Plan::of(&Root::store()?, &tree::names(closure.paths()))?.size())
}

/// Notes what a start costs.
#[derive(Debug)]
pub struct Meter {
    book: Book,
    began_us: u64,
    data: StoreData,
    size: Option<Size>,
    written: Option<Duration>,
    failed: Option<Failed>,
    /// What of its time no later start needs.
    once: Duration,
}

impl Meter {
    /// Notes that the program ran after `ready`, and what was asked of the file server of its store
    /// until now.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn note(self, ready: Duration, asked: Option<&Counters>) -> Result<()> {
        let ready = ready.saturating_sub(self.once);
        let start = Start {
            began_us: self.began_us,
            way: self.data,
            ready_us: micros(ready),
            requests: asked.map_or(0, Counters::requests),
            busy_us: asked.map_or(0, |asked| micros(asked.busy())),
            sent_bytes: asked.map_or(0, Counters::replied_bytes),
        };
        self.book.change(|costs| {
            costs.note(start);
            costs.image = self.size.or(costs.image);
            costs.written_us = self.written.map(micros).or(costs.written_us);
            costs.failed = self.failed.or(costs.failed.take());
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::choice::MEASURED_FIRST;
    use super::*;

    const NAME: &str = "0000000000000000000000000000000a-web";

    #[test]
    fn what_a_start_has_cost_counts_for_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let roots = BTreeSet::from([format!("/nix/store/{NAME}").parse().unwrap()]);
        let app = App::new("web", vec!["/bin/sh".into()]);
        let auto = |view| {
            let costs = folder.path().join("costs");
            Auto::in_folder(costs, "kvm", &app, view, &roots)
        };
        for known in 0..MEASURED_FIRST {
            let reason = auto(&StoreView::All).unwrap().choice().reason;
            assert!(reason.contains(&format!("; {known} are known")), "{reason}");
            let (given, meter) = auto(&StoreView::All)
                .unwrap()
                .give(Path::new("vmlinux"), &|| panic!("nothing is made"));
            assert_eq!(given.way.data(), StoreData::Plain);
            assert_eq!(given.reason, Some(reason));
            meter.note(Duration::from_secs(1), None).unwrap();
        }
        let mut auto = auto(&StoreView::All).unwrap();
        let Choice { data, reason } = auto.choice();
        assert_eq!(data, StoreData::Plain);
        let told = "a start takes 0.0 MiB of its store into memory, and of a window it would take 8.0 MiB; \
                    no image: it sees all of the store";
        assert_eq!(reason, told);
        assert_eq!(auto.once, Duration::ZERO);
        for start in &mut auto.costs.starts {
            start.sent_bytes = 9 << 20;
        }
        assert_eq!(auto.choice().data, StoreData::Dax);
    }

    #[test]
    fn starts_of_other_machines_and_hosts_are_known_apart() {
        let folder = tempfile::tempdir().unwrap();
        let [kernel, other] = ["kernel", "other"].map(|name| folder.path().join(name));
        fs::write(&kernel, "kernel").unwrap();
        fs::write(&other, "another").unwrap();
        let app = App::new("web", vec!["/bin/sh".into()]);
        let (mut with_vcpus, mut with_memory) = (app.clone(), app.clone());
        with_vcpus.vcpus = 2;
        with_memory.memory = serde_json::from_str("512").unwrap();
        let marks = BTreeSet::from([
            mark(&app, &kernel, false).unwrap(),
            mark(&app, &kernel, true).unwrap(),
            mark(&app, &other, false).unwrap(),
            mark(&with_vcpus, &kernel, false).unwrap(),
            mark(&with_memory, &kernel, false).unwrap(),
        ]);
        assert_eq!(marks.len(), 5, "{marks:?}");
        assert!(mark(&app, &folder.path().join("none"), false).is_err());
    }

    #[test]
    fn who_has_nothing_of_the_hosts_has_nothing_to_choose() {
        let folder = tempfile::tempdir().unwrap();
        let app = App::new("web", vec!["/bin/sh".into()]);
        let (costs, roots) = (folder.path().join("costs"), BTreeSet::new());
        let auto = Auto::in_folder(costs, "kvm", &app, &StoreView::None, &roots);
        assert_eq!(auto.err().unwrap().to_string(), "it has none of the host's");
    }
}
