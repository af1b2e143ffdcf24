//! Container images as machines: what `docker run` makes of an image, as an [`App`].
//!
//! The one thing to know: an image's file is read when a machine is made from it, and from then on
//! the machine's app.json has its id. So a machine that is kept starts without the file, and `mvm
//! prune` keeps what it needs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use image::{Cache, Config, Image, find, is_archive, is_image, is_layout};
use vmm::app::{App, AppFile, Duration, HealthCheck, IMAGE_ID, User};
use vmm::closure::{STORE_DIR, StorePath, StoreView};
use vmm::{machine, state};

/// The name of a machine whose image's file has none that can be one.
const NAME: &str = "image";

/// Characters of a machine's name.
const NAME_CHARACTERS_MAX: usize = 63;

/// Reads the file to run: an app.json, or an image as what one would be.
pub fn load(path: &Path) -> Result<AppFile> {
    if path == Path::new("-") {
        // What is looked at is read again by who reads it.
        let mut stdin = io::stdin().lock();
        let beginning = stdin.fill_buf().context("cannot read standard input")?;
        if !is_archive(beginning) {
            drop(stdin);
            return Ok(AppFile::load(path)?);
        }
        drop(stdin);
        let image = cache()?.read_stream(io::stdin())?;
        return file_of(&image, NAME);
    }
    if is_image(path) {
        let image = cache()?.read(path)?;
        return file_of(&image, &name_of(path));
    }
    if is_root_folder(path) {
        let mut app = App::new(name_of(path), Vec::new());
        let folder = std::path::absolute(path)?;
        app.image = Some(text(&folder)?.into());
        return AppFile::of(app, &name_of(path));
    }
    Ok(AppFile::load(path)?)
}

/// Whether `path` is a root file system as it is.
fn is_root_folder(path: &Path) -> bool {
    path.is_dir() && !is_layout(path)
}

fn text(path: &Path) -> Result<&str> {
    let text = path.to_str();
    text.with_context(|| format!("cannot run {}: its path is no text", path.display()))
}

/// Has an app.json that names an image's file name its id. A folder that is a root file system stays
/// where it is.
pub fn settle(app: &mut App) -> Result<()> {
    let Some(path) = app
        .image
        .as_ref()
        .filter(|image| !image.starts_with(IMAGE_ID))
    else {
        return Ok(());
    };
    let path = Path::new(path);
    if is_root_folder(path) {
        return Ok(());
    }
    let image = cache()?.read(path)?;
    app.image = Some(image.id.to_string());
    Ok(())
}

/// What a machine's root is made of.
pub struct RootFs {
    image: machine::Image,
    store_paths: BTreeSet<StorePath>,
}

impl RootFs {
    /// That of `app.image`.
    pub fn open(image: &str) -> Result<Self> {
        let (path, cache) = (Path::new(image), cache()?);
        let image = if image.starts_with(IMAGE_ID) {
            let id = image.parse().map_err(anyhow::Error::msg);
            cache.image(&id.context("image")?)?
        } else if is_root_folder(path) {
            return Ok(Self::of_folder(path));
        } else {
            cache.read(path)?
        };
        let catalog = cache.catalog(&image)?;
        let store_paths = find::names(&catalog, STORE_DIR).filter_map(store_path);
        Ok(Self {
            store_paths: store_paths.collect(),
            image: machine::Image::Tree(Arc::new(catalog)),
        })
    }

