//! An [`App`] from a file: reading it, resolving its paths, and knowing the line of each value.

use std::path::{Path, PathBuf};

use super::document::{Document, line_and_column};
use super::json;
use super::problem::{Complaint, Problem, Problems};
use super::quote::{one_line, quoted};
use super::reader::{self, Finding};
use super::{App, IMAGE_ID, MAX_FILE_SIZE, MAX_PROBLEMS, Place, check, text};
use crate::bundle::Bundle;

/// An [`App`] and the file it came from.
#[derive(Debug)]
pub struct AppFile {
    /// What the file says, with absolute paths.
    pub app: App,
    name: String,
    path: Option<PathBuf>,
    document: Document,
}

impl AppFile {
    /// Reads and checks a file, or that in a bundle. `-` is the standard input, whose relative paths
    /// start at the current folder; those of a file, as of a bundle, start at its folder.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        if path == Path::new("-") {
            let bytes = text::read_stdin().map_err(|error| whole_file("<stdin>", error))?;
            return Self::parse("<stdin>", Path::new("."), &bytes);
        }
        let name = one_line(&path.to_string_lossy());
        let folder = path.parent().unwrap_or(Path::new("/"));
        let wrong = |error: anyhow::Error| whole_file(&name, format!("{error:#}"));
        let mut file = if let Some(bundle) = Bundle::find(path).map_err(wrong)? {
            let bytes = bundle.app().map_err(wrong)?;
            Self::parse(&name, folder, &bytes)?.bundled(path)?
        } else {
            let bytes = text::read_file(path, MAX_FILE_SIZE);
            let bytes = bytes.map_err(|error| whole_file(&name, error))?;
            Self::parse(&name, folder, &bytes)?
        };
        file.path = Some(path.to_path_buf());
        Ok(file)
    }

    /// The file in the bundle at `path`, which has what the file names of the host that made it.
    fn bundled(mut self, path: &Path) -> Result<Self, Problems> {
        // This fails only without a current folder; a relative path then fails where it is used.
        let bundle = std::path::absolute(path).unwrap_or_else(|_| path.into());
        self.app.bundle = Some(bundle);
        self.app.kernel.path = None;
        self.app.store.closure = None;
        let complaints = self.app.check();
        if complaints.is_empty() {
            return Ok(self);
        }
        let located = complaints.into_iter().map(|one| self.locate(one));
        Err(at_most(&self.name, located.collect()))
    }

    /// Checks the bytes of a file that messages call `name` and whose relative paths start at
    /// `folder`.
    pub fn parse(name: &str, folder: &Path, bytes: &[u8]) -> Result<Self, Problems> {
        let (document, duplicates) = document_of(name, bytes)?;
        let (app, mut findings) = reader::read::<App>(&document, document.root());
        findings.extend(duplicates);
        let mut complaints = Vec::new();
        let app = app.map(|mut app| {
            complaints = judge(&mut app, folder, &findings);
            app
        });
        let locate = |at| document.line_and_column(at);
        let found = findings
            .into_iter()
            .map(|finding| problem_at(name, locate(finding.at), &finding.place, finding.message));
        let complained = complaints.into_iter().map(|complaint| {
            let at = document.offset_of(&complaint.place);
            problem_at(name, locate(at), &complaint.place, complaint.message)
        });
        let problems: Vec<Problem> = found.chain(complained).collect();
        match app {
            Some(app) if problems.is_empty() => Ok(Self {
                app,
                name: name.into(),
                path: None,
                document,
            }),
            _ => Err(at_most(name, problems)),
        }
    }

    /// The file that `app`, which was made from something else called `name`, would have come from.
    pub fn of(app: App, name: &str) -> anyhow::Result<Self> {
        let text = serde_json::to_string(&app)?;
        let parsed = json::parse(&text).map_err(|error| anyhow::anyhow!("{}", error.message))?;
        Ok(Self {
            app,
            name: one_line(name),
            path: None,
            document: parsed.document,
        })
    }

    /// The file's name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the file is; none for the standard input.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The file, as it was written.
    pub fn text(&self) -> &str {
        self.document.text()
    }

    /// Each key and each string of the file, without JSON's escapes.
    pub fn strings(&self) -> Vec<&str> {
        self.document.strings()
    }

    /// The complaint with its line.
    pub fn locate(&self, complaint: Complaint) -> Problem {
        let at = self.document.offset_of(&complaint.place);
        let position = self.document.line_and_column(at);
        problem_at(&self.name, position, &complaint.place, complaint.message)
    }
}

