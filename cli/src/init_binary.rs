//! Where the program is that runs first in a guest.
//!
//! The one thing to know: it is built with `mvm` and speaks the same version of the protocol, so it
//! is looked for beside `mvm` before anywhere else. The one of a bundle is for who has `mvm` alone.

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use vmm::app::App;
use vmm::boot::initramfs::Content;
use vmm::bundle::Bundle;
use vmm::window::Window;

/// The program's name in every folder.
const NAME: &str = "mvm-init";

/// Finds it: `$MVM_INIT`, the folder of this program, `../libexec/mvm` from there.
///
/// # Errors
/// It is in none of them.
pub fn find() -> Result<PathBuf> {
    let program = env::current_exe().context("cannot tell where this program is")?;
    let named = env::var_os("MVM_INIT").filter(|path| !path.is_empty());
    find_for(&program, named.map(PathBuf::from))
}

/// The file that it is in for a machine: what [`find`] finds, else the machine's bundle.
///
/// # Errors
/// As [`find`].
pub fn of(app: &App) -> Result<PathBuf> {
    match (find(), &app.bundle) {
        (Err(_), Some(bundle)) => Ok(bundle.clone()),
        (found, _) => found,
    }
}

/// Its bytes for a machine: those of a bundle are looked at first, which anybody may have written.
///
/// # Errors
/// As [`of`], or it cannot be read.
pub fn open(app: &App) -> Result<Content> {
    let path = of(app)?;
    if app.bundle.as_ref() == Some(&path) {
        return Ok(Content::Bytes(Bundle::open(&path)?.init()?));
    }
    open_file(&path)
}

/// The bytes of the program that is a file of its own.
///
/// # Errors
/// It cannot be opened.
pub fn open_file(path: &Path) -> Result<Content> {
    let file = File::open(path).and_then(Window::whole);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Content::File(file))
}

fn find_for(program: &Path, named: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = named {
        if !path.is_file() {
            bail!("$MVM_INIT: there is no file {}", path.display());
        }
        return Ok(path);
    }
    let folder = program.parent().unwrap_or(Path::new("/"));
    let candidates = [folder.join(NAME), folder.join("../libexec/mvm").join(NAME)];
    if let Some(path) = candidates.iter().find(|path| path.is_file()) {
        return Ok(path.clone());
    }
    let tried = candidates.map(|path| path.display().to_string()).join(", ");
    bail!("cannot find the guest's program {NAME}: no $MVM_INIT, {tried}; `make` builds it")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_one_beside_the_program_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let (bin, libexec) = (root.path().join("bin"), root.path().join("libexec/mvm"));
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(&libexec).unwrap();
        fs::write(libexec.join(NAME), "").unwrap();
        let elsewhere = find_for(&bin.join("mvm"), None).unwrap();
        fs::write(bin.join(NAME), "").unwrap();
        let beside = find_for(&bin.join("mvm"), None).unwrap();
        assert_eq!(elsewhere, bin.join("../libexec/mvm/mvm-init"));
        assert_eq!(beside, bin.join("mvm-init"));
    }

    #[test]
    fn a_variable_that_names_nothing_is_an_error() {
        let error = find_for(Path::new("/mvm"), Some("/no/init".into())).unwrap_err();
        assert_eq!(error.to_string(), "$MVM_INIT: there is no file /no/init");
    }
}