    fn of_folder(folder: &Path) -> Self {
        let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|stat| stat.is_dir());
        // A link could lead to the host's own store, all of which the machine would see.
        let nix = folder.join("nix");
        let store = nix.join("store");
        let has_store = is_folder(&nix) && is_folder(&store);
        let entries = has_store.then(|| fs::read_dir(store).ok()).flatten();
        let names = entries.into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        Self {
            store_paths: names.filter_map(|name| store_path(&name)).collect(),
            image: machine::Image::Folder(folder.into()),
        }
    }

    /// For the machine.
    pub fn image(&self) -> machine::Image {
        self.image.clone()
    }

    /// What the machine sees of the host's store, and whether beside it what only the image has there.
    /// Of a path that both have the host's is seen and nothing of the image's.
    pub fn share_store(&mut self, file: &AppFile) -> (StoreView, bool) {
        let view = StoreView::of_image(file, self.store_paths.clone());
        let is_in_view = |path: &StorePath| match &view {
            StoreView::Closure(closure) => closure.contains(path),
            StoreView::All => path.exists(),
            StoreView::None => false,
        };
        if view == StoreView::None || self.store_paths.iter().all(is_in_view) {
            return (view, false);
        }
        let machine::Image::Tree(catalog) = &mut self.image else {
            // Of a folder nothing can be hidden, so all of its store is its own.
            return (StoreView::None, false);
        };
        if let Some(catalog) = Arc::get_mut(catalog) {
            let is_hosts = |name: &str| store_path(name).is_some_and(|path| is_in_view(&path));
            find::hide(catalog, STORE_DIR, is_hosts);
        }
        (view, true)
    }
}

fn store_path(name: &str) -> Option<StorePath> {
    format!("{STORE_DIR}/{name}").parse().ok()
}

/// Removes the images that none of `apps` is of. A machine in the foreground has its image open.
pub fn prune<'a>(apps: impl Iterator<Item = &'a App>) -> Result<()> {
    let ids = apps.filter_map(|app| app.image.as_deref()?.parse().ok());
    cache()?.prune(&ids.collect()).map(drop)
}

/// Images are kept as machines are, which are started from them again.
fn cache() -> Result<Cache> {
    Cache::open(&state::folder()?.join("images"))
}

fn file_of(image: &Image, name: &str) -> Result<AppFile> {
    let catalog = cache()?.catalog(image)?;
    let mut app = App::new(name, Vec::new());
    app.image = Some(image.id.to_string());
    apply(&mut app, &image.config, |user| find::ids(&catalog, user))?;
    AppFile::of(app, name)
}

/// Has `app` be run as `config` says. `ids` tells the numbers of a user that is not named as an
/// app.json would.
fn apply(app: &mut App, config: &Config, ids: impl Fn(&str) -> Result<(u32, u32)>) -> Result<()> {
    let program = &mut app.app;
    program.entrypoint = config.entrypoint.clone().unwrap_or_default();
    program.args = config.cmd.clone().unwrap_or_default();
    let variables = config.env.iter().flatten();
    program.env = variables
        .filter_map(|variable| variable.split_once('='))
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.into(), Some(value.into())))
        .collect();
    if let Some(folder) = config.working_dir.as_deref() {
        program.cwd = format!("/{}", folder.trim_start_matches('/'));
    }
    if let Some(user) = config.user.as_deref().filter(|user| !user.is_empty()) {
        program.user = if user.parse::<User>().is_ok() {
            user.into()
        } else {
            let (uid, gid) = ids(user)?;
            format!("{uid}:{gid}")
        };
    }
    app.healthcheck = config.healthcheck.as_ref().and_then(health_check);
    Ok(())
}

fn health_check(check: &image::HealthCheck) -> Option<HealthCheck> {
    let (kind, rest) = check.test.as_ref()?.split_first()?;
    let exec = match (kind.as_str(), rest) {
        ("CMD", [_, ..]) => rest.to_vec(),
        ("CMD-SHELL", [line]) => vec!["/bin/sh".into(), "-c".into(), line.clone()],
        _ => return None,
    };
    let mut health = HealthCheck::of_command(exec);
    let or = |nanoseconds: u64, default| match nanoseconds {
        0 => default,
        some => Duration::from_ms((some / 1_000_000).max(1)),
    };
    health.interval = or(check.interval, health.interval);
    health.timeout = or(check.timeout, health.timeout);
    health.start_period = or(check.start_period, health.start_period);
    if check.retries > 0 {
        health.retries = check.retries;
    }
    Some(health)
}