/// The bytes of a file that messages call `name` as a document, and each key that came twice.
///
/// # Errors
/// They are no JSON.
pub fn document_of(name: &str, bytes: &[u8]) -> Result<(Document, Vec<Finding>), Problem> {
    let text = text::decode(bytes).map_err(|(at, message)| {
        let before = String::from_utf8_lossy(&bytes[..at]);
        let position = line_and_column(&before, before.len());
        problem_at(name, position, &Place::root(), message)
    })?;
    let parsed = json::parse(text).map_err(|error| {
        let position = line_and_column(text, error.at);
        problem_at(name, position, &error.place, error.message)
    })?;
    let duplicates = parsed.duplicates.into_iter().map(|duplicate| Finding {
        at: duplicate.at,
        place: duplicate.place,
        spoilt: None,
        message: duplicate.message,
    });
    Ok((parsed.document, duplicates.collect()))
}

/// Resolves the paths of `app` and complains about its values, but for those that are stand-ins.
fn judge(app: &mut App, folder: &Path, findings: &[Finding]) -> Vec<Complaint> {
    let spoilt: Vec<&Place> = findings
        .iter()
        .filter_map(|finding| finding.spoilt.as_ref())
        .collect();
    let mut complaints = complaints_of(app, |_| folder, spoilt.is_empty());
    complaints.retain(|complaint| !spoilt.iter().any(|place| place.concerns(&complaint.place)));
    complaints
}

/// Resolves the paths of `app`, each of which starts at the `folder` of its place, and complains about
/// its values; about those that do not go together only if it is whole, without stand-ins.
pub fn complaints_of<'a>(
    app: &mut App,
    folder: impl Fn(&Place) -> &'a Path,
    is_whole: bool,
) -> Vec<Complaint> {
    let mut complaints = resolve(app, folder);
    complaints.extend(if is_whole {
        app.check()
    } else {
        check::values(app)
    });
    complaints
}

/// Makes the host's paths in `app` absolute.
fn resolve<'a>(app: &mut App, folder: impl Fn(&Place) -> &'a Path) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut resolve = |path: &mut PathBuf, place: Place| {
        if path.starts_with("~") {
            let shown = quoted(&path.to_string_lossy());
            let message = format!(
                "must be absolute or relative to this file, is {shown}: \"~\" has no meaning here"
            );
            complaints.push(Complaint { place, message });
        } else if !path.as_os_str().is_empty() {
            // This fails only without a current folder; the relative path then fails where it is used.
            if let Ok(absolute) = std::path::absolute(folder(&place).join(&*path)) {
                *path = absolute;
            }
        }
    };
    if let Some(path) = &mut app.kernel.path {
        resolve(path, Place::root().key("kernel").key("path"));
    }
    if let Some(image) = app
        .image
        .as_mut()
        .filter(|image| !image.starts_with(IMAGE_ID))
    {
        let mut path = PathBuf::from(&*image);
        resolve(&mut path, Place::root().key("image"));
        *image = path.to_string_lossy().into_owned();
    }
    if let Some(path) = &mut app.bundle {
        resolve(path, Place::root().key("bundle"));
    }
    if let Some(path) = &mut app.store.closure {
        resolve(path, Place::root().key("store").key("closure"));
    }
    if let Some(path) = &mut app.console.path {
        resolve(path, Place::root().key("console").key("path"));
    }
    for (nth, share) in app.shares.iter_mut().enumerate() {
        resolve(
            &mut share.source,
            Place::root().key("shares").index(nth).key("source"),
        );
    }
    for (nth, volume) in app.volumes.iter_mut().enumerate() {
        if let Some(image) = &mut volume.image {
            resolve(image, Place::root().key("volumes").index(nth).key("image"));
        }
    }
    for (name, secret) in &mut app.secrets {
        if let Some(source) = &mut secret.source {
            let place = Place::root().key("secrets").key(name.clone());
            resolve(source, place.key("source"));
        }
    }
    complaints
}

/// A problem at a line and a column.
pub fn problem_at(
    name: &str,
    (line, column): (usize, usize),
    place: &Place,
    message: String,
) -> Problem {
    Problem {
        file: name.into(),
        line: Some(line),
        column: Some(column),
        path: place.to_string(),
        message,
    }
}

/// A problem that has no line.
pub fn whole_file(name: &str, message: String) -> Problem {
    Problem {
        file: name.into(),
        line: None,
        column: None,
        path: String::new(),
        message,
    }
}

/// The first [`MAX_PROBLEMS`], and a word on the rest.
pub fn at_most(name: &str, problems: Vec<Problem>) -> Problems {
    let mut problems: Vec<Problem> = Problems::new(problems).into_iter().collect();
    if problems.len() > MAX_PROBLEMS {
        problems.truncate(MAX_PROBLEMS);
        let mut problems = Problems::new(problems);
        problems.push_last(whole_file(name, "has more problems than these".into()));
        return problems;
    }
    Problems::new(problems)
}
