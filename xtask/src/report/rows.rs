//! Live lines below a step, one for each object that it follows.

use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

use super::Report;

/// A live line below a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetailRow {
    /// Its subject.
    pub name: String,
    /// The subject's present state.
    pub text: String,
    /// Without a terminal, the line is printed again only when this changes.
    pub key: String,
}

/// The lines of one step, as shown now.
#[derive(Default)]
pub struct Rows {
    shown: Mutex<Vec<(DetailRow, Option<ProgressBar>)>>,
}

impl Rows {
    /// Shows `rows` below `bar`; without one, those that are new or changed in their key.
    pub fn show(&self, report: &Report, bar: Option<&ProgressBar>, rows: Vec<DetailRow>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let text = report.shown(&format!("{:<16} {}", row.name, row.text));
            let at = shown.iter().position(|(old, _)| old.name == row.name);
            let changed = at.is_none_or(|at| shown[at].0.key != row.key);
            let line = match (at, bar) {
                (Some(at), _) => shown[at].1.take(),
                (None, Some(bar)) => {
                    let last = shown.last().and_then(|(_, line)| line.as_ref()).unwrap_or(bar);
                    let line = report.bars.insert_after(last, ProgressBar::new_spinner());
                    line.set_style(ProgressStyle::with_template("      {wide_msg}").expect("valid"));
                    Some(line)
                }
                (None, None) => None,
            };
            match &line {
                Some(line) => line.set_message(text),
                None if changed && report.progress => report.line(format!("    {text}")),
                None => {}
            }
            match at {
                Some(at) => shown[at] = (row, line),
                None => shown.push((row, line)),
            }
        }
    }

    #[cfg(test)]
    pub(super) fn messages(&self) -> Vec<String> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.iter().filter_map(|(_, line)| Some(line.as_ref()?.message())).collect()
    }

    /// Removes the lines.
    pub fn clear(&self) {
        let shown = std::mem::take(&mut *self.shown.lock().unwrap_or_else(PoisonError::into_inner));
        shown.iter().filter_map(|(_, line)| line.as_ref()).for_each(ProgressBar::finish_and_clear);
    }
}