/// A machine's name from that of a file: `My_App-1.2.tar.gz` is `my-app-1-2`.
fn name_of(path: &Path) -> String {
    let name = path.canonicalize().unwrap_or_else(|_| path.into());
    let name = name
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let ends = [".gz", ".zst", ".tar", ".oci", ".docker"];
    let name = ends
        .iter()
        .fold(&*name, |name, end| name.strip_suffix(end).unwrap_or(name));
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let name: String = name
        .chars()
        .map(|c| if is_good(c) { c } else { '-' })
        .collect();
    let name: String = name
        .trim_matches('-')
        .chars()
        .take(NAME_CHARACTERS_MAX)
        .collect();
    match name.trim_end_matches('-') {
        "" => NAME.into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn app(config: &Config) -> App {
        let mut app = App::new("a", Vec::new());
        apply(&mut app, config, |user| match user {
            "app:web" => Ok((7, 9)),
            _ => bail!("no such user"),
        })
        .unwrap();
        app
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).into()).collect()
    }

    #[test]
    fn a_configuration_says_how_the_program_is_run() {
        let config = Config {
            user: Some("app:web".into()),
            env: Some(words(&["PATH=/bin", "EMPTY=", "EQUAL=a=b", "none", "=x"])),
            entrypoint: Some(words(&["/bin/httpd"])),
            cmd: Some(words(&["-f", "-p", "80"])),
            working_dir: Some("srv".into()),
            ..Config::default()
        };
        let program = app(&config).app;
        assert_eq!(
            program.argv().collect::<Vec<_>>(),
            ["/bin/httpd", "-f", "-p", "80"]
        );
        assert_eq!((&*program.cwd, &*program.user), ("/srv", "7:9"));
        let value = |name: &str| program.env.get(name).and_then(Option::as_deref);
        assert_eq!(value("PATH"), Some("/bin"));
        assert_eq!(value("EMPTY"), Some(""));
        assert_eq!(value("EQUAL"), Some("a=b"));
        assert_eq!(program.env.len(), 3);
    }

    #[test]
    fn what_it_does_not_say_is_as_in_an_app_json() {
        let program = app(&Config::default()).app;
        assert_eq!((&*program.cwd, &*program.user), ("/", "root"));
        for user in ["app", "1000", "1000:5"] {
            let config = Config {
                user: Some(user.into()),
                ..Config::default()
            };
            assert_eq!(app(&config).app.user, user);
        }
    }

    #[test]
    fn a_health_check_is_a_command() {
        let check = |test: &[&str]| {
            health_check(&image::HealthCheck {
                test: Some(words(test)),
                interval: 5_000_000_000,
                retries: 4,
                ..image::HealthCheck::default()
            })
        };
        let exec = |test: &[&str]| check(test).and_then(|health| health.exec);
        assert_eq!(
            exec(&["CMD", "curl", "-f", "x"]),
            Some(words(&["curl", "-f", "x"]))
        );
        assert_eq!(
            exec(&["CMD-SHELL", "true || x"]),
            Some(words(&["/bin/sh", "-c", "true || x"]))
        );
        assert_eq!(exec(&["NONE"]), None);
        assert_eq!(exec(&[]), None);
        let health = check(&["CMD", "x"]).unwrap();
        assert_eq!(
            (health.interval, health.retries),
            (Duration::from_secs(5), 4)
        );
        assert_eq!(health.timeout, Duration::from_secs(30));
    }

    #[test]
    fn a_files_name_is_the_machines_as_far_as_it_can_be() {
        for (path, name) in [
            ("/x/web.tar", "web"),
            ("My_App-1.2.tar.gz", "my-app-1-2"),
            ("torture.docker.tar", "torture"),
            ("---.tar", "image"),
            ("über.tar", "ber"),
        ] {
            assert_eq!(name_of(Path::new(path)), name);
        }
        assert_eq!(
            name_of(Path::new(&"a".repeat(99))).len(),
            NAME_CHARACTERS_MAX
        );
    }
}
