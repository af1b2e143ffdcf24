//! The texts of a project, and which of them each of its values is from.
//!
//! The one thing to know: offsets of all texts are one range of numbers, each text's behind those of the
//! texts before it. So a tree that is put together of several knows the file of each value by its offset.

use std::path::{Path, PathBuf};

use crate::app::Place;
use crate::app::document::{Document, Node, Origin};
use crate::app::file::problem_at;
use crate::app::reader::Finding;
use crate::app::{Complaint, Problem};

/// Files of one project, with all that are included; a file for each service of a large one.
pub const MAX_FILES: usize = 64;

/// Something wrong at an offset.
#[derive(Debug)]
pub struct Fault {
    pub at: usize,
    pub message: String,
}

/// One of the texts.
#[derive(Debug)]
struct Text {
    /// What messages call it.
    label: String,
    /// Where relative paths in it start.
    folder: PathBuf,
    document: Document,
}

/// All of them, at least one once anything is asked.
#[derive(Debug, Default)]
pub struct Texts(Vec<Text>);

impl Origin for Texts {
    fn document_at(&self, at: usize) -> &Document {
        &self.text_at(at).document
    }
}

impl Texts {
    /// Adds one. Returns its tree, whose values have the offsets that they are known by.
    pub fn add(&mut self, label: &str, folder: &Path, document: Document) -> Node {
        let document = document.starting_at(self.next_start());
        let root = document.root().clone();
        self.0.push(Text {
            label: label.into(),
            folder: folder.into(),
            document,
        });
        root
    }

    /// The offset of the first byte of the next.
    pub fn next_start(&self) -> usize {
        self.0.last().map_or(0, |last| last.document.end() + 1)
    }

    /// Whether there may be no more.
    pub const fn is_full(&self) -> bool {
        self.0.len() >= MAX_FILES
    }

    /// Where relative paths start that are said at `at`.
    pub fn folder_at(&self, at: usize) -> &Path {
        &self.text_at(at).folder
    }

    /// Whether relative paths mean the same in two values, whatever leads to their folders.
    pub fn have_one_folder(&self, one: usize, other: usize) -> bool {
        let real = |at| {
            let folder = self.folder_at(at);
            folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
        };
        real(one) == real(other)
    }

    /// File, line and column of a value.
    pub fn shown(&self, at: usize) -> String {
        let text = self.text_at(at);
        let (line, column) = text.document.line_and_column(at);
        format!("{}:{line}:{column}", text.label)
    }

    /// A problem with the value at `at`, of which messages say that it is at `place`.
    pub fn problem(&self, at: usize, place: &Place, message: String) -> Problem {
        let text = self.text_at(at);
        problem_at(
            &text.label,
            text.document.line_and_column(at),
            place,
            message,
        )
    }

    /// What a reader has found.
    pub fn found(&self, finding: Finding) -> Problem {
        self.problem(finding.at, &finding.place, finding.message)
    }

    /// A fault with its place.
    pub fn fault(&self, fault: Fault) -> Problem {
        let place = self.document_at(fault.at).place_of(fault.at);
        self.problem(fault.at, &place, fault.message)
    }

    /// A complaint about a tree: where it is in the texts, its place there, and the problem.
    pub fn locate(&self, tree: &Node, complaint: &Complaint) -> (Place, Problem) {
        let (node, passed) = tree.nearest(&complaint.place);
        let rest = complaint.place.steps().iter().skip(passed).cloned();
        let place = self.document_at(node.at).place_of(node.at);
        let place = rest.fold(place, Place::step);
        let problem = self.problem(node.at, &place, complaint.message.clone());
        (place, problem)
    }

    fn text_at(&self, at: usize) -> &Text {
        let behind = self.0.partition_point(|text| text.document.start() <= at);
        &self.0[behind.saturating_sub(1)]
    }
}
